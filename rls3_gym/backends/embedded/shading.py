"""How a surface point looks: its color and texture, the point light on it, and the step from light to sRGB bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rls3_gym.backends.embedded.meshes import Float32, Int32, Part
from rls3_gym.backends.embedded.rays import Hits
from rls3_gym.scene.rooms import Light
from rls3_registry.errors import UserError, unknown

TEXTURE_SIZE = 256
_SHADOW_OFFSET = np.float32(1e-3)
"""Meters by which a point is lifted off its surface before the shadow ray from the light is cast."""
_MERGE_DECIMALS = 6
"""Corners that agree to a micrometer become one vertex: that halves the time Embree takes to build a scene."""
_BYTE_STEPS = 4096

UInt8 = NDArray[np.uint8]


def to_linear(srgb: NDArray[np.floating]) -> Float32:
    """sRGB values in 0..1 as linear light, float32."""
    value = np.asarray(srgb, np.float64)
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4).astype(np.float32)


def _srgb_table() -> UInt8:
    light = np.arange(_BYTE_STEPS + 1) / _BYTE_STEPS
    srgb = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    return (srgb * 255.0 + 0.5).astype(np.uint8)


_LINEAR_OF_BYTE = to_linear(np.arange(256) / 255.0)
_BYTE_OF_LINEAR = _srgb_table()


def to_bytes(light: Float32) -> UInt8:
    """Linear light (any shape, >= 0) as sRGB bytes; light above 1 is white."""
    steps: Int32 = (np.minimum(light, np.float32(1.0)) * np.float32(_BYTE_STEPS)).astype(np.int32)
    return _BYTE_OF_LINEAR.take(steps)


def dot(a: Float32, b: Float32) -> Float32:
    """(n,) scalar products of (3, n) vectors. Written out: BLAS may round differently with other thread counts."""
    product: Float32 = a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
    return product


def _unit(vectors: Float32, towards: Float32) -> Float32:
    """(3, n) vectors at unit length, each turned about where it points away from its `towards` (3, n)."""
    length: Float32 = np.maximum(np.sqrt(dot(vectors, vectors)), np.float32(1e-12))
    length[dot(vectors, towards) < 0] *= -1
    return vectors / length


class Textures:
    """Images by name, which surfaces repeat over themselves; the images are shared, not copied."""

    def __init__(self, images: Mapping[str, UInt8]) -> None:
        side = TEXTURE_SIZE
        for name, image in images.items():
            if image.shape != (side, side, 3) or image.dtype != np.uint8:
                raise UserError(
                    f"texture {name!r} is {image.dtype} {image.shape}; it must be uint8 ({side}, {side}, 3)"
                )
        self._texels = {name: np.ascontiguousarray(image).reshape(-1, 3) for name, image in images.items()}

    def look_up(self, name: str, u: Float32, v: Float32) -> Float32:
        """Linear color (3, n) of the nearest texel; `u` runs along columns, `v` along rows, both in repeats."""
        if name not in self._texels:
            raise unknown("texture", name, self._texels)
        column = np.floor(u * np.float32(TEXTURE_SIZE)).astype(np.int32) & (TEXTURE_SIZE - 1)
        row = np.floor(v * np.float32(TEXTURE_SIZE)).astype(np.int32) & (TEXTURE_SIZE - 1)
        texel = self._texels[name].take(row * TEXTURE_SIZE + column, axis=0)
        color: Float32 = _LINEAR_OF_BYTE.take(texel.T)
        return color


@dataclass(frozen=True, eq=False)
class Surfaces:
    """Triangles of several parts as one soup, with what shading needs of each."""

    vertices: Float32
    """(n, 3) meters; corners that coincide are one vertex."""
    faces: Int32
    """(m, 3)."""
    corners: Float32
    """(3, 5, m): of each corner of each triangle, its normal (3) and its texture coordinates (2)."""
    part: Int32
    """(m,) which part a triangle belongs to."""
    color: Float32
    """(3, parts) linear."""
    specular: Float32
    """(parts,)."""
    textures: tuple[str | None, ...]
    """Name of each part's texture."""

    @staticmethod
    def of(parts: Sequence[Part]) -> Surfaces:
        """Merge `parts` (at least one)."""
        meshes = [part.mesh for part in parts]
        starts = np.cumsum([0] + [len(mesh.vertices) for mesh in meshes])
        faces = np.concatenate([mesh.faces + start for mesh, start in zip(meshes, starts, strict=False)])
        points, merged = np.unique(
            np.concatenate([mesh.vertices for mesh in meshes]).round(_MERGE_DECIMALS), axis=0, return_inverse=True
        )
        attributes = np.concatenate([np.concatenate([mesh.normals, mesh.uv], axis=1) for mesh in meshes])
        return Surfaces(
            vertices=points.astype(np.float32),
            faces=merged[faces].astype(np.int32),
            corners=np.ascontiguousarray(attributes[faces].transpose(1, 2, 0), np.float32),
            part=np.repeat(np.arange(len(parts)), [len(mesh.faces) for mesh in meshes]).astype(np.int32),
            color=np.ascontiguousarray(to_linear(np.array([part.color for part in parts])).T),
            specular=np.array([part.specular for part in parts], np.float32),
            textures=tuple(part.texture for part in parts),
        )


