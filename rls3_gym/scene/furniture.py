"""Where furniture can carry objects and where it blocks them: surfaces and solids of every type.

A type is described in its own frame: origin in the middle of the footprint at the underside, x to its
right, y to its back (its front looks along -y), z up. `facing` turns that frame in quarter turns. The
mesh builders of the backend use the same boxes, so the drawn furniture and its solids agree.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from rls3_gym.scene.rooms import Piece, Solid, Surface

BOARD = 0.035
"""Thickness of table tops and shelf boards, meters."""
EDGE = 0.03
"""Objects' centers stay this far inside a board's edge, meters."""
TOP_LIMIT = 1.36
"""Boards above this are not offered: objects on them would leave the picture. Meters."""
TURNS = {"front": 0, "right": 1, "back": 2, "left": 3}
"""Counter-clockwise quarter turns (seen from above) for where a piece's front looks; front is the camera's side."""

Box = tuple[float, float, float, float, float, float]
"""x0, x1, y0, y1, z0, z1 in the piece's own frame, meters."""


@dataclass
class Shape:
    """Boxes of a piece in its own frame: the solids, and the tops that objects may stand on."""

    solids: list[Box] = field(default_factory=list)
    tops: list[tuple[str, Box]] = field(default_factory=list)

    def top(self, name: str, x0: float, x1: float, y0: float, y1: float, z: float) -> None:
        self.tops.append((name, (x0, x1, y0, y1, z, z)))


@dataclass(frozen=True)
class Local:
    """A piece's size in its own frame, meters, and its options."""

    w: float
    d: float
    h: float
    options: dict[str, Any]

    def block(self, z0: float = 0.0, z1: float | None = None) -> Box:
        """The whole footprint from z0 to z1 (default: the top)."""
        return (-self.w / 2, self.w / 2, -self.d / 2, self.d / 2, z0, self.h if z1 is None else z1)


def local(piece: Piece) -> Local:
    """Size in the piece's own frame: width and depth change places for a quarter turn."""
    options = dict(piece.options)
    swap = TURNS[options.get("facing", "front")] % 2 == 1
    w, d = (piece.depth, piece.width) if swap else (piece.width, piece.depth)
    return Local(w, d, piece.height, options)


def _legs(s: Local, height: float, thickness: float) -> list[Box]:
    x, y, t = s.w / 2, s.d / 2, thickness
    xs, ys = ((-x, -x + t), (x - t, x)), ((-y, -y + t), (y - t, y))
    return [(*a, *b, 0.0, height) for a in xs for b in ys]


def table(s: Local) -> Shape:
    """A board on four legs or on one pedestal; the floor under it stays usable."""
    shape = Shape([s.block(s.h - BOARD)])
    if s.options.get("legs") == "pedestal":
        r = min(s.w, s.d) * 0.28
        shape.solids += [(-0.05, 0.05, -0.05, 0.05, 0.0, s.h - BOARD), (-r, r, -r, r, 0.0, 0.03)]
    else:
        shape.solids += _legs(s, s.h - BOARD, 0.05)
    shape.top(s.options.get("call", "table"), *s.block()[:4], s.h)
    return shape


def stool(s: Local) -> Shape:
    shape = Shape([s.block(s.h - BOARD), *_legs(s, s.h - BOARD, 0.035)])
    shape.top("stool", *s.block()[:4], s.h)
    return shape


def bench(s: Local) -> Shape:
    x, y = s.w / 2, s.d / 2
    shape = Shape([s.block(s.h - BOARD), (-x + 0.04, -x + 0.09, -y, y, 0, s.h - BOARD)])
    shape.solids.append((x - 0.09, x - 0.04, -y, y, 0, s.h - BOARD))
    shape.top("bench", *s.block()[:4], s.h)
    return shape


def chair(s: Local) -> Shape:
    """`height` is the height of the back; the seat is at half of it."""
    seat, x, y = s.h * 0.5, s.w / 2, s.d / 2
    shape = Shape([s.block(seat - BOARD, seat), *_legs(s, seat - BOARD, 0.035)])
    shape.solids.append((-x, x, y - 0.035, y, seat, s.h))
    shape.top("chair", -x, x, -y, y - 0.035, seat)
    return shape


def sofa(s: Local) -> Shape:
    """`height` is the height of the back; the seat is at just over half of it."""
    x, y, arm, back = s.w / 2, s.d / 2, 0.11, 0.16
    seat = s.h * 0.54
    sides = [(-x, -x + arm, -y, y, 0.0, s.h * 0.76), (x - arm, x, -y, y, 0.0, s.h * 0.76)]
    shape = Shape([s.block(0, seat), *sides, (-x, x, y - back, y, seat, s.h)])
    shape.top("sofa", -x + arm, x - arm, -y, y - back, seat)
    return shape


def bed(s: Local) -> Shape:
    """`height` is the height of the headboard; the blanket's top is at just over half of it."""
    x, y, top = s.w / 2, s.d / 2, s.h * 0.54
    shape = Shape([s.block(0, top), (-x, x, y - 0.05, y, 0.0, s.h)])
    shape.solids.append((-x + 0.08, x - 0.08, y - 0.36, y - 0.07, top, top + 0.1))
    shape.top("bed", -x, x, -y, y - 0.36, top)
    return shape


