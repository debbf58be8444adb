"""Pay by relation cell: what the VLM gets wrong of late, and what the agent seldom makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from rls3_gym.loop.cells import CELLS, CellRecord, Cells, Float
from rls3_gym.loop.rewards.base import CellReward, CellRewardSettings, shares_of_mean
from rls3_gym.loop.selection import Guide
from rls3_gym.sample import Sample
from rls3_gym.vlm.base import VLM, Feedback
from rls3_registry.validation import Settings


class CellErrorSettings(CellRewardSettings):
    """Of `CellError`."""

    error: bool = Field(strict=True)
    """Whether cells are worth the VLM's running error in them; else all have the same."""
    rarity: float = Field(ge=0, le=2)
    """Power of the weight (mean count / count) by which a cell is worth more that the agent seldom makes; 0: none."""


class CellError(CellReward):
    """The VLM's running error in a cell, averaged over the cell and its antonym cells.

    With `rarity` it is weighted by a power of (mean count / count) of the cell itself. Scale: over the samples that the
    agent makes, the mean is worth `MEAN_REWARD`, however much the VLM has learned.
    """

    settings_model: ClassVar[type[Settings]] = CellErrorSettings
    FLOOR = 0.01  # below this mean error the scale is held: what is left is chance

    def __init__(self, settings: Mapping[str, Any], *, steps_per_episode: int, guide: Guide) -> None:
        super().__init__(settings, steps_per_episode=steps_per_episode, guide=guide)
        self._record = CellRecord()

    def begin_experiment(self, vlm: VLM, seed: int) -> None:
        super().begin_experiment(vlm, seed)
        self._record.clear()

    def worth(self) -> Float:
        worth = self._record.error if self.settings.error else np.ones(CELLS)
        if self.settings.rarity:
            worth = worth * self._record.scarcity**self.settings.rarity
        return shares_of_mean(worth, self.FLOOR, self._record.counts)

    def step_reward(self, sample: Sample, feedback: Feedback | None, choice: Cells | None) -> float:
        self._record.count(sample)
        return super().step_reward(sample, feedback, choice)

    def episode_reward(self, samples: Sequence[Sample], feedback: Feedback) -> float:
        self._record.judge(samples, feedback)
        return 0.0

    def state(self) -> dict[str, Any]:
        return super().state() | self._record.state()

    def load_state(self, state: Mapping[str, Any], vlm: VLM) -> None:
        super().load_state(state, vlm)
        self._record.load_state(state)
