"""Numbers about whole runs: learning curves over `n_generated`, coverage of the cells, intervals over seeds.

A curve is `n` (ascending, starting at 0) and the accuracy there, 0..1. Intervals resample whole runs, never the
terms or items of one run, which are correlated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray

Float = NDArray[np.float64]


def _curve(n: ArrayLike, accuracy: ArrayLike) -> tuple[Float, Float]:
    x, y = np.asarray(n, np.float64), np.asarray(accuracy, np.float64)
    if x.ndim != 1 or x.shape != y.shape or len(x) == 0 or (np.diff(x) < 0).any():
        raise ValueError("a curve needs as many accuracies as sample counts, in ascending order")
    return x, y


def at(n: ArrayLike, accuracy: ArrayLike, budget: float) -> float:
    """Accuracy at `budget` samples, interpolated; the last value beyond the end of the curve."""
    x, y = _curve(n, accuracy)
    return float(np.interp(budget, x, y))


def nauc(n: ArrayLike, accuracy: ArrayLike, budget: float) -> float:
    """Mean over [0, budget] of accuracy minus the first accuracy, 0..1: the area under the gain, per sample."""
    x, y = _curve(n, accuracy)
    if budget <= 0:
        raise ValueError("the budget must be above 0")
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


def interquartile_mean(values: ArrayLike) -> float:
    """Mean of the middle half of all values; a value on the border counts with the part that lies inside."""
    ordered = np.sort(np.asarray(values, np.float64).ravel())
    if len(ordered) == 0:
        raise ValueError("no values to average")
    edges = np.arange(len(ordered) + 1) / len(ordered)
    weight = np.clip(np.minimum(edges[1:], 0.75) - np.maximum(edges[:-1], 0.25), 0.0, None)
    return float((ordered * weight).sum() / weight.sum())


@dataclass(frozen=True)
class Interval:
    """An interquartile mean with its 95 % bootstrap interval, and the plain mean and spread of the runs."""

    iqm: float
    low: float
    high: float
    mean: float
    sd: float
    """Sample standard deviation over runs; NaN for a single run."""
    runs: int


def interval(tasks: Sequence[ArrayLike], rng: Generator, resamples: int = 2000) -> Interval:
    """IQM over the runs of one or more tasks, with a stratified bootstrap: runs are redrawn within each task.

    `tasks`: one array of run scores for each separately run task (VLM and scene family); never terms of one run.
    """
    scores = [np.asarray(task, np.float64).ravel() for task in tasks]
    if not scores or not all(len(task) for task in scores):
        raise ValueError("an interval needs at least one run of each task")
    pooled = np.concatenate(scores)
    drawn = [
        interquartile_mean(np.concatenate([task[rng.integers(len(task), size=len(task))] for task in scores]))
        for _ in range(resamples)
    ]
    low, high = np.quantile(drawn, [0.025, 0.975])
    sd = float(pooled.std(ddof=1)) if len(pooled) > 1 else float("nan")
    return Interval(interquartile_mean(pooled), float(low), float(high), float(pooled.mean()), sd, len(pooled))


def paired(scores: ArrayLike, reference: ArrayLike, rng: Generator, resamples: int = 2000) -> Interval:
    """The difference to a reference sampler, seed by seed: both arrays list the same seeds in the same order."""
    ours, theirs = np.asarray(scores, np.float64), np.asarray(reference, np.float64)
    if ours.shape != theirs.shape or ours.ndim != 1:
        raise ValueError("a paired difference needs the same seeds on both sides")
    return interval([ours - theirs], rng, resamples)
