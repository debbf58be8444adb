"""The blind check: a reader who never sees a picture must be at chance on an evaluation set's captions.

If words alone gave the answer away (kinds that are mostly *above*, terms that are mostly true), a VLM could raise
its score without looking. SugarCrepe found that in several published sets; here it is measured for our own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.random import Generator

from rls3_gym.sample import Sample
from rls3_gym.scene.captions import Negative, parse

FOLDS = 5


def blind_accuracy(samples: Sequence[Sample], rng: Generator) -> float:
    """Pairwise accuracy, 0..1, of a naive Bayes reader over terms and term-kind pairs, cross-validated in five folds.

    It learns from true captions and their opposites of the other folds; ties count one half. Chance is 0.5.
    """
    fold = rng.permutation(len(samples)) % FOLDS
    scores: list[float] = []
    for held in range(FOLDS):
        true_counts: Counter[str] = Counter()
        false_counts: Counter[str] = Counter()
        for sample, place in zip(samples, fold, strict=True):
            if place != held:
                for negative in sample.opposites:
                    true_counts.update(_features(sample.caption))
                    false_counts.update(_features(negative.caption))
        for sample, place in zip(samples, fold, strict=True):
            if place == held:
                scores += [_judge(sample.caption, n, true_counts, false_counts) for n in sample.opposites]
    return float(np.mean(scores))


def _features(caption: str) -> list[str]:
    """What a reader can learn from: each term, and each term together with the kind on either side of it."""
    parsed = parse(caption)
    terms = [term.name for term in parsed.relation.terms]
    return [*terms, *(f"{parsed.kind_a}>{t}" for t in terms), *(f"{t}>{parsed.kind_b}" for t in terms)]


def _judge(truth: str, negative: Negative, true_counts: Counter[str], false_counts: Counter[str]) -> float:
    def belief(caption: str) -> float:
        return sum(float(np.log((true_counts[f] + 1) / (false_counts[f] + 1))) for f in _features(caption))

    difference = belief(truth) - belief(negative.caption)
    return 0.5 if abs(difference) < 1e-12 else float(difference > 0)
