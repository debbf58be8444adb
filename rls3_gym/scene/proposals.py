"""Drawing edits and arrangements: uniformly, or so that one object stands in a wanted relation to another.

Everything here is decided from positions alone; whether an object can be *seen* is known after rendering.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.random import Generator

from rls3_gym.scene.arrangement import (
    RELEASE_HEIGHT,
    SLOTS,
    ActiveObject,
    Arrangement,
    Edit,
    check,
    free_surfaces_at,
    place,
)
from rls3_gym.scene.camera import FloatArray, camera_frame
from rls3_gym.scene.catalog import load_catalog
from rls3_gym.scene.relations import Relation, margins_deg, relation_indices
from rls3_gym.scene.rooms import Layout
from rls3_registry.errors import UserError

_TRIES = 200
_CANDIDATES = 96


def container(arrangement: Arrangement, slot: int, kinds: Sequence[str]) -> list[str]:
    """The kinds that may go into `slot`: those of `kinds` not standing in another slot."""
    taken = {o.kind for i, o in enumerate(arrangement.objects) if i != slot}
    return [k for k in kinds if k not in taken]


def random_edit(rng: Generator, arrangement: Arrangement, kinds: Sequence[str]) -> Edit:
    """An edit drawn uniformly over slot, kind, floor plan, level and yaw: what a uniform `box` action means."""
    slot = int(rng.integers(SLOTS))
    x0, x1, y0, y1 = arrangement.layout.stage
    options = container(arrangement, slot, kinds)
    return Edit(
        slot=slot,
        kind=options[int(rng.integers(len(options)))],
        x=float(rng.uniform(x0, x1)),
        y=float(rng.uniform(y0, y1)),
        level=float(rng.random()),
        yaw=float(rng.uniform(0, 2 * np.pi)),
    )


def random_points(rng: Generator, layout: Layout, n: int) -> FloatArray:
    """(n, 3) points where a base may stand: a surface drawn uniformly, then a point on it. World meters."""
    which = rng.integers(len(layout.surfaces), size=n)
    rect = np.array([[s.x0, s.x1, s.y0, s.y1, s.z] for s in layout.surfaces])[which]
    u = rng.random((n, 2))
    x = rect[:, 0] + u[:, 0] * (rect[:, 1] - rect[:, 0])
    y = rect[:, 2] + u[:, 1] * (rect[:, 3] - rect[:, 2])
    return np.stack([x, y, rect[:, 4]], axis=1)


def edit_at(rng: Generator, arrangement: Arrangement, slot: int, kind: str, point: FloatArray) -> Edit | None:
    """The edit that puts `kind` on the surface at `point` (3,), when `place` finds it feasible; else None."""
    x, y, z = (float(v) for v in point)
    if not any(abs(s.z - z) < 1e-6 for s in free_surfaces_at(arrangement.layout, load_catalog()[kind], x, y)):
        return None
    yaw = float(rng.uniform(0, 2 * np.pi))
    level = min(1.0, (z + 1e-3) / RELEASE_HEIGHT)
    edit = Edit(slot=slot, kind=kind, x=x, y=y, level=level, yaw=yaw)
    return edit if place(arrangement, edit).feasible else None


def random_arrangement(rng: Generator, layout: Layout, kinds: Sequence[str], n: int = SLOTS) -> Arrangement:
    """`n` different kinds, placed by uniform edits. Raises `UserError` for a room that has no place for them."""
    chosen = [kinds[int(i)] for i in rng.choice(len(kinds), size=n, replace=False)]
    arrangement = Arrangement(layout, ())
    x0, x1, y0, y1 = layout.stage
    for slot, kind in enumerate(chosen):
        for _ in range(_TRIES):
            x, y, level, yaw = rng.random(4).tolist()
            edit = Edit(slot, kind, x0 + (x1 - x0) * x, y0 + (y1 - y0) * y, level, 2 * np.pi * yaw)
            placement = place(arrangement, edit)
            if placement.arrangement is not None:
                arrangement = placement.arrangement
                break
        else:
            raise no_place(layout, kind)
    return arrangement


def no_place(layout: Layout, kind: str) -> UserError:
    """The error for a room in which an object finds no place."""
    return UserError(
        f"room {layout.key}: found no feasible place for {kind!r} in {_TRIES} tries; "
        "its surfaces are too small, too crowded or out of the camera's view"
    )


def spread_arrangement(rng: Generator, layout: Layout, kinds: Sequence[str], n: int = SLOTS) -> Arrangement:
    """`n` different kinds, each on a surface drawn uniformly: high places as often as the floor."""
    chosen = [kinds[int(i)] for i in rng.choice(len(kinds), size=n, replace=False)]
    return _fill(rng, Arrangement(layout, ()), chosen)


def arrangement_for_relation(
    rng: Generator, layout: Layout, kinds: Sequence[str], wanted: Relation, n: int = SLOTS, min_margin_deg: float = 0.0
) -> Arrangement | None:
    """A random arrangement in which slot 0 stands in `wanted` to slot 1; None when none was found."""
    frame = camera_frame(layout.camera)
    points = random_points(rng, layout, _CANDIDATES)
    seen = frame.to_camera(points)
    offsets = (seen[:, None] - seen[None]).reshape(-1, 3)
    pairs = rng.permutation(np.flatnonzero(relation_indices(offsets) == wanted.index))
    chosen = [kinds[int(i)] for i in rng.choice(len(kinds), size=n, replace=False)]
    pairs = pairs[:40]
    for pair in pairs[margins_deg(offsets[pairs]) >= min_margin_deg]:
        a, b = points[pair // _CANDIDATES], points[pair % _CANDIDATES]
        arrangement = Arrangement(layout, ())
        for kind, point in zip(chosen[:2], (a, b), strict=True):
            arrangement = _with_object(rng, arrangement, kind, point) or arrangement
        if len(arrangement.objects) == 2:
            try:
                return _fill(rng, arrangement, chosen[2:])
            except UserError:
                continue
    return None


def _fill(rng: Generator, arrangement: Arrangement, kinds: Sequence[str]) -> Arrangement:
    layout = arrangement.layout
    for kind in kinds:
        for point in random_points(rng, layout, _TRIES):
            filled = _with_object(rng, arrangement, kind, point)
            if filled is not None:
                arrangement = filled
                break
        else:
            raise no_place(layout, kind)
    return arrangement


def _with_object(rng: Generator, arrangement: Arrangement, kind: str, point: FloatArray) -> Arrangement | None:
    """The arrangement with one more object, its base at `point` (3,); None when that is not feasible."""
    slot = len(arrangement.objects)
    thing = ActiveObject(kind, (float(point[0]), float(point[1]), float(point[2])), _yaw(rng))
    if _fits(arrangement, slot, thing) and check(arrangement, slot, thing, load_catalog()[kind]) is None:
        return Arrangement(arrangement.layout, (*arrangement.objects, thing))
    return None


def _fits(arrangement: Arrangement, slot: int, thing: ActiveObject) -> bool:
    """Whether the object stands on a surface with room for it."""
    x, y, z = thing.position
    kind = load_catalog()[thing.kind]
    return any(abs(s.z - z) < 1e-6 for s in free_surfaces_at(arrangement.layout, kind, x, y))


def _yaw(rng: Generator) -> float:
    return float(rng.uniform(0, 2 * np.pi))
