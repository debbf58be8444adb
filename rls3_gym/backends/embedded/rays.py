"""Camera rays, and access to Intel Embree: triangle scenes, closest hits and shadow queries on numpy arrays."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from rls3_gym.backends.embedded.meshes import Float32, Int32
from rls3_gym.scene.camera import CameraFrame
from rls3_gym.scene.rooms import CameraPose
from rls3_registry.errors import UserError

try:
    from embreex.mesh_construction import TriangleMesh
    from embreex.rtcore import EmbreeDevice
    from embreex.rtcore_scene import EmbreeScene
except ImportError as error:
    raise UserError(
        f"the embedded backend needs the package embreex, which cannot be imported here ({error}): it has wheels for "
        "Linux x86-64, macOS arm64 and Windows; `pip install embreex` on one of those, or choose another backend"
    ) from error


@dataclass(frozen=True, eq=False)
class Hits:
    """Closest hits of n rays, for the rays that hit: all arrays have one entry per hit, ordered by `rays`."""

    rays: NDArray[np.intp]
    """(h,) which rays hit anything."""
    distance: Float32
    """(h,) meters along the ray."""
    triangle: Int32
    """(h,) index into the scene's faces."""
    u: Float32
    v: Float32
    """(h,) barycentric weights of the triangle's second and third corner."""
    normal: Float32
    """(3, h) geometric normal, neither unit length nor turned to the viewer."""


Triples = NDArray[np.object_]
"""(m,) tuples of three vertex numbers; see `triples`."""


def triples(faces: Int32) -> Triples:
    """Faces (m, 3) as embreex reads them fastest. It takes the rows of an array one by one, three times each, through
    Python: a row that is a tuple already halves the time to build a scene."""
    rows = np.empty(len(faces), object)
    rows[:] = [tuple(row) for row in faces.tolist()]
    return rows


class TriangleScene:
    """A set of triangles that rays can be cast at. Points and directions are (3, n) float32, meters.

    Embree's robust mode is on: no ray slips between two triangles that share an edge, and what a ray meets does not
    depend on which other triangles are in the scene. That is what lets objects be traced one at a time.
    """

    def __init__(self, vertices: Float32, faces: Triples) -> None:
        """`vertices` (n, 3) float32 meters, `faces` (m,) of them."""
        self._scene = EmbreeScene(device=_device(), robust=True)
        self._mesh = TriangleMesh(self._scene, np.ascontiguousarray(vertices), faces)

    def closest(self, origin: Float32, directions: Float32) -> Hits:
        """What n rays from one `origin` (3,) along unit `directions` (3, n) meet first."""
        found = self._scene.run(_repeated(origin, directions), directions.T, output=1)
        triangle = found["primID"]
        rays = np.flatnonzero(triangle != -1)
        return Hits(
            rays=rays,
            distance=found["tfar"][rays],
            triangle=triangle[rays],
            u=found["u"][rays],
            v=found["v"][rays],
            normal=np.ascontiguousarray(found["Ng"][rays].T),
        )

    def blocks(self, origin: Float32, directions: Float32, distances: Float32) -> NDArray[np.bool_]:
        """(n,) whether anything lies within `distances` (n,) of `origin` (3,) along unit `directions` (3, n)."""
        found: Int32 = self._scene.run(_repeated(origin, directions), directions.T, dists=distances, query="OCCLUDED")
        return np.not_equal(found, -1)


@cache
def _device() -> EmbreeDevice:
    """One Embree device for all scenes of the process; a scene would otherwise start its own."""
    return EmbreeDevice()


def _repeated(origin: Float32, directions: Float32) -> Float32:
    """`origin` as (n, 3) without a copy; `np.broadcast_to` does the same several times slower."""
    return np.ndarray((directions.shape[1], 3), np.float32, origin, strides=(0, origin.itemsize))


NEAR = 0.01
"""Meters in front of the eye; a box that comes closer than this is looked for in the whole image."""


class Camera:
    """A square picture seen from a `CameraPose`."""

    def __init__(self, pose: CameraPose) -> None:
        if not 1.0 <= pose.fov_deg <= 170.0:
            raise UserError(f"camera field of view {pose.fov_deg} degrees; choose one from 1 to 170")
        frame = CameraFrame(pose)
        self.pose = pose
        self.eye = np.array(pose.eye, np.float32)
        self._right, self._up, self._axis = frame.axes
        self._half = frame.half_width

    def rays(self, size: int, supersampling: int) -> Float32:
        """Unit ray directions, (3, size, size, supersampling**2) float32: rows, columns, sub-samples of a pixel.

        Sub-samples are cell centers of a regular grid in the pixel, row by row.
        """
        steps = (np.arange(size * supersampling) + 0.5) / (size * supersampling) * 2.0 - 1.0
        across = (steps * self._half).reshape(size, supersampling)
        x = across[None, :, None, :]
        y = across[:, None, :, None]
        length = np.sqrt(1.0 + x * x + y * y)
        shape = (3, size, size, supersampling**2)
        axis, right, up = (v[:, None, None, None, None] for v in (self._axis, self._right, self._up))
        return np.ascontiguousarray(((axis + x * right - y * up) / length).reshape(shape), np.float32)

    def screen_box(self, corners: Float32, size: int) -> tuple[int, int, int, int]:
        """Rows and columns (y0, y1, x0, x1) of a `size` pixel image that hold the convex hull of `corners` (n, 3).

        Half open, one pixel wider than needed on each side, cut to the image; empty where the hull is out of view.
        """
        offset = corners - self.eye
        depth = offset @ self._axis
        if depth.max() <= 0.0:
            return 0, 0, 0, 0
        if depth.min() < NEAR:
            return 0, size, 0, size
        half = size / 2.0
        x = offset @ self._right * (half / self._half) / depth + half
        y = offset @ self._up * (-half / self._half) / depth + half
        x0, x1 = (min(max(int(end), 0), size) for end in (x.min() - 1.0, x.max() + 2.0))
        y0, y1 = (min(max(int(end), 0), size) for end in (y.min() - 1.0, y.max() + 2.0))
        return y0, y1, x0, x1
