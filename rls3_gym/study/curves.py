"""Numbers about one learning curve: `n` samples (ascending, from 0) and the accuracy there, 0..1."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float = NDArray[np.float64]


def _curve(n: ArrayLike, accuracy: ArrayLike) -> tuple[Float, Float]:
    x, y = np.asarray(n, np.float64), np.asarray(accuracy, np.float64)
    if x.ndim != 1 or x.shape != y.shape or len(x) == 0 or (np.diff(x) < 0).any():
        raise ValueError("a curve needs as many accuracies as sample counts, in ascending order")
    return x, y


def at(n: ArrayLike, accuracy: ArrayLike, budget: float) -> float:
    """Accuracy at `budget` samples, on a straight line between two evaluations; NaN beyond the end of the curve."""
    x, y = _curve(n, accuracy)
    return float(np.interp(budget, x, y, right=np.nan))


def nauc(n: ArrayLike, accuracy: ArrayLike, budget: float) -> float:
    """Mean over [0, budget] of accuracy minus the first accuracy: the area under the gain, per sample.

    NaN when the curve ends before the budget.
    """
    x, y = _curve(n, accuracy)
    if budget <= 0:
        raise ValueError("the budget must be above 0")
    if x[-1] < budget:
        return float("nan")
    grid = np.unique(np.concatenate([x[x < budget], [0.0, budget]]))
    return float(np.trapezoid(np.interp(grid, x, y) - y[0], grid) / budget)


@dataclass(frozen=True)
class Threshold:
    """When a curve reached a threshold: `n` samples, or the budget when it did not (`reached` False: censored)."""

    n: float
    reached: bool


def samples_to_threshold(n: ArrayLike, accuracy: ArrayLike, threshold: float, budget: float) -> Threshold:
    """The first `n` at which two evaluations in a row are at or above `threshold`, both within the budget."""
    x, y = _curve(n, accuracy)
    above = (y >= threshold) & (x <= budget)
    twice = np.flatnonzero(above[:-1] & above[1:])
    return Threshold(float(x[twice[0]]), True) if len(twice) else Threshold(float(budget), False)
