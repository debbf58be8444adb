"""Shapes that objects and furniture are built from. Meters, z up, outward normals, uv 0..1 over each surface.

Lathes, cylinders and boxes stand on z = 0, centered on the z axis; spheres and tori are centered on the origin.
A corner bent by more than `CREASE` degrees stays sharp, a gentler one is shaded round.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

CREASE = 45.0
Plane = Literal["xy", "xz", "yz"]
Vector = Sequence[float]
_Float = NDArray[np.float64]


def lathe(profile: Sequence[Vector], segments: int = 20, smooth: bool = True) -> Mesh:
    """A profile of (radius, z) points turned about the z axis.

    Walk the profile so that the outside is on the right: up an outer wall, inwards over a top, down an inner
    wall. `segments` facets go round; `smooth=False` leaves every facet flat (a pyramid is a lathe of 4).
    Raises `ValueError` for fewer than two different points, a negative radius or fewer than 3 segments.
    """
    points = _distinct(np.asarray(profile, np.float64))
    if points.shape[1] != 2 or points[:, 0].min() < 0 or segments < 3:
        raise ValueError("a lathe needs (radius, z) points with radius >= 0, and at least 3 segments")
    starts, ends = _band_normals(points)
    turn = np.linspace(0.0, 2 * np.pi, segments + 1)
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    along /= along[-1]
    bands = []
    for i in range(len(points) - 1):
        rim, tilt = points[i : i + 2], np.stack([starts[i], ends[i]])
        uv = np.stack(np.meshgrid(turn / (2 * np.pi), along[i : i + 2], indexing="ij"), -1)
        bands.append(_grid(_turned(rim, turn), _turned(tilt, turn), uv))
    mesh = join(bands)
    return mesh if smooth else _faceted(mesh)


def cylinder(radius: float, height: float, top_radius: float | None = None, segments: int = 20) -> Mesh:
    """A closed cylinder standing on z = 0; a frustum with `top_radius`, a cone when that is 0."""
    top = radius if top_radius is None else top_radius
    return lathe([(0.0, 0.0), (radius, 0.0), (top, height), (0.0, height)], segments)


def sphere(radii: Vector, segments: int = 16) -> Mesh:
    """An ellipsoid about the origin with the given half axes along x, y, z."""
    angle = np.linspace(-np.pi / 2, np.pi / 2, segments // 2 + 1)
    radius = np.cos(angle)
    radius[[0, -1]] = 0.0
    return transform(lathe(np.stack([radius, np.sin(angle)], 1).tolist(), segments), scale=radii)


def box(size: Vector) -> Mesh:
    """A box of the given size along x, y, z, standing on z = 0."""
    sides = []
    for axis in range(3):
        for sign in (-1.0, 1.0):
            normal = np.zeros(3)
            normal[axis] = sign
            first = np.roll(np.array([1.0, 0.0, 0.0]), axis + 1)
            second = np.cross(normal, first)
            corners = [[normal + a * first + b * second for b in (-1, 1)] for a in (-1, 1)]
            uv = [[(a, b) for b in (0, 1)] for a in (0, 1)]
            sides.append(_grid(np.array(corners), np.tile(normal, (2, 2, 1)), np.array(uv)))
    half = np.asarray(size, np.float64) / 2
    return transform(join(sides), translate=(0.0, 0.0, float(half[2])), scale=half.tolist())


def torus(
    radius: float, tube_radius: float, arc_deg: Vector = (0.0, 360.0), plane: Plane = "xy", segments: int = 16
) -> Mesh:
    """A ring about the origin in a plane, or the arc of it between two angles (a handle; its ends stay open).

    Angles run from the plane's first axis to its second. `segments` facets are spent on a full turn.
    """
    start, stop = np.radians(arc_deg)
    steps = max(4, math.ceil(abs(stop - start) / (2 * np.pi) * segments)) + 1
    first, second = (np.eye(3)["xyz".index(axis)] for axis in plane)
    third = np.cross(first, second)
    angle = np.linspace(start, stop, steps)
    outward = np.outer(np.cos(angle), first) + np.outer(np.sin(angle), second)
    turn = np.linspace(0.0, 2 * np.pi, 9)
    normals = np.cos(turn)[None, :, None] * outward[:, None] + np.sin(turn)[None, :, None] * third
    vertices = radius * outward[:, None] + tube_radius * normals
    uv = np.stack(np.meshgrid(np.linspace(0, 1, steps), turn / (2 * np.pi), indexing="ij"), -1)
    return _grid(vertices, normals, uv)


def tube(points: Sequence[Vector], radius: float | Vector, segments: int = 10) -> Mesh:
    """A closed pipe along a polyline; `radius` may be one number or one per point.

    Raises `ValueError` for fewer than two different points or a list of radii that does not fit them.
    """
    path = np.asarray(points, np.float64)
    radii = np.full(len(path), radius) if np.ndim(radius) == 0 else np.asarray(radius, np.float64)
    steps = np.diff(path, axis=0)
    length = np.linalg.norm(steps, axis=1)
    if len(path) < 2 or radii.shape != (len(path),) or length.min() <= 0:
        raise ValueError("a tube needs at least two different points, and one radius or one per point")
    forward = _unit(steps)
    tangents = _unit(np.concatenate([forward[:1], forward[:-1] + forward[1:], forward[-1:]]))
    side = np.cross(tangents[0], np.eye(3)[np.argmin(np.abs(tangents[0]))])
    turn = np.linspace(0.0, 2 * np.pi, segments + 1)
    slope = np.diff(radii) / length
    slope = np.concatenate([slope[:1], (slope[:-1] + slope[1:]) / 2, slope[-1:]])
    rings, normals = [], []
    # At a bend a ring is cut across at half the angle, so it is longer on the bend's plane (at most twice).
    bends = _unit(np.concatenate([np.zeros((1, 3)), np.diff(forward, axis=0), np.zeros((1, 3))]))
    half_cos = np.concatenate([[1.0], (forward[1:] * tangents[1:-1]).sum(1), [1.0]])
    stretches = 1 / np.maximum(half_cos, 0.5) - 1
    rows = zip(path, tangents, bends, stretches, radii, slope, strict=True)
    for point, tangent, bend, stretch, r, lean in rows:
        # Carrying the side vector along the path keeps the pipe from twisting at its bends.
        side = _unit(side - tangent * (side @ tangent))
        around = np.outer(np.cos(turn), side) + np.outer(np.sin(turn), np.cross(tangent, side))
        rings.append(point + r * (around + np.outer(around @ bend, bend) * stretch))
        normals.append(_unit(around - lean * tangent))
    along = np.linspace(0, 1, len(path))
    uv = np.stack(np.meshgrid(along, turn / (2 * np.pi), indexing="ij"), -1)
    # The grid's first axis must go round for the faces to look outwards.
    wall = _grid(np.stack(rings, 1), np.stack(normals, 1), uv.transpose(1, 0, 2))
    ends = [
        _grid(np.stack([rings[0], np.tile(path[0], (segments + 1, 1))], 1)[::-1], *_flat(-tangents[0], segments + 1)),
        _grid(np.stack([rings[-1], np.tile(path[-1], (segments + 1, 1))], 1), *_flat(tangents[-1], segments + 1)),
    ]
    return join([wall, *ends])


def transform(
    mesh: Mesh,
    translate: Vector = (0.0, 0.0, 0.0),
    rotate_deg: Vector = (0.0, 0.0, 0.0),
    scale: float | Vector = 1.0,
) -> Mesh:
    """The mesh scaled, then turned about x, y and z (in this order, fixed axes), then moved.

    Raises `ValueError` for a scale that is not positive.
    """
    factor = np.broadcast_to(np.asarray(scale, np.float64), (3,))
    if factor.min() <= 0:
        raise ValueError("a scale must be positive")
    rotation = _rotation(rotate_deg)
    vertices = mesh.vertices * factor @ rotation.T + np.asarray(translate, np.float64)
    normals = _unit(mesh.normals / factor) @ rotation.T
    return Mesh(vertices.astype(np.float32), mesh.faces, normals.astype(np.float32), mesh.uv)


def join(meshes: Sequence[Mesh]) -> Mesh:
    """Several meshes as one."""
    first = np.cumsum([0] + [len(m.vertices) for m in meshes[:-1]])
    return Mesh(
        vertices=np.concatenate([m.vertices for m in meshes]),
        faces=np.concatenate([m.faces + np.int32(n) for m, n in zip(meshes, first, strict=True)]).astype(np.int32),
        normals=np.concatenate([m.normals for m in meshes]),
        uv=np.concatenate([m.uv for m in meshes]),
    )


def _grid(vertices: _Float, normals: _Float, uv: _Float) -> Mesh:
    """A sheet of (a, b) points, (a, b, 3), as triangles; those without area (at a pole) are left out."""
    rows, columns = vertices.shape[:2]
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]
    faces = np.concatenate([np.stack([a, b, c], -1).reshape(-1, 3), np.stack([a, c, d], -1).reshape(-1, 3)])
    flat = vertices.reshape(-1, 3)
    corner = flat[faces]
    area = np.linalg.norm(np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]), axis=1)
    return Mesh(
        flat.astype(np.float32),
        faces[area > 1e-10].astype(np.int32),
        _unit(normals.reshape(-1, 3)).astype(np.float32),
        uv.reshape(-1, 2).astype(np.float32),
    )


def _turned(points: _Float, angles: _Float) -> _Float:
    """(radius, z) pairs (n, 2) turned to every angle: (len(angles), n, 3)."""
    radius, z = points.T
    heights = np.tile(z, (len(angles), 1))
    return np.stack([np.outer(np.cos(angles), radius), np.outer(np.sin(angles), radius), heights], -1)


def _band_normals(points: _Float) -> tuple[_Float, _Float]:
    """Normals (radius, z) at the start and at the end of each piece of a lathe's profile."""
    step = np.diff(points, axis=0)
    flat = _unit(np.stack([step[:, 1], -step[:, 0]], 1))
    mirror = np.array([-1.0, 1.0])
    # On the axis a profile goes on into its own mirror image.
    before = np.concatenate([flat[:1] * mirror if points[0, 0] == 0 else flat[:1], flat[:-1]])
    after = np.concatenate([flat[1:], flat[-1:] * mirror if points[-1, 0] == 0 else flat[-1:]])
    limit = math.cos(math.radians(CREASE))
    starts = np.where(((flat * before).sum(1) > limit)[:, None], _unit(flat + before + 1e-12), flat)
    ends = np.where(((flat * after).sum(1) > limit)[:, None], _unit(flat + after + 1e-12), flat)
    return starts, ends


