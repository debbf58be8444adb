"""Pictures for people: the scene, larger than the VLM sees it, with the caption and the VLM's verdict under it."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from rls3_gym.backends.base import SceneBackend
from rls3_gym.sample import Sample
from rls3_gym.scene.arrangement import Arrangement, Reason
from rls3_gym.vlm.base import Feedback
from rls3_registry.errors import UserError

PICTURE = 320
"""Side of the drawn camera picture, pixels."""
_STRIP = 72
_TEXT_SIZE = 13
_BACKGROUND, _INK = (24, 24, 28), (235, 235, 235)
COLORS = {"right": (120, 210, 130), "wrong": (240, 120, 110), "neutral": (170, 170, 180)}
"""Color of the verdict by its tone."""


@dataclass(frozen=True)
class Verdict:
    """What is written under the picture."""

    caption: str
    text: str
    tone: str
    """A key of `COLORS`."""


def describe_step(room: str, sample: Sample | None, reason: Reason | None, feedback: Feedback | None) -> Verdict:
    """What to write under a step's picture; `feedback` (of length 1) goes with the sample."""
    if sample is None or feedback is None:
        return Verdict("", f"{room}: " + ("new scene" if reason is None else f"no sample ({reason.value})"), "neutral")
    margin = float(feedback.margin[0])
    if feedback.correct[0]:
        return Verdict(sample.caption, f"VLM right, margin {margin:.1f}", "right")
    preferred = sample.negatives[int(feedback.hardest[0])].caption
    return Verdict(sample.caption, f"VLM wrong ({margin:.1f}): {preferred}", "wrong")


class Painter:
    """Draws the current scene of a stage, with the stage's own backend."""

    def __init__(self, backend: SceneBackend) -> None:
        self._backend = backend
        self._font = ImageFont.load_default(_TEXT_SIZE)

    def draw(self, arrangement: Arrangement, verdict: Verdict) -> NDArray[np.uint8]:
        """(PICTURE + 72, PICTURE, 3) uint8."""
        self._backend.apply(arrangement)
        canvas = Image.new("RGB", (PICTURE, PICTURE + _STRIP), _BACKGROUND)
        canvas.paste(Image.fromarray(self._backend.capture(PICTURE).rgb), (0, 0))
        pen = ImageDraw.Draw(canvas)
        lines = [(line, _INK) for line in textwrap.wrap(verdict.caption, 46)[:2]]
        lines += [(line, COLORS[verdict.tone]) for line in textwrap.wrap(verdict.text, 46)[: 4 - len(lines)]]
        for row, (line, color) in enumerate(lines):
            pen.text((6, PICTURE + 4 + row * 16), line, fill=color, font=self._font)
        return np.asarray(canvas, dtype=np.uint8).copy()


class Window:
    """A pygame window that shows pictures. Raises `UserError` naming the pip command when pygame is missing."""

    def __init__(self, title: str, fps: int) -> None:
        try:
            import pygame
        except ImportError as error:
            raise UserError("render_mode='human' needs pygame: pip install pygame") from error
        self._pygame: Any = pygame
        pygame.display.init()
        pygame.display.set_caption(title)
        self._screen = pygame.display.set_mode((PICTURE, PICTURE + _STRIP))
        self._clock = pygame.time.Clock()
        self._fps = fps

    def show(self, picture: NDArray[np.uint8]) -> None:
        """Show a picture and keep to the frame rate."""
        self._pygame.event.pump()  # without it the desktop thinks that the window is frozen
        surface = self._pygame.surfarray.make_surface(picture.transpose(1, 0, 2))
        self._screen.blit(surface, (0, 0))
        self._pygame.display.flip()
        self._clock.tick(self._fps)

    def close(self) -> None:
        self._pygame.display.quit()
