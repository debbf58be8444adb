"""How a model wants its pictures: their size, how they are brought to it, and normalization.

All as open_clip's own transform does it, to the pixel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from rls3_registry.errors import UserError

RESIZE_MODES = ("shortest", "longest", "squash")
_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


@dataclass(frozen=True)
class Preprocessing:
    """open_clip's `preprocess_cfg`."""

    size: int
    """Side of the square that the model works on, pixels."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    """Of the pixels that the model was made for, by channel, 0..1."""
    interpolation: str = "bicubic"
    resize_mode: str = "shortest"
    """`shortest`: the middle is cut out; `longest`: the rest is filled; `squash`: squeezed into the square."""
    fill_color: int = 0

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Preprocessing:
        """From the dictionary that open_clip keeps with a model. Raises `UserError` for what is not supported."""
        size = config["size"]
        sides = tuple(size) if isinstance(size, list | tuple) else (size, size)
        if len(set(sides)) > 1:
            raise UserError(f"its pictures are {sides[0]} x {sides[1]} pixels; only square ones are supported")
        filter_, mode = config.get("interpolation") or "bicubic", config.get("resize_mode") or "shortest"
        if mode not in RESIZE_MODES:
            raise UserError(f"its resize_mode {mode!r} should be one of {', '.join(RESIZE_MODES)}")
        mean, std = (tuple(v) if isinstance(v, list | tuple) else (v,) * 3 for v in (config["mean"], config["std"]))
        # open_clip takes `random`, which is for training, as bicubic too.
        return cls(
            int(sides[0]),
            mean,
            std,
            "bilinear" if filter_ == "bilinear" else "bicubic",
            mode,
            int(config.get("fill_color") or 0),
        )

    def as_config(self) -> dict[str, Any]:
        """As it stands in a model folder's configuration."""
        return {
            "mean": list(self.mean),
            "std": list(self.std),
            "interpolation": self.interpolation,
            "resize_mode": self.resize_mode,
            "fill_color": self.fill_color,
        }

    def fit(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A picture (height, width, 3) brought to (size, size, 3), as open_clip's own transform does it."""
        height, width = picture.shape[:2]
        if height == width == self.size:
            return picture
        if self.resize_mode == "squash":
            return np.asarray(self._resized(picture, self.size, self.size))
        if self.resize_mode == "shortest":
            short = min(width, height)
            across, down = (self.size if side == short else int(self.size * side / short) for side in (width, height))
            resized = self._resized(picture, across, down)
            left, top = (round((side - self.size) / 2) for side in (across, down))
            return np.asarray(resized.crop((left, top, left + self.size, top + self.size)))
        ratio = max(width, height) / self.size
        across, down = round(width / ratio), round(height / ratio)
        left, top = (self.size - across) // 2, (self.size - down) // 2
        border = (left, top, self.size - across - left, self.size - down - top)
        fill = (self.fill_color,) * 3
        return np.asarray(ImageOps.expand(self._resized(picture, across, down), border, fill))

    def _resized(self, picture: NDArray[np.uint8], width: int, height: int) -> Image.Image:
        return Image.fromarray(picture).resize((width, height), _FILTERS[self.interpolation])
