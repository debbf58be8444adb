"""What an external suite is: items read from its authors' files, and the numbers that a VLM reaches on them."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from rls3_gym.evaluation.metrics import wilson_interval
from rls3_gym.vlm.base import VLM, FittingVLM
from rls3_registry.errors import UserError, first_line

_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
_MOST_PIXELS = 80_000_000
"""Of a photograph; 240 MB in memory."""
_MOST_OBLONG = 100
"""How many times longer than the other a side may be: a VLM may bring the shorter one to its own size."""
Box = tuple[float, float, float, float]
"""Left, top, right and bottom of a part of a picture, pixels."""


Fit = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
"""See `FittingVLM.fit`."""


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture that is decoded each time it is shown, so that a suite of any size fits into memory."""

    name: str
    """As the suite's files name it."""
    source: Path | bytes
    """Its file, or the content of one."""
    box: Box | None = None
    """The part that is shown, the whole when None; what lies outside the picture is left out."""

    def show(self, size: int, fit: Fit | None = None) -> NDArray[np.uint8]:
        """(size, size, 3) RGB, the whole picture or its part: squeezed into the square, or as `fit` brings it there.

        Raises `UserError` for a file that is missing, broken, not a picture, or one too large or too oblong.
        """
        where = self.name if isinstance(self.source, bytes) else str(self.source)
        try:
            with Image.open(
                io.BytesIO(self.source) if isinstance(self.source, bytes) else self.source, formats=_FORMATS
            ) as image:
                if image.width * image.height > _MOST_PIXELS:
                    raise UserError(
                        f"{where}: has {image.width:,} x {image.height:,} pixels; at most {_MOST_PIXELS:,} are read"
                    )
                rgb = image.convert("RGB")
        except UnidentifiedImageError as error:
            raise UserError(f"{where}: is not a picture ({', '.join(_FORMATS)})") from error
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise UserError(f"{where}: cannot be read as a picture ({first_line(error)})") from error
        if self.box is not None:
            left, top, right, bottom = self.box
            part = (
                max(0, round(left)),
                max(0, round(top)),
                min(rgb.width, round(right)),
                min(rgb.height, round(bottom)),
            )
            if part[0] >= part[2] or part[1] >= part[3]:
                raise UserError(f"{where}: the box {self.box} shows nothing of its {rgb.width} x {rgb.height} pixels")
            rgb = rgb.crop(part)
        if max(rgb.size) > _MOST_OBLONG * min(rgb.size):
            raise UserError(
                f"{where}: shows {rgb.width:,} x {rgb.height:,} pixels; one side may be {_MOST_OBLONG} times as long "
                "as the other"
            )
        if fit is not None:
            return fit(np.asarray(rgb))
        return np.asarray(rgb.resize((size, size), Image.Resampling.BICUBIC))


def fit_of(vlm: object) -> Fit | None:
    """The VLM's own way to bring a picture to its size, where it has one."""
    return vlm.fit if isinstance(vlm, FittingVLM) else None


class SuiteItem(Protocol):
    """What all items have."""

    @property
    def part(self) -> str:
        """The part of the suite that it belongs to, such as the file it was read from."""

    @property
    def group(self) -> str | None:
        """Items of one group are kept or left out together; None: the item is alone."""

    @property
    def identity(self) -> tuple[str, ...]:
        """Picture and captions, for the hash of the items."""


@dataclass(frozen=True, eq=False)
class ChoiceItem:
    """A picture with a caption that is true of it, and captions that are false of it."""

    picture: Picture
    caption: str
    false: tuple[str, ...]
    part: str = ""
    group: str | None = None
    mirrors: bool = False
    """Whether it is also asked in the mirror image, with left and right exchanged in every caption."""

    @property
    def identity(self) -> tuple[str, ...]:
        """See `SuiteItem`."""
        return (self.picture.name, self.caption, *self.false)


@dataclass(frozen=True)
class Measure:
    """One number of a suite, and what it is to be compared with."""

    name: str
    value: float
    """A share, 0..1."""
    n: int
    """What it is a share of: items, pairs of items or sets of them."""
    blind: float
    """The same from captions alone: every picture is replaced by a plain gray one."""
    chance: float | None = None
    """What guessing gives; None where that is not one number."""
    interval: tuple[float, float] | None = None
    """95 % (Wilson); None for a mean that is not a share of independent items."""

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        low, high = self.interval or (None, None)
        return {
            "name": self.name, "value": self.value, "low": low, "high": high, "n": self.n, "blind": self.blind,
            "chance": self.chance,
        }  # fmt: skip


def share(name: str, right: NDArray[np.bool_], blind: NDArray[np.bool_], chance: float | None = None) -> Measure | None:
    """The share of right answers with its interval; None when there are no answers.

    Args:
        name: Of the measure.
        right: (n,) whether each answer is right.
        blind: (n,) whether it is right when the picture is gray.
        chance: What guessing gives.
    """
    n = len(right)
    if n == 0:
        return None
    value = float(right.mean())
    return Measure(name, value, n, float(blind.mean()), chance, wilson_interval(value, n))


@dataclass(frozen=True)
class Score:
    """What a suite says about a VLM."""

    measures: tuple[Measure, ...]
    """The first one is the suite's main number."""
    details: dict[str, float] = field(default_factory=dict)
    """Other numbers that are no shares, such as a threshold."""


Item = TypeVar("Item", bound=SuiteItem)


class Suite(Protocol[Item]):
    """A benchmark of others, as its authors publish it."""

    name: str
    """What `--suite` calls it."""
    description: str
    """One line for `rls3 list`."""

    def load(self, data: Path) -> Sequence[Item]:
        """Read the suite from its authors' files under `data`; pictures are only looked for.

        Raises:
            UserError: One line that says which file was wrong, and what was expected in it or in its place.
        """

    def score(self, items: Sequence[Item], vlm: VLM) -> Score:
        """Ask a VLM about at least one item. Raises `UserError` where the items left can't be scored."""


def thinned(items: Sequence[Item], limit: int | None) -> list[Item]:
    """At most about `limit` items of each part, taken evenly; groups stay whole, and one of them is always taken."""
    if limit is None:
        return list(items)
    kept: list[Item] = []
    for part in dict.fromkeys(item.part for item in items):
        groups: dict[str | int, list[Item]] = {}
        for i, item in enumerate(items):
            if item.part == part:
                groups.setdefault(i if item.group is None else item.group, []).append(item)
        stride = -(-sum(map(len, groups.values())) // limit)
        kept += [item for group in list(groups.values())[::stride] for item in group]
    return kept
