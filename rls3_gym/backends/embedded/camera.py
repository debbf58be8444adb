"""The pinhole camera as the tracer needs it: its rays, and the part of the picture that a box covers."""

from __future__ import annotations

import numpy as np

from rls3_gym.backends.embedded.mesh import Float32
from rls3_gym.scene.camera import CameraFrame
from rls3_gym.scene.rooms import CameraPose
from rls3_registry.errors import UserError

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
