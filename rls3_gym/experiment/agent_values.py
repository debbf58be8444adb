"""What an agent says about its training, as rows of the log: means over what it said since the row before."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rls3_gym.runs.row_values import MOST_NAMES
from rls3_gym.runs.rows import AgentRow

REWARD = "episode_reward"
"""Sum of an episode's rewards; the one value that the agent does not say itself."""


class AgentValues:
    """Holds what the agent has said, until the end of an episode makes a row of it."""

    def __init__(self, state: Mapping[str, Any] | None = None) -> None:
        """`state` is what `state()` gave at the checkpoint to continue from."""
        self._sums = {name: (float(total), int(n)) for name, (total, n) in (state or {}).items()}
        """By name: sum and number of the values; of names that earlier rows have, 0 and 0."""
        self.left_out: str | None = None
        """The first name that was one too many for a log that can be read."""

    def add(self, values: Mapping[str, float]) -> None:
        """Take up values by name. One that is not finite is left out: it would hide all others of its row."""
        for name, value in values.items():
            if not math.isfinite(value):
                continue
            if name not in self._sums and name != REWARD and len(self._sums.keys() - {REWARD}) >= MOST_NAMES - 1:
                self.left_out = self.left_out or name
                continue
            total, n = self._sums.get(name, (0.0, 0))
            if n == 0:
                self._sums.pop(name, None)  # names come in the order in which they are said since the row before
            self._sums[name] = (total + float(value), n + 1)

    def episode_ended(self, reward: float, counts: Mapping[str, int]) -> AgentRow | None:
        """The row at the end of an episode, and a new beginning; None where the agent has said nothing since."""
        said = any(n for name, (_, n) in self._sums.items() if name != REWARD)
        self.add({REWARD: reward})
        if not said:
            return None
        means = {name: total / n for name, (total, n) in self._sums.items() if n}
        self._sums = dict.fromkeys(self._sums, (0.0, 0))
        return AgentRow.model_validate({**counts, "values": means})

    def state(self) -> dict[str, Any]:
        """What a continued run needs."""
        return {name: list(held) for name, held in self._sums.items()}