@dataclass(frozen=True, eq=False)
class Lit:
    """Light that n points send to the eye, split by what a shadow takes away, and the points as the light sees them."""

    ambient: Float32
    """(3, n) linear light that stays in shadow."""
    direct: Float32
    """(3, n) linear light of the point light, diffuse and specular, if nothing stands in between."""
    from_light: Float32
    """(3, n) unit directions from the light to the points."""
    range: Float32
    """(n,) meters from the light to the points."""


class Shader:
    """One light and one eye on surfaces of any scene."""

    def __init__(self, eye: Float32, light: Light, textures: Textures) -> None:
        self.eye = eye
        self.light = np.array(light.position, np.float32)
        self._color = np.array(light.color, np.float32)[:, None]
        self._intensity = np.float32(light.intensity)
        self._ambient = np.float32(light.ambient)
        self._textures = textures

    def shade(self, surfaces: Surfaces, hits: Hits, rays: Float32) -> Lit:
        """Light at `hits` (of h of some rays) on `surfaces`; `rays` (3, h) are the directions of those that hit.

        Light is `albedo * (ambient * (0.7 + 0.3 n_z) + intensity * max(n.l, 0) / (1 + d^2) * color)`, and the
        specular strength times Blinn-Phong's lobe times the light's color.
        """
        one = np.float32(1.0)
        a, b, c = surfaces.corners.take(hits.triangle, axis=2)
        there = a * (one - hits.u - hits.v) + b * hits.u + c * hits.v
        facing = _unit(hits.normal, -rays)
        # Interpolated normals follow the side that is seen, whichever way the triangle is wound.
        normal = _unit(there[:3], facing)
        point = self.eye[:, None] + rays * hits.distance + facing * _SHADOW_OFFSET
        from_light = point - self.light[:, None]
        squared = dot(from_light, from_light)
        distance: Float32 = np.sqrt(squared)
        from_light /= distance
        part = surfaces.part.take(hits.triangle)
        albedo = self._albedo(surfaces, part, there[3], there[4])
        cosine: Float32 = np.maximum(-dot(normal, from_light), np.float32(0.0))
        diffuse: Float32 = cosine * self._intensity / (one + squared)
        gloss: Float32 = surfaces.specular.take(part) * _lobe(normal, -from_light - rays) * (cosine > 0)
        ambient: Float32 = albedo * (self._ambient * (np.float32(0.7) + np.float32(0.3) * normal[2]))
        return Lit(ambient, (albedo * diffuse + gloss) * self._color, from_light, distance)

    def _albedo(self, surfaces: Surfaces, part: Int32, u: Float32, v: Float32) -> Float32:
        """Linear color (3, n) of points on parts `part` (n,), texture included."""
        albedo = surfaces.color.take(part, axis=1)
        for name in sorted({name for name in surfaces.textures if name is not None}):
            textured = np.array([other == name for other in surfaces.textures])
            where = np.flatnonzero(textured.take(part))
            albedo[:, where] *= self._textures.look_up(name, u.take(where), v.take(where))
        return albedo


def _lobe(normal: Float32, half: Float32) -> Float32:
    """Blinn-Phong highlight with exponent 48, (n,); `half` (3, n) is not normalized."""
    cosine: Float32 = np.maximum(dot(normal, half), np.float32(0.0))
    squared_length: Float32 = np.maximum(dot(half, half), np.float32(1e-12))
    power: Float32 = cosine * cosine / squared_length
    for _ in range(3):
        power *= power
    return power * power * power
