"""Which kind stands where in which room, and whether an edit of that is feasible.

Distances are meters, world frame, z up. An object's position is the center of its base.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any

import numpy as np

from rls3_gym.scene import rules
from rls3_gym.scene.camera import FloatArray, camera_frame
from rls3_gym.scene.catalog import Catalog, ObjectKind, load_catalog
from rls3_gym.scene.layouts import draw_layout
from rls3_gym.scene.rooms import Layout, Surface
from rls3_registry.errors import UserError

SLOTS = 3
"""Number of active objects in a scene (the paper's three)."""
RELEASE_HEIGHT = 1.6
"""Meters above the floor from which an object is let go at level 1."""


class Reason(StrEnum):
    """Why a step gives no sample. The last four are known only after rendering or captioning."""

    NO_PLACE = "no_place"  # the stage found no edit that makes the requested relation
    OUTSIDE_ROOM = "outside_room"
    NO_SUPPORT = "no_support"
    OVERLAPS_FURNITURE = "overlaps_furniture"
    OVERLAPS_OBJECT = "overlaps_object"
    OUT_OF_VIEW = "out_of_view"
    HIDDEN = "hidden"
    TOO_SMALL = "too_small"
    AMBIGUOUS = "ambiguous"
    HELD_OUT = "held_out"


@dataclass(frozen=True)
class ActiveObject:
    """An object in the scene: its kind's name, the center of its base, and its yaw in radians."""

    kind: str
    position: tuple[float, float, float]
    yaw: float


@dataclass(frozen=True)
class Arrangement:
    """A layout and the objects in its slots (three once the stage is set)."""

    layout: Layout
    objects: tuple[ActiveObject, ...]

    @cached_property
    def key(self) -> str:
        """Identity of the scene for split checks: layout, kinds and positions to the millimeter (no yaw)."""
        parts = [self.layout.key] + sorted(
            f"{o.kind}@{o.position[0]:.3f},{o.position[1]:.3f},{o.position[2]:.3f}" for o in self.objects
        )
        return hashlib.sha256("|".join(parts).encode()).hexdigest()[:20]

    def encode(self) -> dict[str, Any]:
        """JSON-ready: `family`, `layout` (its index), `objects` as [kind, x, y, z, yaw] rows."""
        return {
            "family": self.layout.family,
            "layout": self.layout.index,
            "objects": [[o.kind, *o.position, o.yaw] for o in self.objects],
        }

    @classmethod
    def decode(cls, values: Mapping[str, Any]) -> Arrangement:
        """The inverse of `encode`; other keys are ignored. Bad data raise `ValueError`, `KeyError` or `TypeError`."""
        objects = tuple(
            ActiveObject(str(kind), (float(x), float(y), float(z)), float(yaw))
            for kind, x, y, z, yaw in values["objects"]
        )
        return cls(draw_layout(values["family"], values["layout"]), objects)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled with the name of its room and not with all its furniture, where that is how the room was drawn."""
        family, index = self.layout.family, self.layout.index
        if _is_drawn(self.layout):
            return _arrangement, (family, index, self.objects)
        return Arrangement, (self.layout, self.objects)

    def camera_positions(self) -> FloatArray:
        """(slots, 3) base centers in the gravity-aligned camera frame, meters; read-only."""
        return self._camera_positions

    @cached_property
    def _camera_positions(self) -> FloatArray:
        positions = camera_frame(self.layout.camera).to_camera(np.array([o.position for o in self.objects]))
        positions.setflags(write=False)
        return positions


def _is_drawn(layout: Layout) -> bool:
    try:
        return draw_layout(layout.family, layout.index) is layout
    except UserError:  # made by hand
        return False


def _arrangement(family: str, index: int, objects: tuple[ActiveObject, ...]) -> Arrangement:
    return Arrangement(draw_layout(family, index), objects)


@dataclass(frozen=True)
class Edit:
    """What an action means: put an object of `kind` into `slot` at (x, y), on one of the surfaces there."""

    slot: int
    kind: str
    x: float
    y: float
    level: float
    """0..1: from how high the object is let go, as a share of `RELEASE_HEIGHT`: it comes to rest on the highest
    surface at (x, y) that is not higher and has room for it."""
    yaw: float
    reference: int | None = None
    """Slot of the object that the caption relates the edited one to; None: the stage draws it."""
    turned: bool = False
    """Whether the caption describes the reference in relation to the edited object, instead of the reverse."""
    found: tuple[Arrangement, float] | None = field(default=None, compare=False, repr=False)
    """Where it is known already that the edit is feasible: in which very arrangement, and at what height the object
    comes to rest there, meters. `place` then looks for nothing again."""


@dataclass(frozen=True)
class Placement:
    """The outcome of an edit: the new arrangement, or the reason why there is none."""

    arrangement: Arrangement | None
    reason: Reason | None = None

    @property
    def feasible(self) -> bool:
        return self.reason is None


def surfaces_at(layout: Layout, kind: ObjectKind, x: float, y: float) -> list[Surface]:
    """The surfaces that would carry an object of `kind` at (x, y), by height, whether or not there is room."""
    return sorted((s for s in layout.surfaces if rules.carries(s, kind.radius, x, y)), key=lambda s: s.z)


def free_surfaces_at(layout: Layout, kind: ObjectKind, x: float, y: float) -> list[Surface]:
    """Those of `surfaces_at` on which an object of `kind` has room between the furniture."""
    return [s for s in surfaces_at(layout, kind, x, y) if _has_room(layout, s, kind, x, y)]


def place(arrangement: Arrangement, edit: Edit, catalog: Catalog | None = None) -> Placement:
    """Check support, room bounds, furniture, the other objects and the camera's view; no pixels needed.

    `feasibility.place_many` says of many edits at once which are feasible, but not why the others are not.
    """
    if edit.found is not None and edit.found[0] is arrangement:
        return Placement(_edited(arrangement, edit, edit.found[1]))
    layout = arrangement.layout
    kind = (catalog or load_catalog())[edit.kind]
    x0, x1, y0, y1 = layout.stage
    if not (x0 <= edit.x <= x1 and y0 <= edit.y <= y1):
        return Placement(None, Reason.OUTSIDE_ROOM)
    release = edit.level * RELEASE_HEIGHT
    reachable = [s for s in layout.surfaces if s.z <= release and rules.carries(s, kind.radius, edit.x, edit.y)]
    if not reachable:
        return Placement(None, Reason.NO_SUPPORT)
    reachable.sort(key=lambda s: -s.z)
    surface = next((s for s in reachable if _has_room(layout, s, kind, edit.x, edit.y)), None)
    if surface is None:
        return Placement(None, Reason.OVERLAPS_FURNITURE)
    edited = _edited(arrangement, edit, surface.z)
    reason = check(arrangement, edit.slot, edited.objects[edit.slot], kind, has_room=True)
    return Placement(edited) if reason is None else Placement(None, reason)


def _edited(arrangement: Arrangement, edit: Edit, z: float) -> Arrangement:
    """The arrangement after an edit whose object comes to rest at height z."""
    thing = ActiveObject(edit.kind, (edit.x, edit.y, z), edit.yaw)
    before, after = arrangement.objects[: edit.slot], arrangement.objects[edit.slot + 1 :]
    return Arrangement(arrangement.layout, (*before, thing, *after))


def check(
    arrangement: Arrangement, slot: int, thing: ActiveObject, kind: ObjectKind, *, has_room: bool = False
) -> Reason | None:
    """The rules an object at a given position must meet in `slot` of `arrangement`; None when all hold.

    `has_room`: it is known already that the object touches no furniture there.
    """
    x, y, z = thing.position
    layout = arrangement.layout
    if not rules.within_walls(layout, kind.radius, x, y):
        return Reason.OUTSIDE_ROOM
    if not has_room and _touches_furniture(layout, kind, x, y, z):
        return Reason.OVERLAPS_FURNITURE
    catalog = load_catalog()
    for other_slot, other in enumerate(arrangement.objects):
        if other_slot == slot:
            continue
        other_kind = catalog[other.kind]
        if not rules.clear_of(
            thing.position, kind.radius, kind.height, other.position, other_kind.radius, other_kind.height
        ):
            return Reason.OVERLAPS_OBJECT
    if not rules.in_view(camera_frame(layout.camera), kind.height, x, y, z):
        return Reason.OUT_OF_VIEW
    return None


def _has_room(layout: Layout, surface: Surface, kind: ObjectKind, x: float, y: float) -> bool:
    """Whether an object fits under what is above the surface and between what stands on it."""
    return kind.height <= surface.clearance and not _touches_furniture(layout, kind, x, y, surface.z)


def _touches_furniture(layout: Layout, kind: ObjectKind, x: float, y: float, z: float) -> bool:
    """Whether the cylinder around an object reaches into a solid."""
    radius, top = kind.radius, z + kind.height
    return any(rules.level_with(solid, z, top) and rules.reaches_over(solid, radius, x, y) for solid in layout.solids)
