"""The budget of a run: what has been spent, and whether that is all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rls3_gym.experiment.config import BudgetConfig

COUNTS = ("round", "n_generated", "n_trained", "n_steps")


class Budget:
    """Counts as the environment does, and knows the limits."""

    def __init__(self, limits: BudgetConfig, state: Mapping[str, Any] | None = None) -> None:
        """`state` is what `state()` gave when the checkpoint to continue from was written."""
        self._limits = limits
        self.counts: dict[str, int] = dict.fromkeys(COUNTS, 0) if state is None else dict(state["counts"])
        """Rounds, valid samples, trained samples and steps so far."""
        self.early_stopped = False if state is None else bool(state["early_stopped"])
        """Whether early stopping has ended the teaching."""

    def spend(self, info: Mapping[str, Any]) -> None:
        """Take up the counts after a step; `info` is the environment's."""
        self.counts = {key: int(info[key]) for key in COUNTS}
        self.early_stopped = bool(info["early_stopped"])

    @property
    def complete(self) -> bool:
        """Whether the budget is spent, or early stopping has ended the teaching."""
        limits, counts = self._limits, self.counts
        by_samples = limits.n_generated is not None and counts["n_generated"] >= limits.n_generated
        by_rounds = limits.rounds is not None and counts["round"] >= limits.rounds
        return by_samples or by_rounds or self.early_stopped

    def state(self) -> dict[str, Any]:
        """What a continued run needs."""
        return {"counts": self.counts, "early_stopped": self.early_stopped}
