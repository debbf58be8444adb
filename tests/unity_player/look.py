"""How the stand-in's world looks: the embedded world's colors, light and camera, changed."""

from __future__ import annotations

import colorsys
import hashlib
import json
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rls3_gym.scene.rooms import Color, Finish, Layout


@dataclass(frozen=True)
class Look:
    """Plain, it is the embedded world to the pixel. Objects keep their colors: captions name them by it."""

    hue: float = 0.0
    """By how much of a turn the colors of furniture, floor and walls are turned."""
    textures: bool = True
    light: float = 1.0
    """Factor of the light's intensity; what it lacks or has too much, the ambient level makes up for in part."""
    light_color: Color = (1.0, 1.0, 1.0)
    tint: Color = (1.0, 1.0, 1.0)
    """Of the camera: factors of its three channels."""
    gamma: float = 1.0
    contrast: float = 1.0

    @classmethod
    def from_json(cls, text: str) -> Look:
        values = {key: tuple(v) if isinstance(v, list) else v for key, v in json.loads(text).items()}
        return cls(**values)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @property
    def name(self) -> str:
        """Tells looks apart."""
        return "plain" if self == Look() else hashlib.sha256(self.to_json().encode()).hexdigest()[:8]

    def dress(self, layout: Layout) -> Layout:
        """The same room in other colors and another light."""
        pieces = tuple(
            replace(
                piece, color=self._turned(piece.color), accent=self._turned(piece.accent),
                texture=piece.texture if self.textures else None,
            )
            for piece in layout.pieces
        )  # fmt: skip
        light = replace(
            layout.light,
            intensity=layout.light.intensity * self.light,
            ambient=layout.light.ambient * (2.0 - self.light),
            color=tuple(a * b for a, b in zip(layout.light.color, self.light_color, strict=True)),
        )
        floor, walls = self._finish(layout.floor), self._finish(layout.walls)
        return replace(layout, pieces=pieces, light=light, floor=floor, walls=walls)

    def grade(self, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The picture as another camera would develop it."""
        if (self.tint, self.gamma, self.contrast) == ((1.0, 1.0, 1.0), 1.0, 1.0):
            return rgb
        values = (rgb / 255.0) ** self.gamma * np.array(self.tint)
        values = (values - 0.5) * self.contrast + 0.5
        return np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)

    def _finish(self, finish: Finish) -> Finish:
        return Finish(self._turned(finish.color), finish.texture if self.textures else None)

    def _turned(self, color: Color) -> Color:
        hue, saturation, value = colorsys.rgb_to_hsv(*color)
        r, g, b = colorsys.hsv_to_rgb((hue + self.hue) % 1.0, saturation, value)
        return (r, g, b) if self.hue else color


OTHER = Look(
    hue=0.4, textures=False, light=0.75, light_color=(1.0, 0.9, 0.75), tint=(1.0, 0.95, 0.85), gamma=0.85, contrast=1.15
)
"""The look of `test_other_backend`, until there is a build: other walls, floors and furniture, warm light, another
camera."""
