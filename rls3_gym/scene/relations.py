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

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

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

    @cached_property
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

    @cached_property
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


def relation(offset: FloatArray | Sequence[float]) -> Relation:
    """The relation of A to B for `offset = A - B`, (3,) meters in the camera frame.

    Raises `ValueError` when both stand at the same point.
    """
    x, y, z = map(float, offset)
    if not (x or y or z):
        raise ValueError("two objects at the same point have no spatial relation")
    direction = _direction(x, y, z)
    near = int(direction.turned / SECTOR_DEG)
    return RELATIONS[_CELLS[bisect_right(_REGION_STARTS, direction.elevation)][direction.mirrored][near]]


def margin_deg(offset: FloatArray | Sequence[float]) -> float:
    """Angular distance, degrees, from an offset to the nearest boundary at which its relation would change."""
    x, y, z = map(float, offset)
    direction = _direction(x, y, z)
    elevation, cone = abs(direction.elevation), 90.0 - VERTICAL_CONE_DEG
    within = direction.turned % SECTOR_DEG if elevation <= cone else math.inf
    return float(min(abs(elevation - ELEVATION_BAND_DEG), abs(elevation - cone), within, abs(SECTOR_DEG - within)))


def relation_indices(offsets: FloatArray) -> NDArray[np.int64]:
    """Relation cells of many offsets at once: (n, 3) meters, camera frame -> (n,) indices, -1 for a zero offset."""
    offsets = np.asarray(offsets, dtype=np.float64).reshape(-1, 3)
    return np.where(offsets.any(axis=1), _indices(_directions(*_columns(offsets))), -1)


def margins_deg(offsets: FloatArray) -> FloatArray:
    """`margin_deg` of many offsets at once: (n, 3) meters, camera frame -> (n,) degrees. That of a zero offset, which
    has no relation, means nothing."""
    return _margins(_directions(*_columns(offsets)))


def clear_indices(offsets: FloatArray, least_deg: float) -> NDArray[np.int64]:
    """The relation cells of offsets that keep away from all boundaries, and -1 for others.

    One look into a table takes half the time of relations and margins.

    Args:
        offsets: (3, ...) meters, camera frame. What comes out for a zero offset, which has no relation, means nothing.
        least_deg: the least `margin_deg`, to within rounding; 0 for no such rule.

    Returns:
        An array of the offsets' shape without its first axis.
    """
    elevations, turns, cells = _clear_cells(least_deg)
    elevation, turned, mirrored = _directions(*offsets)
    regions, sectors = elevations.searchsorted(elevation, "right"), turns.searchsorted(turned, "right")
    return np.asarray(cells[regions, mirrored, sectors])


@lru_cache(maxsize=16)
def _clear_cells(least_deg: float) -> tuple[FloatArray, FloatArray, NDArray[np.int64]]:
    """Elevations and turned azimuths at which the result of `clear_indices` changes, degrees, and its results between
    them: (elevations + 1, 2, turns + 1), the second axis as in `_Direction.mirrored`."""
    near = (-least_deg, 0.0, least_deg)
    edges = [sign * edge for edge in (ELEVATION_BAND_DEG, 90.0 - VERTICAL_CONE_DEG) for sign in (-1, 1)]
    elevations = np.unique([*_REGION_STARTS, *(edge + n for edge in edges for n in near)])
    turns = np.unique([sector * SECTOR_DEG + n for sector in range(6) for n in near])
    starts = [np.array([angles[0] - 1.0, *angles]) for angles in (elevations, turns)]
    regions = _STARTS_TABLE.searchsorted(starts[0], "right")
    sectors = (starts[1] / SECTOR_DEG).clip(0, 4).astype(np.int64)
    cells = _CELL_TABLE[regions[:, None, None], np.arange(2)[:, None], sectors]
    # The margin grows with the distance from a boundary: what holds in the middle holds for all between two angles.
    middles = ((some + np.append(some[1:], some[-1] + 1.0)) / 2 for some in starts)
    elevation, turned = np.meshgrid(*middles, indexing="ij")
    margins = _margins(_Direction(elevation, turned, mirrored=0))
    return elevations, turns, np.where(margins[:, None] >= least_deg, cells, -1)


class _Direction(NamedTuple):
    """Where an offset points; of one, or of many as arrays."""

    elevation: Any
    """Degrees."""
    turned: Any
    """The azimuth from where the first sector begins, degrees: 22.5..202.5."""
    mirrored: Any
    """1 where the azimuth is that of the opposite offset, else 0."""


def _direction(x: float, y: float, z: float) -> _Direction:
    mirrored = z < 0
    return _Direction(*_angles(-x if mirrored else x, y, z, of=math), int(mirrored))


def _directions(x: FloatArray, y: FloatArray, z: FloatArray) -> _Direction:
    mirrored = z < 0
    return _Direction(*_angles(np.where(mirrored, -x, x), y, z, of=np), mirrored.view(np.int8))


def _angles(x: Any, y: Any, z: Any, of: Any) -> tuple[Any, Any]:
    """Elevation and turned azimuth. `x`: of the opposite offset, where `z` is negative; `of`: the module whose
    functions are used, `math` for numbers and `numpy` for arrays."""
    return of.degrees(of.atan2(y, of.hypot(x, z))), of.degrees(of.atan2(abs(z), x)) + SECTOR_DEG / 2


def _columns(offsets: FloatArray) -> FloatArray:
    """(3, n) of (n, 3)."""
    return np.asarray(offsets, dtype=np.float64).reshape(-1, 3).T


_REGION_STARTS = (
    VERTICAL_CONE_DEG - 90.0,
    math.nextafter(-ELEVATION_BAND_DEG, 90.0),
    ELEVATION_BAND_DEG,
    math.nextafter(90.0 - VERTICAL_CONE_DEG, 90.0),
)
"""Elevations, degrees, from which on an offset is no longer straight below, no longer below, above, straight above."""
_VERTICALS = (-1, -1, 0, 1, 1)
_CELLS = [
    [
        [Relation((near + 4 * mirrored) % 8 if 0 < region < 4 else None, _VERTICALS[region]).index for near in range(5)]
        for mirrored in (0, 1)
    ]
    for region in range(5)
]
"""Relation cells by region of elevation, by mirrored or not, and by sector of the half turn."""
_CELL_TABLE, _STARTS_TABLE = np.array(_CELLS), np.array(_REGION_STARTS)


def _indices(directions: _Direction) -> NDArray[np.int64]:
    region = _STARTS_TABLE.searchsorted(directions.elevation, "right")
    near = (directions.turned / SECTOR_DEG).astype(np.int64)
    return np.asarray(_CELL_TABLE[region, directions.mirrored, near])


def _margins(directions: _Direction) -> FloatArray:
    elevation, cone = np.abs(directions.elevation), 90.0 - VERTICAL_CONE_DEG
    margins: FloatArray = np.minimum(np.abs(elevation - ELEVATION_BAND_DEG), np.abs(elevation - cone))
    within = directions.turned % SECTOR_DEG
    sectors = np.minimum(within, SECTOR_DEG - within)
    np.minimum(margins, sectors, out=margins, where=elevation <= cone)
    return margins


def can_hold(term: Term, offset: FloatArray) -> bool:
    """Whether the term points to the side A is on at all: its axis component has the term's sign."""
    return float(offset[term.axis]) * term.sign > 0