def _faceted(mesh: Mesh) -> Mesh:
    """The same triangles, each with its own corners and its flat normal."""
    vertices = mesh.vertices[mesh.faces]
    normal = _unit(np.cross(vertices[:, 1] - vertices[:, 0], vertices[:, 2] - vertices[:, 0]))
    return Mesh(
        vertices.reshape(-1, 3),
        np.arange(3 * len(vertices), dtype=np.int32).reshape(-1, 3),
        np.repeat(normal, 3, axis=0).astype(np.float32),
        mesh.uv[mesh.faces].reshape(-1, 2),
    )


def _flat(normal: _Float, count: int) -> tuple[_Float, _Float]:
    """Normals and uv of the disc that closes a tube."""
    return np.tile(normal, (count, 2, 1)), np.zeros((count, 2, 2))


def _distinct(points: _Float) -> _Float:
    """Points without repeats of the one before. Raises `ValueError` when fewer than two are left."""
    keep = np.append(True, np.abs(np.diff(points, axis=0)).max(axis=1, initial=0.0) > 1e-9)
    if keep.sum() < 2:
        raise ValueError("a profile needs at least two different points")
    distinct: _Float = points[keep]
    return distinct


def _rotation(angles_deg: Vector) -> _Float:
    rotation = np.eye(3)
    for axis, angle in enumerate(np.radians(angles_deg)):
        c, s = math.cos(angle), math.sin(angle)
        i, j = (axis + 1) % 3, (axis + 2) % 3
        turn = np.eye(3)
        turn[i, i], turn[i, j], turn[j, i], turn[j, j] = c, -s, s, c
        rotation = turn @ rotation
    return rotation


