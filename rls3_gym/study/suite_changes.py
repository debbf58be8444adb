"""What arms did to a VLM on suites, the forgetting probe among them: every measure before and after, over seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rls3_gym.study.run_rows import RunRows, SuitePoint
from rls3_gym.study.statistics import Interval, intervals
from rls3_registry.errors import UserError

SEED = 0
"""Seed of the bootstrap: the same runs give the same intervals."""


@dataclass(frozen=True)
class SuiteChange:
    """One measure of one suite in one arm."""

    suite: str
    measure: str
    arm: str
    before: Interval
    after: Interval
    change: Interval
    """After minus before, run by run. The bounds of all three are over runs, NaN for a single one."""

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready: what is not known is null."""
        parts = {name: asdict(getattr(self, name)) for name in ("before", "after", "change")}
        known = {
            name: {key: None if math.isnan(value) else round(value, 6) for key, value in part.items()}
            for name, part in parts.items()
        }
        return {"suite": self.suite, "measure": self.measure, "arm": self.arm, **known}


def suite_changes(arms: Mapping[str, Sequence[RunRows]]) -> tuple[SuiteChange, ...]:
    """The measures of all suites that some run was scored on: at its first and at its last scoring.

    Raises:
        UserError: Runs were scored on other items of the same suite.
    """
    items: dict[str, str] = {}
    values: dict[tuple[str, str], dict[str, list[tuple[float, float]]]] = {}
    for arm, runs in arms.items():
        for run in sorted(runs, key=lambda run: run.seed):
            for name in dict.fromkeys(point.suite for point in run.suites):
                points = [point for point in run.suites if point.suite == name]
                if items.setdefault(name, points[0].items_hash) != points[0].items_hash:
                    raise UserError(
                        f"arm {arm}, seed {run.seed}: was scored on items {points[0].items_hash} of suite {name}, "
                        f"others on {items[name]}; scores on other items do not compare"
                    )
                for measure in points[0].value:
                    pair = _value(points[0], measure), _value(points[-1], measure)
                    values.setdefault((name, measure), {}).setdefault(arm, []).append(pair)
    rng = np.random.default_rng(SEED)
    return tuple(
        SuiteChange(name, measure, arm, *_intervals(np.array(pairs), rng))
        for (name, measure), by_arm in values.items()
        for arm, pairs in by_arm.items()
    )


def _value(point: SuitePoint, measure: str) -> float:
    value = point.value.get(measure)
    return math.nan if value is None else value


def _intervals(pairs: NDArray[np.float64], rng: np.random.Generator) -> list[Interval]:
    """(runs, 2) scores before and after -> their intervals, and that of the change."""
    return intervals(np.column_stack([pairs, pairs[:, 1] - pairs[:, 0]]), rng)
