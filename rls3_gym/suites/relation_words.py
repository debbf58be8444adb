"""The relations of VSR's captions, as words: which there are, and which has an opposite."""

from __future__ import annotations

import re

_PAIRS = (
    ("left of", "right of"),
    ("at the left side of", "at the right side of"),
    ("above", "below"),
    ("over", "under"),
    ("on top of", "beneath"),
    ("in front of", "behind"),
    ("inside", "outside"),
    ("close to", "far from"),
    ("facing", "facing away from"),
    ("parallel to", "perpendicular to"),
    ("into", "out of"),
    ("attached to", "detached from"),
)
_ONE_WAY = (
    ("on", "under"),
    ("in", "outside"),
    ("within", "outside"),
    ("at the back of", "in front of"),
    ("ahead of", "behind"),
    ("near", "far from"),
    ("far away from", "close to"),
    ("connected to", "detached from"),
)
OPPOSITES = dict(_PAIRS) | {b: a for a, b in _PAIRS} | dict(_ONE_WAY)
"""A relation and one that can't hold at the same time between the same two things."""

_OTHERS = (
    "across", "across from", "adjacent to", "against", "along", "alongside", "among", "around", "at",
    "at the edge of", "at the side of", "away from", "beside", "between", "beyond", "by", "down", "down from",
    "enclosed by", "from", "in the middle of", "next to", "off", "opposite to", "part of", "past", "surrounding",
    "through", "to", "touching", "toward", "up", "with",
)  # fmt: skip
RELATIONS = frozenset([*OPPOSITES, *OPPOSITES.values(), *_OTHERS])
"""Those that follow "is"."""
VERBS = {"contain": "contains", "have as a part": "has as a part", "consist of": "consists of"}
"""Those that are verbs of their own: as a question has them after "does", and as a statement has them."""


def with_opposite(caption: str, relation: str) -> str | None:
    """The caption with its relation turned into the opposite one; None where it has none, or isn't there just once."""
    opposite = OPPOSITES.get(relation)
    between = re.compile(rf"(?<= ){re.escape(relation)}(?= )")
    if opposite is None or len(between.findall(caption)) != 1:
        return None
    return between.sub(opposite, caption)
