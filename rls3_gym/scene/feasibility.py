"""Feasibility of many edits at once: what `place` finds for one, as arrays; free places near a wanted one; and where
in a room objects can stand at all. Meters, world frame, z up.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rls3_gym.scene import rules
from rls3_gym.scene.arrangement import RELEASE_HEIGHT, Arrangement, Edit, place
from rls3_gym.scene.camera import CameraFrame, FloatArray, camera_frame
from rls3_gym.scene.catalog import load_catalog
from rls3_gym.scene.rooms import Layout

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

GRID_STEP = 0.025
"""Greatest distance of neighbors in the grid that `nearest_free_place` searches, meters."""
PLAN_CELLS = 12
"""Cells of `floor_plan` along x and along y."""
SLIM_RADIUS, TYPICAL_RADIUS, TYPICAL_HEIGHT = 0.1, 0.17, 0.3
"""Sizes of the objects `floor_plan` is made for, meters: the least radius of the catalog, and about its medians."""
_NEAREST_AT_ONCE = 512
_PLAN_POINTS = 4  # a cell, along x and along y


class Rectangles(NamedTuple):
    """Where on the floor plan an object's center may be. The second axis is x and y; columns, to hold against many."""

    low: FloatArray
    """(rectangles, 2, 1)"""
    high: FloatArray
    """(rectangles, 2, 1)"""
    inset_share: FloatArray
    """(rectangles, 1): how far from the edges, as a share of the object's radius."""


class SurfaceColumns(NamedTuple):
    """A room's surfaces, (surfaces, 1) each."""

    z: FloatArray
    clearance: FloatArray


class SolidColumns(NamedTuple):
    """A room's solids."""

    low: FloatArray
    """(solids, 2, 1): x and y."""
    high: FloatArray
    """(solids, 2, 1): x and y."""
    z0: FloatArray
    """(solids, 1)"""
    z1: FloatArray
    """(solids, 1)"""


class RoomArrays(NamedTuple):
    """What the rules need of a layout."""

    rectangles: Rectangles
    """The stage, the walls, and the surfaces."""
    surfaces: SurfaceColumns
    solids: SolidColumns
    camera: CameraFrame


@lru_cache(maxsize=512)
def room_arrays(layout: Layout) -> RoomArrays:
    """The arrays of a layout, kept for the layouts used last."""
    x0, x1, y0, y1 = layout.stage
    stage, walls = (x0, y0, x1, y1, 0.0), (layout.x0, -np.inf, layout.x1, layout.y1, 1.0)  # the front is open
    surfaces = [(s.x0, s.y0, s.x1, s.y1, rules.inset_share(s.z)) for s in layout.surfaces]
    places = np.array([stage, walls, *surfaces])[:, :, None]
    levels = np.array([(s.z, s.clearance) for s in layout.surfaces]).reshape(-1, 2)[:, :, None]
    solids = np.array([(s.x0, s.y0, s.x1, s.y1, s.z0, s.z1) for s in layout.solids]).reshape(-1, 6)[:, :, None]
    return RoomArrays(
        Rectangles(places[:, 0:2], places[:, 2:4], places[:, 4]),
        SurfaceColumns(levels[:, 0], levels[:, 1]),
        SolidColumns(solids[:, 0:2], solids[:, 2:4], solids[:, 4], solids[:, 5]),
        camera_frame(layout.camera),
    )


def place_many(
    arrangement: Arrangement,
    slots: IntArray,
    radii: FloatArray,
    heights: FloatArray,
    at: FloatArray,
    levels: FloatArray,
) -> tuple[FloatArray, BoolArray]:
    """The outcomes `place` would have for n edits, each of `arrangement` as it stands.

    Args:
        arrangement: the scene before the edits.
        slots: (n,) the slot each edit fills.
        radii: (n,) the footprint radius of each edit's object, meters.
        heights: (n,) the height of each edit's object, meters.
        at: (2, n) x and y, meters.
        levels: (n,) 0..1, as `Edit.level`.

    Returns:
        (n,) height of the surface each object comes to rest on, meters, NaN where there is none; and (n,) whether the
        edit is feasible.
    """
    z, stands = rest_many(arrangement.layout, radii, heights, at, levels)
    clear = clear_of_objects(arrangement, radii, heights, at, z)
    clear |= slots == np.arange(len(clear))[:, None]
    return z, stands & clear.all(axis=0)


def rest_many(
    layout: Layout, radii: FloatArray, heights: FloatArray, at: FloatArray, levels: FloatArray
) -> tuple[FloatArray, BoolArray]:
    """What the other objects have no part in: where each object comes to rest, and whether it may stand there.

    Arguments and results are those of `place_many`.
    """
    room = room_arrays(layout)
    inside, free = _free_surfaces(room, radii, heights, at, levels)
    z = np.fmax.reduce(np.where(free, room.surfaces.z, np.nan), axis=0, initial=np.nan)
    inside &= rules.in_view(room.camera, heights, at[0], at[1], z)  # where there is no surface, z is NaN: not in view
    return z, inside


def clear_of_objects(
    arrangement: Arrangement, radii: FloatArray, heights: FloatArray, at: FloatArray, z: FloatArray
) -> BoolArray:
    """(slots, n) whether each object keeps clear of the one in each slot. Arguments as those of `place_many`; z: (n,)
    height at which each object stands, meters."""
    radius, height, *position = object_columns(arrangement)[:, :, None]
    return np.asarray(rules.clear_of((at[0], at[1], z), radii, heights, tuple(position), radius, height))


