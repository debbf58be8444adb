"""Pay by relation cell: what the VLM gets wrong of late, and what the agent seldom makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from rls3_gym.loop.rewards.base import (
    ANTONYMS,
    CELLS,
    CellReward,
    CellRewardSettings,
    Cells,
    Float,
    shares_of_mean,
)
from rls3_gym.loop.running_mean import RunningMean
from rls3_gym.loop.selection import Guide
from rls3_gym.sample import Sample
from rls3_gym.vlm.base import VLM, Feedback
from rls3_registry.validation import Settings

CELL_RATE = 0.05
"""Weight of one sample in the running means per relation cell."""


class CellErrorSettings(CellRewardSettings):
    """Of `CellError`."""

    error: bool = Field(strict=True)
    """Whether cells are worth the VLM's running error in them; else all have the same."""
    rarity: float = Field(ge=0, le=2)
    """Power of the weight (mean count / count) by which a cell is worth more that the agent seldom makes; 0: none."""


class CellError(CellReward):
    """The VLM's running error in a cell, averaged over the cell and its antonym cells.

    With `rarity` it is weighted by a power of (mean count / count) of those cells. Scale: over the samples that the
    agent makes, the mean is worth `MEAN_REWARD`, however much the VLM has learned.
    """

    settings_model: ClassVar[type[Settings]] = CellErrorSettings
    COUNT_KEPT = 0.9995  # counts fade over about 2,000 samples
    COUNT_PRIOR = 10.0  # added to every cell's count: the first samples of a run do not say what is rare
    FLOOR = 0.01  # below this mean error the scale is held: what is left is chance

    def __init__(self, settings: Mapping[str, Any], *, steps_per_episode: int, guide: Guide) -> None:
        super().__init__(settings, steps_per_episode=steps_per_episode, guide=guide)
        self._error = RunningMean(CELLS, CELL_RATE, 0.5)
        self._counts: Float = np.zeros(CELLS)

    def begin_experiment(self, vlm: VLM, seed: int) -> None:
        self._error.clear()
        self._counts[:] = 0.0

    def worth(self) -> Float:
        worth = ANTONYMS @ self._error.values if self.settings.error else np.ones(CELLS)
        if self.settings.rarity:
            made = self._counts + self.COUNT_PRIOR
            worth = worth * (made.mean() / (ANTONYMS @ made)) ** self.settings.rarity
        return shares_of_mean(worth, self.FLOOR, self._counts)

    def step_reward(self, sample: Sample, feedback: Feedback | None, choice: Cells | None) -> float:
        self._counts[sample.relation.index] += 1
        pay = super().step_reward(sample, feedback, choice)
        self._counts *= self.COUNT_KEPT
        return pay

    def episode_reward(self, samples: Sequence[Sample], feedback: Feedback) -> float:
        self._error.add_all((s.relation.index for s in samples), 1.0 - feedback.pairwise)
        return 0.0

    def state(self) -> dict[str, Any]:
        return {"error": self._error.values.copy(), "counts": self._counts.copy()}

    def load_state(self, state: Mapping[str, Any], vlm: VLM) -> None:
        self._error.values[:] = state["error"]
        self._counts[:] = state["counts"]
