"""Action views: what an agent's action means as an edit of the scene.

All views name the same edit: which slot, which kind from the container, where on the floor plan, let go from which
height. Yaw does not change a relation and is always drawn by the stage's generator.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import numpy as np
from gymnasium import spaces
from numpy.random import Generator
from numpy.typing import NDArray

from rls3_gym.scene.arrangement import SLOTS, Edit
from rls3_gym.scene.proposals import container
from rls3_gym.scene.relations import RELATIONS
from rls3_gym.stage import Stage
from rls3_registry.errors import UserError, unknown

GRID = 12
"""Cells of the floor plan along x and along y in the `multi_discrete` view."""
LEVELS = 4
"""Heights to let go from in the `multi_discrete` view: the lowest reaches the floor alone, the highest all surfaces."""


class ActionView(Protocol):
    """A space, and what its actions mean."""

    name: ClassVar[str]

    @property
    def space(self) -> spaces.Space[Any]:
        """The action space."""

    def decode(self, action: Any, stage: Stage, rng: Generator) -> Edit | None:
        """The edit that an action means; None when there is no such edit here.

        Raises `UserError` for an action that is not in the space.
        """


class BoxView:
    """Box(5) in [-1, 1]: slot, kind, x, y, level. x and y span the stage of the current room, left to right and
    front to back; values outside are clipped."""

    name: ClassVar[str] = "box"

    def __init__(self, kinds: Sequence[str]) -> None:
        self.kinds = tuple(kinds)
        self.space = spaces.Box(-1.0, 1.0, (5,), np.float32)

    def decode(self, action: Any, stage: Stage, rng: Generator) -> Edit | None:
        values = _array(action, "iuf").astype(np.float64)
        if values.shape != (5,) or not np.isfinite(values).all():
            raise UserError(f"a box action is 5 finite numbers (slot, kind, x, y, level), not {action!r}")
        unit = (np.clip(values, -1.0, 1.0) + 1.0) / 2.0
        slot = _bin(unit[0], SLOTS)
        options = container(stage.arrangement, slot, self.kinds)
        kind = options[_bin(unit[1], len(options))]
        return _edit(stage, slot, kind, unit[2], unit[3], unit[4], rng)


class MultiDiscreteView:
    """MultiDiscrete: slot, kind, x cell, y cell, level. The place within the cell is drawn."""

    name: ClassVar[str] = "multi_discrete"

    def __init__(self, kinds: Sequence[str]) -> None:
        self.kinds = tuple(kinds)
        # Two kinds stand in the other slots and can't be chosen.
        self.space = spaces.MultiDiscrete([SLOTS, len(self.kinds) - (SLOTS - 1), GRID, GRID, LEVELS])

    def decode(self, action: Any, stage: Stage, rng: Generator) -> Edit | None:
        values = _array(action, "iu")
        if values.shape != (5,) or not np.all((values >= 0) & (values < self.space.nvec)):
            raise UserError(f"a multi_discrete action is 5 whole numbers below {self.space.nvec.tolist()}: {action!r}")
        slot, kind, x, y, level = (int(v) for v in values)
        options = container(stage.arrangement, slot, self.kinds)
        x_unit, y_unit = (x + rng.random()) / GRID, (y + rng.random()) / GRID
        return _edit(stage, slot, options[kind], x_unit, y_unit, level / (LEVELS - 1), rng)


class RelationView:
    """Discrete(3 x 26): put slot `action // 26` into relation cell `action % 26` to another object.

    The stage draws which other object, which kind and a feasible place; when it finds none, the step gives no
    sample for the reason `no_place`.
    """

    name: ClassVar[str] = "relation"

    def __init__(self, kinds: Sequence[str]) -> None:
        self.space = spaces.Discrete(SLOTS * len(RELATIONS))

    def decode(self, action: Any, stage: Stage, rng: Generator) -> Edit | None:
        value = _array(action, "iu")
        if value.shape != () or not 0 <= int(value) < self.space.n:
            raise UserError(f"a relation action is a whole number below {self.space.n}, not {action!r}")
        slot, cell = divmod(int(value), len(RELATIONS))
        return stage.relation_edit(rng, slot, RELATIONS[cell])


VIEWS: dict[str, type[BoxView] | type[MultiDiscreteView] | type[RelationView]] = {
    view.name: view for view in (BoxView, MultiDiscreteView, RelationView)
}
"""Action views by name."""


def make_view(name: str, kinds: Sequence[str]) -> ActionView:
    """The action view of that name over a container of `kinds`. Raises `UserError` for an unknown one."""
    if name not in VIEWS:
        raise unknown("action view", str(name), VIEWS, "action_view")
    return VIEWS[name](kinds)


def _array(action: Any, kinds: str) -> NDArray[Any]:
    """The action as an array; one of another kind (numpy's `dtype.kind`), or none at all, has no entries."""
    try:
        values = np.asarray(action)
    except (TypeError, ValueError):  # nested lists of different lengths
        return np.empty(0)
    return values if values.dtype.kind in kinds else np.empty(0)


def _bin(unit: float, count: int) -> int:
    """0..1 -> 0..count-1, in equal parts."""
    return min(int(unit * count), count - 1)


def _edit(stage: Stage, slot: int, kind: str, x: float, y: float, level: float, rng: Generator) -> Edit:
    """The edit at a place given in shares (0..1) of the stage's rectangle."""
    x0, x1, y0, y1 = stage.arrangement.layout.stage
    return Edit(
        slot=slot,
        kind=kind,
        x=float(x0 + x * (x1 - x0)),
        y=float(y0 + y * (y1 - y0)),
        level=float(level),
        yaw=float(rng.uniform(0.0, 2.0 * math.pi)),
    )
