"""The rules of placing an object, each written once for one object and for many.

A rule takes numbers or arrays that broadcast, and gives a bool or an array of bool. What is the same along x and
along y is a rule of one coordinate: arrays may hold both. The rules use comparisons, sums, differences, products,
absolute values, minimum and maximum only: those are the same to the last bit for a number and for an entry of an array,
so `place` (one edit) and `place_many` (many) cannot disagree. Meters, world frame, z up.
"""

from __future__ import annotations

import math
from typing import Any, Protocol, TypeAlias

import numpy as np

from rls3_gym.scene.camera import CameraFrame, FloatArray
from rls3_gym.scene.rooms import Layout, Solid, Surface

Number: TypeAlias = float | FloatArray
Truth: TypeAlias = Any
"""A bool when all arguments are numbers, else an array of bool."""
Distance: TypeAlias = Any
"""A number when all arguments are numbers, else an array of them."""

VIEW_LIMIT = 0.97
"""An object's base and top must project within this share of the half picture."""
NEAREST = 0.1
"""And be farther than this from the camera along its optical axis, meters."""
OVERHANG = 0.5
"""Share of its footprint radius by which an object may reach over the edge of the furniture it stands on."""
CONTACT = 1e-3
"""An object that reaches into a solid by no more than this from above or below touches it only, meters."""


class Heights(Protocol):
    """Where a solid begins and ends, or the columns of many."""

    @property
    def z0(self) -> Number: ...
    @property
    def z1(self) -> Number: ...


def carries(surface: Surface, radius: float, x: float, y: float) -> bool:
    """Whether a surface would carry an object with its center at (x, y)."""
    inset = inset_share(surface.z) * radius
    return bool(between(surface.x0, surface.x1, inset, x) and between(surface.y0, surface.y1, inset, y))


def within_walls(room: Layout, radius: float, x: float, y: float) -> bool:
    """Whether an object keeps clear of the left, right and back wall; the front is open."""
    return bool(between(room.x0, room.x1, radius, x) and between(-math.inf, room.y1, radius, y))


def reaches_over(solid: Solid, radius: float, x: float, y: float) -> bool:
    """Whether the circle around (x, y) overlaps a solid on the floor plan."""
    return bool(nearer(beyond(solid.x0, solid.x1, x), beyond(solid.y0, solid.y1, y), radius))


def inset_share(z: Number) -> Distance:
    """How far an object's center must be from the edges of a surface at height z, as a share of its radius."""
    return (1 - OVERHANG) * (z > 0)  # the floor goes on beyond the stage


def between(low: Number, high: Number, inset: Number, value: Number) -> Truth:
    """Whether a coordinate lies between two bounds, and no nearer to them than an inset."""
    return (low + inset <= value) & (value <= high - inset)


def beyond(low: Number, high: Number, value: Number) -> Distance:
    """How far a coordinate lies beyond two bounds: 0 between them, negative below the lower one."""
    if isinstance(value, float):
        return value - (low if value < low else high if value > high else value)
    return value - np.minimum(np.maximum(value, low), high)


def nearer(dx: Number, dy: Number, reach: Number) -> Truth:
    """Whether a distance, given along x and along y, is below a reach."""
    return dx * dx + dy * dy < reach * reach


def level_with(solid: Heights, z: Number, top: Number) -> Truth:
    """Whether an object from z to top is, in part, at the height of a solid."""
    return (z < solid.z1 - CONTACT) & (top > solid.z0 + CONTACT)


def clear_of(
    position: tuple[Number, Number, Number],
    radius: Number,
    height: Number,
    other: tuple[Number, Number, Number],
    other_radius: Number,
    other_height: Number,
) -> Truth:
    """Whether the cylinders around two objects are apart: beside each other, or one above the other."""
    (x, y, z), (other_x, other_y, other_z) = position, other
    dx, dy, reach = x - other_x, y - other_y, radius + other_radius
    return (dx * dx + dy * dy >= reach * reach) | (z >= other_z + other_height) | (other_z >= z + height)


def in_view(camera: CameraFrame, height: Number, x: Number, y: Number, z: Number) -> Truth:
    """Whether the camera sees the center of an object's base and that of its top."""
    base, top = z, z + height
    if isinstance(z, float):
        return _point_in_view(camera, x, y, base) and _point_in_view(camera, x, y, top)
    return _point_in_view(camera, x, y, np.array((base, top))).all(axis=0)


def _point_in_view(camera: CameraFrame, x: Number, y: Number, z: Number) -> Truth:
    right, up, forward = camera.along_axes(x, y, z)
    limit = VIEW_LIMIT * camera.half_width * forward
    return (forward > NEAREST) & (abs(right) <= limit) & (abs(up) <= limit)
