"""What a backend is: it shows an arrangement as a picture with exact ids, depth and visibility."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rls3_gym.scene.arrangement import Arrangement
from rls3_registry.plugins import PluginSection, PluginSpec


@dataclass(frozen=True, eq=False)
class Frame:
    """One capture of a scene with n active objects, seen by a square camera of `size` pixels."""

    rgb: NDArray[np.uint8]
    """(size, size, 3)."""
    ids: NDArray[np.int16]
    """(size, size): slot of the active object seen there; -1 for anything else."""
    depth: NDArray[np.float32]
    """(size, size): meters along the pixel's ray."""
    visible: NDArray[np.float32]
    """(n,): visible pixels / pixels the object would cover unoccluded, 0..1."""
    pixels: NDArray[np.int32]
    """(n,): visible pixels at the picture's resolution."""
    positions: NDArray[np.float32]
    """(n, 3): base centers in the gravity-aligned camera frame (x right, y up, z away), meters."""

    def offset(self, slot_a: int, slot_b: int) -> tuple[float, float, float]:
        """The object in `slot_a` minus that in `slot_b`: camera frame, meters."""
        (x, y, z), (from_x, from_y, from_z) = self.positions[slot_a].tolist(), self.positions[slot_b].tolist()
        return x - from_x, y - from_y, z - from_z


class SceneBackend(Protocol):
    """A world that can show arrangements. One conformance suite runs over every backend.

    A plugin class is called as `Class(settings, image_size=...)`; see `rls3_registry.plugins`.
    """

    image_size: int
    """Side of the pictures, pixels."""

    @property
    def fingerprint(self) -> str:
        """Name, version and settings: two backends with equal fingerprints show the same pixels."""

    def reset(self, arrangement: Arrangement, seed: int) -> None:
        """Build a room and put objects into it.

        Args:
            arrangement: The layout to build and the objects in it.
            seed: Fixes what the backend draws, if it draws anything.

        Raises:
            UserError: The backend does not know the layout or a kind of object.
        """

    def apply(self, arrangement: Arrangement) -> None:
        """Move or exchange objects in the room of the last `reset`. No pixels are made yet.

        Args:
            arrangement: The same layout, and the objects in it from now on.
        """

    def capture(self, size: int | None = None) -> Frame:
        """Take the picture of the current arrangement.

        Args:
            size: Side of the picture, pixels; `image_size` when left out. Pictures for people are larger.

        Returns:
            The picture, with what is true of it: ids, depth, visibility, positions.

        Raises:
            RuntimeError: There was no `reset` yet.
        """

    def close(self) -> None:
        """Free what the backend holds. The backend can't be used afterwards; closing twice is fine."""


BACKENDS: PluginSection[PluginSpec] = PluginSection(
    "backends", "backend", ("reset", "apply", "capture", "close", "fingerprint"), PluginSpec
)


def load_backend(name: str, image_size: int) -> SceneBackend:
    """A new backend that takes square pictures of `image_size` pixels.

    Args:
        name: A registry name, a YAML file, or `module:Class`.
        image_size: Side of its pictures, pixels.

    Raises:
        UserError: An unknown name or key, or a library that is not installed.
    """
    made: SceneBackend = BACKENDS.create(name, image_size=image_size)
    return made
