"""The part of a room that never moves, traced and lit once per camera and light."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rls3_gym.backends.embedded.meshes import Float32, Part
from rls3_gym.backends.embedded.rays import Camera, TriangleScene, triples
from rls3_gym.backends.embedded.shading import Shader, Surfaces, UInt8, to_bytes

FAR = np.float32(1e4)
"""Depth where a ray meets nothing, meters."""
BACKDROP = np.float32(0.02)
"""Linear gray of a ray that meets nothing."""
STATIC_IDS = 1000
"""Instance id of the first static part; ids below count movables."""


class StaticLayer:
    """The picture without movables. Samples are numbered row by row, a pixel's sub-samples next to each other."""

    def __init__(self, parts: Sequence[Part], camera: Camera, shader: Shader, size: int, supersampling: int) -> None:
        self.samples = supersampling**2
        """Sub-samples per pixel."""
        self.rays = camera.rays(size, supersampling)
        """(3, size, size, samples) unit directions."""
        self.surfaces = Surfaces.of(parts)
        self.scene = TriangleScene(self.surfaces.vertices, triples(self.surfaces.faces))
        rays = self.rays.reshape(3, -1)
        count = rays.shape[1]
        hits = self.scene.closest(camera.eye, rays)
        lit = shader.shade(self.surfaces, hits, rays.take(hits.rays, axis=1))
        shadow = self.scene.blocks(shader.light, lit.from_light, lit.range)

        self.ids: NDArray[np.int16] = np.full(count, -1, np.int16)
        """(samples of the image,) instance id."""
        self.ids[hits.rays] = STATIC_IDS + self.surfaces.part.take(hits.triangle)
        self.depth: Float32 = np.full(count, FAR, np.float32)
        """(samples of the image,) meters along the ray."""
        self.depth[hits.rays] = hits.distance
        self.ambient: Float32 = np.full((3, count), BACKDROP, np.float32)
        """(3, samples of the image) linear light of a sample in shadow."""
        self.ambient[:, hits.rays] = lit.ambient
        self.light: Float32 = self.ambient.copy()
        """(3, samples of the image) linear light."""
        self.light[:, hits.rays] += lit.direct * ~shadow
        self.rgb: UInt8 = resolve(self.light, self.samples)
        """(pixels, 3)."""

        # Only samples that the light reaches can be darkened by an object: their number, and how the light sees them.
        reached = np.flatnonzero(~shadow & (lit.direct.max(axis=0) > 0))
        self.reached = hits.rays[reached]
        self.from_light: Float32 = lit.from_light.take(reached, axis=1)
        self.range: Float32 = lit.range.take(reached)


def resolve(light: Float32, samples: int) -> UInt8:
    """sRGB bytes (pixels, 3) of linear light (3, pixels * samples): the mean over a pixel's samples, each at most 1."""
    if samples > 1:
        grouped = np.minimum(light, np.float32(1.0)).reshape(3, -1, samples)
        total = grouped[:, :, 0].copy()
        for sample in range(1, samples):
            total += grouped[:, :, sample]
        light = total * np.float32(1.0 / samples)
    return np.ascontiguousarray(to_bytes(light).T)
