"""Observation kinds: what an agent sees of the scene and of the VLM."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from rls3_gym.loop.scheduler import Scheduler
from rls3_gym.scene.arrangement import SLOTS, Arrangement
from rls3_gym.scene.catalog import load_catalog
from rls3_gym.scene.layouts import family_names
from rls3_gym.scene.rooms import Layout
from rls3_gym.stage import Stage
from rls3_registry.errors import unknown

KINDS = ("state", "pixels", "dict")
"""Observation kinds by name."""
SURFACES = 5
"""Raised surfaces of a room that the state tells of: the highest ones."""
_PER_OBJECT = 10
_LIMIT = 10.0


class StateView:
    """The flat float32 vector; `slices` names its blocks.

    | block | values | meaning |
    |---|---|---|
    | `room` | families + 4 | one-hot of the scene family (sorted by name); half width and half depth of the stage (m); sine and cosine of the camera's heading |
    | `surfaces` | 5 x 3 | highest raised surfaces, highest first: center x, y (action units), height (m); zeros where there are fewer |
    | `objects` | 3 x 10 | per slot: kind (action units), x, y (action units), position of the base in the camera frame (right, up, away; m), sine and cosine of the yaw, radius and height (dm) |
    | `step` | 1 | steps done in this episode / T |
    | `error` | 3 | running error of the VLM, averaged over antonyms: left/right, front/behind, above/below; -1 never wrong, 0 chance, 1 always |
    | `complexity` | 3 | the same for captions with one, two and three terms |

    Action units: -1..1, as the `box` action spells kinds and places. All values are clipped to +-10.
    """  # noqa: E501

    def __init__(self, kinds: Sequence[str]) -> None:
        self._kinds = {kind: 2 * (i + 0.5) / len(kinds) - 1 for i, kind in enumerate(kinds)}
        self._families = {family: i for i, family in enumerate(family_names())}
        sizes = {
            "room": len(self._families) + 4,
            "surfaces": SURFACES * 3,
            "objects": SLOTS * _PER_OBJECT,
            "step": 1,
            "error": 3,
            "complexity": 3,
        }
        ends = np.cumsum(list(sizes.values()))
        self.slices = {name: slice(int(e) - n, int(e)) for (name, n), e in zip(sizes.items(), ends, strict=True)}
        self.space = spaces.Box(-_LIMIT, _LIMIT, (int(ends[-1]),), np.float32)
        self._room: tuple[Layout, NDArray[np.float64]] | None = None
        self._objects: tuple[Arrangement, NDArray[np.float64]] | None = None

    def observe(self, stage: Stage, scheduler: Scheduler, step: int) -> NDArray[np.float32]:
        """The vector for the scene as it stands after `step` steps of the episode."""
        parts: list[NDArray[np.float64]] = [
            self._of_room(stage.arrangement.layout),
            self._of_objects(stage.arrangement),
            np.array([step / scheduler.schedule.steps_per_episode]),
            2 * scheduler.axis_error - 1,
            2 * scheduler.complexity_error - 1,
        ]
        return np.clip(np.concatenate(parts), -_LIMIT, _LIMIT).astype(np.float32)

    def _of_room(self, layout: Layout) -> NDArray[np.float64]:
        """Blocks `room` and `surfaces`; the same all through an episode, so kept."""
        if self._room is None or self._room[0] is not layout:
            family = np.zeros(len(self._families))
            family[self._families[layout.family]] = 1.0
            x0, x1, y0, y1 = layout.stage
            heading = layout.camera.heading
            frame = [(x1 - x0) / 2, (y1 - y0) / 2, np.sin(heading), np.cos(heading)]
            surfaces = np.zeros((SURFACES, 3))
            raised = sorted((s for s in layout.surfaces if s.z > 0), key=lambda s: -s.z)[:SURFACES]
            for row, s in zip(surfaces, raised, strict=False):
                row[:] = (*_action_units(layout, (s.x0 + s.x1) / 2, (s.y0 + s.y1) / 2), s.z)
            self._room = (layout, np.concatenate([family, frame, surfaces.ravel()]))
        return self._room[1]

    def _of_objects(self, arrangement: Arrangement) -> NDArray[np.float64]:
        """Block `objects`; kept while no edit succeeds."""
        if self._objects is None or self._objects[0] is not arrangement:
            catalog = load_catalog()
            rows = np.zeros((SLOTS, _PER_OBJECT))
            rows[:, 3:6] = arrangement.camera_positions()
            for row, thing in zip(rows, arrangement.objects, strict=True):
                kind = catalog[thing.kind]
                row[0] = self._kinds[thing.kind]
                row[1:3] = _action_units(arrangement.layout, thing.position[0], thing.position[1])
                row[6:8] = np.sin(thing.yaw), np.cos(thing.yaw)
                row[8:10] = kind.radius * 10, kind.height * 10
            self._objects = (arrangement, rows.ravel())
        return self._objects[1]


class Observer:
    """Makes the observations of the chosen kind: `state`, `pixels` (the camera picture) or `dict` of both."""

    def __init__(self, kind: str, kinds: Sequence[str], image_size: int) -> None:
        if kind not in KINDS:
            raise unknown("observation kind", str(kind), KINDS, "observation")
        self.kind = kind
        self.state = StateView(kinds)
        pixels = spaces.Box(0, 255, (image_size, image_size, 3), np.uint8)
        choices: dict[str, spaces.Space[Any]] = {
            "state": self.state.space,
            "pixels": pixels,
            "dict": spaces.Dict({"state": self.state.space, "pixels": pixels}),
        }
        self.space = choices[kind]

    def observe(self, stage: Stage, scheduler: Scheduler, step: int) -> Any:
        """The observation of the scene as it stands after `step` steps of the episode."""
        if self.kind == "state":
            return self.state.observe(stage, scheduler, step)
        picture = stage.frame.rgb.copy()
        if self.kind == "pixels":
            return picture
        return {"state": self.state.observe(stage, scheduler, step), "pixels": picture}


def _action_units(layout: Layout, x: float, y: float) -> tuple[float, float]:
    """A place on the floor plan in the units of the box action: -1..1 over the stage."""
    x0, x1, y0, y1 = layout.stage
    return 2 * (x - x0) / (x1 - x0) - 1, 2 * (y - y0) / (y1 - y0) - 1
