"""What a study needs of a run: its evaluations and its rounds, a few kilobytes instead of every episode and sample.

`read_run` is the one place of the study that reads the logs of a run directory.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, pairwise
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

import rls3_registry
from rls3_gym.runs.directory import MOST_TEXT, RunDirectory, read_text
from rls3_gym.runs.row_values import (
    MOST_NAMES,
    ByCell,
    ByComplexity,
    ByTerm,
    Cells,
    Count,
    Counts,
    CountsByComplexity,
    CountsByTerm,
    Name,
    Numbers,
    Seconds,
    Share,
    Text,
)
from rls3_gym.runs.rows import read_metrics
from rls3_gym.runs.samples import read_columns
from rls3_gym.study.statistics import entropy
from rls3_registry.errors import UserError
from rls3_registry.validation import check

_FROZEN = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
_NEAR = 0.1
"""Samples whose offsets fall into the same cube of this edge (metres) are near-duplicates, other things equal."""

MOST_ROUNDS = 1_000_000
"""Of each list of a run. They fail at the first wrong entry: a small file may hold very many."""

Rows = Sequence[Mapping[str, Any]]
Real = Annotated[float, Field(ge=-1e30, le=1e30)]


class EvaluationPoint(BaseModel):
    """The VLM's accuracy on one set at one time."""

    model_config = _FROZEN

    set: Name
    set_hash: Name
    backend: Text
    """Fingerprint of the backend that showed the set."""
    vlm_digest: Name
    n: Count
    """Items of the set."""
    round: Count
    n_generated: Count
    n_trained: Count
    pairwise: Share
    strict: Share | None
    by_term: ByTerm
    by_complexity: ByComplexity
    by_cell: ByCell | None = None
    """Missing in older runs."""


class SuitePoint(BaseModel):
    """The VLM's numbers on one suite at one time."""

    model_config = _FROZEN

    suite: Name
    items_hash: Name
    round: Count
    n_trained: Count
    value: Numbers
    """By measure."""


class RoundTotals(BaseModel):
    """The episodes of one round, added up."""

    model_config = _FROZEN

    round: Count
    """0 for the first."""
    finetuned: bool
    """Whether it ended with a fine-tuning; the last round of a run may not have."""
    n_generated: Count
    n_trained: Count
    n_steps: Count
    """Counts at its end, the fine-tuning included."""
    reasons: Counts
    """Steps that gave no sample, by reason."""
    cells: Cells
    """(26,) samples by relation cell, in the order of `RELATIONS`."""
    terms: CountsByTerm
    """Samples whose caption has the term."""
    complexity: CountsByComplexity
    """Samples by their caption's number of terms."""
    intrinsic: Real
    extrinsic: Real
    """Means of the two parts of the reward over the steps."""
    wall_seconds: Seconds
    """From the run's beginning to the round's end, pauses left out."""
    evaluate_seconds: Seconds
    finetune_seconds: Seconds
    """What of these went into evaluations and into fine-tuning."""
    stage_seconds: Seconds | None = None
    score_seconds: Seconds | None = None
    """What went into making samples, and into asking the VLM about them; missing in older runs."""
    cpu_seconds: Seconds | None = None
    """Processor time of the run's process until the round's end; missing in older runs."""
    near_duplicates: Count
    """Samples so far that were near-duplicates of earlier ones: same layout, same caption, nearly the same offset."""
    caption_entropy: Annotated[float, Field(ge=0, le=1e3)]
    """Entropy of the samples so far over captions, that is over relation cell x ordered pair of kinds, nats."""


class RunRows(BaseModel):
    """One run, as small as a comparison needs it."""

    model_config = _FROZEN

    config: dict[str, Any]
    """The run's resolved configuration."""
    command: Text
    environment: Annotated[str, Field(max_length=MOST_TEXT)]
    """Versions, platform, commit."""
    evaluations: Annotated[tuple[EvaluationPoint, ...], Field(min_length=1, max_length=MOST_ROUNDS, fail_fast=True)]
    rounds: Annotated[tuple[RoundTotals, ...], Field(max_length=MOST_ROUNDS, fail_fast=True)]
    suites: Annotated[tuple[SuitePoint, ...], Field(max_length=MOST_ROUNDS, fail_fast=True)] = ()
    """In time; none where the experiment asked for none."""
    n_generated: Count
    """Valid samples when the run ended, or so far."""
    complete: bool

    @model_validator(mode="after")
    def _can_be_compared(self) -> RunRows:
        agent = self.config.get("agent")
        if not isinstance(agent, dict) or not isinstance(agent.get("name"), str):
            raise ValueError("config: agent.name should name the agent")
        if type(self.config.get("seed")) is not int or not 0 <= self.config["seed"] < 2**31:
            raise ValueError("config: seed should be a whole number, at least 0 and below 2147483648")
        if max(len(self.sets), len({point.suite for point in self.suites})) > MOST_NAMES:
            raise ValueError(f"has more than {MOST_NAMES} sets or suites")
        for name, points in [("rounds", self.rounds), *((name, self.curve(name)) for name in self.sets)]:
            for key in ("round", "n_generated", "n_trained"):
                if any(getattr(a, key) > getattr(b, key) for a, b in pairwise(points)):
                    raise ValueError(f"{name}: {key} should not fall from one to the next")
        return self

    @property
    def seed(self) -> int:
        return int(self.config["seed"])

    @property
    def sets(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(point.set for point in self.evaluations))

    def curve(self, name: str) -> tuple[EvaluationPoint, ...]:
        """The evaluations on one set, in time."""
        return tuple(point for point in self.evaluations if point.set == name)


