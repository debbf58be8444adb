"""Running means: how wrong the VLM has been recently, per term, complexity or relation cell."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray


class RunningMean:
    """One exponential mean per index. `rate` is the weight of one new value, `start` the mean before the first."""

    def __init__(self, size: int, rate: float, start: float) -> None:
        self.rate = rate
        self.start = start
        self.values: NDArray[np.float64] = np.full(size, start)

    def add(self, index: int, value: float) -> None:
        """Take in one value."""
        self.values[index] += self.rate * (value - self.values[index])

    def add_all(self, indices: Iterable[int], values: Iterable[float]) -> None:
        """Take in values in order."""
        for index, value in zip(indices, values, strict=True):
            self.add(index, value)

    def clear(self) -> None:
        """Back to the start."""
        self.values[:] = self.start
