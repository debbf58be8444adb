"""What a backend is: it builds an arrangement and gives back a picture with exact ids, depth and visibility."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rls3_gym.scene.arrangement import Arrangement


@dataclass(frozen=True, eq=False)
class Frame:
    """One capture of a scene with n active objects, seen by a square camera of `size` pixels."""

    rgb: NDArray[np.uint8]
    """(size, size, 3)."""
    ids: NDArray[np.int16]
    """(size, size): slot of the active object seen there; -1 for anything else."""
    depth: NDArray[np.float32]
    """(size, size): metres along the pixel's ray."""
    visible: NDArray[np.float32]
    """(n,): visible pixels / pixels the object would cover unoccluded, 0..1."""
    pixels: NDArray[np.int32]
    """(n,): visible pixels at the picture's resolution."""
    positions: NDArray[np.float32]
    """(n, 3): base centers in the gravity-aligned camera frame (x right, y up, z away), metres."""


class SceneBackend(Protocol):
    """A world that can show arrangements. One conformance suite runs over every backend."""

    image_size: int

    def reset(self, arrangement: Arrangement, seed: int) -> None:
        """Build a room and put the arrangement's objects into it."""

    def apply(self, arrangement: Arrangement) -> None:
        """Move objects within the room of the last `reset`; no pixels yet."""

    def capture(self) -> Frame:
        """The picture of the current arrangement."""

    def close(self) -> None:
        """Free what the backend holds. The backend can't be used afterwards."""
