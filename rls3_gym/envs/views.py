"""Action views: what an agent's action means as an edit of the scene.

All views name the same edit: which slot, which kind from the container, where on the floor plan, let go from which
height, and related to which other object. Yaw does not change a relation and is always drawn.

Two views choose among *proposals* instead: edits that the stage draws as uniform `box` actions would give them, all of
them geometrically feasible. Choosing uniformly among them is what the random sampler does. Their features are the true
geometry, the same that captions describe.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, ClassVar, Protocol

import numpy as np
from gymnasium import spaces
from numpy.random import Generator
from numpy.typing import NDArray

from rls3_gym.envs.settings import EnvironmentSettings
from rls3_gym.loop.cells import CellRecord
from rls3_gym.loop.lane import Choices, Lane, Offer, SeenLane
from rls3_gym.scene.arrangement import SLOTS, Edit, Reason
from rls3_gym.scene.feasibility import nearest_free_place
from rls3_gym.scene.natural import LENGTH_OF, TERMS_OF
from rls3_gym.scene.proposals import container
from rls3_gym.scene.relations import RELATIONS
from rls3_gym.stage import Stage
from rls3_registry.errors import UserError, shown

GRID = 12
"""Cells of the floor plan along x and along y in the `multi_discrete` view."""
LEVELS = 4
"""Heights to let go from in the `multi_discrete` view: the lowest reaches the floor alone, the highest all surfaces."""
RELATION_TRIES = 5
"""Places that the `relation` view tries before it accepts one that is not seen well."""
RELATION_FEATURES = 9
"""Features of a proposal that tell its relation: six terms, three caption lengths."""
FEATURES = RELATION_FEATURES + 2
"""Features of a proposal: its relation, how seldom that has been made, and how wrong the VLM is about it."""
_OF_RELATIONS = np.hstack([TERMS_OF / np.sqrt(TERMS_OF.sum(axis=1, keepdims=True), dtype=np.float64), LENGTH_OF])
"""(26, 9): the features that tell each relation."""


class ActionView(Protocol):
    """A space, and what its actions mean."""

    name: ClassVar[str]
    offer: ClassVar[Offer | None]
    """What an action chooses from."""

    def __init__(self, kinds: Sequence[str], settings: EnvironmentSettings) -> None:
        """`kinds` is what the container holds."""

    @property
    def space(self) -> spaces.Space[Any]:
        """The action space."""

    def check(self, action: Any) -> NDArray[Any]:
        """The action as an array. Raises `UserError` for one that is not in the space."""

    def decode(self, action: Any, lane: Lane) -> Edit | None:
        """Find out what an action means.

        Args:
            action: An element of the space.
            lane: Its stage is where the edit is to be made; what the action leaves open is drawn by its generator.

        Returns:
            The edit; None when there is no such edit here.

        Raises:
            UserError: The action is not in the space.
        """

    def masks(self, lane: SeenLane) -> NDArray[np.bool_]:
        """(n,) which actions of a `Discrete` space are feasible as far as geometry tells. Raises `UserError` where
        actions are not numbered."""


def cell_features(cells: CellRecord) -> NDArray[np.float64]:
    """(26, 11) features of the relation cells, and so of every proposal that makes one of them.

    - Six term indicators divided by the square root of their number, and a one-hot of the caption's length. All rows
      have the same length in these nine, so that none is favored beforehand, and each is itself the direction in which
      its relation cell, and no other, scores highest.
    - `scarcity`: half the logarithm of (mean count / count) of the cell, -1..1: above 0 where it was made less often
      than others of late.
    - `error`: the VLM's running error in the cell and its antonyms, -1 never wrong, 0 chance, 1 always wrong.
    """
    features = np.empty((len(RELATIONS), FEATURES))
    features[:, :RELATION_FEATURES] = _OF_RELATIONS
    features[:, -2] = np.minimum(np.maximum(np.log(cells.scarcity) / 2, -1), 1)
    features[:, -1] = 2 * cells.error - 1
    return features


def proposal_features(proposals: Choices, cells: CellRecord) -> NDArray[np.float64]:
    """(k, 11) features of proposals: those of the cells that they make, see `cell_features`."""
    return cell_features(cells)[proposals.relations]


class PreferenceView:
    """Box(11) in [-1, 1]: weights over the features of the proposals (see `proposal_features`). The proposal with the
    highest sum of weighted features is made; of equal ones the first."""

    name: ClassVar[str] = "preference"
    offer: ClassVar[Offer | None] = Offer.PROPOSALS

    def __init__(self, kinds: Sequence[str], settings: EnvironmentSettings) -> None:
        self.space = spaces.Box(-1.0, 1.0, (FEATURES,), np.float32)

    def check(self, action: Any) -> NDArray[Any]:
        weights = _numbers(action, (FEATURES,))
        if weights is None:
            names = "six terms, three lengths, scarcity, error"
            raise UserError(f"a preference action is {FEATURES} finite numbers ({names}), not {shown(action)}")
        return weights

    def decode(self, action: Any, lane: Lane) -> Edit | None:
        weights = self.check(action)
        if lane.proposals is None or not len(lane.proposals):
            return None
        scores = proposal_features(lane.proposals, lane.cells) @ np.clip(weights, -1.0, 1.0)
        return lane.proposals.edit(int(scores.argmax()))

    def masks(self, lane: SeenLane) -> NDArray[np.bool_]:
        raise _not_numbered(self.name)


class SelectView:
    """Discrete(k): the number of a proposal. What the proposals are is part of the observation. A number beyond those
    that could be drawn here gives no sample, for the reason `no_place`."""

    name: ClassVar[str] = "select"
    offer: ClassVar[Offer | None] = Offer.PROPOSALS

    def __init__(self, kinds: Sequence[str], settings: EnvironmentSettings) -> None:
        self.space = spaces.Discrete(settings.proposals)

    def check(self, action: Any) -> NDArray[Any]:
        return _number(action, self.space, self.name)

    def decode(self, action: Any, lane: Lane) -> Edit | None:
        value = self.check(action)
        if lane.proposals is None or int(value) >= len(lane.proposals):
            return None
        return lane.proposals.edit(int(value))

    def masks(self, lane: SeenLane) -> NDArray[np.bool_]:
        return np.arange(self.space.n) < (0 if lane.proposals is None else len(lane.proposals))


class BoxView:
    """Box(5) in [-1, 1]: slot, kind, x, y, level. x and y span the stage of the current room, left to right and
    front to back; values outside are clipped. With `choose_reference` a sixth number says which of the other two
    objects the caption relates the edited one to; with `snap` an infeasible place means the nearest free one."""

    name: ClassVar[str] = "box"
    offer: ClassVar[Offer | None] = None

    def __init__(self, kinds: Sequence[str], settings: EnvironmentSettings) -> None:
        self.kinds = tuple(kinds)
        self._snap = settings.snap
        self._numbers = ("slot", "kind", "x", "y", "level", *(("reference",) if settings.choose_reference else ()))
        self.space = spaces.Box(-1.0, 1.0, (len(self._numbers),), np.float32)

    def check(self, action: Any) -> NDArray[Any]:
        values = _numbers(action, self.space.shape)
        if values is None:
            names = ", ".join(self._numbers)
            raise UserError(f"a box action is {len(self._numbers)} finite numbers ({names}), not {shown(action)}")
        return values

    def decode(self, action: Any, lane: Lane) -> Edit | None:
        unit = (np.clip(self.check(action), -1.0, 1.0) + 1.0) / 2.0
        slot = _bin(unit[0], SLOTS)
        options = container(lane.stage.arrangement, slot, self.kinds)
        kind = options[_bin(unit[1], len(options))]
        edit = _edit(lane.stage, slot, kind, unit[2], unit[3], unit[4], lane.rng)
        if len(unit) > 5:
            others = [other for other in range(SLOTS) if other != slot]
            edit = replace(edit, reference=others[_bin(unit[5], len(others))])
        if self._snap:
            free = nearest_free_place(lane.stage.arrangement, slot, kind, edit.x, edit.y, edit.level)
            edit = edit if free is None else replace(edit, x=free[0], y=free[1])
        return edit

    def masks(self, lane: SeenLane) -> NDArray[np.bool_]:
        raise _not_numbered(self.name)


class MultiDiscreteView:
    """MultiDiscrete: slot, kind, x cell, y cell, level. The place within the cell is drawn."""

    name: ClassVar[str] = "multi_discrete"
    offer: ClassVar[Offer | None] = None

    def __init__(self, kinds: Sequence[str], settings: EnvironmentSettings) -> None:
        self.kinds = tuple(kinds)
        # Two kinds stand in the other slots and can't be chosen.
        self.space = spaces.MultiDiscrete([SLOTS, len(self.kinds) - (SLOTS - 1), GRID, GRID, LEVELS])

    def check(self, action: Any) -> NDArray[Any]:
        values = _array(action, "iu")
        if values.shape != (5,) or not np.all((values >= 0) & (values < self.space.nvec)):
            raise UserError(
                f"a multi_discrete action is 5 whole numbers below {self.space.nvec.tolist()}: {shown(action)}"
            )
        return values

    def decode(self, action: Any, lane: Lane) -> Edit | None:
        slot, kind, x, y, level = (int(v) for v in self.check(action))
        options = container(lane.stage.arrangement, slot, self.kinds)
        x_unit, y_unit = (x + lane.rng.random()) / GRID, (y + lane.rng.random()) / GRID
        return _edit(lane.stage, slot, options[kind], x_unit, y_unit, level / (LEVELS - 1), lane.rng)

    def masks(self, lane: SeenLane) -> NDArray[np.bool_]:
        raise _not_numbered(self.name)


class RelationView:
    """Discrete(3 x 26): make the object in slot `action // 26` stand in relation cell `action % 26` to another one.

    The object is moved and exchanged for one of another kind; where no place of it makes the relation, the other one
    is moved instead. What can be had is part of the observation (see `cell_features`), and `masks` tells; a relation
    that neither can make gives no sample for the reason `no_place`.
    """

    name: ClassVar[str] = "relation"
    offer: ClassVar[Offer | None] = Offer.RELATIONS

    def __init__(self, kinds: Sequence[str], settings: EnvironmentSettings) -> None:
        self.space = spaces.Discrete(SLOTS * len(RELATIONS))

    def check(self, action: Any) -> NDArray[Any]:
        return _number(action, self.space, self.name)

    def decode(self, action: Any, lane: Lane) -> Edit | None:
        slot, cell = divmod(int(self.check(action)), len(RELATIONS))
        if lane.relations is None:
            return None
        first = None
        for edit in islice(lane.relations.edits(lane.rng, slot, cell), RELATION_TRIES):
            first = first or edit
            if lane.stage.preview(edit, lane.rng).reason not in (Reason.HIDDEN, Reason.TOO_SMALL):
                return edit
        return first

    def masks(self, lane: SeenLane) -> NDArray[np.bool_]:
        return np.zeros(self.space.n, np.bool_) if lane.relations is None else lane.relations.on_offer.ravel()


VIEWS: dict[str, type[ActionView]] = {
    view.name: view for view in (SelectView, PreferenceView, BoxView, MultiDiscreteView, RelationView)
}
"""Action views by name; made from the kinds in the container and the environment's settings."""


def _not_numbered(view: str) -> UserError:
    return UserError(f"action_view {view!r} has no numbered actions to mask; 'select' and 'relation' have")


def _number(action: Any, space: spaces.Discrete, view: str) -> NDArray[Any]:
    value = _array(action, "iu")
    if value.shape != () or not 0 <= int(value) < space.n:
        raise UserError(f"a {view} action is a whole number below {space.n}, not {shown(action)}")
    return value


def _numbers(action: Any, shape: tuple[int, ...]) -> NDArray[np.float64] | None:
    """The action as finite numbers of that shape; None for any other."""
    values = _array(action, "iuf")
    if values.shape != shape:  # before it is copied: it may be of any size
        return None
    with np.errstate(over="ignore"):
        numbers = values.astype(np.float64)
    return numbers if np.isfinite(numbers).all() else None


def _array(action: Any, kinds: str) -> NDArray[Any]:
    """The action as an array; one that is not an array, or has another dtype, has no entries."""
    try:
        values = np.asarray(action)
    except (TypeError, ValueError, OverflowError, RecursionError):  # such as nested lists of different lengths
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
