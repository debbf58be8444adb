"""Drawing a layout: one furnished room from a family's ranges, the same for the same family and index."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import TypeVar

import numpy as np

from rls3_gym.scene.families import FinishSpec, PieceSpec, RoomFamily, family_names, load_family
from rls3_gym.scene.furniture import solids_of, surfaces_of
from rls3_gym.scene.rooms import CameraPose, Color, Finish, Layout, Light, Piece, Solid, Split, Surface
from rls3_registry.errors import UserError

__all__ = ["draw_layout", "family_names", "layouts", "load_family"]

MIN_CLEARANCE = 0.44
"""Surfaces with less free height above them carry nothing, meters."""
MIN_SIDE = 0.08
"""Shortest side of a surface's rectangle of centers, meters."""
MIN_FREE_FLOOR = 0.4
"""Least share of the stage's floor plan without anything standing on it."""
MIN_SURFACES = 4
"""With the floor; and at `MIN_HEIGHTS` clearly different heights."""
MIN_HEIGHTS = 3
TINT = (0.06, 0.012)
"""Colors are varied by up to these shares of their value: in brightness, and in each channel on its own."""
ATTEMPTS = 200
_WALL_FACING = {"back": "front", "left": "right", "right": "left"}
_FACING_MIRRORED = {"front": "front", "back": "back", "left": "right", "right": "left"}

T = TypeVar("T")


def _uniform(rng: np.random.Generator, bounds: tuple[float, float]) -> float:
    return float(rng.uniform(*bounds))


def _choose(rng: np.random.Generator, options: Sequence[T]) -> T:
    return options[int(rng.integers(len(options)))]


def _tinted(rng: np.random.Generator, colors: Sequence[Color]) -> Color:
    bright, hue = rng.uniform(-TINT[0], TINT[0]), rng.uniform(-TINT[1], TINT[1], 3)
    r, g, b = np.clip(np.array(_choose(rng, colors)) * (1 + bright) * (1 + hue), 0.0, 1.0)
    return float(r), float(g), float(b)


def _finish(rng: np.random.Generator, options: Sequence[FinishSpec]) -> Finish:
    spec = _choose(rng, options)
    return Finish(_tinted(rng, (spec.color,)), spec.texture)


def _draw_piece(
    rng: np.random.Generator, spec: PieceSpec, room: tuple[float, float, float], anchor: Piece | None
) -> Piece:
    """`room`: x of the left and right wall, y of the back wall."""
    width, depth, height = (_uniform(rng, r) for r in (spec.width, spec.depth, spec.height))
    x, y, z = (_uniform(rng, r) for r in (spec.x, spec.y, spec.z))
    if anchor is not None:
        x += anchor.x
        if spec.against != "back":
            y += anchor.y
    if spec.against == "back":
        y = room[2] - depth / 2 - y
    elif spec.against == "left":
        x = room[0] + width / 2 + x
    elif spec.against == "right":
        x = room[1] - width / 2 - x
    facing = spec.facing or _WALL_FACING.get(spec.against or "", "front")
    options = {name: _choose(rng, values) for name, values in spec.options.items()}
    options["facing"] = facing
    color, accent = _tinted(rng, spec.colors), _tinted(rng, spec.accents)
    texture = _choose(rng, spec.textures)
    return Piece(spec.type, x, y, z, width, depth, height, color, accent, texture, tuple(options.items()))


def _draw_pieces(rng: np.random.Generator, family: RoomFamily, room: tuple[float, float, float]) -> tuple[Piece, ...]:
    placed: dict[str, Piece] = {}
    for slot, variants in family.pieces.items():
        ticket = float(rng.random())
        for spec in variants:
            ticket -= spec.share
            if ticket < 0:
                anchor = placed.get(spec.at) if spec.at else None
                if spec.at is None or anchor is not None:
                    piece = _draw_piece(rng, spec, room, anchor)
                    if spec.like in placed:
                        model = placed[spec.like]
                        piece = replace(piece, color=model.color, accent=model.accent, texture=model.texture)
                    placed[slot] = piece
                break
    return tuple(placed.values())


def _mirror(piece: Piece) -> Piece:
    options = tuple((k, _FACING_MIRRORED[v] if k == "facing" else v) for k, v in piece.options)
    return replace(piece, x=-piece.x, options=options)


def _collide(a: Solid, b: Solid, slack: float = 0.005) -> bool:
    return (
        a.x0 + slack < b.x1 and b.x0 + slack < a.x1
        and a.y0 + slack < b.y1 and b.y0 + slack < a.y1
        and a.z0 + slack < b.z1 and b.z0 + slack < a.z1
    )  # fmt: skip


