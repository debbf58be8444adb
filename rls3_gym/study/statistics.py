"""Statistics over whole runs, by rliable and scipy; the one place of the project that imports them.

Intervals redraw whole runs, never the terms or items of one run, which are correlated. With few runs a percentile
bootstrap is too narrow: simulated normal scores are held by the "95 %" interval of 5 runs 90 times in 100, of 10 runs
93 times, of 20 runs 94 times (`tests/test_study_statistics.py` repeats it).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray

from rls3_registry.errors import UserError

try:
    from rliable.library import StratifiedBootstrap
    from rliable.metrics import probability_of_improvement as rliable_improvement
    from scipy import stats
except ModuleNotFoundError as missing:
    library = (missing.name or "rliable").split(".")[0]
    raise UserError(f'comparing runs needs {library}: pip install "rls3_gym[bench]"') from missing

__all__ = [
    "Interval", "Threshold", "entropy", "holm", "improvement", "intervals", "nauc", "p_values", "rank_correlation",
    "samples_to_threshold", "value_at",
]  # fmt: skip

Float = NDArray[np.float64]
RESAMPLES = 2000
"""Bootstrap samples of an interval."""
EXACT = 2**13
"""Sign flips of a permutation test: all of them up to 13 pairs, so many drawn ones beyond."""


@dataclass(frozen=True)
class Interval:
    """An interquartile mean over runs with its 95 % bootstrap interval, and the plain mean and spread of the runs."""

    iqm: float
    low: float
    high: float
    """The bounds are NaN for a single run."""
    mean: float
    sd: float
    """Sample standard deviation over runs; NaN for a single run."""
    runs: int


class _WholeRuns(StratifiedBootstrap):  # type: ignore[misc]  # rliable has no types
    """rliable's bootstrap, redrawing whole runs with the generator it is handed.

    rliable's own `update_indices` (1.2.0) draws from numpy's global generator, whatever `random_state` says, and
    redraws the columns of one run apart from each other.
    """

    def update_indices(self) -> tuple[NDArray[np.int64], ...]:
        shape = (self._num_items, self._num_tasks, *(1 for _ in self._args_shape[2:]))
        return (self._generator.integers(self._num_items, size=shape), *self._strata_indices)


def intervals(scores: ArrayLike, rng: Generator, resamples: int = RESAMPLES) -> list[Interval]:
    """One interval for each column of (runs, columns) scores, from the same redrawn runs.

    A column's interval is over the runs that have a value there: those with NaN are left out of it. A column without
    any value has an interval of NaN. What other columns there are makes no difference to an interval.
    """
    table = np.asarray(scores, np.float64)
    if table.ndim != 2:
        raise ValueError("intervals need scores of shape (runs, columns)")
    nan = float("nan")
    found = [Interval(nan, nan, nan, nan, nan, 0)] * table.shape[1]
    entropy = int(rng.integers(2**63))
    for columns, rows in _by_runs(table):
        values, runs = table[np.ix_(rows, columns)], len(rows)
        low = high = spread = np.full(len(columns), np.nan)
        if runs > 1:
            bootstrap = _WholeRuns(values[:, None, :], seed=np.random.default_rng([entropy, *rows]))
            low, high = bootstrap.conf_int(_iqm_of_columns, reps=resamples, method="percentile", size=0.95)
            spread = values.std(axis=0, ddof=1)
        middle = _iqm_of_columns(values[:, None, :])
        for i, column in enumerate(columns):
            found[column] = Interval(
                float(middle[i]), float(low[i]), float(high[i]), float(values[:, i].mean()), float(spread[i]), runs
            )
    return found


def _iqm_of_columns(scores: Float) -> Float:
    """(runs, 1, columns) -> (columns,): `rliable.metrics.aggregate_iqm` of each column."""
    return np.asarray(stats.trim_mean(scores[:, 0, :], 0.25, axis=0), np.float64)


def p_values(differences: ArrayLike, rng: Generator) -> Float:
    """Two-sided p of each column of (pairs, columns) differences being 0 on the mean, by flipping signs of pairs.

    Exact up to 13 pairs; 5 pairs can't give less than 0.0625, 6 not less than 0.03. NaN without any pair.
    """
    table = np.asarray(differences, np.float64)
    found = np.full(table.shape[1], np.nan)
    for columns, rows in _by_runs(table):
        values = table[np.ix_(rows, columns)]
        found[columns] = 1.0
        if len(values) > 1:
            test = stats.permutation_test(
                (values,), _mean, permutation_type="samples", vectorized=True, axis=0,
                n_resamples=EXACT, batch=EXACT // len(columns) + 1, rng=rng,
            )  # fmt: skip
            found[columns] = test.pvalue
    return found


def _by_runs(table: Float) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Columns in which the same runs have values, with the rows of these runs: nearly always all of them together.
    Columns without any value are left out."""
    patterns, group = np.unique(np.isfinite(table), axis=1, return_inverse=True)
    for number, pattern in enumerate(patterns.T):
        if pattern.any():
            yield np.flatnonzero(group.ravel() == number), np.flatnonzero(pattern)


def _mean(values: Float, axis: int) -> Any:
    return values.mean(axis=axis)


def holm(p: ArrayLike) -> Float:
    """p-values corrected for testing them all (Holm 1979); NaN are no tests and stay NaN."""
    given = np.asarray(p, np.float64)
    corrected = np.full(given.shape, np.nan)
    tests = np.flatnonzero(np.isfinite(given))
    order = tests[np.argsort(given[tests], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(given[order] * factors), 1.0)
    return corrected


def improvement(scores: ArrayLike, reference: ArrayLike) -> float:
    """Probability of improvement (rliable): how often a run scores above a run of the reference, a tie counts half."""
    ours, theirs = (np.asarray(x, np.float64) for x in (scores, reference))
    ours, theirs = ours[np.isfinite(ours)], theirs[np.isfinite(theirs)]
    if len(ours) == 0 or len(theirs) == 0:
        return float("nan")
    return float(rliable_improvement(ours[:, None], theirs[:, None]))


def entropy(counts: Sequence[float] | Float) -> float:
    """Entropy of the shares that counts make, nats. NaN when nothing was counted."""
    return float(stats.entropy(counts)) if np.sum(counts) > 0 else float("nan")


def rank_correlation(x: ArrayLike, y: ArrayLike) -> float:
    """Spearman's rank correlation; NaN when one side is all alike."""
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    return float(stats.spearmanr(x, y).statistic)


def _curve(n: ArrayLike, accuracy: ArrayLike) -> tuple[Float, Float]:
    x, y = np.asarray(n, np.float64), np.asarray(accuracy, np.float64)
    if x.ndim != 1 or x.shape != y.shape or len(x) == 0 or (np.diff(x) < 0).any():
        raise ValueError("a curve needs as many accuracies as sample counts, in ascending order")
    return x, y


def value_at(n: ArrayLike, accuracy: ArrayLike, budget: float) -> float:
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
