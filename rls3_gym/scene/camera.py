"""The camera's geometry, shared by placing and by rendering: frames and projection."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rls3_gym.scene.rooms import CameraPose

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class CameraFrame:
    """A camera pose's axes. World: metres, z up. Camera frame: gravity aligned, x right, y up, z along the heading."""

    pose: CameraPose

    def to_camera(self, points: ArrayLike) -> FloatArray:
        """World points (n, 3) or (3,) -> the same in the gravity-aligned camera frame."""
        relative = np.asarray(points, np.float64) - np.array(self.pose.eye)
        sin, cos = np.sin(self.pose.heading), np.cos(self.pose.heading)
        x, y, z = relative[..., 0], relative[..., 1], relative[..., 2]
        return np.stack([x * cos - y * sin, z, x * sin + y * cos], axis=-1)

    def project(self, points: ArrayLike) -> FloatArray:
        """World points (n, 3) or (3,) -> image position, x right and y down in [-1, 1] inside the picture, and
        the distance along the optical axis (<= 0: behind the camera)."""
        p = self.to_camera(points)
        sin, cos = np.sin(self.pose.pitch), np.cos(self.pose.pitch)
        forward = p[..., 2] * cos + p[..., 1] * sin
        up = p[..., 1] * cos - p[..., 2] * sin
        scale = np.tan(np.radians(self.pose.fov_deg) / 2) * np.where(forward > 1e-6, forward, 1e-6)
        return np.stack([p[..., 0] / scale, -up / scale, forward], axis=-1)
