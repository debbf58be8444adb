"""The pinhole camera: its rays, its gravity-aligned frame, and where world points fall in its image."""

from __future__ import annotations

import numpy as np

from rls3_gym.backends.embedded.mesh import Float32
from rls3_gym.scene.rooms import CameraPose
from rls3_registry.errors import UserError

NEAR = 0.01
"""Metres in front of the eye; a box that comes closer than this is looked for in the whole image."""


class Camera:
    """A square picture seen from a `CameraPose`."""

    def __init__(self, pose: CameraPose) -> None:
        if not 1.0 <= pose.fov_deg <= 170.0:
            raise UserError(f"camera field of view {pose.fov_deg} degrees; choose one from 1 to 170")
        heading, pitch = pose.heading, pose.pitch
        level = np.array([np.sin(heading), np.cos(heading), 0.0])
        vertical = np.array([0.0, 0.0, 1.0])
        self.pose = pose
        self.eye = np.array(pose.eye, np.float32)
        self._level = level
        self._right = np.array([np.cos(heading), -np.sin(heading), 0.0])
        self._axis = np.cos(pitch) * level + np.sin(pitch) * vertical
        self._up = np.cos(pitch) * vertical - np.sin(pitch) * level
        self._half = float(np.tan(np.radians(pose.fov_deg) / 2.0))

    def rays(self, size: int, supersampling: int) -> Float32:
        """Unit ray directions, (3, size, size, supersampling**2) float32: rows, columns, sub-samples of a pixel.

        Sub-samples are cell centres of a regular grid in the pixel, row by row.
        """
        steps = (np.arange(size * supersampling) + 0.5) / (size * supersampling) * 2.0 - 1.0
        across = (steps * self._half).reshape(size, supersampling)
        x = across[None, :, None, :]
        y = across[:, None, :, None]
        length = np.sqrt(1.0 + x * x + y * y)
        shape = (3, size, size, supersampling**2)
        axis, right, up = (v[:, None, None, None, None] for v in (self._axis, self._right, self._up))
        return np.ascontiguousarray(((axis + x * right - y * up) / length).reshape(shape), np.float32)

    def to_camera_frame(self, points: Float32) -> Float32:
        """World points (n, 3), metres, in the gravity-aligned camera frame: x right, y up, z along the heading."""
        offset = np.asarray(points, np.float64) - np.array(self.pose.eye)
        frame = np.stack([offset @ self._right, offset[:, 2], offset @ self._level], axis=1)
        return frame.astype(np.float32)

    def project(self, points: Float32) -> tuple[Float32, Float32]:
        """Image coordinates (n, 2) in [-1, 1] (x right, y down) of world points (n, 3), and depth (n,) in metres.

        Depth is measured along the optical axis; a point with depth <= 0 is behind the camera and has coordinates nan.
        """
        offset = np.asarray(points, np.float64) - np.array(self.pose.eye)
        depth = offset @ self._axis
        scale = np.where(depth > 0.0, depth, np.nan) * self._half
        image = np.stack([offset @ self._right / scale, -(offset @ self._up) / scale], axis=1)
        return image.astype(np.float32), depth.astype(np.float32)

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
