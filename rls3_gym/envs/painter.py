"""Pictures for people: the scene, larger than the VLM sees it, with the caption and the VLM's verdict under it."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from functools import cache
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from rls3_gym.backends.base import Frame, SceneBackend
from rls3_gym.loop.lane import Lane, SeenLane
from rls3_gym.loop.learning_loop import LearningLoop
from rls3_gym.sample import Sample
from rls3_gym.scene.arrangement import Arrangement, Reason
from rls3_gym.vlm.base import VLM, Feedback
from rls3_registry.errors import UserError

PICTURE = 320
"""Side of the drawn camera picture, pixels."""
_STRIP = 72
_TEXT_SIZE = 13
_BACKGROUND, _INK = (24, 24, 28), (235, 235, 235)
COLORS = {"right": (120, 210, 130), "wrong": (240, 120, 110), "neutral": (170, 170, 180)}
"""Color of the verdict by its tone."""
_SUBJECT, _REFERENCE = (255, 210, 60), (90, 190, 255)
"""Outlines of the object that the caption is about, and of the one it is related to."""


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


@cache
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(_TEXT_SIZE)  # kept here: an environment that holds one can't be copied


def _outline(ids: NDArray[np.int16], slot: int) -> NDArray[np.bool_]:
    """(n, n) the pixels of an object that border on something else."""
    own = np.pad(ids == slot, 1)
    inside = own[:-2, 1:-1] & own[2:, 1:-1] & own[1:-1, :-2] & own[1:-1, 2:]
    edge: NDArray[np.bool_] = own[1:-1, 1:-1] & ~inside
    return edge


class Painter:
    """Draws what a lane's last step gave, with the lane's own backend."""

    def draw(self, lane: SeenLane, backend: SceneBackend, vlm: VLM, steps_per_episode: int) -> NDArray[np.uint8]:
        """(PICTURE + 72, PICTURE, 3) uint8: the scene with the two objects of the caption outlined, step and reward
        above, caption and verdict below. The VLM is asked for its verdict where it has not been yet."""
        episode, sample = lane.episode, lane.episode.sample
        verdict = episode.verdict
        if verdict is None and sample is not None:
            # Asked for the picture only: rewards and counts must not depend on who is watching.
            verdict = vlm.evaluate([sample])
        # After a scene's last step the next one is set already; what is described is drawn.
        arrangement = lane.arrangement if sample is None else sample.arrangement
        frame = self._capture(lane, backend, arrangement)
        picture = frame.rgb.copy()
        for slot, color in () if sample is None else ((sample.slot_a, _SUBJECT), (sample.slot_b, _REFERENCE)):
            picture[_outline(frame.ids, slot)] = color
        text = describe_step(arrangement.layout.key, sample, episode.reason, verdict)
        status = f"step {episode.step}/{steps_per_episode}   reward {episode.reward:+.3f}"
        return self._with_text(picture, text, status)

    def _capture(self, lane: SeenLane, backend: SceneBackend, arrangement: Arrangement) -> Frame:
        """Draw with the lane's own backend, or with another one where its stage is in a worker."""
        stage = lane.stage if isinstance(lane, Lane) else None
        backend = backend if stage is None else stage.backend
        elsewhere = stage is None or arrangement.layout != stage.arrangement.layout
        if elsewhere:
            backend.reset(arrangement, seed=arrangement.layout.index)
        backend.apply(arrangement)
        frame = backend.capture(PICTURE)
        if elsewhere and stage is not None:
            stage.show_again()
        return frame

    def _with_text(self, picture: NDArray[np.uint8], verdict: Verdict, status: str) -> NDArray[np.uint8]:
        canvas = Image.new("RGB", (PICTURE, PICTURE + _STRIP), _BACKGROUND)
        canvas.paste(Image.fromarray(picture), (0, 0))
        pen = ImageDraw.Draw(canvas)
        lines = [(line, _INK) for line in textwrap.wrap(verdict.caption, 46)[:2]]
        lines += [(line, COLORS[verdict.tone]) for line in textwrap.wrap(verdict.text, 46)[: 4 - len(lines)]]
        for row, (line, color) in enumerate(lines):
            pen.text((6, PICTURE + 4 + row * 16), line, fill=color, font=_font())
        pen.text((6, 4), status, fill=_INK, font=_font(), stroke_width=2, stroke_fill=_BACKGROUND)
        return np.asarray(canvas, dtype=np.uint8).copy()


def draw_lane(loop: LearningLoop, lane: int) -> NDArray[np.uint8]:
    """(392, 320, 3) uint8: the picture of a lane; see `Painter.draw`."""
    return Painter().draw(loop.lanes[lane], loop.backend, loop.scheduler.vlm, loop.settings.steps_per_episode)


class Display:
    """Rendering for one environment: pictures for `rgb_array`, a window for `human`, nothing without a mode."""

    def __init__(self, render_mode: str | None, fps: int) -> None:
        self.render_mode = render_mode
        self._fps = fps
        self._window: Window | None = None

    def follow(self, loop: LearningLoop) -> None:
        """In the mode `human` show every step, as Gymnasium asks for; nothing in the others."""
        if self.render_mode == "human":
            self.render(loop)

    def render(self, loop: LearningLoop) -> NDArray[np.uint8] | None:
        """The picture of the first lane in the mode `rgb_array`; in the mode `human` it is shown, and None returned."""
        if self.render_mode is None:
            gymnasium.logger.warn("render() does nothing without a render_mode; make the environment with one")
            return None
        picture = draw_lane(loop, 0)
        if self.render_mode == "rgb_array":
            return picture
        if self._window is None:
            self._window = Window("RLS3 scene", self._fps)
        self._window.show(picture)
        return None

    def close(self) -> None:
        if self._window is not None:
            self._window.close()
            self._window = None


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
