"""How well a VLM tells where things are: accuracy by term and complexity, and the guards against cheating.

All three headline numbers are macro averages: over the items that hold a term, then over the six terms. So they
weigh terms alike and compare with each other: neither strict nor mirrored accuracy can exceed the pairwise one.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray

from rls3_gym.sample import CaptionItem, Sample
from rls3_gym.scene.captions import Change, Negative, describe, parse
from rls3_gym.scene.relations import BY_TERMS, RELATIONS, Relation, Term
from rls3_gym.vlm.base import VLM, by_likelihood

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Accuracy:
    """Accuracies of one VLM state on one set, 0..1; NaN where no item tests it."""

    pairwise: float
    """The true caption against the caption with one term turned; chance 0.5."""
    strict: float
    """The true caption against every hard negative of the item at once."""
    mirrored: float
    """Preferred to all its opposites, in the picture and in its mirror image with left and right exchanged in every
    caption: a VLM that always says "left" earns nothing here."""
    by_term: dict[str, float]
    """Pairwise accuracy of each of the six terms."""
    by_complexity: dict[str, float]
    """Mean pairwise accuracy of captions with "1", "2" and "3" terms."""
    by_cell: tuple[float, ...]
    """(26,) mean pairwise accuracy of each relation cell, in the order of `rls3_gym.scene.relations.RELATIONS`."""
    worst_term: str
    """The term with the lowest pairwise accuracy."""
    n: int
    n_by_term: dict[str, int]
    """Items whose caption has the term."""

    def as_dict(self) -> dict[str, Any]:
        """The keys of a metrics row; JSON has no NaN, so a number without items is null."""
        return {
            "pairwise_accuracy": _json(self.pairwise),
            "strict_accuracy": _json(self.strict),
            "mirrored_accuracy": _json(self.mirrored),
            "by_term": {term: _json(value) for term, value in self.by_term.items()},
            "by_complexity": {terms: _json(value) for terms, value in self.by_complexity.items()},
            "by_cell": [_json(value) for value in self.by_cell],
            "worst_term": self.worst_term,
            "n": self.n,
            "n_by_term": self.n_by_term,
        }


def accuracy_table(vlm: VLM, samples: Sequence[Sample]) -> Accuracy:
    """Score a VLM on relation samples. Raises `ValueError` for none, or for samples without opposites."""
    if not samples or not all(sample.opposites for sample in samples):
        raise ValueError("an accuracy table needs samples with opposite captions, at least one")
    n = len(samples)
    shown: list[CaptionItem] = [*samples, *(mirrored(sample) for sample in samples)]
    pairs = [sorted((sample.kind_a, sample.kind_b)) for sample in samples] * 2
    # Items of the same two kinds share most captions: side by side, a VLM embeds each of them once.
    order = sorted(range(2 * n), key=lambda i: pairs[i])
    feedback = by_likelihood(vlm, [shown[i] for i in order])
    place = np.argsort(order)
    correct, pairwise = feedback.correct[place[:n]], feedback.pairwise[place].astype(np.float64)
    turned = feedback.by_term[place[:n]].astype(np.float64)
    both = (pairwise[:n] == 1) & (pairwise[n:] == 1)
    pairwise = pairwise[:n]
    spoken = ~np.isnan(turned)
    by_term = _by_term(turned, spoken)
    complexity = np.array([sample.relation.complexity for sample in samples])
    cells = np.array([sample.relation.index for sample in samples])
    names = [term.name.lower() for term in Term]
    return Accuracy(
        pairwise=float(np.nanmean(by_term)),
        strict=float(np.nanmean(_by_term(correct[:, None], spoken))),
        mirrored=float(np.nanmean(_by_term(both[:, None], spoken))),
        by_term=dict(zip(names, by_term.tolist(), strict=True)),
        by_complexity={str(terms): _mean(pairwise[complexity == terms]) for terms in (1, 2, 3)},
        by_cell=tuple(_mean(pairwise[cells == cell]) for cell in range(len(RELATIONS))),
        worst_term=names[int(np.nanargmin(by_term))],
        n=n,
        n_by_term=dict(zip(names, spoken.sum(axis=0).tolist(), strict=True)),
    )


def presence_accuracy(vlm: VLM, items: Sequence[CaptionItem]) -> float:
    """Share of presence items whose true caption is preferred to the one that names an absent object; chance 0.5."""
    return float(np.mean(by_likelihood(vlm, items).correct))


def wilson_interval(share: float, n: int) -> tuple[float, float]:
    """95 % confidence interval (Wilson's) of a share of `n` independent items.

    Raises `ValueError` for n below 1.
    """
    if n < 1:
        raise ValueError("an interval needs at least one item")
    z = 1.959964  # of the normal distribution, 2.5 % in each tail
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, middle - half), min(1.0, middle + half)


_twins: WeakKeyDictionary[Sample, CaptionItem] = WeakKeyDictionary()


def mirrored(sample: Sample) -> CaptionItem:
    """The left-right mirrored twin: picture flipped, left and right exchanged in the caption and its opposites.

    Other negatives are left out. The same sample always gives the same object, so that a VLM may cache by identity.
    """
    twin = _twins.get(sample)
    if twin is None:
        truth = _mirror(sample.relation)
        opposites = tuple(
            Negative(describe(sample.kind_a, _turn(truth, term), sample.kind_b), Change.OPPOSITE, term)
            for term in truth.terms
        )
        flipped = np.ascontiguousarray(sample.rgb[:, ::-1])
        twin = CaptionItem(flipped, describe(sample.kind_a, truth, sample.kind_b), opposites)
        _twins[sample] = twin
    return twin


def _mirror(relation: Relation) -> Relation:
    sideways = (Term.LEFT, Term.RIGHT)
    return BY_TERMS[frozenset(term.opposite if term in sideways else term for term in relation.terms)]


def _turn(relation: Relation, turned: Term) -> Relation:
    return BY_TERMS[frozenset(term.opposite if term is turned else term for term in relation.terms)]


def _by_term(values: NDArray[Any], spoken: NDArray[np.bool_]) -> Float:
    """(n, 6) or (n, 1) values -> (6,) mean over the items that hold the term; NaN for a term of no item."""
    counts = spoken.sum(axis=0)
    total = np.where(spoken, values, 0.0).sum(axis=0)
    return np.where(counts > 0, total / np.maximum(counts, 1), np.nan)


def _mean(values: Float) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _json(value: float) -> float | None:
    return None if np.isnan(value) else value


def coverage(cells: ArrayLike) -> float:
    """Entropy of counts over cells, divided by the entropy of equal counts: 0 one cell only, 1 all alike.

    NaN when nothing was counted. Raises `ValueError` for fewer than two cells or negative counts.
    """
    counts = np.asarray(cells, np.float64).ravel()
    if len(counts) < 2 or (counts < 0).any():
        raise ValueError("coverage needs counts of at least two cells, none below 0")
    if not counts.any():
        return float("nan")
    share = counts[counts > 0] / counts.sum()
    return float(abs((share * np.log(share)).sum()) / np.log(len(counts)))


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
