"""The numbers of one run at one budget: how accurate its VLM is there, what was sampled until then, what it cost.

A budget counts samples on an axis, `n_trained` or `n_generated`. What lies between two evaluations, or between the ends
of two rounds, is read off a straight line. Beyond the end of a run every number is NaN. Shares are 0..1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rls3_gym.scene.relations import RELATIONS, Term
from rls3_gym.study import statistics
from rls3_gym.study.run_rows import EvaluationPoint, RunRows
from rls3_gym.study.statistics import entropy, rank_correlation

Axis = Literal["n_trained", "n_generated"]
AXES: tuple[Axis, ...] = ("n_trained", "n_generated")
Numbers = dict[str, float]

TERMS = tuple(term.name.lower() for term in Term)
COMPLEXITIES = ("1", "2", "3")
SHARES = {"n_50": 0.5, "n_80": 0.8}
"""Thresholds, as shares of the final gain of `stratified`."""
_VERTICAL = np.array([relation.vertical != 0 for relation in RELATIONS])
_SUMS = ("n_generated", "n_trained", "n_steps", "wall_seconds", "evaluate_seconds", "finetune_seconds")
_PARTS = ("stage_seconds", "score_seconds", "cpu_seconds")
"""Missing in older runs."""


@dataclass(frozen=True)
class Targets:
    """What the arms of a comparison are measured by, on one set, axis and budget; NaN where the arm is not there."""

    gain: float = math.nan
    """Final gain of `stratified`, mean over its runs."""
    accuracy: float = math.nan
    """Final accuracy of `random`, mean over its runs."""


def numbers_of(run: RunRows, axis: Axis, budget: int, targets: Mapping[str, Targets]) -> Numbers:
    """All numbers of a run at a budget; those of a set are called `SET.NUMBER`. `targets` names the sets."""
    found: Numbers = {}
    for name, target in targets.items():
        found |= {f"{name}.{key}": value for key, value in _accuracy(run, name, axis, budget, target).items()}
    return found | _sampling(run, axis, budget, next(iter(targets)))


def curve(run: RunRows, name: str, axis: Axis, measure: str = "pairwise") -> tuple[list[float], list[float]]:
    """Sample counts and accuracies of a run on a set.

    `measure` is `pairwise`, `strict`, a term, or a number of terms. After its last fine-tuning a complete run may have
    generated more samples: the VLM stays as it is, and so does the curve.
    """
    x, y = _evaluations(run, name, axis, measure)
    if axis == "n_generated" and run.complete and x and run.n_generated > x[-1]:
        return [*x, float(run.n_generated)], [*y, y[-1]]
    return x, y


def _evaluations(run: RunRows, name: str, axis: Axis, measure: str = "pairwise") -> tuple[list[float], list[float]]:
    """The curve where it was measured."""
    points = [(float(getattr(p, axis)), y) for p in run.curve(name) if (y := _value(p, measure)) is not None]
    return [x for x, _ in points], [y for _, y in points]


def _value(point: EvaluationPoint, measure: str) -> float | None:
    if measure in TERMS:
        return point.by_term.get(measure)
    if measure in COMPLEXITIES:
        return point.by_complexity.get(measure)
    return point.pairwise if measure == "pairwise" else point.strict


def accuracy_at(run: RunRows, name: str, axis: Axis, budget: int, measure: str = "pairwise") -> float:
    """Accuracy of a run on a set at a budget."""
    x, y = curve(run, name, axis, measure)
    return statistics.value_at(x, y, budget) if x else math.nan


def _accuracy(run: RunRows, name: str, axis: Axis, budget: int, target: Targets) -> Numbers:
    x, y = curve(run, name, axis)
    if not x:
        return {}
    final = statistics.value_at(x, y, budget)
    by_term = {term: accuracy_at(run, name, axis, budget, term) for term in TERMS}
    found = {
        "start": y[0],
        "pairwise": final,
        "strict": accuracy_at(run, name, axis, budget, "strict"),
        "gain": final - y[0],
        "nauc": statistics.nauc(x, y, budget),
        "worst_term": min((value for value in by_term.values() if math.isfinite(value)), default=math.nan),
        **by_term,
        **{f"terms_{length}": accuracy_at(run, name, axis, budget, length) for length in COMPLEXITIES},
    }
    if math.isfinite(final):
        measured = _evaluations(run, name, axis)
        for key, share in SHARES.items():
            found |= _threshold(key, *measured, y[0] + share * target.gain, budget)
        # How much less than `random` it took to be as good: looked for along the whole run, not up to the budget.
        reached = _threshold("efficiency", *measured, target.accuracy, x[-1])
        found |= reached | {"efficiency": budget / reached["efficiency"]} if reached else {}
    return found


def _threshold(key: str, x: Sequence[float], y: Sequence[float], threshold: float, budget: float) -> Numbers:
    """When the threshold was reached, or the budget where it was not, and whether it was (1) or not (0)."""
    if not math.isfinite(threshold):
        return {}
    found = statistics.samples_to_threshold(x, y, threshold, budget)
    return {key: max(found.n, 1.0), f"{key}_reached": float(found.reached)}


def _sampling(run: RunRows, axis: Axis, budget: int, name: str) -> Numbers:
    """What was sampled until the budget and what it cost; `name` is the set by which the VLM's errors are judged."""
    rounds = [r for r in run.rounds if r.finetuned] if axis == "n_trained" else list(run.rounds)
    x = [0, *(int(getattr(r, axis)) for r in rounds)]
    end = max(x[-1], run.n_generated) if axis == "n_generated" and run.complete else x[-1]
    if not rounds or budget > end:
        return {}

    def until(values: ArrayLike) -> float:
        return float(np.interp(budget, x, [0.0, *np.asarray(values, np.float64)]))

    def counted(counts: Sequence[Sequence[int]]) -> NDArray[np.float64]:
        return np.array([until(column) for column in np.cumsum(counts, axis=0).T])

    cells = counted([r.cells for r in rounds])
    terms = counted([[r.terms.get(term, 0) for term in TERMS] for r in rounds])
    lengths = counted([[r.complexity.get(length, 0) for length in COMPLEXITIES] for r in rounds])
    ambiguous = until(np.cumsum([r.reasons.get("ambiguous", 0) for r in rounds]))
    found = {key: until([float(getattr(r, key)) for r in rounds]) for key in _SUMS}
    samples = max(cells.sum(), 1.0)
    rest = found["wall_seconds"] - found["evaluate_seconds"] - found["finetune_seconds"]
    parts = {key: [getattr(r, key) for r in rounds] for key in _PARTS}
    if not any(None in seconds for seconds in parts.values()):
        found |= {key: until(seconds) for key, seconds in parts.items()}
        found["agent_seconds"] = max(0.0, rest - found["stage_seconds"] - found["score_seconds"])
    return found | {
        "valid_rate": found["n_generated"] / max(found["n_steps"], 1.0),
        "ambiguous_rate": ambiguous / max(found["n_steps"], 1.0),
        "cell_entropy": entropy(cells),
        "effective_cells": math.exp(entropy(cells)),
        "effective_captions": math.exp(until([r.caption_entropy for r in rounds])),
        "near_duplicates": until([r.near_duplicates for r in rounds]) / samples,
        "vertical_samples": cells[_VERTICAL].sum() / samples,
        "vertical_terms": (terms[Term.ABOVE] + terms[Term.BELOW]) / max(terms.sum(), 1.0),
        **{f"term_{term}": terms[i] / max(terms.sum(), 1.0) for i, term in enumerate(TERMS)},
        **{f"length_{length}": lengths[i] / samples for i, length in enumerate(COMPLEXITIES)},
        **_targeting(run, axis, budget, name),
        "rest_seconds": rest,
    }


