"""What is chosen to train: which of an episode's samples join the fine-tuning batch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

import numpy as np

from rls3_gym.sample import Sample
from rls3_gym.vlm.base import Feedback

SelectionName = Literal["random"]


class Selection(Protocol):
    """A way to choose the training share. Stateless: what it draws comes from the scheduler's generator."""

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


class RandomSelection:
    """A random share, as in the paper. Its size is rounded up or down at random, so that small episodes count too."""

    def choose(
        self, samples: Sequence[Sample], feedback: Feedback, fraction: float, rng: np.random.Generator
    ) -> list[int]:
        count = math.floor(fraction * len(samples) + rng.random())
        return sorted(int(i) for i in rng.permutation(len(samples))[:count])


SELECTIONS: Mapping[SelectionName, Selection] = {"random": RandomSelection()}
"""Ways to choose by name."""
