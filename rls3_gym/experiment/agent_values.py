"""What an agent says about its training, as rows of the log: means over what it said since the row before."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rls3_gym.runs.rows import AgentRow

REWARD = "episode_reward"
"""Sum of an episode's rewards; the one value that the agent does not say itself."""


class AgentValues:
    """Holds what the agent has said, until the end of an episode makes a row of it."""

    def __init__(self, state: Mapping[str, Any] | None = None) -> None:
        """`state` is what `state()` gave at the checkpoint to continue from."""
        self._sums = {name: (float(total), int(n)) for name, (total, n) in (state or {}).items()}
        """By name: sum and number of the values."""

    def add(self, values: Mapping[str, float]) -> None:
        """Take up values by name. One that is not finite is left out: it would hide all others of its row."""
        for name, value in values.items():
            if math.isfinite(value):
                total, n = self._sums.get(name, (0.0, 0))
                self._sums[name] = (total + float(value), n + 1)

    def episode_ended(self, reward: float, counts: Mapping[str, int]) -> AgentRow | None:
        """The row at the end of an episode, and a new beginning; None where the agent has said nothing since."""
        said = bool(self._sums.keys() - {REWARD})
        self.add({REWARD: reward})
        if not said:
            return None
        means = {name: total / n for name, (total, n) in self._sums.items()}
        self._sums = {}
        return AgentRow.model_validate({**counts, "values": means})

    def state(self) -> dict[str, Any]:
        """What a continued run needs."""
        return {name: list(held) for name, held in self._sums.items()}
