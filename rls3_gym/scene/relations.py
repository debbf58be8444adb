"""Angle-based spatial relations between two positions (PAPER: eight sectors, three elevation regions).

Camera frame, gravity aligned: x right, y up, z away from the camera along its heading; meters. The
relation of A to B depends only on `offset = position(A) - position(B)`.

Boundary rule, exact: the azimuth of an offset is the angle of (x, z), counter-clockwise from `right`;
sector k covers [45k - 22.5, 45k + 22.5) degrees. It is computed for the half turn [0, 180) and mirrored
for the other, so that the relation of B to A is always the opposite one, to the last bit. Vertical:
elevation >= 22.5 degrees is above, <= -22.5 below. Within 15 degrees of the vertical the horizontal
terms are left out. A zero offset has no relation and is an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

ELEVATION_BAND_DEG = 22.5
"""Half the empty vertical band, degrees (the paper shows roughly +-20)."""
VERTICAL_CONE_DEG = 15.0
"""Angle from straight up or down within which horizontal terms are left out, degrees."""
SECTOR_DEG = 45.0


class Term(IntEnum):
    """The six spatial terms. Antonyms are neighbors: `term ^ 1`."""

    LEFT = 0
    RIGHT = 1
    FRONT = 2
    BEHIND = 3
    ABOVE = 4
    BELOW = 5

    @property
    def opposite(self) -> Term:
        return Term(self ^ 1)

    @property
    def axis(self) -> int:
        """Index of the camera axis the term is about: 0 x, 1 y, 2 z."""
        return (0, 2, 1)[self // 2]

    @property
    def sign(self) -> int:
        """Sign of the offset along `axis` for which the term can hold."""
        return {Term.LEFT: -1, Term.RIGHT: 1, Term.FRONT: -1, Term.BEHIND: 1}.get(self, 1 if self is Term.ABOVE else -1)


# Sector k, counter-clockwise from "right" (azimuth 0), as the terms it is described with.
SECTORS: tuple[tuple[Term, ...], ...] = (
    (Term.RIGHT,),
    (Term.BEHIND, Term.RIGHT),
    (Term.BEHIND,),
    (Term.BEHIND, Term.LEFT),
    (Term.LEFT,),
    (Term.FRONT, Term.LEFT),
    (Term.FRONT,),
    (Term.FRONT, Term.RIGHT),
)


@dataclass(frozen=True, order=True)
class Relation:
    """One of the 26 relation cells: a horizontal sector (0..7 or None) and a vertical sign (-1, 0, 1)."""

    horizontal: int | None
    vertical: int

    def __post_init__(self) -> None:
        if self.horizontal is None and self.vertical == 0:
            raise ValueError("a relation needs a horizontal sector or a vertical term")

    @property
    def terms(self) -> tuple[Term, ...]:
        """The terms in the order in which captions use them: vertical, depth, lateral."""
        vertical = {1: (Term.ABOVE,), -1: (Term.BELOW,), 0: ()}[self.vertical]
        return vertical + (() if self.horizontal is None else SECTORS[self.horizontal])

    @property
    def complexity(self) -> int:
        """Number of terms, 1 to 3."""
        return len(self.terms)

    @property
    def opposite(self) -> Relation:
        """The relation of B to A."""
        turned = None if self.horizontal is None else (self.horizontal + 4) % 8
        return Relation(turned, -self.vertical)

    @property
    def index(self) -> int:
        """Position in `RELATIONS`, 0..25: the relation cell."""
        return _INDEX[self]

    @property
    def label(self) -> str:
        """Short name for tables and logs, e.g. `above+behind+left`."""
        return "+".join(term.name.lower() for term in self.terms)


RELATIONS: tuple[Relation, ...] = tuple(
    Relation(horizontal, vertical)
    for vertical in (0, 1, -1)
    for horizontal in (*range(8), None)
    if not (horizontal is None and vertical == 0)
)
"""All 26 relation cells, in a fixed order."""
_INDEX = {relation: index for index, relation in enumerate(RELATIONS)}
BY_TERMS: dict[frozenset[Term], Relation] = {frozenset(r.terms): r for r in RELATIONS}


def relation_indices(offsets: FloatArray) -> NDArray[np.int64]:
    """Relation cells of many offsets at once: (n, 3) meters, camera frame -> (n,) indices, -1 for a zero offset."""
    x, y, z = np.asarray(offsets, dtype=np.float64).reshape(-1, 3).T
    return np.asarray(_index_at(x, y, z))


def relation(offset: FloatArray) -> Relation:
    """The relation of A to B for `offset = A - B`, (3,) meters in the camera frame.

    Raises `ValueError` when both stand at the same point.
    """
    index = int(_index_at(*np.asarray(offset, dtype=np.float64).tolist()))
    if index < 0:
        raise ValueError("two objects at the same point have no spatial relation")
    return RELATIONS[index]


def _index_at(x: Any, y: Any, z: Any) -> Any:
    """The relation cell of an offset, or -1; of numbers, or of arrays entry by entry.

    Truth values are multiplied instead of chosen with `np.where`, which is slow for single numbers.
    """
    elevation = np.degrees(np.arctan2(y, np.hypot(x, z)))
    above, below = elevation >= ELEVATION_BAND_DEG, elevation <= -ELEVATION_BAND_DEG
    mirrored = (z < 0) | ((z == 0) & (x < 0))
    sign = 1.0 - 2.0 * mirrored
    azimuth = np.degrees(np.arctan2(z * sign, x * sign))  # [0, 180)
    sector = (np.floor((azimuth + SECTOR_DEG / 2) / SECTOR_DEG).astype(int) + 4 * mirrored) % 8
    in_cone = np.abs(elevation) > 90.0 - VERTICAL_CONE_DEG
    index = 8 * above + 17 * below + sector + (8 - sector) * in_cone
    return (index + 1) * ((x != 0) | (y != 0) | (z != 0)) - 1


def margins_deg(offsets: FloatArray) -> FloatArray:
    """Angular distances, degrees, from many offsets to the nearest boundary at which the relation of each would change.

    (n, 3) meters, camera frame -> (n,). That of a zero offset, which has no relation, means nothing.
    """
    x, y, z = np.asarray(offsets, dtype=np.float64).reshape(-1, 3).T
    return np.asarray(_margin_at(x, y, z))


def margin_deg(offset: FloatArray) -> float:
    """Angular distance, degrees, from an offset to the nearest boundary at which its relation would change."""
    return float(_margin_at(*np.asarray(offset, dtype=np.float64).tolist()))


def _margin_at(x: Any, y: Any, z: Any) -> Any:
    """The margin of an offset, for numbers and for arrays."""
    elevation = np.abs(np.degrees(np.arctan2(y, np.hypot(x, z))))
    cone = 90.0 - VERTICAL_CONE_DEG
    vertical = np.minimum(np.abs(elevation - ELEVATION_BAND_DEG), np.abs(elevation - cone))
    within = (np.degrees(np.arctan2(z, x)) + SECTOR_DEG / 2) % SECTOR_DEG
    horizontal = np.where(elevation <= cone, np.minimum(within, SECTOR_DEG - within), np.inf)
    return np.minimum(vertical, horizontal)


def can_hold(term: Term, offset: FloatArray) -> bool:
    """Whether the term points to the side A is on at all: its axis component has the term's sign."""
    return float(offset[term.axis]) * term.sign > 0
