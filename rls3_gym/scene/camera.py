"""The camera's geometry, shared by placing and by rendering: its axes, its gravity-aligned frame, its projection."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rls3_gym.scene.rooms import CameraPose

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class CameraFrame:
    """A camera pose's axes. World: meters, z up. Camera frame: gravity aligned, x right, y up, z along the heading."""

    pose: CameraPose

    @cached_property
    def axes(self) -> FloatArray:
        """(3, 3): unit vectors of the picture in the world, one a row: right, up, along the optical axis."""
        level, vertical = self._gravity_aligned[2], self._gravity_aligned[1]
        sin, cos = np.sin(self.pose.pitch), np.cos(self.pose.pitch)
        return np.stack([self._gravity_aligned[0], cos * vertical - sin * level, cos * level + sin * vertical])

    @cached_property
    def half_width(self) -> float:
        """Half the picture's width at distance 1 along the optical axis."""
        return float(np.tan(np.radians(self.pose.fov_deg) / 2))

    def to_camera(self, points: ArrayLike) -> FloatArray:
        """World points (n, 3) or (3,) -> the same in the gravity-aligned camera frame."""
        return self._relative(points) @ self._gravity_aligned.T

    def project(self, points: ArrayLike) -> FloatArray:
        """World points (n, 3) or (3,) -> image position, x right and y down in [-1, 1] inside the picture, and
        the distance along the optical axis (<= 0: behind the camera)."""
        right, up, forward = np.moveaxis(self._relative(points) @ self.axes.T, -1, 0)
        scale = self.half_width * np.where(forward > 1e-6, forward, 1e-6)
        return np.stack([right / scale, -up / scale, forward], axis=-1)

    def along_axes(self, x: float | FloatArray, y: float | FloatArray, z: float | FloatArray) -> tuple[Any, Any, Any]:
        """World points -> their distances from the camera along `axes`: right, up, forward. Numbers, or arrays that
        broadcast; every entry is computed as a number alone would be, which a matrix product does not promise."""
        eye_x, eye_y, eye_z = self.pose.eye
        dx, dy, dz = x - eye_x, y - eye_y, z - eye_z
        if isinstance(z, float):
            r, u, f = self._axes_as_numbers
            return (
                r[0] * dx + r[1] * dy + r[2] * dz,
                u[0] * dx + u[1] * dy + u[2] * dz,
                f[0] * dx + f[1] * dy + f[2] * dz,
            )
        along_x, along_y, along_z = self.axes.T.reshape(3, 3, *(1,) * z.ndim)
        right, up, forward = along_x * dx + along_y * dy + along_z * dz
        return right, up, forward

    @cached_property
    def _axes_as_numbers(self) -> list[list[float]]:
        rows: list[list[float]] = self.axes.tolist()
        return rows

    @cached_property
    def _gravity_aligned(self) -> FloatArray:
        sin, cos = np.sin(self.pose.heading), np.cos(self.pose.heading)
        return np.array([[cos, -sin, 0.0], [0.0, 0.0, 1.0], [sin, cos, 0.0]])

    def _relative(self, points: ArrayLike) -> FloatArray:
        relative: FloatArray = np.asarray(points, np.float64) - self._eye
        return relative

    @cached_property
    def _eye(self) -> FloatArray:
        return np.array(self.pose.eye)


@lru_cache(maxsize=1024)
def camera_frame(pose: CameraPose) -> CameraFrame:
    """The frame of a pose, cached: every step of the environment needs the one of its room."""
    return CameraFrame(pose)
