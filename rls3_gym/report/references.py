"""Reference curves: what sampling without RL makes of the VLM, packaged for the experiments that ship.

A rise of the accuracy alone says nothing: any samples teach. A run of the same VLM, measured on the same items in the
same world, is shown beside the curves of `random` and `stratified`. `rls3 study` writes such a file with its results.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from rls3_gym.runs.directory import RunDirectory
from rls3_gym.runs.rows import EvaluationRow, read_metrics

BEYOND = 1.05
"""How far beyond its end a curve still says something, as a factor: a round ends with an episode, and so a few samples
later in one run than in another."""


class ReferenceCurve(BaseModel):
    """Accuracy of one arm on one set: interquartile mean over seeds and its 95 % interval, at the same places."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    arm: str
    seeds: int
    set_hash: str
    """Identity of the set, with the thinning of its items."""
    vlm_digest: str
    """The VLM before any fine-tuning."""
    backend: str
    """Fingerprint of the world that made the pictures."""
    n_trained: tuple[float, ...]
    n_generated: tuple[float, ...]
    """Samples generated when so many were trained, on the average."""
    middle: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    def at(self, n_trained: int) -> tuple[float, float, float] | None:
        """(middle, low, high) after so many trained samples; None well beyond the end of the curve, the last values a
        little beyond it."""
        if n_trained > BEYOND * self.n_trained[-1]:
            return None
        middle, low, high = (float(np.interp(n_trained, self.n_trained, y)) for y in (self.middle, self.low, self.high))
        return middle, low, high


class References(BaseModel):
    """The curves of one study."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    command: str
    """What makes them again."""
    curves: tuple[ReferenceCurve, ...]


@cache
def packaged() -> tuple[References, ...]:
    """All references of the package."""
    folder = resources.files("rls3_gym.report").joinpath("references")
    files = sorted(folder.iterdir(), key=lambda file: file.name)
    return tuple(
        References.model_validate_json(f.read_text(encoding="utf-8")) for f in files if f.name.endswith(".json")
    )


def curves_for(first: EvaluationRow) -> tuple[ReferenceCurve, ...]:
    """The packaged curves that go with a run, by its first evaluation: the same items, the same world, the same VLM to
    begin with."""
    identity = (first.set_hash, first.vlm_digest, first.backend)
    return tuple(
        c for reference in packaged() for c in reference.curves if (c.set_hash, c.vlm_digest, c.backend) == identity
    )


def beside(run: Path) -> dict[str, list[dict[str, Any]]]:
    """For each set of a run, what the reference samplers make of as many trained samples; JSON-ready."""
    metrics = read_metrics(RunDirectory.open(run).metrics)
    trained = metrics.counts["n_trained"]
    found: dict[str, list[dict[str, Any]]] = {}
    for name, rows in metrics.evaluations.items():
        lines = [(curve, curve.at(trained)) for curve in curves_for(rows[0])]
        found[name] = [
            {"arm": curve.arm, "seeds": curve.seeds, "accuracy": at[0], "low": at[1], "high": at[2]}
            for curve, at in lines
            if at is not None
        ]
    return found
