"""Measuring the learning VLM on the held-out sets of an experiment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from rls3_gym.evaluation.metrics import accuracy_table
from rls3_gym.evaluation.testset import load_set
from rls3_gym.vlm.base import VLM


@dataclass(frozen=True)
class Measurer:
    """Evaluates a VLM on named sets, always on the same items."""

    sets: Sequence[str]
    image_size: int

    def load(self) -> None:
        """Render the sets now (they stay in memory), so that a wrong name or a damaged file shows before the run."""
        for name in self.sets:
            load_set(name, self.image_size)

    def rows(self, vlm: VLM) -> list[dict[str, Any]]:
        """One row per set: its name and hash, the accuracies, and the seconds it took."""
        rows = []
        for name in self.sets:
            started = perf_counter()
            row = _measure(vlm, name, self.image_size)
            rows.append(row | {"evaluate_seconds": perf_counter() - started})
        return rows


def evaluate_vlm(vlm: VLM, set_name: str) -> dict[str, Any]:
    """What `rls3 evaluate` reports: one set's accuracies, and object presence. JSON-ready."""
    size = vlm.image_size
    presence = accuracy_table(vlm, load_set("presence", size).samples)
    head = {"vlm": vlm.name, "vlm_digest": vlm.digest(), "presence_accuracy": presence.pairwise}
    return head | _measure(vlm, set_name, size)


def _measure(vlm: VLM, name: str, image_size: int) -> dict[str, Any]:
    items = load_set(name, image_size)
    return {"set": name, "set_hash": items.hash, **accuracy_table(vlm, items.samples).as_dict()}
