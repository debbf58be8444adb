"""Action views for an agent that moves the object of one slot: what the views of a whole scene leave when the slot is
given."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from rls3_gym.envs.settings import EnvironmentSettings
from rls3_gym.envs.views import VIEWS
from rls3_gym.loop.lane import Lane, Offer
from rls3_gym.scene.arrangement import SLOTS, Edit
from rls3_gym.scene.relations import RELATIONS
from rls3_registry.errors import UserError, shown


class SlotView:
    """The action view of the settings, for one slot at a time."""

    def __init__(self, kinds: list[str], settings: EnvironmentSettings) -> None:
        whole = VIEWS[settings.action_view]
        self._view = whole(kinds, settings)
        self.name = whole.name
        self.offer = Offer.BY_SLOT if whole.offer is Offer.PROPOSALS else whole.offer

    def space(self) -> spaces.Space[Any]:
        """A new action space of one agent."""
        whole = self._view.space
        if self.name == "relation":
            return spaces.Discrete(len(RELATIONS))
        if isinstance(whole, spaces.MultiDiscrete):
            return spaces.MultiDiscrete(whole.nvec[1:])
        if isinstance(whole, spaces.Discrete):
            return spaces.Discrete(int(whole.n))
        assert isinstance(whole, spaces.Box)
        left_out = 1 if self.name == "box" else 0
        return spaces.Box(-1.0, 1.0, (whole.shape[0] - left_out,), np.float32)

    def check(self, action: Any, slot: int) -> Any:
        """The action of the whole scene. Raises `UserError` for one that is not in the space."""
        if self.name == "relation":
            if not spaces.Discrete(len(RELATIONS)).contains(action):
                raise UserError(f"a relation action is a whole number below {len(RELATIONS)}, not {shown(action)}")
            return slot * len(RELATIONS) + int(action)
        if self.name in ("box", "multi_discrete"):
            first = slot if self.name == "multi_discrete" else 2 * (slot + 0.5) / SLOTS - 1
            try:
                values = np.asarray(action)
            except (TypeError, ValueError, OverflowError, RecursionError):  # such as nested lists of different lengths
                values = np.empty(0)
            if values.shape != self.space().shape:
                raise UserError(f"a {self.name} action of one object is {self.space()}, not {shown(action)}")
            action = np.concatenate([[first], values]) if values.dtype.kind in "iuf" else values
        return self._view.check(action)

    def decode(self, action: Any, slot: int, lane: Lane) -> Edit | None:
        """What an action for a slot means; see `ActionView.decode`."""
        whole = self.check(action, slot)
        show(lane, slot)
        return self._view.decode(whole, lane)

    def masks(self, lane: Lane, slot: int) -> NDArray[np.bool_]:
        """(n,) which actions are known to be feasible; see `ActionView.masks`."""
        show(lane, slot)
        masks = self._view.masks(lane)
        return masks.reshape(SLOTS, -1)[slot] if self.name == "relation" else masks


def show(lane: Lane, slot: int) -> None:
    """Let the proposals for a slot be those there are to choose from."""
    if lane.by_slot:
        lane.proposals = lane.by_slot[slot]
