"""The optimizer of a round, with learning rates that may fall from the top of a tower to its bottom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from rls3_gym.vlm.finetune_settings import FineTuneSettings
from rls3_registry.errors import SettingError

Towers = Sequence[Sequence[Sequence[str]]]
"""Of each tower its layers from bottom to top, and of each layer the public names of its parameters."""


def layer_scales(trainable: Mapping[str, nn.Parameter], settings: FineTuneSettings, towers: Towers) -> dict[str, float]:
    """By name, what the learning rate is multiplied by: `layer_decay` once for each layer above the parameter's own, as
    in BEiT (arXiv 2106.08254). Parameters outside of all towers learn at the whole rate; so do all without decay.

    Raises `UserError` when there is a decay, but no tower with layers.
    """
    scales = dict.fromkeys(trainable, 1.0)
    if settings.layer_decay == 1.0:
        return scales
    if not any(len(layers) > 1 for layers in towers):
        raise SettingError("", ("finetune", "layer_decay"), ": the layers of this model are not known; leave it at 1")
    for layers in towers:
        for above, layer in enumerate(reversed(layers)):
            scales |= {name: settings.layer_decay**above for name in layer if name in scales}
    return scales


def new_optimizer(
    trainable: Mapping[str, nn.Parameter], scales: Mapping[str, float], settings: FineTuneSettings
) -> torch.optim.AdamW:
    """AdamW with a group of parameters for each scale, the largest first; `set_rate` sets their learning rates."""
    groups = [
        {"params": [trainable[name] for name in trainable if scales[name] == scale], "scale": scale}
        for scale in sorted(set(scales.values()), reverse=True)
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, weight_decay=settings.weight_decay)


def in_order(trainable: Mapping[str, nn.Parameter], scales: Mapping[str, float]) -> list[str]:
    """The names in the order in which the optimizer counts its parameters."""
    return sorted(trainable, key=lambda name: -scales[name])  # stable


def set_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """The learning rate of the next step, for each group by its scale."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group["scale"]
