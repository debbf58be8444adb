"""What is chosen to train: which of an episode's samples join the fine-tuning batch."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from rls3_gym.sample import CaptionItem, Sample
from rls3_gym.scene.captions import Change, Negative
from rls3_gym.vlm.base import VLM, Feedback, ScoringVLM
from rls3_registry.errors import UserError

SelectionName = Literal["random", "mined", "learnable", "jest"]
Float = NDArray[np.float64]
Guide = Callable[[], Sequence[Sample]]
"""Loads the guide set: small, balanced, from training layouts, in neither the validation nor a test set."""


class Selection(Protocol):
    """A way to choose the training share. What it draws comes from the scheduler's generator."""

    def prepare(self, vlm: VLM, guide: Guide) -> None:
        """Get ready: `vlm` is in its first state, to which every experiment returns; it is the one that learns.

        Raises:
            UserError: The VLM can't answer what the choice depends on.
        """

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

    It is the learnability of JEST (arXiv 2406.17711), the VLM's loss minus a reference's, sample by sample: the loss is
    that against a sample's own negatives, and its highest values are chosen. `JestSelection` chooses jointly.
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
        return _highest(self._learnability(samples, feedback), _count(fraction, len(samples), rng))

    def _learnability(self, samples: Sequence[Sample], feedback: Feedback) -> Float:
        """(n,) the VLM's loss minus the reference's, each sample against its own negatives. Nats."""
        return (feedback.loss - self._reference.evaluate(samples).loss).astype(np.float64)


class Contrast:
    """CLIP's contrastive loss of a set that grows sample by sample, among n samples. Nats, summed over the set.

    Args:
        scores: (n, n) logits of each picture (row) with each caption; -inf where a caption is not to count for a
            picture because it is the very same as the picture's own.
    """

    def __init__(self, scores: Float) -> None:
        self._scores = scores
        self._own = np.diagonal(scores).copy()
        # Log of the summed exponentials, for each sample as if it were in the set.
        self._of_picture, self._of_caption = self._own.copy(), self._own.copy()

    def added(self, chosen: Sequence[int]) -> Float:
        """(n,) by how much the loss of the set `chosen` would rise with each sample, itself and what it does to the
        others."""
        itself = self._of_picture + self._of_caption - 2 * self._own
        pictures, captions = self._of_picture[chosen, None], self._of_caption[chosen, None]
        others = np.logaddexp(pictures, self._scores[chosen]) - pictures
        others += np.logaddexp(captions, self._scores[:, chosen].T) - captions
        added: Float = (itself + others.sum(axis=0)) / 2
        return added

    def add(self, sample: int) -> None:
        """Put a sample into the set."""
        for sums, scores in ((self._of_picture, self._scores[:, sample]), (self._of_caption, self._scores[sample])):
            others = np.arange(len(sums)) != sample
            sums[others] = np.logaddexp(sums[others], scores[others])


class JestSelection(LearnableSelection):
    """Samples that are learnable as a set, as JEST chooses them (arXiv 2406.17711).

    The loss of a set is what fine-tuning of a contrastive VLM sums over a batch: each sample against its own negatives,
    and pictures and captions against each other. The first depends on a sample alone, the second on what it is chosen
    with. Samples are drawn one after another, each in proportion to the exponential of what it adds to the set's
    learnability, the VLM's loss minus the reference's. (JEST draws a batch in 16 parts; an episode is small.)
    """

    AT_ONCE = 32
    """Pictures that are scored against all captions in one call."""

    def prepare(self, vlm: VLM, guide: Guide) -> None:
        if not isinstance(vlm, ScoringVLM):
            raise UserError(f"selection 'jest' needs a VLM with a method `logits`, and {vlm.name!r} has none")
        super().prepare(vlm, guide)
        self._vlm = vlm

    def choose(
        self, samples: Sequence[Sample], feedback: Feedback, fraction: float, rng: np.random.Generator
    ) -> list[int]:
        count = _count(fraction, len(samples), rng)
        if not count:
            return []
        own = self._learnability(samples, feedback)
        learner, reference = (Contrast(self._scores(vlm, samples)) for vlm in (self._vlm, self._reference))
        chosen: list[int] = []
        for _ in range(count):
            learnability = own + learner.added(chosen) - reference.added(chosen)
            learnability[chosen] = -np.inf
            # The highest after Gumbel noise is a draw in proportion to the exponential.
            drawn = int(np.argmax(learnability + rng.gumbel(size=len(samples))))
            chosen.append(drawn)
            learner.add(drawn)
            reference.add(drawn)
        return sorted(chosen)

    def _scores(self, vlm: Any, samples: Sequence[Sample]) -> Float:
        """(n, n) as `Contrast` takes them."""
        captions = list(dict.fromkeys(sample.caption for sample in samples))
        place = np.array([captions.index(sample.caption) for sample in samples])
        same = place[:, None] == place[None, :]
        scores = np.zeros((len(samples), len(captions)))
        if len(captions) > 1:
            negatives = tuple(Negative(caption, Change.OTHER) for caption in captions[1:])
            asked = [CaptionItem(sample.rgb, captions[0], negatives) for sample in samples]
            for start in range(0, len(asked), self.AT_ONCE):
                scores[start : start + self.AT_ONCE] = vlm.logits(asked[start : start + self.AT_ONCE])
        return np.where(same & ~np.eye(len(samples), dtype=bool), -np.inf, scores[:, place])


SELECTIONS: Mapping[SelectionName, Callable[[], Selection]] = {
    "random": RandomSelection,
    "mined": MinedSelection,
    "learnable": LearnableSelection,
    "jest": JestSelection,
}
"""Ways to choose by name."""
