"""What happened in the episode that is going on: the counts that become its row in metrics.jsonl."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from rls3_gym.sample import Sample
from rls3_gym.scene.relations import RELATIONS, Term


def _terms() -> dict[str, int]:
    return {term.name.lower(): 0 for term in Term}


@dataclass
class EpisodeTally:
    """Counts over the steps of one episode. `as_dict` and `EpisodeTally(**...)` carry it through a checkpoint."""

    steps: int = 0
    valid: int = 0
    intrinsic: float = 0.0
    extrinsic: float = 0.0
    """Sums of the two reward parts."""
    reasons: dict[str, int] = field(default_factory=dict)
    """Infeasible steps by reason."""
    terms: dict[str, int] = field(default_factory=_terms)
    """Samples whose caption has the term."""
    cells: list[int] = field(default_factory=lambda: [0] * len(RELATIONS))
    """Samples by relation cell, in the order of `RELATIONS`."""
    complexity: dict[str, int] = field(default_factory=lambda: {"1": 0, "2": 0, "3": 0})
    """Samples by their caption's number of terms."""

    def add(self, info: Mapping[str, Any]) -> None:
        """Count one step from its `info`."""
        self.steps += 1
        self.intrinsic += float(info["intrinsic"])
        self.extrinsic += float(info["extrinsic"])
        sample: Sample | None = info["sample"]
        if sample is None:
            reason = str(info["reason"])
            self.reasons[reason] = self.reasons.get(reason, 0) + 1
            return
        self.valid += 1
        self.cells[sample.relation.index] += 1
        self.complexity[str(sample.relation.complexity)] += 1
        for term in sample.relation.terms:
            self.terms[term.name.lower()] += 1

    @property
    def valid_rate(self) -> float:
        return self.valid / self.steps if self.steps else 0.0

    @property
    def reward(self) -> float:
        """Mean reward of a step, both parts."""
        return (self.intrinsic + self.extrinsic) / self.steps if self.steps else 0.0

    def row(self) -> dict[str, Any]:
        """The episode's part of its metrics row; rewards are means over the steps."""
        steps = max(self.steps, 1)
        return {
            "valid_rate": self.valid_rate,
            "reasons": self.reasons,
            "terms": self.terms,
            "cells": self.cells,
            "complexity": self.complexity,
            "intrinsic": self.intrinsic / steps,
            "extrinsic": self.extrinsic / steps,
        }

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)
