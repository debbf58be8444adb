"""What happened in the current episode: the counts that become its row in metrics.jsonl."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from rls3_gym.runs.rows import EpisodeRow
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

    def row(self, info: Mapping[str, Any], round_: int, since_start_seconds: float) -> EpisodeRow:
        """The episode's row, once it has ended with a step's `info`; rewards are means over the steps."""
        steps = max(self.steps, 1)
        feedback: Mapping[str, Any] = info["feedback"] or {}
        return EpisodeRow(
            episode=info["n_episodes"],
            round=round_,
            n_generated=info["n_generated"],
            n_trained=info["n_trained"],
            n_steps=info["n_steps"],
            valid_rate=self.valid / steps,
            reasons=self.reasons,
            terms=self.terms,
            cells=tuple(self.cells),
            complexity=self.complexity,
            intrinsic=self.intrinsic / steps,
            extrinsic=self.extrinsic / steps,
            accuracy=feedback.get("accuracy"),
            pairwise=feedback.get("pairwise"),
            since_start_seconds=since_start_seconds,
        )

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)
