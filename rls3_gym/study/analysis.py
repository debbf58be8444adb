"""Arms compared: every number with its interval over seeds, and differences to the baselines, seed by seed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from rls3_gym.study.numbers import Axis, Numbers, Targets, accuracy_at, numbers_of
from rls3_gym.study.run_rows import RunRows
from rls3_gym.study.statistics import Interval, holm, improvement, intervals, p_values
from rls3_gym.study.suite_changes import SuiteChange, suite_changes
from rls3_registry.errors import UserError

SEED = 0
"""Seed of all that is drawn here: the same runs give the same intervals."""
OF_A_SET = ("pairwise", "strict", "nauc", "worst_term")
OF_SAMPLING = ("valid_rate", "effective_cells", "vertical_samples")
"""Numbers whose differences to the baselines are taken."""

Arms = Mapping[str, Sequence[RunRows]]
Budgets = Mapping[Axis, Sequence[int]]


@dataclass(frozen=True)
class RunAtBudget:
    """The numbers of one run: a row of results.csv."""

    arm: str
    seed: int
    axis: Axis
    budget: int
    numbers: Numbers


@dataclass(frozen=True)
class Difference:
    """An arm minus a baseline, over the seeds that both have."""

    interval: Interval
    p: float
    """Two-sided, by sign flips."""
    p_holm: float
    """Corrected for the number of arms that are compared with this baseline."""
    improvement: float
    """How often a run of the arm is above one of the baseline, a tie counting half."""


@dataclass(frozen=True)
class ArmAtBudget:
    """One arm at one budget."""

    arm: str
    axis: Axis
    budget: int
    numbers: dict[str, Interval]
    differences: dict[str, dict[str, Difference]] = field(default_factory=dict)
    """By baseline and number; none to the arm itself."""


@dataclass(frozen=True)
class Analysis:
    """What a comparison found."""

    sets: tuple[str, ...]
    baselines: tuple[str, ...]
    runs: tuple[RunAtBudget, ...]
    arms: tuple[ArmAtBudget, ...]
    """In the order axis, budget, arm."""


def analyze(arms: Arms, sets: Sequence[str], at: Budgets, baselines: Sequence[str]) -> Analysis:
    """Compare arms at every budget.

    Args:
        arms: The runs of each arm, one a seed. Arms named `stratified` and `random` set the targets of the numbers
            that need one (samples to threshold, data efficiency).
        sets: Evaluation sets; all runs have them.
        at: Budgets by axis.
        baselines: Arms that the others are compared with.

    Raises:
        UserError: Runs that can't be compared: of other sets or backends, or two of one arm and seed.
    """
    check_comparable(arms, sets)
    runs = tuple(_runs(arms, sets, at))
    table = _Table(runs)
    return Analysis(tuple(sets), tuple(baselines), runs, tuple(_arms(table, arms, sets, at, baselines)))


def check_comparable(arms: Arms, sets: Sequence[str]) -> None:
    """Raise `UserError` for runs that were not measured on the same items, or that are there twice."""
    shown: dict[str, tuple[str, str]] = {}
    for arm, runs in arms.items():
        seeds = [run.seed for run in runs]
        twice = next((seed for seed in seeds if seeds.count(seed) > 1), None)
        if twice is not None:
            raise UserError(f"arm {arm}: has two runs of seed {twice}; a seed counts once")
        for run in runs:
            for name in sets:
                points = run.curve(name)
                if not points:
                    raise UserError(f"arm {arm}, seed {run.seed}: was not measured on {name} but on {run.sets}")
                here = (f"{name} {points[0].set_hash} of {points[0].n} items", points[0].backend or "unnamed backend")
                if shown.setdefault(name, here) != here:
                    raise UserError(
                        f"arm {arm}, seed {run.seed}: was measured on {' by '.join(here)}, others on "
                        f"{' by '.join(shown[name])}; accuracies on other items do not compare"
                    )


def _runs(arms: Arms, sets: Sequence[str], at: Budgets) -> Iterator[RunAtBudget]:
    for axis, budgets in at.items():
        for budget in budgets:
            targets = {name: _targets(arms, name, axis, budget) for name in sets}
            for arm, runs in arms.items():
                for run in sorted(runs, key=lambda run: run.seed):
                    yield RunAtBudget(arm, run.seed, axis, budget, numbers_of(run, axis, budget, targets))


def _targets(arms: Arms, name: str, axis: Axis, budget: int) -> Targets:
    def final(arm: str, gained: bool) -> float:
        values = [
            accuracy_at(run, name, axis, budget) - (accuracy_at(run, name, axis, 0) if gained else 0.0)
            for run in arms.get(arm, ())
        ]
        known = [value for value in values if math.isfinite(value)]
        return float(np.mean(known)) if known else math.nan

    return Targets(gain=final("stratified", True), accuracy=final("random", False))


class _Table:
    """Numbers of all runs as columns over seeds, so that one bootstrap serves them all."""

    def __init__(self, runs: Sequence[RunAtBudget]) -> None:
        self.seeds = sorted({run.seed for run in runs})
        row = {seed: i for i, seed in enumerate(self.seeds)}
        self._columns: dict[tuple[str, Axis, int, str], np.ndarray] = {}
        for run in runs:
            for number, value in run.numbers.items():
                key = (run.arm, run.axis, run.budget, number)
                column = self._columns.setdefault(key, np.full(len(self.seeds), np.nan))
                column[row[run.seed]] = value

    def column(self, arm: str, axis: Axis, budget: int, number: str) -> np.ndarray:
        """(seeds,) values; NaN where the arm has no run of the seed, or the run no such number."""
        nothing = np.full(len(self.seeds), np.nan)
        return self._columns.get((arm, axis, budget, number), nothing)

    def numbers(self) -> list[str]:
        return list(dict.fromkeys(number for *_, number in self._columns))


def _arms(
    table: _Table, arms: Arms, sets: Sequence[str], at: Budgets, baselines: Sequence[str]
) -> Iterator[ArmAtBudget]:
    rng = np.random.default_rng(SEED)
    places = [(axis, budget) for axis, budgets in at.items() for budget in budgets]
    numbers = table.numbers()
    compared = [f"{name}.{number}" for name in sets for number in OF_A_SET] + list(OF_SAMPLING)
    values = [(arm, *place, number) for place in places for arm in arms for number in numbers]
    pairs = [
        (baseline, *place, number, arm)
        for baseline in baselines for place in places for number in compared for arm in arms if arm != baseline
    ]  # fmt: skip
    gaps = [table.column(arm, a, n, number) - table.column(base, a, n, number) for base, a, n, number, arm in pairs]
    columns = [table.column(*key) for key in values] + gaps
    found = intervals(np.stack(columns, axis=1), rng)
    by_value = dict(zip(values, found, strict=False))
    p = p_values(np.stack(gaps, axis=1), rng) if gaps else np.array([])
    differences: dict[tuple[str, Axis, int], dict[str, dict[str, Difference]]] = {}
    others = len(arms) - 1
    for start in range(0, len(pairs), max(others, 1)):
        family = slice(start, start + others)  # the arms that one baseline is compared with in one number
        corrected = holm(p[family])
        for i, (baseline, axis, budget, number, arm) in enumerate(pairs[family]):
            ours, theirs = (table.column(a, axis, budget, number) for a in (arm, baseline))
            both = np.isfinite(ours) & np.isfinite(theirs)
            difference = Difference(
                found[len(values) + start + i], float(p[start + i]), float(corrected[i]),
                improvement(ours[both], theirs[both]),
            )  # fmt: skip
            by_baseline = differences.setdefault((arm, axis, budget), {})
            by_baseline.setdefault(baseline, {})[number] = difference
    for axis, budget in places:
        for arm in arms:
            shown = {number: by_value[arm, axis, budget, number] for number in numbers}
            yield ArmAtBudget(arm, axis, budget, shown, differences.get((arm, axis, budget), {}))


@dataclass(frozen=True)
class Comparison:
    """Arms compared, and what has to be said with the result."""

    name: str
    description: str
    arms: Arms
    analysis: Analysis
    command: str
    """What makes the comparison again."""
    commands: Mapping[str, str]
    """What makes a run of each arm."""
    noise_floor: float | None = None
    """Standard deviation of accuracy over shuffles of the same data, 0..1."""
    missing: int = 0
    """Runs that the study still lacks."""
    headline: tuple[str, ...] = ()
    """Arms that a small figure of the first set shows; there is none where this is empty."""

    @cached_property
    def suites(self) -> tuple[SuiteChange, ...]:
        """What the arms did to the VLM on suites; none where no run was scored on one."""
        return suite_changes(self.arms)

    @property
    def still_to_make(self) -> str:
        """The missing runs in words."""
        return f"{self.missing} run{'s' * (self.missing != 1)} of the study still to be made"


def sets_of(comparison: Comparison) -> dict[str, dict[str, Any]]:
    """Hash, number of items and backend of each evaluation set."""
    run = next(iter(comparison.arms.values()))[0]
    points = {name: run.curve(name)[0] for name in comparison.analysis.sets}
    return {name: {"hash": p.set_hash, "items": p.n, "backend": p.backend} for name, p in points.items()}


def environments_of(comparison: Comparison) -> list[str]:
    """The different environments (versions, platform, commit) in which the runs were made."""
    return list(dict.fromkeys(run.environment for runs in comparison.arms.values() for run in runs))