def _block_named(name: str) -> Callable[[Local], Shape]:
    """A closed piece from the floor to its top, which carries objects."""

    def shape_of(s: Local) -> Shape:
        shape = Shape([s.block()])
        shape.top(name, *s.block()[:4], s.h)
        return shape

    return shape_of


def _block(s: Local) -> Shape:
    """A closed piece whose top is out of reach, or something in the air."""
    return Shape([s.block()])


def _flat(s: Local) -> Shape:
    """No solid, and nothing to stand on."""
    return Shape()


def wall_shelf(s: Local) -> Shape:
    shape = Shape([s.block()])
    shape.top("shelf", *s.block()[:4], s.h)
    return shape


def shelf_unit(s: Local) -> Shape:
    """Open to the front: `boards` boards at equal steps, the highest on top; `base`: closed up to the first."""
    x, y, n = s.w / 2, s.d / 2, int(s.options.get("boards", 2))
    inner = (-x + 0.03, x - 0.03, -y, y - 0.015)
    heights = [s.h * (k + 1) / n for k in range(n)]
    shape = Shape([(-x, x, y - 0.015, y, 0.0, s.h)])
    shape.solids += [(-x, -x + 0.03, -y, y - 0.015, 0.0, s.h), (x - 0.03, x, -y, y - 0.015, 0.0, s.h)]
    for k, z in enumerate(heights):
        closed = k == 0 and s.options.get("base", False)
        shape.solids.append((*inner, 0.0 if closed else z - 0.03, z))
        shape.top("shelf", *inner, z)
    return shape


def window(s: Local) -> Shape:
    """A sill of the piece's depth; glass and frame lie flat against the wall above it."""
    shape = Shape([s.block(0, 0.04)])
    shape.top("sill", *s.block()[:4], 0.04)
    return shape


def fireplace(s: Local) -> Shape:
    """A chimney breast with a mantel board; `height` is the mantel's top."""
    x, y = s.w / 2, s.d / 2
    shape = Shape([(-x + 0.06, x - 0.06, -y + 0.08, y, 0.0, s.h - 0.05), s.block(s.h - 0.05)])
    shape.top("mantel", *s.block()[:4], s.h)
    return shape


def floor_lamp(s: Local) -> Shape:
    r = s.w / 2
    pole = (-0.03, 0.03, -0.03, 0.03, 0.0, s.h - 0.25)
    return Shape([pole, (-r, r, -r, r, s.h - 0.25, s.h), (-0.12, 0.12, -0.12, 0.12, 0.0, 0.03)])


@dataclass(frozen=True)
class FurnitureType:
    """How a type of furniture takes up room, and the options its YAML may name."""

    shape: Callable[[Local], Shape]
    options: frozenset[str] = frozenset()


def _type(shape: Callable[[Local], Shape], *options: str) -> FurnitureType:
    return FurnitureType(shape, frozenset(options))


TYPES: dict[str, FurnitureType] = {
    "table": _type(table, "legs", "call", "cloth"),
    "side_table": _type(table, "legs"),
    "stool": _type(stool),
    "bench": _type(bench),
    "chair": _type(chair),
    "sofa": _type(sofa, "seats"),
    "bed": _type(bed),
    "counter": _type(_block_named("counter"), "doors", "panels", "sink"),
    "stove": _type(_block_named("stove"), "range"),
    "nightstand": _type(_block_named("nightstand"), "drawers"),
    "sideboard": _type(_block_named("sideboard"), "doors", "panels"),
    "dresser": _type(_block_named("dresser"), "drawers"),
    "wall_shelf": _type(wall_shelf),
    "shelf_unit": _type(shelf_unit, "boards", "base"),
    "window": _type(window, "panes"),
    "fireplace": _type(fireplace),
    "fridge": _type(_block),
    "wardrobe": _type(_block, "doors"),
    "hood": _type(_block),
    "screen": _type(_block),
    "pendant": _type(_block),
    "floor_lamp": _type(floor_lamp),
    "panel": _type(_flat),
    "picture": _type(_flat),
    "mirror": _type(_flat),
    "curtain": _type(_flat),
    "rug": _type(_flat),
}


def _to_world(piece: Piece, box: Box) -> Box:
    x0, x1, y0, y1, z0, z1 = box
    turns = TURNS[dict(piece.options).get("facing", "front")]
    for _ in range(turns):
        x0, x1, y0, y1 = -y1, -y0, x0, x1
    return (x0 + piece.x, x1 + piece.x, y0 + piece.y, y1 + piece.y, z0 + piece.z, z1 + piece.z)


def solids_of(piece: Piece) -> tuple[Solid, ...]:
    """The boxes of a piece that objects must not touch, world meters."""
    return tuple(Solid(*_to_world(piece, box)) for box in TYPES[piece.type].shape(local(piece)).solids)


def surfaces_of(piece: Piece, ceiling: float) -> tuple[Surface, ...]:
    """The tops of a piece, shrunk by `EDGE`, world meters; clearance reaches to `ceiling` for now."""
    found = []
    for name, box in TYPES[piece.type].shape(local(piece)).tops:
        x0, x1, y0, y1, z, _ = _to_world(piece, box)
        if z <= TOP_LIMIT:
            found.append(Surface(name, x0 + EDGE, x1 - EDGE, y0 + EDGE, y1 - EDGE, z, ceiling - z))
    return tuple(found)
