"""What is chosen to train: which of an episode's samples join the fine-tuning batch."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from rls3_gym.sample import Sample
from rls3_gym.vlm.base import VLM, Feedback

SelectionName = Literal["random", "mined", "learnable"]
Guide = Callable[[], Sequence[Sample]]
"""Loads the guide set: small, balanced, from training layouts, in neither the validation nor a test set."""


class Selection(Protocol):
    """A way to choose the training share. What it draws comes from the scheduler's generator."""

    def prepare(self, vlm: VLM, guide: Guide) -> None:
        """Get ready: `vlm` is in its first state, to which every experiment returns."""

    def choose(
        self, samples: Sequence[Sample], feedback: Feedback, fraction: float, rng: np.random.Generator
    ) -> list[int]:
        """Choose from one episode.

        Args:
            samples: The episode's samples, in order.
            feedback: The VLM's scores of them.
            fraction: Share to choose, in (0, 1] (the paper's eta).
            rng: The scheduler's generator.

        Returns:
            Indices of the chosen samples, ascending.
        """


def _count(fraction: float, n: int, rng: np.random.Generator) -> int:
    """How many of `n` to choose: rounded up or down at random, so that small episodes count too."""
    return math.floor(fraction * n + rng.random())


def _highest(values: NDArray[Any], count: int) -> list[int]:
    """The places of the highest values, ascending; of equal ones the first."""
    return sorted(int(i) for i in np.argsort(-values, kind="stable")[:count])


class RandomSelection:
    """A random share, as in the paper."""

    def prepare(self, vlm: VLM, guide: Guide) -> None:
        pass

    def choose(
        self, samples: Sequence[Sample], feedback: Feedback, fraction: float, rng: np.random.Generator
    ) -> list[int]:
        count = _count(fraction, len(samples), rng)
        return sorted(int(i) for i in rng.permutation(len(samples))[:count])


class MinedSelection(RandomSelection):
    """The samples that the VLM fails most: what a share below one gives away without an agent that chooses."""

    def choose(
        self, samples: Sequence[Sample], feedback: Feedback, fraction: float, rng: np.random.Generator
    ) -> list[int]:
        return _highest(-feedback.p_opposite, _count(fraction, len(samples), rng))


class LearnableSelection:
    """The samples that a reference VLM, taught on the guide set, gets right where the VLM itself does not.

    It is the learnability score of JEST (arXiv 2406.17711), the VLM's loss minus a reference's, sample by sample. JEST
    draws samples jointly, because one is a negative of the other. Here the loss is that against a sample's own
    negatives, and its highest values are chosen; what samples are to each other in the contrastive part of a
    fine-tuning loss is left out.
    """

    def prepare(self, vlm: VLM, guide: Guide) -> None:
        # Taught once, from the first weights: a run that is resumed makes the same reference again.
        self._reference = copy.deepcopy(vlm)
        self._reference.finetune(guide(), np.random.default_rng([0, 1]))

    def choose(
        self, samples: Sequence[Sample], feedback: Feedback, fraction: float, rng: np.random.Generator
    ) -> list[int]:
        if not samples:
            return []
        learnable = feedback.loss - self._reference.evaluate(samples).loss
        return _highest(learnable, _count(fraction, len(samples), rng))


SELECTIONS: Mapping[SelectionName, Callable[[], Selection]] = {
    "random": RandomSelection,
    "mined": MinedSelection,
    "learnable": LearnableSelection,
}
"""Ways to choose by name."""
