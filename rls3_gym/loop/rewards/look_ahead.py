"""Rewards that look ahead with the guide set: what can the VLM still learn, and which samples would teach it that?

A cell's gain grows with its share of the batch; to point anywhere, progress has to be gain per trained sample.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from rls3_gym.loop.cells import ANTONYMS, CELL_RATE, CELLS, Cells, Float
from rls3_gym.loop.rewards.base import MEAN_REWARD, REWARD_CAP, CellReward, SilentReward, shares_of_mean
from rls3_gym.loop.running_mean import RunningMean
from rls3_gym.loop.selection import Guide
from rls3_gym.sample import Sample
from rls3_gym.vlm.base import VLM, Feedback, GradientVLM
from rls3_registry.errors import UserError
from rls3_registry.validation import Settings


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
        super().begin_experiment(vlm, seed)
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
        own = {"gain": self._gain.values.copy(), "seed": self._seed, "rounds": self._rounds}
        return super().state() | own

    def load_state(self, state: Mapping[str, Any], vlm: VLM) -> None:
        super().load_state(state, vlm)
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
        super().begin_experiment(vlm, seed)
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
        return super().state() | {"belief": self._belief.copy(), "gain": self._gain.copy()}

    def load_state(self, state: Mapping[str, Any], vlm: VLM) -> None:
        super().load_state(state, vlm)
        self._belief = np.array(state["belief"], dtype=np.float64)
        self._gain = np.array(state["gain"], dtype=np.float64)


class InfluenceSettings(Settings):
    """Of `Influence`."""

    centered: bool = Field(strict=True)
    """Whether a sample is paid what its influence is above that of an ordinary sample of late."""


class Influence(SilentReward):
    """How well the gradient of a sample's loss goes along with that of the guide set, sample by sample.

    A VLM that takes a small step down the gradient of its loss on the guide set gets better at the samples whose
    gradients point the same way: the fall of a sample's loss is, to first order, the product of the two gradients, and
    so what the sample would do for the guide set if it were trained on. The step is made anew after each round (see
    `GradientVLM.nudged`). Scale: the running mean of the absolute influence pays `MEAN_REWARD`, at most `REWARD_CAP`
    either way.
    """

    immediate: ClassVar[bool] = True
    settings_model: ClassVar[type[Settings]] = InfluenceSettings
    STEP = 0.02  # share of the guide set's loss that the step takes away
    RATE = 0.01  # weight of one sample in the running means
    FLOOR = 1e-6  # nats: below this mean the scale is held

    def __init__(self, settings: Mapping[str, Any], *, steps_per_episode: int, guide: Guide) -> None:
        super().__init__(settings, steps_per_episode=steps_per_episode, guide=guide)
        self._guide = guide()
        self._nudged: VLM | None = None
        self._seed = 0
        self._rounds = 0
        self._seen, self._mean, self._size = 0, 0.0, 0.0

    def begin_experiment(self, vlm: VLM, seed: int) -> None:
        self._seed, self._rounds = seed, 0
        self._seen, self._mean, self._size = 0, 0.0, 0.0
        self._nudge(vlm)

    def end_round(self, vlm: VLM, trained: Sequence[Sample]) -> None:
        self._rounds += 1
        self._nudge(vlm)

    def _nudge(self, vlm: VLM) -> None:
        if not isinstance(vlm, GradientVLM):
            raise UserError(f"extrinsic 'influence' needs a VLM with a method `nudged`, and {vlm.name!r} has none")
        self._nudged = vlm.nudged(self._guide, np.random.default_rng([self._seed, self._rounds]), self.STEP)

    def step_reward(self, sample: Sample, feedback: Feedback | None, choice: Cells | None) -> float:
        if feedback is None or self._nudged is None:
            raise ValueError("influence is paid at the step: it needs feedback on the sample, after begin_experiment")
        influence = float(feedback.loss[0] - self._nudged.evaluate([sample]).loss[0])
        self._seen += 1
        rate = max(self.RATE, 1 / self._seen)
        self._mean += rate * (influence - self._mean)
        self._size += rate * (abs(influence) - self._size)
        above = influence - (self._mean if self.settings.centered else 0.0)
        return float(np.clip(MEAN_REWARD * above / max(self.FLOOR, self._size), -REWARD_CAP, REWARD_CAP))

    def state(self) -> dict[str, Any]:
        return {
            "seed": self._seed, "rounds": self._rounds, "seen": self._seen, "mean": self._mean, "size": self._size
        }  # fmt: skip

    def load_state(self, state: Mapping[str, Any], vlm: VLM) -> None:
        self._seed, self._rounds, self._seen = (int(state[key]) for key in ("seed", "rounds", "seen"))
        self._mean, self._size = float(state["mean"]), float(state["size"])
        self._nudge(vlm)
