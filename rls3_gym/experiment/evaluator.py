"""Measuring the learning VLM on the held-out sets of an experiment."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from rls3_gym.backends.base import SceneBackend, load_backend
from rls3_gym.evalsets.loader import load_set
from rls3_gym.evaluation.metrics import accuracy_table, presence_accuracy
from rls3_gym.vlm.base import VLM
from rls3_registry.errors import UserError


@dataclass(frozen=True)
class Measurer:
    """Evaluates a VLM on named sets, always on the same items."""

    sets: Sequence[str]
    backend: SceneBackend
    """Shows the sets: the experiment's own."""
    items: int | None = None
    """At most so many items of each set, taken evenly from it; all when None."""

    def load(self) -> None:
        """Render the sets now (they stay in memory), so that a wrong name or a damaged file shows before the run."""
        for name in self.sets:
            if name == "presence":
                raise UserError("evaluation.sets: presence asks which objects are there; `rls3 evaluate` measures it")
            load_set(name, self.backend)

    def rows(self, vlm: VLM) -> list[dict[str, Any]]:
        """One row per set: its name and hash, the accuracies, and the seconds it took."""
        rows = []
        for name in self.sets:
            started = perf_counter()
            row = _measure(vlm, name, self.backend, self.items)
            rows.append(row | {"evaluate_seconds": perf_counter() - started})
        return rows


def evaluate_vlm(vlm: VLM, set_name: str, items: int | None = None) -> dict[str, Any]:
    """What `rls3 evaluate` reports: one set's accuracies, and object presence; of at most `items` each. JSON-ready."""
    if set_name == "presence":
        raise UserError("--set: presence is measured in any case; name a set about relations, e.g. test")
    backend = load_backend("embedded", vlm.image_size)
    measured = _measure(vlm, set_name, backend, items)
    asked = load_set("presence", backend).items
    presence = presence_accuracy(vlm, asked[:: _stride(len(asked), items)])
    return {"vlm": vlm.name, "vlm_digest": vlm.digest(), "presence_accuracy": presence} | measured


def _measure(vlm: VLM, name: str, backend: SceneBackend, items: int | None = None) -> dict[str, Any]:
    whole = load_set(name, backend)
    stride = _stride(len(whole), items)
    identity = whole.hash if stride == 1 else f"{whole.hash}/{stride}"
    accuracy = accuracy_table(vlm, whole.samples[::stride]).as_dict()
    return {"set": name, "set_hash": identity, "backend": whole.backend, **accuracy}


def _stride(count: int, items: int | None) -> int:
    """Take every k-th item to have at most `items`. Sets lie in the order of their cells: it is as balanced."""
    return math.ceil(count / items) if items else 1