def object_columns(arrangement: Arrangement) -> FloatArray:
    """(5, slots) radius, height, and x, y, z of the base of each object, meters."""
    catalog, objects = load_catalog(), arrangement.objects
    sizes = [(catalog[thing.kind].radius, catalog[thing.kind].height, *thing.position) for thing in objects]
    return np.array(sizes).reshape(-1, 5).T


def _free_surfaces(
    room: RoomArrays, radii: FloatArray, heights: FloatArray, at: FloatArray, levels: FloatArray
) -> tuple[BoolArray, BoolArray]:
    """(n,) whether each object is on the stage and clear of the walls, and (surfaces, n) which surfaces it reaches when
    let go and has room on. `at`: (2, n) x and y."""
    low, high, inset_share = room.rectangles
    along_both = rules.between(low, high, (inset_share * radii)[:, None], at)
    inside = along_both[:, 0] & along_both[:, 1]
    free, (z, clearance) = inside[2:], room.surfaces
    free &= z <= levels * RELEASE_HEIGHT
    free &= heights <= clearance
    # An object reaches few of a room's surfaces: the solids are looked at for those alone.
    below, objects = free.nonzero()
    solids, base = room.solids, z[below, 0]
    beyond = rules.beyond(solids.low, solids.high, at)
    in_the_way = rules.nearer(beyond[:, 0], beyond[:, 1], radii)[:, objects]
    in_the_way &= rules.level_with(solids, base, base + heights[objects])
    free[below, objects] = ~in_the_way.any(axis=0)
    return inside[0] & inside[1], free


def stage_grid(layout: Layout) -> tuple[FloatArray, FloatArray]:
    """x (n,) and y (n,) of a grid over the stage's rectangle, edges included, at most `GRID_STEP` apart."""
    x0, x1, y0, y1 = layout.stage
    xs, ys = (np.linspace(low, high, int(np.ceil((high - low) / GRID_STEP)) + 1) for low, high in ((x0, x1), (y0, y1)))
    x, y = np.meshgrid(xs, ys)
    return x.ravel(), y.ravel()


def nearest_free_place(
    arrangement: Arrangement, slot: int, kind: str, x: float, y: float, level: float
) -> tuple[float, float] | None:
    """Where the edit (slot, kind, level) is feasible: at (x, y) itself, or at the nearest feasible point of
    `stage_grid` (of equally near ones the first). None when no point of the grid is feasible."""
    if place(arrangement, Edit(slot, kind, x, y, level, yaw=0.0)).feasible:
        return x, y
    grid_x, grid_y = stage_grid(arrangement.layout)
    size = load_catalog()[kind]
    for nearest in _in_order((grid_x - x) ** 2 + (grid_y - y) ** 2):
        at = np.array((grid_x[nearest], grid_y[nearest]))
        slots, radii, heights, levels = (np.full(len(nearest), v) for v in (slot, size.radius, size.height, level))
        free = np.flatnonzero(place_many(arrangement, slots, radii, heights, at, levels)[1])
        if free.size:
            return float(at[0, free[0]]), float(at[1, free[0]])
    return None


def _in_order(distances: FloatArray) -> Iterator[IntArray]:
    """The indices of `distances` from the least to the greatest, some at a time."""
    order = np.argsort(distances, kind="stable")
    for start in range(0, len(order), _NEAREST_AT_ONCE):
        yield order[start : start + _NEAREST_AT_ONCE]


@lru_cache(maxsize=512)
def floor_plan(layout: Layout) -> NDArray[np.float32]:
    """A room seen from above: where its furniture carries objects, and where it blocks the floor.

    The active objects and the camera play no part.

    Returns:
        (cells, cells, 2) float32, read-only. Rows go along y from the front of the stage to its back, columns along
        x from left to right. [..., 0]: height of the highest surface in the cell on which a slim object has room,
        meters; 0 where that is the floor or there is none. [..., 1]: share of the cell, 0..1, where a typical object
        can't stand on the floor. (A third of the raised surfaces is too narrow
        for a typical object.)
    """
    x0, x1, y0, y1 = layout.stage
    count = PLAN_CELLS * _PLAN_POINTS
    middles = (np.arange(count) + 0.5) / count
    x, y = (v.ravel() for v in np.meshgrid(x0 + middles * (x1 - x0), y0 + middles * (y1 - y0)))
    heights, levels = np.full(x.shape, TYPICAL_HEIGHT), np.full(x.shape, np.inf)
    room = room_arrays(layout)
    slim, typical = np.full(x.shape, SLIM_RADIUS), np.full(x.shape, TYPICAL_RADIUS)
    at = np.array((x, y))
    on_any, on_floor = (_free_surfaces(room, radii, heights, at, levels)[1] for radii in (slim, typical))
    height = np.where(on_any, room.surfaces.z, 0.0).max(axis=0)
    blocked = ~on_floor[room.surfaces.z[:, 0] == 0].any(axis=0)
    cells = (PLAN_CELLS, _PLAN_POINTS, PLAN_CELLS, _PLAN_POINTS)
    plan = np.stack([height.reshape(cells).max(axis=(1, 3)), blocked.reshape(cells).mean(axis=(1, 3))], axis=-1)
    plan = plan.astype(np.float32)
    plan.setflags(write=False)
    return plan