def _targeting(run: RunRows, axis: Axis, budget: int, name: str) -> Numbers:
    """Means over the rounds begun before the budget: rank correlation of the shares of the six terms in the round, and
    of the 26 relation cells, with the VLM's errors on them at the evaluation just before it. 1: the worse the VLM knows
    a term or cell, the more of it."""
    begun = 0
    by_term: list[float] = []
    by_cell: list[float] = []
    for totals in run.rounds:
        if begun >= budget:
            break
        begun = int(getattr(totals, axis))
        before = [p for p in run.curve(name) if p.round <= totals.round]
        if not before or not any(totals.cells):
            continue
        terms = [totals.terms.get(term, 0) for term in TERMS]
        by_term.append(_rank_correlation(terms, [before[-1].by_term.get(term) for term in TERMS]))
        by_cell.append(_rank_correlation(totals.cells, before[-1].by_cell or ()))
    found = {"targeting": by_term, "targeting_cells": by_cell}
    known = {key: [value for value in values if math.isfinite(value)] for key, values in found.items()}
    return {key: float(np.mean(values)) for key, values in known.items() if values}


def _rank_correlation(made: Sequence[int], accuracy: Sequence[float | None]) -> float:
    """Of what was made with the errors, where they are known; NaN for fewer than two."""
    asked = [(count, 1.0 - right) for count, right in zip(made, accuracy, strict=False) if right is not None]
    return rank_correlation(*zip(*asked, strict=True)) if len(asked) > 1 else math.nan