def _usable(surfaces: Sequence[Surface], solids: Sequence[Solid], stage: tuple[float, ...]) -> list[Surface]:
    """Surfaces cut to the stage, with the free height that the furniture above them leaves."""
    kept = []
    for s in surfaces:
        x0, x1 = max(s.x0, stage[0]), min(s.x1, stage[1])
        y0, y1 = max(s.y0, stage[2]), min(s.y1, stage[3])
        if min(x1 - x0, y1 - y0) < MIN_SIDE:
            continue
        above = [
            o.z0 - s.z for o in solids
            if o.z0 > s.z + 0.02 and o.x0 < x1 and o.x1 > x0 and o.y0 < y1 and o.y1 > y0
        ]  # fmt: skip
        clearance = min([s.clearance, *above])
        if clearance >= MIN_CLEARANCE:
            kept.append(Surface(s.name, x0, x1, y0, y1, s.z, clearance))
    return kept


def _free_floor(solids: Sequence[Solid], stage: tuple[float, ...]) -> float:
    """Share of the stage's floor plan with nothing standing on it."""
    xs, ys = np.linspace(stage[0], stage[1], 40), np.linspace(stage[2], stage[3], 40)
    x, y = np.meshgrid(xs, ys)
    taken = np.zeros(x.shape, bool)
    for s in solids:
        if s.z0 < 0.3:
            taken |= (x > s.x0) & (x < s.x1) & (y > s.y0) & (y < s.y1)
    return float(1.0 - taken.mean())


def _distinct_heights(surfaces: Sequence[Surface]) -> int:
    heights: list[float] = []
    for z in sorted(s.z for s in surfaces):
        if not heights or z - heights[-1] > 0.1:
            heights.append(z)
    return len(heights)


@cache
def draw_layout(family: str, index: int) -> Layout:
    """Layout `index` of a family; depends on these two and the family's file only.

    Draws until the furniture does not intersect, leaves enough free floor and offers enough surfaces
    at enough heights. Raises `UserError` for an unknown family, an index it does not have, or ranges that never fit
    together.
    """
    spec = load_family(family)
    if not 0 <= index < spec.sizes.total:
        raise UserError(f"{family} has layouts 0..{spec.sizes.total - 1}, not {index}")
    name_hash = int.from_bytes(hashlib.sha256(family.encode()).digest()[:8], "little")
    rng = np.random.default_rng(np.random.SeedSequence([name_hash, index]))
    for _ in range(ATTEMPTS):
        layout = _attempt(rng, spec, index)
        if layout is not None:
            return layout
    raise UserError(f"rooms/{family}.yaml: the pieces do not fit together in {ATTEMPTS} draws; make them smaller")


def _attempt(rng: np.random.Generator, spec: RoomFamily, index: int) -> Layout | None:
    half, back = _uniform(rng, spec.room.half_width), _uniform(rng, spec.room.back)
    height = _uniform(rng, spec.room.height)
    reach = _uniform(rng, spec.room.stage_half_width)
    stage = (-reach, reach, _uniform(rng, spec.room.stage_front), back - spec.room.wall_gap)
    floor, walls = _finish(rng, spec.floors), _finish(rng, spec.walls)
    pieces = _draw_pieces(rng, spec, (-half, half, back))
    if rng.random() < spec.mirrored:
        pieces = tuple(_mirror(piece) for piece in pieces)
    camera, light = _draw_camera(rng, spec), _draw_light(rng, spec)

    groups = [solids_of(piece) for piece in pieces]
    for i, group in enumerate(groups):
        if any(_collide(a, b) for other in groups[:i] for a in group for b in other):
            return None
    solids = tuple(solid for group in groups for solid in group)
    tops = [surface for piece in pieces for surface in surfaces_of(piece, height)]
    surfaces = (Surface("floor", *stage, 0.0, height), *_usable(tops, solids, stage))
    if len(surfaces) < MIN_SURFACES or _distinct_heights(surfaces) < MIN_HEIGHTS:
        return None
    if _free_floor(solids, stage) < MIN_FREE_FLOOR:
        return None
    return Layout(
        family=spec.name, index=index, split=spec.sizes.of(index),
        x0=-half, x1=half, y0=spec.room.front, y1=back, height=height, stage=stage,
        pieces=pieces, surfaces=surfaces, solids=solids,
        floor=floor, walls=walls, camera=camera, light=light,
    )  # fmt: skip


def _draw_camera(rng: np.random.Generator, spec: RoomFamily) -> CameraPose:
    c = spec.camera
    eye = (_uniform(rng, c.x), _uniform(rng, c.y), _uniform(rng, c.z))
    heading, pitch = (math.radians(_uniform(rng, r)) for r in (c.heading_deg, c.pitch_deg))
    return CameraPose(eye, heading, pitch, c.fov_deg)


def _draw_light(rng: np.random.Generator, spec: RoomFamily) -> Light:
    at = spec.light
    position = (_uniform(rng, at.x), _uniform(rng, at.y), _uniform(rng, at.z))
    return Light(position, _uniform(rng, at.intensity), _uniform(rng, at.ambient), at.color)


@cache
def layouts(split: Split) -> tuple[Layout, ...]:
    """All layouts of a split: families by name, each by index."""
    return tuple(draw_layout(name, i) for name in family_names() for i in load_family(name).sizes.indices(split))
