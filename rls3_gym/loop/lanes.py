"""The lanes of a learning loop: what they are made of, and how they are run in this process.

`worker_lanes.py` runs them in other processes. What comes out is the same, to the byte.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from rls3_gym.backends.base import load_backend
from rls3_gym.loop.lane import NO_SUCH_EDIT, Lane, Offer, SeenLane
from rls3_gym.scene.arrangement import Arrangement, Edit
from rls3_gym.stage import FeasibilityRules, Outcome, Stage


class Decoder(Protocol):
    """Finds out what an action means; an action view is one. It travels to the workers."""

    def decode(self, action: Any, lane: Lane) -> Edit | None:
        """The edit; None when there is no such edit in the lane. What the action leaves open is drawn by its
        generator."""


@dataclass(frozen=True)
class LanePlan:
    """All that a lane is made of, ready to be sent to another process."""

    backend: str
    image_size: int
    families: tuple[str, ...]
    rules: FeasibilityRules
    held_out: frozenset[str]
    offer: Offer | None
    proposals: int
    decoder: Decoder | None
    """None: actions are edits already."""

    def make(self) -> Lane:
        """A new lane with a stage and a backend of its own. Raises `UserError` for an unknown name."""
        backend = load_backend(self.backend, self.image_size)
        stage = Stage(backend, families=self.families, rules=self.rules, held_out=self.held_out)
        return Lane(stage, np.random.default_rng(0), self.offer)

    def begin(self, lane: Lane, arrangement: Arrangement | None) -> None:
        """Show a scene, the next one of the lane's cycle when none is given, and draw what can be chosen there."""
        if arrangement is None:
            lane.stage.set_scene(lane.rng)
        else:
            lane.stage.set_arrangement(arrangement)
        lane.draw_offer(self.proposals)

    def carry_out(self, lane: Lane, order: Order) -> Outcome:
        """Do what an action means, then make the lane ready for the next one."""
        edit = order.action if self.decoder is None else self.decoder.decode(order.action, lane)
        outcome = NO_SUCH_EDIT if edit is None else lane.stage.try_edit(edit, lane.rng)
        if order.next_scene:
            lane.stage.set_scene(lane.rng)
        if order.offer:
            lane.draw_offer(self.proposals)
        return outcome


@dataclass(frozen=True)
class Order:
    """One step for one lane."""

    action: Any
    next_scene: bool
    """Whether the lane goes on to another scene after it."""
    offer: bool = True
    """Whether an action is chosen after it: what there is to choose from is drawn then."""


class Lanes(Protocol):
    """Lanes by number, wherever they are run."""

    @property
    def lanes(self) -> Sequence[SeenLane]:
        """What can be seen of them."""

    def restart(self, rngs: Sequence[np.random.Generator]) -> None:
        """Before the first scene; each lane draws from its generator. Lane n begins with the n-th room family."""

    def check(self, arrangement: Arrangement) -> None:
        """Raise `UserError` for a scene that can't be shown. No lane moves."""

    def begin(self, scenes: Mapping[int, Arrangement | None]) -> None:
        """Show scenes on some lanes: those that are given, else the next of each lane's cycle."""

    def step(self, orders: Mapping[int, Order], meanwhile: Callable[[], None]) -> dict[int, Outcome]:
        """Carry out one order on each of some lanes. `meanwhile` is called once, before what comes out is looked at:
        while the orders are carried out, where that happens in other processes."""

    def expect(self, numbers: Sequence[int]) -> None:
        """Note that these lanes will be told to `begin` next, without a given scene; what they show stays."""

    def load_state(self, states: Sequence[Mapping[str, Any]]) -> None:
        """The inverse of every lane's `state`."""

    def close(self) -> None:
        """Free what the lanes hold. Closing twice is fine."""


class LocalLanes:
    """Lanes in this process, one after the other."""

    def __init__(self, plan: LanePlan, count: int) -> None:
        self._plan = plan
        self.lanes: Sequence[Lane] = [plan.make() for _ in range(count)]

    def restart(self, rngs: Sequence[np.random.Generator]) -> None:
        for number, (lane, rng) in enumerate(zip(self.lanes, rngs, strict=True)):
            lane.rng = rng
            lane.restart()
            lane.stage.restart(number)

    def check(self, arrangement: Arrangement) -> None:
        self.lanes[0].stage.check_arrangement(arrangement)

    def begin(self, scenes: Mapping[int, Arrangement | None]) -> None:
        for number, arrangement in scenes.items():
            self._plan.begin(self.lanes[number], arrangement)

    def step(self, orders: Mapping[int, Order], meanwhile: Callable[[], None]) -> dict[int, Outcome]:
        meanwhile()
        return {number: self._plan.carry_out(self.lanes[number], order) for number, order in orders.items()}

    def expect(self, numbers: Sequence[int]) -> None:
        pass

    def load_state(self, states: Sequence[Mapping[str, Any]]) -> None:
        for lane, state in zip(self.lanes, states, strict=True):
            lane.load_state(state, self._plan.proposals)

    def close(self) -> None:
        for lane in self.lanes:
            lane.stage.backend.close()
