"""Reading what a VLM wrote: which spatial terms it claims of two objects, which objects it names, and how well that
agrees with a caption."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rls3_gym.scene.captions import ParsedCaption, parse
from rls3_gym.scene.relations import Term

_SPOKEN = {
    "left": Term.LEFT, "right": Term.RIGHT,
    "front": Term.FRONT, "behind": Term.BEHIND,
    "above": Term.ABOVE, "below": Term.BELOW,
}  # fmt: skip
"""The word of each term's phrase that no other phrase has."""
_WORD = re.compile(r"\w+")


def parsed(caption: str) -> ParsedCaption | None:
    """A caption of two objects and their relation; None for any other sentence."""
    try:
        return parse(caption)
    except ValueError:
        return None


@dataclass(frozen=True)
class Claim:
    """What an answer says of an ordered pair of objects."""

    terms: frozenset[Term]
    """Of the first object relative to the second."""
    mentions: float
    """Share of the two objects that it names."""


def read_answer(answer: str, kind_a: str, kind_b: str) -> Claim:
    """What an answer claims of A relative to B.

    A sentence of the caption grammar is taken at its word: one that speaks of B relative to A claims the opposite of A
    relative to B. In any other text the words of the six terms are looked for.
    """
    said = parsed(answer)
    if said is not None and (said.kind_a, said.kind_b) == (kind_b, kind_a):
        terms = frozenset(said.relation.opposite.terms)
    elif said is not None:
        terms = frozenset(said.relation.terms)
    else:
        terms = frozenset(_SPOKEN[word] for word in _words(answer) if word in _SPOKEN)
    named = [f" {kind.lower()} " in f" {' '.join(_words(answer))} " for kind in (kind_a, kind_b)]
    return Claim(terms, sum(named) / 2)


def agreement(answer: str, caption: str, about: ParsedCaption | None) -> float:
    """How well an answer agrees with a caption, 0..1.

    Args:
        answer: What the VLM wrote.
        caption: True or false.
        about: The pair it was asked about; None where it was asked to describe the picture.

    Returns:
        The F1 score of the terms that the answer claims against those that the caption claims, of the same pair; or of
        their words, where one of them is about something else.
    """
    claim = parsed(caption)
    if about is None or claim is None or {claim.kind_a, claim.kind_b} != {about.kind_a, about.kind_b}:
        return f1(set(_words(answer)), set(_words(caption)))
    relation = claim.relation if claim.kind_a == about.kind_a else claim.relation.opposite
    return f1(read_answer(answer, about.kind_a, about.kind_b).terms, set(relation.terms))


def f1(said: set[Any] | frozenset[Any], true: set[Any]) -> float:
    """Harmonic mean of precision and recall; 0 when nothing right was said."""
    both = len(said & true)
    return 2 * both / (len(said) + len(true)) if both else 0.0


@dataclass(frozen=True)
class AnswerScores:
    """What a VLM's answers on a set are worth, 0..1; NaN where no item tests it."""

    term_f1: float
    """Mean over the six terms of their F1 scores over the set."""
    exact: float
    """Share of answers that claim the very terms of the caption."""
    mentions: float
    """Mean share of the two objects that an answer names."""
    by_term: dict[str, float]
    """F1 score of each term."""

    def as_dict(self) -> dict[str, float | None]:
        """One level, JSON-ready: as an evaluation row has it."""
        flat = {"term_f1": self.term_f1, "exact": self.exact, "object_mentions": self.mentions}
        flat |= {f"f1_{term}": value for term, value in self.by_term.items()}
        return {key: None if np.isnan(value) else value for key, value in flat.items()}


def score_answers(captions: Sequence[str], answers: Sequence[str]) -> AnswerScores:
    """Score answers against the relation captions they were asked for. Raises `ValueError` for another caption."""
    true, said = np.zeros((len(captions), 6), bool), np.zeros((len(captions), 6), bool)
    mentions = np.zeros(len(captions))
    for i, (caption, answer) in enumerate(zip(captions, answers, strict=True)):
        about = parse(caption)
        claim = read_answer(answer, about.kind_a, about.kind_b)
        true[i, list(about.relation.terms)] = True
        said[i, list(claim.terms)] = True
        mentions[i] = claim.mentions
    by_term = _f1_by_term(true, said)
    return AnswerScores(
        term_f1=float(np.nanmean(by_term)),
        exact=float((true == said).all(axis=1).mean()),
        mentions=float(mentions.mean()),
        by_term={term.name.lower(): float(value) for term, value in zip(Term, by_term, strict=True)},
    )


def _f1_by_term(true: NDArray[np.bool_], said: NDArray[np.bool_]) -> NDArray[np.float64]:
    both, total = (true & said).sum(axis=0), true.sum(axis=0) + said.sum(axis=0)
    return np.where(true.any(axis=0), 2 * both / np.maximum(total, 1), np.nan)


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())
