"""Clutter: things that stand about in a room, that no action moves and no caption names.

Every room has a row of its own, the same in every process. They make way for the active objects: a thing is left out
of a picture where it would touch an active object or stand before one, and the next of the row comes in. So clutter
changes neither which edits are feasible nor which objects can be seen, and any arrangement can be shown with it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

import numpy as np
from numpy.random import Generator

from rls3_gym.backends.embedded import meshes
from rls3_gym.backends.embedded.meshes import Mesh, Part
from rls3_gym.backends.embedded.movable_layer import Movable, prepare_object
from rls3_gym.backends.embedded.rays import Camera
from rls3_gym.scene import rules
from rls3_gym.scene.arrangement import RELEASE_HEIGHT, Arrangement
from rls3_gym.scene.catalog import load_catalog
from rls3_gym.scene.feasibility import place_many
from rls3_gym.scene.proposals import random_points
from rls3_gym.scene.rooms import Layout

MOST_CLUTTER = 16
"""Half of a room's row: nearly all scenes leave room for so many. In 1,500 drawn scenes, 13 were shown at the least."""
_ROW = 2 * MOST_CLUTTER
_TRIES = 1000
_WIDTH = (0.06, 0.14)
"""Half of a thing's width and depth, or its radius, meters."""
_HEIGHT = (0.1, 0.34)
"""Meters; balls are as high as they are wide."""
Shape = Literal["box", "ball", "can", "cone"]
_SHAPES: tuple[Shape, ...] = get_args(Shape)
Box = tuple[int, int, int, int]
"""Rows and columns of the screen: y0, y1, x0, x1."""
_SCREEN = 512
"""Size of the picture, pixels, in which things and objects are held against each other."""


@dataclass(frozen=True, eq=False)
class Thing:
    """One thing of a room's clutter."""

    movable: Movable
    radius: float
    height: float
    """Of the cylinder around it, meters."""


@lru_cache(maxsize=256)
def room_clutter(layout: Layout) -> tuple[Thing, ...]:
    """The things of a room, in the order in which they come in; at most 32, fewer where they find no place."""
    name = int.from_bytes(hashlib.sha256(f"clutter of {layout.key}".encode()).digest()[:8], "little")
    rng = np.random.default_rng(name)
    sizes = rng.uniform((_WIDTH[0], _WIDTH[0], _HEIGHT[0]), (_WIDTH[1], _WIDTH[1], _HEIGHT[1]), (_TRIES, 3))
    shapes = rng.integers(len(_SHAPES), size=_TRIES)
    radii, heights = np.array([_cylinder(_SHAPES[n], *size) for n, size in zip(shapes, sizes, strict=True)]).T
    points = random_points(rng, layout, _TRIES)
    empty = Arrangement(layout, ())
    levels = (points[:, 2] + 1e-3) / RELEASE_HEIGHT
    z, feasible = place_many(empty, np.zeros(_TRIES, np.int64), radii, heights, points[:, :2].T, levels)
    row: list[Thing] = []
    for n in np.flatnonzero(feasible):
        at, radius, height = (float(points[n, 0]), float(points[n, 1]), float(z[n])), float(radii[n]), float(heights[n])
        if all(rules.clear_of(at, radius, height, t.movable.position, t.radius, t.height) for t in row):
            part = Part(_mesh(_SHAPES[shapes[n]], *sizes[n]), *_surface(rng))
            row.append(Thing(Movable(prepare_object([part]), at, float(rng.uniform(0, 2 * np.pi))), radius, height))
        if len(row) == _ROW:
            break
    return tuple(row)


def shown_clutter(arrangement: Arrangement, objects: Sequence[Movable], camera: Camera, count: int) -> list[Movable]:
    """The first `count` things of an arrangement's room that leave its objects alone, fewer where too few do; `objects`
    is what these are for the tracer."""
    kinds = [load_catalog()[thing.kind] for thing in arrangement.objects]
    taken = [
        (movable.position, kind.radius, kind.height, *_on_screen(movable, camera))
        for movable, kind in zip(objects, kinds, strict=True)
    ]
    shown: list[Movable] = []
    for thing in room_clutter(arrangement.layout):
        if len(shown) == count:
            break
        at = thing.movable.position
        if not all(rules.clear_of(at, thing.radius, thing.height, *other[:3]) for other in taken):
            continue
        box, nearest, _ = _on_screen(thing.movable, camera)
        if not any(nearest < farthest and _overlap(box, other) for *_, other, _, farthest in taken):
            shown.append(thing.movable)
    return shown


def _cylinder(shape: Shape, width: float, depth: float, height: float) -> tuple[float, float]:
    """Radius and height of a thing."""
    if shape == "box":
        return float(np.hypot(width, depth)), height
    return width, 2 * width if shape == "ball" else height


def _mesh(shape: Shape, width: float, depth: float, height: float) -> Mesh:
    match shape:
        case "box":
            return meshes.box((2 * width, 2 * depth, height))
        case "ball":
            return meshes.transform(meshes.sphere((width, width, width)), translate=(0.0, 0.0, width))
        case "can":
            return meshes.cylinder(width, height)
        case "cone":
            return meshes.cylinder(width, height, top_radius=0.0)


def _surface(rng: Generator) -> tuple[tuple[float, float, float], None, float]:
    """Any color, no texture, dull or a little shiny."""
    red, green, blue, specular = rng.uniform((0.05, 0.05, 0.05, 0.0), (0.95, 0.95, 0.95, 0.4))
    return (float(red), float(green), float(blue)), None, float(specular)


@lru_cache(maxsize=8192)
def _on_screen(movable: Movable, camera: Camera) -> tuple[Box, float, float]:
    """Where an object is in the picture, and between which distances from the eye, meters; all a little wider."""
    corners = movable.box_corners()
    middle, reach = corners.mean(axis=0), float(np.linalg.norm(corners[-1] - corners[0])) / 2
    distance = float(np.linalg.norm(middle - camera.eye))
    return camera.screen_box(corners, _SCREEN), distance - reach, distance + reach


def _overlap(one: Box, other: Box) -> bool:
    """Whether two boxes of the screen have a pixel in common."""
    return one[0] < other[1] and other[0] < one[1] and one[2] < other[3] and other[2] < one[3]
