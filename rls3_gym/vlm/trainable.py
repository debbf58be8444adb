"""Which parameters of a VLM train: those that patterns name, or LoRA adapters."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase

import numpy as np
from torch import nn

from rls3_gym.vlm.finetune_settings import FineTuneSettings
from rls3_gym.vlm.lora import add_lora, is_adapter, readable_name
from rls3_gym.vlm.seeding import seeded_torch
from rls3_registry.errors import SettingError, unknown


def set_trainable(
    module: nn.Module, settings: FineTuneSettings, public_name: Callable[[str], str], locked: Collection[str] = ()
) -> dict[str, nn.Parameter]:
    """Freeze all that does not train.

    Args:
        module: With `settings.lora`, adapters are put into it.
        settings: `train` and `lora`.
        public_name: From a parameter's name in the module to its name in settings and states.
        locked: Public names of parameters that do not train, whatever the patterns say.

    Returns:
        The parameters that train, by their public names.

    Raises:
        UserError: A pattern that matches nothing, nothing left to train, or no peft for adapters.
    """
    if settings.lora is not None:
        add_lora(module, settings.lora, public_name)
        adapters = ((name, weight) for name, weight in module.named_parameters() if is_adapter(name))
        return {public_name(readable_name(name)): weight for name, weight in adapters}
    return _named_in(module, settings.train, public_name, locked)


def _named_in(
    module: nn.Module, patterns: Sequence[str], public_name: Callable[[str], str], locked: Collection[str]
) -> dict[str, nn.Parameter]:
    named = {public_name(name): parameter for name, parameter in module.named_parameters()}
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in named):
            paths = [name.split(".") for name in named]
            groups = {f"{'.'.join(p[:depth])}.*" for p in paths for depth in (1, 2) if len(p) > depth}
            said = unknown("parameter pattern", pattern, groups or named)
            raise SettingError("", ("finetune", "train"), f": {said}")
    for name, parameter in named.items():
        parameter.requires_grad_(name not in locked and any(fnmatchcase(name, pattern) for pattern in patterns))
    trainable = {name: parameter for name, parameter in named.items() if parameter.requires_grad}
    if not trainable:
        raise SettingError("", ("finetune", "train"), ": leaves no parameter to train")
    return trainable


@contextmanager
def training(module: nn.Module, rng: np.random.Generator) -> Iterator[None]:
    """Inside, the module is in training mode, but for batch norms: a round's few pictures would distort their
    statistics. What dropout draws follows from `rng`; nothing is drawn for a module without dropout."""
    dropouts = (nn.modules.dropout._DropoutNd,)
    random = any(part.p > 0 for part in module.modules() if isinstance(part, dropouts)) or any(
        getattr(part, "drop_prob", 0) or 0
        for part in module.modules()  # timm's DropPath
    )
    module.train()
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.eval()
    try:
        if random:
            with seeded_torch(int(rng.integers(2**63))):
                yield
        else:
            yield
    finally:
        module.eval()
