"""The balanced sampler: equally many samples of every complexity, and within each equally many of every term.

The upper baseline of the benchmark: a sampler that knows the distribution of the test set and learns nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, ClassVar

import gymnasium
import numpy as np
from pydantic import Field

from rls3_agents.samplers.scripted import ScriptedAgent
from rls3_gym.scene.relations import RELATIONS
from rls3_registry.validation import Settings, check

# A deck holds 24 cards of each complexity: the least number that 6, 12 and 8 cells share evenly. Within one
# complexity every cell comes equally often, and by symmetry so does every term.
CARDS_PER_COMPLEXITY = 24


def _deck() -> list[int]:
    """Relation cells of one deck of 72 cards, unshuffled."""
    sizes = np.bincount([relation.complexity for relation in RELATIONS])
    return [r.index for r in RELATIONS for _ in range(CARDS_PER_COMPLEXITY // int(sizes[r.complexity]))]


class StratifiedSettings(Settings):
    """Settings of the stratified sampler."""

    retries: int = Field(ge=0, le=10_000)  # how often a card is dealt again after an infeasible attempt


class StratifiedAgent(ScriptedAgent):
    """Deals relation cells from shuffled decks; a cell that cannot be had here waits for another scene.

    A card that was played and gave no sample goes to the back of the queue, at least a deck away.
    """

    name = "stratified"
    action_views: ClassVar[tuple[str, ...]] = ("relation",)

    def __init__(self, settings: Mapping[str, Any], *, seed: int) -> None:
        self.settings = check(StratifiedSettings, settings, section="settings")
        super().__init__(seed=seed)
        self._queue: deque[tuple[int, int]] = deque()  # (cell, times refused)
        self._dealt: tuple[int, int] | None = None

    def choose(self, space: gymnasium.Space[Any]) -> Any:
        offered = self.offered_relations(space)
        while len(self._queue) <= len(_deck()):
            self._queue.extend((int(cell), 0) for cell in self.rng.permutation(_deck()))
        # The first card that some slot can play here; the others wait for another scene.
        place = next((i for i, (cell, _) in enumerate(self._queue) if offered[:, cell].any()), 0)
        self._dealt = self._queue[place]
        del self._queue[place]
        able = np.flatnonzero(offered[:, self._dealt[0]])
        slot = self.rng.choice(able) if len(able) else self.rng.integers(len(offered))
        return np.int64(slot * len(RELATIONS) + self._dealt[0])

    def on_step(self, info: Mapping[str, Any]) -> None:
        if self._dealt is None:
            return
        cell, refused = self._dealt
        if not info["feasible"] and refused < self.settings.retries:
            self._queue.append((cell, refused + 1))
        self._dealt = None

    def own_state(self) -> dict[str, Any]:
        return {"queue": list(self._queue)}

    def load_own_state(self, state: Mapping[str, Any]) -> None:
        self._queue = deque((cell, refused) for cell, refused in state["queue"])