def is_complete(run: Path) -> bool:
    """Whether the run in a directory came to its end."""
    metrics = RunDirectory(run).metrics
    if not metrics.is_file():
        return False
    with metrics.open("rb") as file:
        file.seek(max(0, metrics.stat().st_size - 4096))
        last = file.read().splitlines()[-1:]
    try:
        row = json.loads(last[0]) if last else None
    except (ValueError, RecursionError):
        return False
    return isinstance(row, dict) and _sort(row) == "end"


def read_run(path: Path) -> RunRows:
    """Read a run directory. Raises `UserError` for one that is none, that has no evaluation yet, or is damaged."""
    directory = RunDirectory.open(path)
    rows = [row.model_dump() for row in read_metrics(directory.metrics).rows]
    try:
        evaluations = tuple(_evaluation(row) for row in rows if _sort(row) == "evaluation")
        suites = tuple(_suite(row) for row in rows if _sort(row) == "suite")
        rounds = tuple(_rounds(rows, _variety(directory)))
        counted = [int(row["n_generated"]) for row in rows]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{directory.metrics}: is not of this release ({type(error).__name__}: {error})") from error
    if not evaluations:
        raise UserError(f"{path}: the run has not been evaluated yet")
    content = {
        "config": rls3_registry.load_file(directory.config),
        "command": read_text(directory.command).strip(),
        "environment": read_text(directory.environment).strip(),
        "evaluations": evaluations,
        "rounds": rounds,
        "suites": suites,
        "n_generated": max(counted),
        "complete": _sort(rows[-1]) == "end",
    }
    return check(RunRows, content, where=str(path))


def _sort(row: Mapping[str, Any]) -> str:
    """What a row of metrics.jsonl is about, such as episode, finetune or evaluation."""
    return str(row.get("row"))


def _evaluation(row: Mapping[str, Any]) -> EvaluationPoint:
    return EvaluationPoint(
        **{key: row[key] for key in ("set", "set_hash", "vlm_digest", "n", "round", "n_generated", "n_trained")},
        **{key: row[key] for key in ("by_term", "by_complexity", "by_cell")},
        backend=row["backend"],
        pairwise=row["pairwise_accuracy"],
        strict=row["strict_accuracy"],
    )


def _suite(row: Mapping[str, Any]) -> SuitePoint:
    return SuitePoint(**{key: row[key] for key in SuitePoint.model_fields})


def _rounds(rows: Rows, variety: Mapping[int, tuple[int, float]]) -> Iterator[RoundTotals]:
    """Episode rows added up by round, with what went before the end of each."""
    reports = {int(row["round"]) - 1: row for row in rows if _sort(row) == "finetune"}
    wall, before, evaluated, taught = 0.0, 0.0, 0.0, 0.0
    parts: dict[str, float | None] = {"stage_seconds": 0.0, "score_seconds": 0.0, "cpu_seconds": 0.0}
    # Evaluations of the VLM as it came lie before the first episode, the others after the round that they judge.
    costs: Counter[int] = Counter()
    for row in rows:
        if _sort(row) in ("evaluation", "suite"):
            costs[int(row["round"])] += row["evaluate_seconds"]
    for number, grouped in groupby((r for r in rows if _sort(r) == "episode"), key=lambda row: int(row["round"])):
        episodes = list(grouped)
        for row in episodes:
            now = float(row["since_start_seconds"])
            wall += now - before if now >= before else now  # a continued run counts from 0 again
            before = now
            parts = {key: None if None in (sum_, row[key]) else sum_ + row[key] for key, sum_ in parts.items()}
        evaluated += costs[number]
        report = reports.get(number)
        taught += report["seconds"] if report else 0.0
        last = episodes[-1]
        steps = np.array([sum(row["cells"]) + sum(row["reasons"].values()) for row in episodes])
        near, spread = variety.get(number, (0, 0.0))
        yield RoundTotals(
            round=number,
            finetuned=report is not None,
            n_generated=last["n_generated"],
            n_trained=last["n_trained"],
            n_steps=last["n_steps"],
            reasons=_added(row["reasons"] for row in episodes),
            cells=tuple(int(n) for n in np.sum([row["cells"] for row in episodes], axis=0)),
            terms=_added(row["terms"] for row in episodes),
            complexity=_added(row["complexity"] for row in episodes),
            intrinsic=_mean([row["intrinsic"] for row in episodes], steps),
            extrinsic=_mean([row["extrinsic"] for row in episodes], steps),
            wall_seconds=wall,
            evaluate_seconds=evaluated,
            finetune_seconds=taught,
            **parts,
            near_duplicates=near,
            caption_entropy=spread,
        )


def _added(counts: Iterator[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for count in counts:
        total.update(count)
    return dict(total)


def _mean(values: Sequence[float | None], steps: np.ndarray[Any, Any]) -> float:
    known = [0.0 if value is None else value for value in values]
    return float(np.average(known, weights=steps)) if steps.sum() else 0.0


def _variety(run: RunDirectory) -> dict[int, tuple[int, float]]:
    """By round: near-duplicates and entropy over captions of all samples until its end."""
    found: dict[int, tuple[int, float]] = {}
    seen: set[tuple[Any, ...]] = set()
    captions: Counter[str] = Counter()
    near = 0
    parts = read_columns(run, ("round", "caption", "family", "layout", "offset"))
    rows = (row for part in parts for row in zip(*part.values(), strict=True))
    for number, grouped in groupby(rows, key=lambda row: int(row[0])):
        for _, caption, family, layout, offset in grouped:
            key = (family, layout, caption, *(round(x / _NEAR) for x in offset))
            near += key in seen
            seen.add(key)
            captions[caption] += 1
        found[number] = (near, entropy(list(captions.values())))
    return found
