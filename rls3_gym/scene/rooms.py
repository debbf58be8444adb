"""Rooms: a scene family's YAML describes what its layouts are drawn from; a layout is one furnished room."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Split = Literal["train", "validation", "test"]
Color = tuple[float, float, float]


@dataclass(frozen=True)
class Surface:
    """A horizontal rectangle that objects can stand on. World meters, z up."""

    name: str
    """What a person would call it: floor, table, shelf, sill, ..."""
    x0: float
    x1: float
    y0: float
    y1: float
    z: float
    clearance: float
    """Free height above it, meters (to the next board, or to the ceiling)."""


@dataclass(frozen=True)
class Solid:
    """An axis-aligned box that objects must not touch: part of a piece of furniture. World meters."""

    x0: float
    x1: float
    y0: float
    y1: float
    z0: float
    z1: float


@dataclass(frozen=True)
class Piece:
    """One piece of furniture: its type (a builder's name), place and look."""

    type: str
    x: float
    y: float
    z: float
    """Center of its footprint, and the height of its underside, meters."""
    width: float
    depth: float
    height: float
    """Size along world x, y, z, meters."""
    color: Color
    accent: Color
    texture: str | None
    options: tuple[tuple[str, Any], ...] = ()
    """Further facts of the type, e.g. the number of shelf boards."""


@dataclass(frozen=True)
class CameraPose:
    """Pinhole camera. `eye` meters; heading 0 looks along +y, positive turns to the right; radians."""

    eye: tuple[float, float, float]
    heading: float
    pitch: float
    """Positive looks up, radians."""
    fov_deg: float
    """Full vertical (and horizontal: images are square) field of view, degrees."""


@dataclass(frozen=True)
class Light:
    """A point light and an ambient level."""

    position: tuple[float, float, float]
    intensity: float
    ambient: float
    color: Color


@dataclass(frozen=True)
class Finish:
    """Look of floor or walls: color and texture."""

    color: Color
    texture: str | None


@dataclass(frozen=True)
class Layout:
    """One furnished room, camera and light; what a backend needs to build it. Drawn by `draw_layout`."""

    family: str
    index: int
    split: Split
    x0: float
    x1: float
    y0: float
    y1: float
    height: float
    """The room's inner bounds, meters. The camera may stand outside (an open fourth wall)."""
    stage: tuple[float, float, float, float]
    """x0, x1, y0, y1 of the floor plan within which objects may be placed, meters."""
    pieces: tuple[Piece, ...]
    surfaces: tuple[Surface, ...]
    """The floor first. Rectangles already shrunk to where an object's center may stand."""
    solids: tuple[Solid, ...]
    floor: Finish
    walls: Finish
    camera: CameraPose
    light: Light

    @property
    def key(self) -> str:
        """Name of the layout, e.g. `kitchen/3`."""
        return f"{self.family}/{self.index}"

    def __hash__(self) -> int:
        # Caches are asked for a layout at every step; a hash of all its furniture would cost more than they save.
        return hash((self.family, self.index))
