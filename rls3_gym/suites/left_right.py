"""Captions that speak of left and right, and what they say about the mirror image."""

from __future__ import annotations

import re
from collections.abc import Sequence

_WORD = re.compile(r"\b(?P<side>left|right)(?P<more>most|wards?|-hand)?\b", re.IGNORECASE)
_BEFORE = re.compile(
    r"\b(?:the|a|to|on|at|from|in|far|top|bottom|upper|lower|front|back|rear|his|her|its|their)(?:\s+|-)$",
    re.IGNORECASE,
)
_AFTER = re.compile(
    r"^(?:\s+|-)"
    r"(?:of|side(?! up| out)|sides|hand|arm|leg|foot|eye|ear|wing|corner|edge|half|end|part|lane|turn)\b",
    re.IGNORECASE,
)
_NEAR = 64
"""Characters before and after a word that are looked at: the whole text for each word takes long in a long one."""
_OTHER = {"left": "right", "right": "left"}


def is_about_sides(caption: str, false: Sequence[str] = ()) -> bool:
    """Whether the mirror image is another question: the true caption says left or right, and wherever it or a false one
    does, a side is meant.

    That is so where one of a few words stands before it ("the left", "to the right") or after it ("left of", "right
    hand"). In "right next to", "right side up" or "he left" none does.
    """
    words = [(text, match) for text in (caption, *false) for match in _WORD.finditer(text)]
    return bool(_WORD.search(caption)) and all(_is_side(text, match) for text, match in words)


def says_left_or_right(captions: Sequence[str]) -> bool:
    """Whether any caption has one of the words, whatever it means there."""
    return any(_WORD.search(caption) for caption in captions)


def exchanged(caption: str) -> str:
    """The caption with left and right exchanged, in the case they are written in."""
    return _WORD.sub(lambda match: _turned(match["side"]) + (match["more"] or ""), caption)


def _is_side(caption: str, match: re.Match[str]) -> bool:
    before = caption[max(0, match.start() - _NEAR) : match.start()]
    after = caption[match.end() : match.end() + _NEAR]
    return bool(match["more"] or _BEFORE.search(before) or _AFTER.match(after))


def _turned(side: str) -> str:
    other = _OTHER[side.lower()]
    if side.isupper():
        return other.upper()
    return other.capitalize() if side[0].isupper() else other
