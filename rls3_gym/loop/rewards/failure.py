"""Rewards for plain failure: of the episode, as in the paper, or of each sample.

Hard is not the same as learnable: plain failure draws an agent to left/right, which is learned last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from rls3_gym.loop.cells import Cells
from rls3_gym.loop.rewards.base import MEAN_REWARD, SilentReward
from rls3_gym.loop.selection import Guide
from rls3_gym.sample import Sample
from rls3_gym.vlm.base import Feedback


class EpisodeError(SilentReward):
    """The paper's: 1 - accuracy over the episode's samples, paid at its last step.

    Accuracy is pairwise (chance 0.5, as the paper's CLIP). Scale: `steps_per_episode` x 0.7, so that chance pays what
    `MEAN_REWARD` at every step would have.
    """

    def __init__(self, settings: Mapping[str, Any], *, steps_per_episode: int, guide: Guide) -> None:
        super().__init__(settings, steps_per_episode=steps_per_episode, guide=guide)
        self.scale = 2 * MEAN_REWARD * steps_per_episode

    def episode_reward(self, samples: Sequence[Sample], feedback: Feedback) -> float:
        return self.scale * (1.0 - feedback.pairwise_accuracy) if len(feedback) else 0.0


class SampleError(SilentReward):
    """The sample's own failure, paid at its step: the share of opposites that the VLM prefers, x 0.7."""

    immediate: ClassVar[bool] = True

    def step_reward(self, sample: Sample, feedback: Feedback | None, choice: Cells | None) -> float:
        if feedback is None:
            raise ValueError("sample_error needs the feedback on each sample at its step")
        return 2 * MEAN_REWARD * (1.0 - float(feedback.pairwise[0]))
