"""The layers of open_clip's towers: what is locked from below, and what learns slower the deeper it lies.

Groups are those of open_clip's own `lock_image_tower(unlocked_groups)` and `lock_text_tower(unlocked_layers)`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from torch import nn

from rls3_registry.errors import SettingError

_BLOCK = re.compile(r"transformer\.resblocks\.(\d+)\.")


def tower_layers(model: nn.Module, public_name: Callable[[str], str]) -> dict[str, list[list[str]]]:
    """By tower (`visual`, `text`) its layers from bottom to top, each a list of public parameter names. A tower whose
    layers are not known is one layer."""
    named = [public_name(name) for name, _ in model.named_parameters()]
    visual = [name for name in named if name.startswith("visual.")]
    text = [name for name in named if name.startswith("text.")]
    trunk: Any = getattr(model.visual, "trunk", None)
    if trunk is None:
        image_layers = _blocks(visual, last=("visual.proj",))
    elif hasattr(trunk, "group_matcher"):
        image_layers = _timm(trunk, visual)
    else:
        image_layers = [visual]
    return {"visual": image_layers, "text": _blocks(text, last=("text.text_projection",))}


def locked(layers: list[list[str]], unlocked: int | None, key: str) -> set[str]:
    """The names in all but the `unlocked` upper layers; none for None.

    Raises `UserError` when the tower has fewer layers, or none that are known.
    """
    if unlocked is None:
        return set()
    if unlocked > len(layers) or (unlocked and len(layers) == 1):
        known = "are not known: lock all of them with 0" if len(layers) == 1 else f"are {len(layers)}"
        raise SettingError("", ("finetune", key), f": the layer groups of this tower {known}")
    return {name for layer in layers[: len(layers) - unlocked] for name in layer}


def _blocks(names: list[str], last: tuple[str, ...]) -> list[list[str]]:
    """Embeddings; each block of the transformer, the last one with the norm after it; the projection."""
    numbers = {name: int(match[1]) for name in names if (match := _BLOCK.search(name))}
    if not numbers:
        return [names]
    n = max(numbers.values()) + 1
    layers: list[list[str]] = [[] for _ in range(n + 2)]
    for name in names:
        if name.startswith(last):
            layers[-1].append(name)
        elif ".ln_post." in name or ".ln_final." in name or ".attn_pool." in name:
            layers[n].append(name)
        else:
            layers[numbers.get(name, -1) + 1].append(name)
    return [layer for layer in layers if layer]


def _timm(trunk: Any, names: list[str]) -> list[list[str]]:
    """As timm groups its model; what open_clip puts on it is the last layer's."""
    from timm.models import group_parameters

    groups = group_parameters(trunk, trunk.group_matcher())
    layers = [[f"visual.trunk.{name}" for name in groups[number]] for number in sorted(groups)]
    grouped = {name for layer in layers for name in layer}
    layers[-1] += [name for name in names if name not in grouped]
    return layers
