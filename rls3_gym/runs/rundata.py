"""A run directory, read for a report: its configuration, its metrics by kind, its samples."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

import rls3_registry
from rls3_gym.scene.relations import Term
from rls3_registry.errors import UserError, first_line

Row = Mapping[str, Any]
TERM_NAMES = tuple(term.name.lower() for term in Term)
COMPLEXITIES = ("1", "2", "3")


@dataclass(frozen=True)
class RoundSummary:
    """The episodes of one round, added up."""

    round: int
    n_generated: int
    """At the end of the round."""
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
class RunData:
    """What one run left behind, so far."""

    path: Path
    config: dict[str, Any]
    command: str
    environment: str
    rows: tuple[Row, ...]
    samples: tuple[Row, ...]

    def of_kind(self, kind: str) -> list[Row]:
        return [row for row in self.rows if row.get("kind") == kind]

    @cached_property
    def evaluations(self) -> dict[str, list[Row]]:
        """Evaluation rows by set, in the order of the configuration; each list by `n_generated`."""
        by_set: dict[str, list[Row]] = {}
        for row in self.of_kind("evaluation"):
            by_set.setdefault(str(row["set"]), []).append(row)
        return by_set

    @cached_property
    def rounds(self) -> list[RoundSummary]:
        """Episode rows added up by round."""
        by_round: dict[int, list[Row]] = {}
        for row in self.of_kind("episode"):
            by_round.setdefault(int(row["round"]), []).append(row)
        return [_summary(number, rows) for number, rows in sorted(by_round.items())]


def _summary(number: int, rows: list[Row]) -> RoundSummary:
    steps = [_steps(row) for row in rows]
    total = sum(steps)

    def added(key: str, names: tuple[str, ...]) -> dict[str, int]:
        return {name: sum(int(row[key].get(name, 0)) for row in rows) for name in names}

    def mean(key: str) -> float:
        return sum(float(row[key] or 0.0) * n for row, n in zip(rows, steps, strict=True)) / max(total, 1)

    return RoundSummary(
        round=number,
        n_generated=int(rows[-1]["n_generated"]),
        steps=total,
        terms=added("terms", TERM_NAMES),
        complexity=added("complexity", COMPLEXITIES),
        cells=tuple(int(n) for n in np.sum([row["cells"] for row in rows], axis=0)),
        reasons=added("reasons", tuple(sorted({name for row in rows for name in row["reasons"]}))),
        intrinsic=mean("intrinsic"),
        extrinsic=mean("extrinsic"),
    )


def _steps(row: Row) -> int:
    """Steps of an episode: those that gave a sample and those that did not."""
    return int(sum(row["cells"]) + sum(row["reasons"].values()))


def read_run(path: Path) -> RunData:
    """Read a run directory, finished or not. Raises `UserError` for one that isn't, or whose files are damaged."""
    if not path.is_dir():
        raise UserError(f"{path}: there is no such run directory")
    missing = [name for name in ("config.yaml", "metrics.jsonl") if not (path / name).is_file()]
    if missing:
        raise UserError(f"{path}: is not a run directory of rls3 (it has no {', '.join(missing)})")
    samples = path / "samples" / "samples.jsonl"
    return RunData(
        path=path,
        config=rls3_registry.load_file(path / "config.yaml"),
        command=_text(path / "command.txt"),
        environment=_text(path / "environment.txt"),
        rows=_json_lines(path / "metrics.jsonl"),
        samples=_json_lines(samples) if samples.is_file() else (),
    )


def _text(path: Path) -> str:
    return _content(path).strip() if path.is_file() else ""


def _content(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({first_line(error)})") from error


def _json_lines(path: Path) -> tuple[Row, ...]:
    """Rows of a JSON-lines file. A last line without its end is of a run that is still writing: left for later."""
    text = _content(path)
    rows: list[Row] = []
    for number, line in enumerate(text[: text.rfind("\n") + 1].splitlines(), start=1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UserError(f"{path}: line {number} is not JSON ({error})") from error
        if not isinstance(row, dict):
            raise UserError(f"{path}: line {number} is not a JSON object")
        rows.append(row)
    return tuple(rows)
