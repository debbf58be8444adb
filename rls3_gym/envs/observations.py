"""Observations: what an agent sees of the scene and of the VLM."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from rls3_gym.envs.settings import EnvironmentSettings
from rls3_gym.envs.views import FEATURES, cell_features, proposal_features
from rls3_gym.loop.lane import SeenLane
from rls3_gym.loop.scheduler import Scheduler
from rls3_gym.scene.arrangement import SLOTS, Arrangement
from rls3_gym.scene.catalog import load_catalog
from rls3_gym.scene.feasibility import floor_plan
from rls3_gym.scene.layouts import family_names
from rls3_gym.scene.relations import RELATIONS
from rls3_gym.scene.rooms import Layout

SURFACES = 5
"""Raised surfaces of a room that the state tells of: the highest ones."""
FLOOR_CELLS = 12
"""Cells of the floor plan along x and along y."""
_PER_OBJECT = 10
_LIMIT = 10.0


class StateView:
    """The flat float32 vector; `slices` names its blocks. Which blocks there are depends on the action view: where an
    action chooses among proposals or relations, they are what the edit is made of, and the room is left out.

    | block | values | where | meaning |
    |---|---|---|---|
    | `room` | families + 4 | placing views | one-hot of the scene family (sorted by name); half width and half depth of the stage (m); sine and cosine of the camera's heading |
    | `surfaces` | 5 x 3 | placing views | highest raised surfaces, highest first: center x, y (action units), height (m); zeros where there are fewer |
    | `floor` | 12 x 12 x 2 | placing views | over the stage's floor plan, row by row from front to back: height (m) of the highest surface for a slim object; share of the cell where furniture keeps a typical object off the floor |
    | `objects` | 3 x 10 | placing views | per slot: kind (action units), x, y (action units), position of the base in the camera frame (right, up, away; m), sine and cosine of the yaw, radius and height (dm) |
    | `proposals` | k x 11, or 11 | `select`, or `preference` | features of each proposal, in order (zeros where there are fewer); or their mean. See `rls3_gym.envs.views.proposal_features` |
    | `relations` | 3 x 26 x 11 | `relation` | the same features of each relation cell, for each slot, in the order of the actions; zeros where it can't be had. An agent of one slot (PettingZoo) sees the 26 of its own |
    | `step` | 1 | all | steps done in this episode / `steps_per_episode` |
    | `round` | 1 | all | rounds done / (rounds done + 4): 0 at first, then towards 1 |
    | `error` | 3 | all | running error of the VLM, averaged over antonyms: left/right, front/behind, above/below; -1 never wrong, 0 chance, 1 always |
    | `complexity` | 3 | all | the same for captions with one, two and three terms |
    | `made` | 3 + 3 | all | running share of samples whose caption has a term of the axis, and of samples with one, two and three terms; -1 none, 1 all |

    Action units: -1..1, as the `box` action spells kinds and places. All values are clipped to +-10.
    """  # noqa: E501

    def __init__(self, kinds: Sequence[str], action_view: str, proposals: int, slots: int = SLOTS) -> None:
        """`slots`: how many of them an action may name, 1 where an agent has its own."""
        self._kinds = {kind: 2 * (i + 0.5) / len(kinds) - 1 for i, kind in enumerate(kinds)}
        self._families = {family: i for i, family in enumerate(family_names())}
        self._proposals = {"select": proposals, "preference": 1}.get(action_view, 0)
        self._relations = slots * len(RELATIONS) if action_view == "relation" else 0
        placing = {
            "room": len(self._families) + 4,
            "surfaces": SURFACES * 3,
            "floor": FLOOR_CELLS * FLOOR_CELLS * 2,
            "objects": SLOTS * _PER_OBJECT,
        }
        choosing = {"proposals": self._proposals, "relations": self._relations}
        sizes = ({name: n * FEATURES for name, n in choosing.items() if n} or placing) | {
            "step": 1, "round": 1, "error": 3, "complexity": 3, "made": 6
        }  # fmt: skip
        ends = np.cumsum(list(sizes.values()))
        self.slices = {name: slice(int(e) - n, int(e)) for (name, n), e in zip(sizes.items(), ends, strict=True)}
        self.space = spaces.Box(-_LIMIT, _LIMIT, (int(ends[-1]),), np.float32)
        self._room: tuple[Layout, NDArray[np.float64]] | None = None
        self._objects: tuple[Arrangement, NDArray[np.float64]] | None = None

    def observe(self, lane: SeenLane, scheduler: Scheduler, slot: int | None = None) -> NDArray[np.float32]:
        """The vector for a lane as it stands, for the agent of a slot where each has its own."""
        if self._proposals:
            parts = [self._of_proposals(lane)]
        elif self._relations:
            parts = [self._of_relations(lane, slot)]
        else:
            arrangement = lane.arrangement
            parts = [self._of_room(arrangement.layout), self._of_objects(arrangement)]
        progress = [lane.episode.step / scheduler.schedule.steps_per_episode, scheduler.round / (scheduler.round + 4)]
        state = np.concatenate([*parts, progress, scheduler.axis_error, scheduler.complexity_error, scheduler.made])
        shares: NDArray[np.float64] = state[self.slices["error"].start :]
        shares *= 2
        shares -= 1
        return state.astype(np.float32)

    def _of_proposals(self, lane: SeenLane) -> NDArray[np.float64]:
        """Block `proposals`."""
        proposals = lane.proposals
        features = np.zeros((0, FEATURES)) if proposals is None else proposal_features(proposals, lane.cells)
        if self._proposals == 1:
            return features.mean(axis=0) if len(features) else np.zeros(FEATURES)
        missing = self._proposals - len(features)
        return features.ravel() if not missing else np.append(features, np.zeros(missing * FEATURES))

    def _of_relations(self, lane: SeenLane, slot: int | None) -> NDArray[np.float64]:
        """Block `relations`."""
        if lane.relations is None:
            return np.zeros(self._relations * FEATURES)
        offered = lane.relations.on_offer if slot is None else lane.relations.on_offer[slot]
        features: NDArray[np.float64] = offered[..., None] * cell_features(lane.cells)
        return features.ravel()

    def _of_room(self, layout: Layout) -> NDArray[np.float64]:
        """Blocks `room`, `surfaces` and `floor`; the same as long as the scene is, so kept."""
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
            floor = floor_plan(layout).astype(np.float64).ravel()
            self._room = (layout, np.concatenate([family, frame, surfaces.ravel(), floor]).clip(-_LIMIT, _LIMIT))
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
            self._objects = (arrangement, rows.ravel().clip(-_LIMIT, _LIMIT))
        return self._objects[1]


class Observer:
    """Makes the observations that the settings ask for: `state`, `pixels` (the camera picture) or `dict` of both."""

    def __init__(self, settings: EnvironmentSettings, kinds: Sequence[str], slots: int = SLOTS) -> None:
        """`slots` as for `StateView`."""
        self._choice = settings.observation
        self.state = StateView(kinds, settings.action_view, settings.proposals, slots)
        pixels = spaces.Box(0, 255, (settings.image_size, settings.image_size, 3), np.uint8)
        choices: dict[str, spaces.Space[Any]] = {
            "state": self.state.space,
            "pixels": pixels,
            "dict": spaces.Dict({"state": self.state.space, "pixels": pixels}),
        }
        self.space = choices[settings.observation]

    def observe(self, lane: SeenLane, scheduler: Scheduler, slot: int | None = None) -> Any:
        """The observation of a lane as it stands, for the agent of a slot where each has its own."""
        if self._choice == "state":
            return self.state.observe(lane, scheduler, slot)
        picture = lane.picture.copy()
        if self._choice == "pixels":
            return picture
        return {"state": self.state.observe(lane, scheduler, slot), "pixels": picture}


def _action_units(layout: Layout, x: float, y: float) -> tuple[float, float]:
    """A place on the floor plan in the units of the box action: -1..1 over the stage."""
    x0, x1, y0, y1 = layout.stage
    return 2 * (x - x0) / (x1 - x0) - 1, 2 * (y - y0) / (y1 - y0) - 1
