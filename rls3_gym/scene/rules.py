"""The rules of placing an object, each written once for one object and for many.

A rule takes numbers or arrays that broadcast, and gives a bool or an array of bool. The rules use comparisons, sums,
differences, products, absolute values, minimum and maximum only: those are the same to the last bit for a number and
for an entry of an array, so `place` (one edit) and `place_many` (many) cannot disagree. Meters, world frame, z up.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

import numpy as np

from rls3_gym.scene.camera import CameraFrame, FloatArray

Number: TypeAlias = float | FloatArray
Truth: TypeAlias = Any
"""A bool when all arguments are numbers, else an array of bool."""

VIEW_LIMIT = 0.97
"""An object's base and top must project within this share of the half picture."""
NEAREST = 0.1
"""And be farther than this from the camera along its optical axis, meters."""
OVERHANG = 0.5
"""Share of its footprint radius by which an object may reach over the edge of the furniture it stands on."""
CONTACT = 1e-3
"""An object that reaches into a solid by no more than this from above or below touches it only, meters."""


class Rectangle(Protocol):
    """An axis-aligned rectangle of the floor plan, or the columns of many."""

    @property
    def x0(self) -> Number: ...
    @property
    def x1(self) -> Number: ...
    @property
    def y0(self) -> Number: ...
    @property
    def y1(self) -> Number: ...


class Level(Rectangle, Protocol):
    """A surface, or the columns of many."""

    @property
    def z(self) -> Number: ...


class Box(Rectangle, Protocol):
    """A solid, or the columns of many."""

    @property
    def z0(self) -> Number: ...
    @property
    def z1(self) -> Number: ...


def carries(surface: Level, radius: Number, x: Number, y: Number) -> Truth:
    """Whether a surface would carry an object with its center at (x, y)."""
    inset = (1 - OVERHANG) * radius * (surface.z > 0)  # the floor goes on beyond the stage
    return (surface.x0 + inset <= x) & (x <= surface.x1 - inset) & (surface.y0 + inset <= y) & (y <= surface.y1 - inset)


def within_walls(room: Rectangle, radius: Number, x: Number, y: Number) -> Truth:
    """Whether an object keeps clear of the left, right and back wall; the front is open."""
    return (room.x0 + radius <= x) & (x <= room.x1 - radius) & (y <= room.y1 - radius)


def reaches_over(solid: Box, radius: Number, x: Number, y: Number) -> Truth:
    """Whether the circle around (x, y) overlaps a solid on the floor plan."""
    dx, dy = x - _nearest(x, solid.x0, solid.x1), y - _nearest(y, solid.y0, solid.y1)
    return dx * dx + dy * dy < radius * radius


def _nearest(value: Number, low: Number, high: Number) -> Number:
    """The number from `low` to `high` that is nearest to a value."""
    if isinstance(low, float):
        return low if value < low else high if value > high else value
    return np.minimum(np.maximum(value, low), high)


def level_with(solid: Box, height: Number, z: Number) -> Truth:
    """Whether an object that stands at z is, in part, at the height of a solid."""
    return (z < solid.z1 - CONTACT) & (z + height > solid.z0 + CONTACT)


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
    base_seen, top_seen = _point_in_view(camera, x, y, np.array((base, top)))
    return base_seen & top_seen


def _point_in_view(camera: CameraFrame, x: Number, y: Number, z: Number) -> Truth:
    right, up, forward = camera.along_axes(x, y, z)
    limit = VIEW_LIMIT * camera.half_width * forward
    return (forward > NEAREST) & (abs(right) <= limit) & (abs(up) <= limit)
