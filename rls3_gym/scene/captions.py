"""Captions in the paper's grammar, hard negative captions, and the way back from a caption to its terms.

"The small pot is above, behind and to the left of the yellow bowl."
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache

import numpy as np

from rls3_gym.scene.relations import BY_TERMS, RELATIONS, FloatArray, Relation, Term, can_hold, relation

_INNER = {
    Term.LEFT: "to the left",
    Term.RIGHT: "to the right",
    Term.FRONT: "in front",
    Term.BEHIND: "behind",
    Term.ABOVE: "above",
    Term.BELOW: "below",
}
_LAST = _INNER | {Term.LEFT: "to the left of", Term.RIGHT: "to the right of", Term.FRONT: "in front of"}
_TERM_OF = {phrase: term for term, phrase in _INNER.items()}
_GRAMMAR = re.compile(
    r"^The (?P<a>.+?) is (?P<terms>(?:(?:to the left|to the right|in front|behind|above|below)(?:, | and )?)+)"
    r"(?: of)? the (?P<b>.+)\.$"
)


class Change(StrEnum):
    """What was changed in a true caption to make a false one."""

    OPPOSITE = "opposite"  # one term replaced by its antonym: the paper's swapped negative
    OPPOSITES = "opposites"  # two or three terms replaced by their antonyms
    SECTOR = "sector"  # the horizontal terms moved to another sector
    VERTICAL = "vertical"  # a vertical term added, dropped or turned, against the scene
    SWAPPED = "swapped"  # the two objects change places
    OBJECT = "object"  # an object named that isn't in the scene (presence captions)
    OTHER = "other"  # anything: a false caption that was not made here


@dataclass(frozen=True)
class Negative:
    """A caption that is false in the scene, and what was changed to make it so."""

    caption: str
    change: Change
    term: Term | None = None
    """For `OPPOSITE`: the true term that was replaced."""


@dataclass(frozen=True)
class ParsedCaption:
    """A caption taken apart: the kinds' names and the relation it claims."""

    kind_a: str
    relation: Relation
    kind_b: str


def describe(kind_a: str, relation: Relation, kind_b: str) -> str:
    """The caption of an ordered object pair, e.g. `The blender is below and in front of the plate.`"""
    return _sentence(kind_a, _phrase(relation), kind_b)


def _sentence(kind_a: str, phrase: str, kind_b: str) -> str:
    return f"The {kind_a} is {phrase} the {kind_b}."


@cache
def _phrase(relation: Relation) -> str:
    """What stands between the two kinds, e.g. `below and in front of`."""
    *inner, last = relation.terms
    phrases = [_INNER[t] for t in inner]
    head = f"{', '.join(phrases)} and " if phrases else ""
    return f"{head}{_LAST[last]}"


def phrases() -> dict[str, tuple[str, str]]:
    """Term -> how it is said before another term, and how as the last one."""
    return {term.name.lower(): (_INNER[term], _LAST[term]) for term in Term}


def parse(caption: str) -> ParsedCaption:
    """Take a caption apart. Raises `ValueError` for a sentence that `describe` could not have written."""
    match = _GRAMMAR.match(caption)
    if match:
        phrases = re.split(r", | and ", match["terms"])
        terms = frozenset(_TERM_OF[p] for p in phrases if p in _TERM_OF)
        if terms in BY_TERMS:
            parsed = ParsedCaption(match["a"], BY_TERMS[terms], match["b"])
            if describe(parsed.kind_a, parsed.relation, parsed.kind_b) == caption:
                return parsed
    raise ValueError(f"not a caption of the paper's grammar: {caption!r}")


def is_false(claimed: Relation, offset: FloatArray) -> bool:
    """Whether a claimed relation is plainly false for `offset`: one of its terms points to a side that A is not on.

    Stricter than "not the described cell": `behind` also describes an object that is slightly to the left, and
    `behind and to the left` must then not be a negative.
    """
    return any(not can_hold(term, offset) for term in claimed.terms)


def negatives(
    kind_a: str, kind_b: str, offset: FloatArray | Sequence[float], truth: Relation | None = None
) -> tuple[Negative, ...]:
    """Every hard negative caption of the pair (A, B) at `offset` = A - B, (3,) meters, camera frame.

    Single opposites come first, in the order of the true terms; then the other changes in the order of
    `RELATIONS`. No two are alike and none is true in the scene. `truth` is the relation at `offset`, where the caller
    knows it already.
    """
    truth = truth or relation(offset)
    x, y, z = (float(v > 0) - float(v < 0) for v in offset)
    claims = _false_claims(truth, (x, y, z))
    made = [Negative(_sentence(kind_a, phrase, kind_b), change, term) for phrase, change, term in claims]
    return (*made, Negative(describe(kind_b, truth, kind_a), Change.SWAPPED))


@cache
def _false_claims(truth: Relation, signs: tuple[float, float, float]) -> list[tuple[str, Change, Term | None]]:
    """The phrases of the relations that are false for an offset whose axes have these signs (all that `is_false`
    depends on), with what was changed."""
    offset = np.array(signs, dtype=np.float64)
    true_terms = set(truth.terms)
    singles = {BY_TERMS[frozenset(true_terms - {t} | {t.opposite})]: t for t in truth.terms}
    claims: list[tuple[Relation, Change, Term | None]] = [(r, Change.OPPOSITE, t) for r, t in singles.items()]
    for claimed in RELATIONS:
        if claimed == truth or claimed in singles or not is_false(claimed, offset):
            continue
        change = _change(truth, claimed)
        if change is not None:
            claims.append((claimed, change, None))
    return [(_phrase(claimed), change, term) for claimed, change, term in claims]


def _change(truth: Relation, claimed: Relation) -> Change | None:
    """Name of the change from the truth to a claim; None for claims that change more than one thing."""
    if {t.axis for t in claimed.terms} == {t.axis for t in truth.terms}:
        return Change.OPPOSITES
    if claimed.vertical == truth.vertical:
        return Change.SECTOR
    if claimed.horizontal == truth.horizontal:
        return Change.VERTICAL
    return None
