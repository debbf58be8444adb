"""A run directory as a report needs it: settings, metrics, and their sums."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

import rls3_registry
from rls3_gym.runs.directory import RunDirectory, read_text
from rls3_gym.runs.row_values import COMPLEXITIES, TERM_NAMES
from rls3_gym.runs.rows import EpisodeRow, EvaluationRow, Metrics, SuiteRow, read_metrics

_FACTS = {"round", "n", "pairwise_accuracy", "strict_accuracy", "by_term", "by_complexity", "worst_term", "answers"}
_SUITE_FACTS = {"round", "n", "items_hash", "value", "low", "high", "blind", "chance", "n_by_measure", "details"}


@dataclass(frozen=True)
class RoundSummary:
    """Some episodes added up, for example those of one round."""

    round: int
    """0 for the first."""
    n_generated: int
    """At the end of them."""
    steps: int
    terms: dict[str, int]
    complexity: dict[str, int]
    cells: tuple[int, ...]
    reasons: dict[str, int]
    intrinsic: float
    extrinsic: float
    """Mean reward parts of a step."""

    @property
    def valid(self) -> int:
        return sum(self.cells)

    @property
    def valid_rate(self) -> float:
        return self.valid / self.steps if self.steps else 0.0


@dataclass(frozen=True)
class Spent:
    """Where the time of a run went, seconds."""

    total: float
    parts: Mapping[str, float]
    """By what it went into; what is left is the agent's, and writing."""
    processor: float | None
    """Processor time of the process; None for a run of an older version."""


@dataclass(frozen=True)
class RunData:
    """What one run has written so far."""

    path: Path
    config: dict[str, Any]
    command: str
    environment: str
    metrics: Metrics

    @cached_property
    def rounds(self) -> list[RoundSummary]:
        """The episodes of each round that ended in a fine-tuning."""
        by_round: dict[int, list[EpisodeRow]] = {}
        for row in self.metrics.episodes:
            if row.round < len(self.metrics.finetunes):
                by_round.setdefault(row.round, []).append(row)
        return [add_up(rows) for _, rows in sorted(by_round.items())]

    @cached_property
    def unfinished(self) -> RoundSummary | None:
        """The episodes after the last fine-tuning: of a round that is not finished, or of a VLM that isn't taught."""
        rows = [row for row in self.metrics.episodes if row.round >= len(self.metrics.finetunes)]
        return add_up(rows) if rows else None

    @cached_property
    def whole(self) -> RoundSummary | None:
        """All episodes; None before the first has ended."""
        return add_up(self.metrics.episodes) if self.metrics.episodes else None

    @cached_property
    def spent(self) -> Spent:
        """Time from the first reset to the last row, over all commands that continued the run."""
        total = since_start = after = 0.0
        for row in self.metrics.rows:
            if isinstance(row, EpisodeRow):
                if row.since_start_seconds < since_start:  # a command that continued the run
                    total += since_start + after
                since_start, after = row.since_start_seconds, 0.0
            elif isinstance(row, EvaluationRow | SuiteRow):
                after += row.evaluate_seconds
        evaluations = [row for row in self.metrics.rows if isinstance(row, EvaluationRow | SuiteRow)]
        parts = {
            "evaluating": sum(row.evaluate_seconds for row in evaluations),
            "fine-tuning": sum(row.seconds for row in self.metrics.finetunes),
            "scenes": _sum(row.stage_seconds for row in self.metrics.episodes),
            "scoring": _sum(row.score_seconds for row in self.metrics.episodes),
        }
        return Spent(
            total=total + since_start + after,
            parts={name: seconds for name, seconds in parts.items() if seconds is not None},
            processor=_sum(row.cpu_seconds for row in self.metrics.episodes),
        )


def _sum(seconds: Iterable[float | None]) -> float | None:
    """None where one is missing."""
    known = list(seconds)
    return None if None in known else sum(value for value in known if value is not None)


def add_up(rows: Sequence[EpisodeRow]) -> RoundSummary:
    """At least one episode as a whole."""
    steps = [sum(row.cells) + sum(row.reasons.values()) for row in rows]
    total = sum(steps)
    reasons = sorted({name for row in rows for name in row.reasons})
    return RoundSummary(
        round=rows[0].round,
        n_generated=rows[-1].n_generated,
        steps=total,
        terms={name: sum(row.terms.get(name, 0) for row in rows) for name in TERM_NAMES},
        complexity={name: sum(row.complexity.get(name, 0) for row in rows) for name in COMPLEXITIES},
        cells=tuple(int(n) for n in np.sum([row.cells for row in rows], axis=0)),
        reasons={name: sum(row.reasons.get(name, 0) for row in rows) for name in reasons},
        intrinsic=sum((row.intrinsic or 0.0) * n for row, n in zip(rows, steps, strict=True)) / max(total, 1),
        extrinsic=sum((row.extrinsic or 0.0) * n for row, n in zip(rows, steps, strict=True)) / max(total, 1),
    )


def read_run(path: Path) -> RunData:
    """Read a run directory, finished or not. Raises `UserError` for another folder, or when its files are damaged."""
    run = RunDirectory(path)
    run.check_has(run.config, run.metrics)
    return RunData(
        path=path,
        config=rls3_registry.load_file(run.config),
        command=read_text(run.command).strip(),
        environment=read_text(run.environment).strip(),
        metrics=read_metrics(run.metrics),
    )


def has_results(metrics: Path) -> bool:
    """Whether a run has come to a round or to its end. Raises `UserError` when the file is damaged."""
    found = read_metrics(metrics) if metrics.is_file() else Metrics(())
    return bool(found.finetunes) or found.end is not None


def summarize(path: Path) -> dict[str, Any]:
    """Counts at the end, and for each set and suite its first and last evaluation. JSON-ready."""
    metrics = read_metrics(RunDirectory.open(path).metrics)
    sets = {
        name: {"before": rows[0].model_dump(include=_FACTS), "after": rows[-1].model_dump(include=_FACTS)}
        for name, rows in metrics.evaluations.items()
    }
    suites = {
        name: {"before": rows[0].model_dump(include=_SUITE_FACTS), "after": rows[-1].model_dump(include=_SUITE_FACTS)}
        for name, rows in metrics.suites.items()
    }
    return {"run": str(path), **metrics.counts, "sets": sets, "suites": suites}
