"""The few shapes rooms are made of, with texture coordinates in meters, and the kit that collects parts."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from rls3_gym.backends.embedded.meshes import Mesh, Part, join, transform
from rls3_gym.scene.furniture import TURNS, Box, Local, local
from rls3_gym.scene.rooms import Color, Piece


def slab(box: Box) -> Mesh:
    """An axis-aligned box, 12 triangles; one texture repeat per meter on each side."""
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
    return Mesh(
        np.concatenate(vertices).astype(np.float32),
        faces.astype(np.int32),
        np.concatenate(normals).astype(np.float32),
        np.concatenate(uvs).astype(np.float32),
    )


def cushion(box: Box, roundness: float = 0.35, across: int = 14) -> Mesh:
    """A box with soft edges and corners (a superellipsoid), 2 * across**2 triangles."""
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


class Kit:
    """Collects the parts of one piece in the piece's own frame (see scene/furniture.py)."""

    def __init__(self, piece: Piece) -> None:
        self.piece = piece
        self.size: Local = local(piece)
        self._parts: list[Part] = []

    def add(self, mesh: Mesh, color: Color, texture: str | None = None, specular: float = 0.05) -> None:
        self._parts.append(Part(mesh, color, texture, specular))

    def boxes(self, boxes: Iterable[Box], color: Color, texture: str | None = None, specular: float = 0.05) -> None:
        """Several boxes that look alike as one part; an empty list adds nothing."""
        slabs = [slab(box) for box in boxes]
        if slabs:
            self.add(join(slabs), color, texture, specular)

    def parts(self) -> tuple[Part, ...]:
        """The parts in world coordinates."""
        p = self.piece
        turn = 90.0 * TURNS[self.size.options.get("facing", "front")]
        return tuple(
            Part(transform(part.mesh, (p.x, p.y, p.z), (0.0, 0.0, turn)), part.color, part.texture, part.specular)
            for part in self._parts
        )


def shade(color: Color, factor: float) -> Color:
    """The color made darker (below 1) or lighter."""
    r, g, b = (min(1.0, c * factor) for c in color)
    return (r, g, b)