def _unit(vectors: ArrayLike) -> _Float:
    array: _Float = np.asarray(vectors, np.float64)
    lengths: _Float = np.linalg.norm(array, axis=-1, keepdims=True)
    unit: _Float = array / np.maximum(lengths, 1e-12)
    return unit


Float32 = NDArray[np.float32]
Int32 = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Mesh:
    """Triangles in meters. `vertices`, `normals` (n, 3) and `uv` (n, 2) float32; `faces` (m, 3) int32.

    `uv` is in texture repeats: a textured surface repeats its texture once per unit.
    """

    vertices: Float32
    faces: Int32
    normals: Float32
    uv: Float32

    def __post_init__(self) -> None:
        n = len(self.vertices)
        if self.normals.shape != (n, 3) or self.uv.shape != (n, 2) or self.faces.shape[1:] != (3,):
            raise ValueError("vertices, normals, uv and faces of a mesh do not fit together")

    def moved(self, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Mesh:
        """The mesh shifted by (x, y, z) meters."""
        return replace(self, vertices=(self.vertices + np.array([x, y, z], np.float32)).astype(np.float32))


@dataclass(frozen=True, eq=False)
class Part:
    """A mesh with one surface: base color (sRGB, 0..1), optional texture by name, specular strength 0..1.

    The texture (mean near white) is multiplied by the color.
    """

    mesh: Mesh
    color: tuple[float, float, float]
    texture: str | None = None
    specular: float = 0.1
