"""What holds for the weights of every model that is loaded: there are as many as its configuration says, and all are
finite."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rls3_registry.errors import UserError


def check_fits(skeleton: nn.Module, files: Iterable[Path], where: str) -> None:
    """Raise `UserError` for a model that has more parameters than its files have bytes.

    A configuration can ask for any size in a few characters; what memory it takes should have been paid for in the
    folder. There is no format with less than a byte for a parameter that is loaded here.

    Args:
        skeleton: The model on torch's device `meta`, where tensors have a shape and no content.
        files: Of its weights.
        where: The model's folder, for the message.
    """
    described, there = sum(p.numel() for p in skeleton.parameters()), sum(file.stat().st_size for file in files)
    if described > there:
        raise UserError(
            f"{where}: its configuration describes a model of {described:,} parameters, for which {there:,} bytes of "
            "weights are not enough"
        )


def check_finite(weights: Mapping[str, Any], where: str) -> None:
    """Raise `UserError` naming the first of the weights that has a NaN or an infinity; what is no tensor is not looked
    at."""
    for name, tensor in weights.items():
        if isinstance(tensor, Tensor) and tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise UserError(f"{where}: {name} holds values that are not finite; a training must have gone wrong")
