"""The few shapes rooms are made of, as numbers and as meshes, and the kit that collects the parts of a piece."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rls3_gym.backends.embedded import meshes
from rls3_gym.backends.embedded.meshes import Mesh, Part, join, transform
from rls3_gym.scene.furniture import TURNS, Box, Local, local
from rls3_gym.scene.rooms import Color, Piece

Vector = tuple[float, float, float]
_ORIGIN: Vector = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Shape:
    """A shape as numbers: the tracer makes a mesh of it, and another engine builds its own from the same numbers.

    It is scaled, then turned about x, y and z, then moved, as by `meshes.transform`.
    """

    name: str
    """slab, cushion, lathe, cylinder or sphere."""
    arguments: Mapping[str, Any]
    translate: Vector = _ORIGIN
    rotate_deg: Vector = _ORIGIN
    scale: float = 1.0

    def moved(self, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Shape:
        """The shape at another place, meters."""
        return replace(self, translate=(x, y, z))

    def mesh(self) -> Mesh:
        """The shape as triangles."""
        mesh = _MESH_OF[self.name](**self.arguments)
        if self.rotate_deg == _ORIGIN and self.scale == 1.0:
            return mesh.moved(*self.translate)
        return transform(mesh, self.translate, self.rotate_deg, self.scale)


@dataclass(frozen=True)
class ShapedPart:
    """Shapes that look alike: color (sRGB, 0..1), texture by name, specular strength 0..1."""

    shapes: tuple[Shape, ...]
    color: Color
    texture: str | None = None
    specular: float = 0.05

    def part(self) -> Part:
        """The shapes as one mesh."""
        return Part(join([shape.mesh() for shape in self.shapes]), self.color, self.texture, self.specular)


def slab(box: Box, pattern: tuple[float, float] | None = None) -> Shape:
    """An axis-aligned box. A texture repeats once per meter; or once over a `pattern` of that width and depth,
    which lies centered on the origin."""
    return Shape("slab", {"box": box} if pattern is None else {"box": box, "pattern": pattern})


def cushion(box: Box, roundness: float = 0.35, across: int = 14) -> Shape:
    """A box with soft edges and corners (a superellipsoid)."""
    return Shape("cushion", {"box": box, "roundness": roundness, "across": across})


def lathe(profile: Sequence[tuple[float, float]], segments: int = 20) -> Shape:
    """As `meshes.lathe`."""
    return Shape("lathe", {"profile": tuple(profile), "segments": segments})


def cylinder(radius: float, height: float, top_radius: float | None = None, segments: int = 20) -> Shape:
    """As `meshes.cylinder`."""
    top = radius if top_radius is None else top_radius
    return Shape("cylinder", {"radius": radius, "height": height, "top_radius": top, "segments": segments})


def sphere(radii: Vector, segments: int = 16) -> Shape:
    """As `meshes.sphere`."""
    return Shape("sphere", {"radii": radii, "segments": segments})


def _slab_mesh(box: Box, pattern: tuple[float, float] | None = None) -> Mesh:
    """12 triangles."""
    low, high = np.array(box[0::2], np.float64), np.array(box[1::2], np.float64)
    vertices, normals, uvs = [], [], []
    for axis in range(3):
        a, b = [i for i in range(3) if i != axis]
        for end, sign in ((low, -1.0), (high, 1.0)):
            corners = np.tile(end, (4, 1))
            corners[:, a] = np.array([low[a], high[a], high[a], low[a]])
            corners[:, b] = np.array([low[b], low[b], high[b], high[b]])
            # (a, b, axis) is left-handed for the y axis; the order of corners makes up for it.
            if (sign > 0) == (axis == 1):
                corners = corners[::-1]
            normal = np.zeros(3)
            normal[axis] = sign
            vertices.append(corners)
            normals.append(np.tile(normal, (4, 1)))
            uvs.append(corners[:, [a, b]])
    faces = np.concatenate([np.array([[0, 1, 2], [0, 2, 3]]) + 4 * side for side in range(6)])
    points = np.concatenate(vertices).astype(np.float32)
    uv = np.concatenate(uvs) if pattern is None else points[:, :2] / pattern + 0.5
    return Mesh(points, faces.astype(np.int32), np.concatenate(normals).astype(np.float32), uv.astype(np.float32))


def _cushion_mesh(box: Box, roundness: float, across: int) -> Mesh:
    """4 * across**2 triangles."""
    turn = np.linspace(-np.pi, np.pi, 2 * across + 1)
    tilt = np.linspace(-np.pi / 2, np.pi / 2, across + 1)
    t, p = np.meshgrid(turn, tilt)

    def power(value: NDArray[np.float64], exponent: float) -> NDArray[np.float64]:
        return np.asarray(np.sign(value) * np.abs(value) ** exponent)

    directions = np.stack([np.cos(p) * np.cos(t), np.cos(p) * np.sin(t), np.sin(p)], -1)
    e = roundness
    points = np.stack(
        [power(np.cos(p), e) * power(np.cos(t), e), power(np.cos(p), e) * power(np.sin(t), e), power(np.sin(p), e)], -1
    )
    low, high = np.array(box[0::2]), np.array(box[1::2])
    half = (high - low) / 2
    # The normal of |x|^(2/e) + |y|^(2/e) + |z|^(2/e) = 1, with some of the sphere's to stay smooth at the edges.
    normals = np.sign(points) * np.abs(points) ** (2 / e - 1) / half + 0.15 * directions
    normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-9)
    vertices = (points * half + (low + high) / 2).reshape(-1, 3)
    rows, columns = t.shape
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]
    faces = np.concatenate([np.stack([a, b, c], -1).reshape(-1, 3), np.stack([a, c, d], -1).reshape(-1, 3)])
    uv = vertices[:, :2] + vertices[:, 2:] * 0.5
    return Mesh(
        vertices.astype(np.float32),
        faces.astype(np.int32),
        normals.reshape(-1, 3).astype(np.float32),
        uv.astype(np.float32),
    )


_MESH_OF: dict[str, Callable[..., Mesh]] = {
    "slab": _slab_mesh,
    "cushion": _cushion_mesh,
    "lathe": meshes.lathe,
    "cylinder": meshes.cylinder,
    "sphere": meshes.sphere,
}


class Kit:
    """Collects the parts of one piece in the piece's own frame (see scene/furniture.py)."""

    def __init__(self, piece: Piece) -> None:
        self.piece = piece
        self.size: Local = local(piece)
        self.parts: list[ShapedPart] = []

    def add(self, shape: Shape, color: Color, texture: str | None = None, specular: float = 0.05) -> None:
        self.parts.append(ShapedPart((shape,), color, texture, specular))

    def boxes(self, boxes: Iterable[Box], color: Color, texture: str | None = None, specular: float = 0.05) -> None:
        """Several boxes that look alike as one part; an empty list adds nothing."""
        slabs = tuple(slab(box) for box in boxes)
        if slabs:
            self.parts.append(ShapedPart(slabs, color, texture, specular))


def turn_deg(piece: Piece) -> float:
    """By how much a piece is turned in its room, counter-clockwise seen from above, degrees."""
    return 90.0 * TURNS[dict(piece.options).get("facing", "front")]


def in_room(piece: Piece, part: ShapedPart) -> Part:
    """A part of a piece in world coordinates."""
    made = part.part()
    mesh = transform(made.mesh, (piece.x, piece.y, piece.z), (0.0, 0.0, turn_deg(piece)))
    return replace(made, mesh=mesh)


def shade(color: Color, factor: float) -> Color:
    """The color made darker (below 1) or lighter."""
    r, g, b = (min(1.0, c * factor) for c in color)
    return (r, g, b)
