"""One movable object at its place: the part of it that the camera could see, and the shadow it casts on the room."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rls3_gym.backends.embedded.meshes import Float32, Part
from rls3_gym.backends.embedded.rays import Camera, Hits, TriangleScene, Triples, triples
from rls3_gym.backends.embedded.shading import Lit, Shader, Surfaces
from rls3_gym.backends.embedded.static_layer import StaticLayer

Indices = NDArray[np.intp]

_CORNERS = np.array(list(itertools.product((False, True), repeat=3)))


@dataclass(frozen=True, eq=False)
class ObjectGeometry:
    """An object's parts, merged once; any number of tracers and movables may share it. Made by `prepare_object`."""

    parts: tuple[Part, ...]
    surfaces: Surfaces
    faces: Triples
    low: Float32
    high: Float32
    """(3,) bounding box about the object's own origin, meters."""


def prepare_object(parts: Sequence[Part]) -> ObjectGeometry:
    """Merge an object's parts. Their meshes are in the object's own space: origin at the base's center, z up."""
    surfaces = Surfaces.of(parts)
    return ObjectGeometry(
        tuple(parts), surfaces, triples(surfaces.faces), surfaces.vertices.min(axis=0), surfaces.vertices.max(axis=0)
    )


@dataclass(frozen=True)
class Movable:
    """An object at a place: origin (base center) in world meters, turned counter-clockwise by `yaw` radians."""

    geometry: ObjectGeometry
    position: tuple[float, float, float]
    yaw: float

    def surfaces(self) -> Surfaces:
        """The object's triangles in world space."""
        local = self.geometry.surfaces
        corners = local.corners.copy()
        corners[:, 0], corners[:, 1] = self._turned(local.corners[:, 0], local.corners[:, 1])
        return replace(local, vertices=self._to_world(local.vertices), corners=corners)

    def box_corners(self) -> Float32:
        """(8, 3) world corners of the object's bounding box."""
        low, high = self.geometry.low, self.geometry.high
        return self._to_world(np.where(_CORNERS, high, low))

    def _to_world(self, points: Float32) -> Float32:
        x, y = self._turned(points[:, 0], points[:, 1])
        return (np.stack([x, y, points[:, 2]], axis=1) + np.array(self.position, np.float32)).astype(np.float32)

    def _turned(self, x: Float32, y: Float32) -> tuple[Float32, Float32]:
        cos, sin = np.float32(np.cos(self.yaw)), np.float32(np.sin(self.yaw))
        return x * cos - y * sin, x * sin + y * cos


class LightCone:
    """The cone, seen from the light, that holds an object; a little wider than its bounding ball."""

    def __init__(self, corners: Float32, light: Float32) -> None:
        diagonal = corners[-1] - corners[0]
        self._radius = float(np.linalg.norm(diagonal)) / 2.0 * 1.001 + 1e-4
        offset = corners[0] + diagonal / 2.0 - light
        self._distance = float(np.linalg.norm(offset))
        inside = self._distance <= self._radius
        self._half_angle = np.pi if inside else float(np.arcsin(self._radius / self._distance))
        self._axis = (offset / max(self._distance, 1e-6)).astype(np.float32)

    def holds(self, from_light: Float32, distance: Float32) -> Indices:
        """Which points, in unit directions (3, n) at `distance` (n,) from the light, the object may shade."""
        threshold = np.float32(np.cos(self._half_angle) - 1e-5)
        inside = self._axis @ from_light > threshold
        inside &= distance > np.float32(self._distance - self._radius)
        return np.flatnonzero(inside)

    def may_shade(self, other: LightCone) -> bool:
        """Whether any of the object's shadow can fall on the object of the `other` cone."""
        angle = float(np.arccos(np.clip(self._axis @ other._axis, -1.0, 1.0)))
        nearer = self._distance - self._radius < other._distance + other._radius
        return nearer and angle <= self._half_angle + other._half_angle + 1e-3


@dataclass(frozen=True, eq=False)
class MovableLayer:
    """What one movable adds to the picture. Depends on the room and on itself only, never on other movables."""

    own: int
    """Samples it would cover if nothing stood before it."""
    samples: Indices
    """(h,) numbers of the samples where it is nearer than the room."""
    depth: Float32
    """(h,) meters along the ray."""
    lit: Lit
    """Light of those samples; `direct` is zero in the shadow of the room and of the object itself."""
    shadow: Indices
    """Numbers of the room samples in its shadow."""
    cone: LightCone
    scene: TriangleScene

    @staticmethod
    def trace(movable: Movable, static: StaticLayer, camera: Camera, shader: Shader) -> MovableLayer:
        """Trace `movable` inside its screen box and its light cone."""
        surfaces = movable.surfaces()
        scene = TriangleScene(surfaces.vertices, movable.geometry.faces)
        corners = movable.box_corners()
        cone = LightCone(corners, shader.light)
        y0, y1, x0, x1 = camera.screen_box(corners, static.rays.shape[1])
        rays = static.rays[:, y0:y1, x0:x1].reshape(3, -1)
        hits = scene.closest(camera.eye, rays)
        row, rest = np.divmod(hits.rays, max(1, (x1 - x0) * static.samples))
        samples = ((y0 + row) * static.rays.shape[2] + x0) * static.samples + rest
        nearer = np.flatnonzero(hits.distance < static.depth.take(samples))
        seen = _subset(hits, nearer)
        lit = shader.shade(surfaces, seen, rays.take(seen.rays, axis=1))
        reached = np.flatnonzero(lit.direct.max(axis=0) > 0)
        from_light, distance = lit.from_light.take(reached, axis=1), lit.range.take(reached)
        dark = scene.blocks(shader.light, from_light, distance)
        dark |= static.scene.blocks(shader.light, from_light, distance)
        lit.direct[:, reached[dark]] = 0
        near = cone.holds(static.from_light, static.range)
        shaded = scene.blocks(shader.light, static.from_light.take(near, axis=1), static.range.take(near))
        return MovableLayer(
            len(hits.rays), samples[nearer], seen.distance, lit, static.reached[near[shaded]], cone, scene
        )


def _subset(hits: Hits, keep: Indices) -> Hits:
    return Hits(
        rays=hits.rays[keep],
        distance=hits.distance[keep],
        triangle=hits.triangle[keep],
        u=hits.u[keep],
        v=hits.v[keep],
        normal=hits.normal.take(keep, axis=1),
    )
