"""How much of an object the camera sees, estimated without rendering: furniture and objects as boxes.

Good enough to leave out places where an object would be hidden; what is really seen, the backend says. Meters, world
frame, z up; the first axis of points and corners is x, y, z.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rls3_gym.scene.camera import FloatArray

_ACROSS = np.array([-0.6, 0.0, 0.6])[:, None, None]
"""Where an object is looked at, across the line of sight: shares of its radius."""
_UP = np.array([0.15, 0.5, 0.85])[:, None]
"""And upwards: shares of its height."""
_BOX = 0.8
"""Half the side of an object's box, as a share of its radius: about a circle's area."""
_SHORT_OF = 0.999
"""An object is not hidden by what it stands on or beside: sight ends a little before its points."""
_SLANT = 1e-9
"""No line of sight is taken to run along a wall of a box: that would divide by zero."""


def points_of(eye: FloatArray, bases: FloatArray, radii: FloatArray, heights: FloatArray) -> FloatArray:
    """Points on objects, spread over what the camera sees of them.

    Args:
        eye: (3,) the camera.
        bases: (3, n) center of each object's base.
        radii: (n,)
        heights: (n,)

    Returns:
        (3, 9, n).
    """
    toward = bases[:2] - eye[:2, None]
    x, y = toward / np.hypot(*toward)
    points = np.empty((3, len(_ACROSS), len(_UP), bases.shape[1]))
    points[0], points[1] = bases[0] - _ACROSS * radii * y, bases[1] + _ACROSS * radii * x
    points[2] = bases[2] + _UP * heights
    return points.reshape(3, -1, bases.shape[1])


def boxes_of(bases: FloatArray, radii: FloatArray, heights: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Low and high corners, (3, n) each, of boxes that stand for objects; arguments as those of `points_of`."""
    half, none = _BOX * radii, np.zeros(len(radii))
    return bases - (half, half, none), bases + (half, half, heights)


def hidden(eye: FloatArray, points: FloatArray, low: FloatArray, high: FloatArray) -> NDArray[np.bool_]:
    """Whether a box stands between the camera and a point.

    Args:
        eye: (3,) the camera.
        points: (3, ...)
        low: (3, ...) the boxes' corners; points and boxes broadcast.
        high: (3, ...)

    Returns:
        (...), as points and boxes broadcast.
    """
    first, last = np.float64(-np.inf), np.float64(np.inf)
    for along, start, lowest, highest in zip(points, eye, low, high, strict=True):
        pace = 1.0 / (along - start + _SLANT)
        enter, leave = (lowest - start) * pace, (highest - start) * pace
        first = np.maximum(first, np.minimum(enter, leave))
        last = np.minimum(last, np.maximum(enter, leave))
    return np.asarray((first <= last) & (last > 0) & (first < _SHORT_OF))
