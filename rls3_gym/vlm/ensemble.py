"""Weights between the original ones and the taught ones (WiSE-FT, Wortsman et al., arXiv 2109.01903).

A fine-tuned model that is moved part of the way back keeps more of what it knew. Teaching goes on from the taught
weights all the same: they are kept beside, and each round begins with them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Ensemble:
    """A module's trainable weights as they came, as they are taught, and, in the module, those in between."""

    def __init__(self, trainable: Mapping[str, nn.Parameter], alpha: float) -> None:
        """`alpha`: the share of the taught weights."""
        self._trainable, self._alpha = trainable, alpha
        self._original = {name: weight.detach().clone() for name, weight in trainable.items()}
        self.taught: dict[str, Tensor] = {name: weight.clone() for name, weight in self._original.items()}
        """By name; call `mix` after changing them."""

    @contextmanager
    def teaching(self) -> Iterator[None]:
        """Inside, the module has the taught weights, and what becomes of them is kept; after, those in between."""
        with torch.no_grad():
            for name, weight in self._trainable.items():
                weight.copy_(self.taught[name])
        try:
            yield
        finally:
            with torch.no_grad():
                for name, weight in self._trainable.items():
                    self.taught[name].copy_(weight)
            self.mix()

    @torch.no_grad()
    def mix(self) -> None:
        """Put the weights in between into the module. The first factor of an adapter is taken as taught: what an
        adapter adds is a product, and its second factor alone begins at zero."""
        for name, weight in self._trainable.items():
            taught = self.taught[name]
            weight.copy_(taught if ".lora_A." in name else torch.lerp(self._original[name], taught, self._alpha))
