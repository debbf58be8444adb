"""The tracer's reference: one scene of the room and its movables, nothing reused from an earlier capture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rls3_gym.backends.embedded.meshes import Float32
from rls3_gym.backends.embedded.movable_layer import Movable
from rls3_gym.backends.embedded.rays import Camera, TriangleScene, triples
from rls3_gym.backends.embedded.shading import Shader, Surfaces, UInt8
from rls3_gym.backends.embedded.static_layer import BACKDROP, FAR, STATIC_IDS, StaticLayer, resolve


def picture(
    movables: Sequence[Movable], static: StaticLayer, camera: Camera, shader: Shader
) -> tuple[UInt8, NDArray[np.int16], Float32]:
    """Bytes (pixels, 3), instance ids and depth (samples of the image,), with every ray cast and every hit lit."""
    surfaces = _together([static.surfaces, *(movable.surfaces() for movable in movables)])
    scene = TriangleScene(surfaces.vertices, triples(surfaces.faces))
    rays = static.rays.reshape(3, -1)
    hits = scene.closest(camera.eye, rays)
    lit = shader.shade(surfaces, hits, rays.take(hits.rays, axis=1))
    light = np.full(rays.shape, BACKDROP, np.float32)
    light[:, hits.rays] = lit.ambient + lit.direct * ~scene.blocks(shader.light, lit.from_light, lit.range)
    depth = np.full(rays.shape[1], FAR, np.float32)
    depth[hits.rays] = hits.distance
    names = np.concatenate(
        [STATIC_IDS + np.arange(len(static.surfaces.textures))]
        + [np.full(len(movable.geometry.parts), index) for index, movable in enumerate(movables)]
    )
    ids = np.full(rays.shape[1], -1, np.int16)
    ids[hits.rays] = names[surfaces.part[hits.triangle]]
    return resolve(light, static.samples), ids, depth


def own_samples(movables: Sequence[Movable], static: StaticLayer, camera: Camera) -> NDArray[np.int64]:
    """(k,) samples that each movable covers when it is alone."""
    counts = []
    for movable in movables:
        surfaces = movable.surfaces()
        y0, y1, x0, x1 = camera.screen_box(movable.box_corners(), static.rays.shape[1])
        rays = static.rays[:, y0:y1, x0:x1].reshape(3, -1)
        counts.append(len(TriangleScene(surfaces.vertices, triples(surfaces.faces)).closest(camera.eye, rays).rays))
    return np.array(counts, np.int64)


def _together(several: Sequence[Surfaces]) -> Surfaces:
    vertices = np.cumsum([0] + [len(surfaces.vertices) for surfaces in several])
    parts = np.cumsum([0] + [len(surfaces.textures) for surfaces in several])
    return Surfaces(
        vertices=np.concatenate([surfaces.vertices for surfaces in several]),
        faces=np.concatenate([surfaces.faces + start for surfaces, start in zip(several, vertices, strict=False)]),
        corners=np.concatenate([surfaces.corners for surfaces in several], axis=2),
        part=np.concatenate([surfaces.part + start for surfaces, start in zip(several, parts, strict=False)]),
        color=np.concatenate([surfaces.color for surfaces in several], axis=1),
        specular=np.concatenate([surfaces.specular for surfaces in several]),
        textures=tuple(name for surfaces in several for name in surfaces.textures),
    )
