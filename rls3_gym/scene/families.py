"""Scene families as YAML: the ranges and choices from which layouts are drawn, checked by pydantic."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

import rls3_registry
from rls3_gym.scene.furniture import TYPES
from rls3_gym.scene.splits import SplitSizes
from rls3_registry.errors import unknown
from rls3_registry.validation import check


def _pair(value: Any) -> Any:
    return (value, value) if isinstance(value, int | float) else value


def _ordered(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] > value[1]:
        raise ValueError(f"a range goes from low to high, not {value[0]} to {value[1]}")
    return value


Number = Annotated[float, Field(ge=-1000, le=1000)]
"""Meters, degrees or an intensity: no room has more."""
Range = Annotated[tuple[Number, Number], BeforeValidator(_pair), AfterValidator(_ordered)]
"""A uniform range [low, high]; a single number stands for itself."""
Share = Annotated[float, Field(ge=0, le=1)]
ColorSpec = tuple[Share, Share, Share]


class Strict(BaseModel):
    """Unknown keys are errors; loaded families never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class RoomSpec(Strict):
    """The room's inner size, and where in it objects may stand. Meters."""

    half_width: Range
    back: Range
    front: Number
    height: Range
    stage_half_width: Range
    stage_front: Range
    wall_gap: Number
    """Between the back of the stage and the back wall."""


class FinishSpec(Strict):
    """Look of floor or walls."""

    color: ColorSpec
    texture: str | None = None


class CameraSpec(Strict):
    """Eye in meters, angles in degrees."""

    x: Range
    y: Range
    z: Range
    heading_deg: Range
    pitch_deg: Range
    fov_deg: Annotated[float, Field(gt=0, lt=180)]


class LightSpec(Strict):
    """The point light (meters) and the ambient level."""

    x: Range
    y: Range
    z: Range
    intensity: Range
    ambient: Range
    color: ColorSpec


class PieceSpec(Strict):
    """One way to fill a slot with a piece of furniture. Meters; every list is a choice."""

    type: str
    share: Share = 1.0
    """Probability of choosing this one for its slot; if the shares add up to less than 1, the slot may stay empty."""
    against: Literal["back", "left", "right"] | None = None
    """The wall it stands against; the coordinate across that wall is then the gap between them."""
    at: str | None = None
    """An earlier slot: x and y are offsets from that piece's center; without it, no piece."""
    like: str | None = None
    """An earlier slot whose colors and texture this piece takes over, where that slot is filled."""
    facing: Literal["front", "back", "left", "right"] | None = None
    x: Range = (0.0, 0.0)
    y: Range = (0.0, 0.0)
    z: Range = (0.0, 0.0)
    width: Range
    depth: Range
    height: Range
    colors: Annotated[tuple[ColorSpec, ...], Field(min_length=1)]
    accents: Annotated[tuple[ColorSpec, ...], Field(min_length=1)] = ((0.5, 0.48, 0.45),)
    textures: Annotated[tuple[str | None, ...], Field(min_length=1)] = (None,)
    options: dict[str, Annotated[tuple[Any, ...], Field(min_length=1)]] = {}

    @model_validator(mode="after")
    def _known(self) -> PieceSpec:
        if self.type not in TYPES:
            raise ValueError(str(unknown("furniture type", self.type, TYPES)))
        for name in self.options:
            if name not in TYPES[self.type].options:
                raise ValueError(str(unknown(f"option of a {self.type}", name, TYPES[self.type].options)))
        return self


class RoomFamily(Strict):
    """One scene family: what its layouts are drawn from."""

    name: str
    display: str
    """The name a person reads."""
    splits: dict[Literal["train", "validation", "test"], Annotated[int, Field(ge=1, le=1000)]]
    """Layouts per split; their sum is the number of layouts."""
    mirrored: Share
    """How often a layout is drawn with left and right exchanged."""
    room: RoomSpec
    floors: Annotated[tuple[FinishSpec, ...], Field(min_length=1)]
    walls: Annotated[tuple[FinishSpec, ...], Field(min_length=1)]
    camera: CameraSpec
    light: LightSpec
    pieces: dict[str, Annotated[tuple[PieceSpec, ...], Field(min_length=1)]]
    """Slots in the order they are filled; each holds one of its variants, or nothing."""

    @property
    def sizes(self) -> SplitSizes:
        return SplitSizes(**{str(split): count for split, count in self.splits.items()})

    @model_validator(mode="after")
    def _consistent(self) -> RoomFamily:
        if len(self.splits) != 3:
            raise ValueError("splits: give all of train, validation and test")
        seen: set[str] = set()
        for slot, variants in self.pieces.items():
            if sum(v.share for v in variants) > 1.0 + 1e-9:
                raise ValueError(f"pieces.{slot}: the shares add up to more than 1")
            for variant in variants:
                for key, other in (("at", variant.at), ("like", variant.like)):
                    if other is not None and other not in seen:
                        raise ValueError(str(unknown("earlier slot", other, seen, f"pieces.{slot}.{key}")))
            seen.add(slot)
        return self


def read_family(path: Path, name: str) -> RoomFamily:
    """Read and check one family file. Raises `UserError` naming the file and the wrong key."""
    content = rls3_registry.load_file(path)
    return check(RoomFamily, {"name": name, **content}, str(path))


@cache
def load_family(name: str) -> RoomFamily:
    """The registered family of that exact name. Raises `UserError` for an unknown name or a bad file."""
    return read_family(rls3_registry.path_of("rooms", name), name)


def family_names() -> tuple[str, ...]:
    """Names of all registered scene families, sorted."""
    return rls3_registry.names("rooms")
