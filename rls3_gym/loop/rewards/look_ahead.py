"""Rewards that measure on the guide set what the VLM can still learn.

A cell's gain grows with its share of the batch; to point anywhere, progress has to be gain per trained sample.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rls3_gym.loop.rewards.base import ANTONYMS, CELLS, CellReward, Float, shares_of_mean
from rls3_gym.loop.rewards.cell_error import CELL_RATE
from rls3_gym.loop.running_mean import RunningMean
from rls3_gym.loop.selection import Guide
from rls3_gym.sample import Sample
from rls3_gym.vlm.base import VLM, Feedback


class ReducibleError(CellReward):
    """How much more a look-ahead copy prefers the true caption than the VLM itself does: wrong now, but learnable.

    After each round a copy of the VLM is taught one round on the guide set (small, balanced, of its own: from
    training layouts, in neither the validation nor a test set). The difference of `p_opposite` between the two is
    kept as a running mean per cell and averaged over antonyms. Scale: the mean cell pays `MEAN_REWARD`.
    """

    FLOOR = 0.01  # below this mean difference the scale is held: what is left is noise

    def __init__(self, settings: Mapping[str, Any], *, steps_per_episode: int, guide: Guide) -> None:
        super().__init__(settings, steps_per_episode=steps_per_episode, guide=guide)
        self._guide = guide()
        self._gain = RunningMean(CELLS, CELL_RATE, 0.0)
        self._vlm: VLM | None = None
        self._ahead: VLM | None = None
        self._seed = 0
        self._rounds = 0

    def begin_experiment(self, vlm: VLM, seed: int) -> None:
        self._seed, self._rounds = seed, 0
        self._gain.clear()
        self._look_ahead(vlm)

    def end_round(self, vlm: VLM, trained: Sequence[Sample]) -> None:
        self._rounds += 1
        self._look_ahead(vlm)

    def _look_ahead(self, vlm: VLM) -> None:
        # Seeded by the round, not drawn: a resumed run makes the same copy from the same weights.
        self._ahead = copy.deepcopy(vlm)
        self._ahead.finetune(self._guide, np.random.default_rng([self._seed, self._rounds]))

    def worth(self) -> Float:
        return shares_of_mean(ANTONYMS @ self._gain.values, self.FLOOR)

    def episode_reward(self, samples: Sequence[Sample], feedback: Feedback) -> float:
        if samples and self._ahead is not None:
            ahead = self._ahead.evaluate(samples).p_opposite - feedback.p_opposite
            self._gain.add_all((s.relation.index for s in samples), ahead.astype(np.float64))
        return 0.0

    def state(self) -> dict[str, Any]:
        return {"gain": self._gain.values.copy(), "seed": self._seed, "rounds": self._rounds}

    def load_state(self, state: Mapping[str, Any], vlm: VLM) -> None:
        self._gain.values[:] = state["gain"]
        self._seed, self._rounds = int(state["seed"]), int(state["rounds"])
        self._look_ahead(vlm)


class LearningProgress(CellReward):
    """What a round gained in the sample's cell and its antonyms, per sample trained there.

    Gain is the rise of `p_opposite` on the guide set, which is not trained on. Until the first round, and when
    no cell gained anything, all cells pay the same. Scale: the mean cell pays `MEAN_REWARD`.
    """

    KEPT = 0.6  # weight of earlier rounds in a cell's gain
    PRIOR = 20.0  # added to the trained count: a cell hardly trained is not credited with others' progress

    def __init__(self, settings: Mapping[str, Any], *, steps_per_episode: int, guide: Guide) -> None:
        super().__init__(settings, steps_per_episode=steps_per_episode, guide=guide)
        self._guide = guide()
        cells = np.array([s.relation.index for s in self._guide], dtype=np.int64)
        self._of_guide: Float = ANTONYMS[:, cells] / np.maximum(ANTONYMS[:, cells].sum(axis=1, keepdims=True), 1e-9)
        self._belief: Float = np.zeros(CELLS)
        self._gain: Float = np.zeros(CELLS)

    def _measure(self, vlm: VLM) -> Float:
        """(26,) mean `p_opposite` on the guide's samples of each cell and its antonyms."""
        return self._of_guide @ vlm.evaluate(self._guide).p_opposite.astype(np.float64)

    def begin_experiment(self, vlm: VLM, seed: int) -> None:
        self._belief = self._measure(vlm)
        self._gain = np.zeros(CELLS)

    def end_round(self, vlm: VLM, trained: Sequence[Sample]) -> None:
        belief = self._measure(vlm)
        counts = np.bincount([s.relation.index for s in trained], minlength=CELLS).astype(np.float64)
        in_class = (ANTONYMS > 0) @ counts
        gain = np.maximum(0.0, belief - self._belief) / (in_class + self.PRIOR)
        self._gain = self.KEPT * self._gain + (1 - self.KEPT) * gain if self._gain.any() else gain
        self._belief = belief

    def worth(self) -> Float:
        return shares_of_mean(self._gain, 1e-6)

    def state(self) -> dict[str, Any]:
        return {"belief": self._belief.copy(), "gain": self._gain.copy()}

    def load_state(self, state: Mapping[str, Any], vlm: VLM) -> None:
        self._belief = np.array(state["belief"], dtype=np.float64)
        self._gain = np.array(state["gain"], dtype=np.float64)
