"""Lanes in workers. The main process keeps what is seen of each lane, and where it stands.

So a worker that dies is replaced by one that goes on from there, and an exception, or a Ctrl-C in the middle of a step,
leaves every lane where it was. What the workers are is left to a `Crew`: processes of this machine
(`worker_processes.py`), or actors in a Ray cluster (`worker_actors.py`).
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import numpy as np
from gymnasium import logger
from numpy.typing import NDArray

from rls3_gym.loop.cells import CellRecord
from rls3_gym.loop.lane import Draws, Episode, draws_of, lane_state
from rls3_gym.loop.lanes import Order
from rls3_gym.loop.worker import Command, News, Pictures, Place
from rls3_gym.scene.arrangement import Arrangement
from rls3_gym.stage import Outcome
from rls3_registry.errors import UserError

Workers = int | Literal["ray"]
"""Processes to run stages in, 0 for the main one; or an actor for each lane in a Ray cluster."""
TRIES = 3
"""Workers that may die over the same command before it is given up."""


class Hand(Protocol):
    """A worker, as the main process has it."""

    @property
    def pid(self) -> int:
        """Number of its process, on the machine where that is."""

    def tell(self, command: Command) -> None:
        """Send a command. One that is dead is found out by `answer`."""

    def answer(self, number: int) -> Any:
        """The answer to the command with this number, with the lanes' pictures in place; None when it has died."""

    def death(self) -> str:
        """What became of a dead one."""

    def end(self) -> None:
        """Have it end."""

    def wait(self) -> None:
        """Until it has ended, a short while; then kill it."""


class Crew(Protocol):
    """What workers are."""

    count: int
    """How many there are to be."""
    pictures: Pictures
    """Where the lanes' pictures come to."""

    def start(self, numbers: Sequence[int]) -> Hand:
        """A new worker for some lanes."""

    def dismiss(self) -> None:
        """Give back what the workers needed, once they have ended."""


@dataclass(frozen=True, eq=False)
class _Choices:
    relations: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.relations)


@dataclass(frozen=True, eq=False)
class _OnOffer:
    on_offer: NDArray[np.bool_]


class RemoteLane:
    """What is seen of a lane whose stage is in a worker."""

    def __init__(self) -> None:
        self.episode = Episode()
        self.cells = CellRecord()
        self.proposals: _Choices | None = None
        self.relations: _OnOffer | None = None
        self.picture: NDArray[np.uint8] = np.zeros((0, 0, 3), np.uint8)
        self.place: Place | None = None

    @property
    def arrangement(self) -> Arrangement:
        """The scene as it stands. Raises `RuntimeError` before the first one."""
        if self.place is None or self.place.arrangement is None:
            raise RuntimeError("no scene is set; begin an episode first")
        return self.place.arrangement

    def take(self, news: News, scene: NDArray[np.uint8]) -> None:
        """Note what the worker told."""
        self.place, self.picture = news.place, scene
        self.proposals = None if news.choices is None else _Choices(news.choices)
        self.relations = None if news.on_offer is None else _OnOffer(news.on_offer)

    def state(self) -> dict[str, Any]:
        """As `Lane.state`."""
        arrangement = self.arrangement.encode()
        assert self.place is not None
        return lane_state(self.place.draws, {"scenes": self.place.scenes, "arrangement": arrangement}, self.episode)


class WorkerLanes:
    """Lanes spread evenly over worker processes."""

    def __init__(self, count: int, crew: Crew) -> None:
        """Start the workers. `count` lanes; no more workers are started than there are lanes."""
        self._crew = crew
        self.lanes: Sequence[RemoteLane] = [RemoteLane() for _ in range(count)]
        workers = min(crew.count, count)
        self._numbers = [list(range(first, count, workers)) for first in range(workers)]
        self._team: list[Hand | None] = [None] * workers
        self._asked = 0
        self._expected: list[tuple[int, Command]] = []
        """Commands whose answers have not been waited for yet, by worker."""
        self._stale = False
        """Whether the workers may be ahead of what is known of them."""
        self._end = weakref.finalize(self, _end_all, self._team, crew, os.getpid())
        try:
            for worker in range(workers):
                self._team[worker] = crew.start(self._numbers[worker])
        except BaseException:
            self.close()
            raise

    @property
    def pids(self) -> list[int]:
        """Process numbers of the workers; lane n is in worker n modulo their number."""
        return [hand.pid for hand in self._team if hand is not None]

    def restart(self, rngs: Sequence[np.random.Generator]) -> None:
        self._put({n: Place(Draws(dict(rng.bit_generator.state)), n, None) for n, rng in enumerate(rngs)})

    def check(self, arrangement: Arrangement) -> None:
        self._settle()
        self._send("begin", {0: arrangement})
        try:
            self._receive()
        finally:
            self._stale = True  # the lane in the worker goes back to where it stands here

    def begin(self, scenes: Mapping[int, Arrangement | None]) -> None:
        told = {n: scene for _, command in self._expected for n, scene in command.lanes.items()}
        begun = {command.name for _, command in self._expected} == {"begin"}
        if not (begun and told == dict(scenes)):
            self._settle()
            self._send("begin", scenes)
        self._take(self._receive())

    def expect(self, numbers: Sequence[int]) -> None:
        if numbers:
            self._send("begin", dict.fromkeys(numbers))

    def step(self, orders: Mapping[int, Order], meanwhile: Callable[[], None]) -> dict[int, Outcome]:
        self._settle()
        cells = self.lanes[0].cells.state()
        self._send("step", orders, cells)
        meanwhile()  # if it raises, no lane is known to have moved: the next command puts them back
        return self._take(self._receive(), orders)

    def load_state(self, states: Sequence[Mapping[str, Any]]) -> None:
        places = {}
        for number, (lane, state) in enumerate(zip(self.lanes, states, strict=True)):
            stage = state["stage"]
            places[number] = Place(draws_of(state), int(stage["scenes"]), Arrangement.decode(stage["arrangement"]))
            lane.episode = Episode.from_state(state["episode"])
        self._put(places)

    def close(self) -> None:
        self._end()

    def _put(self, places: Mapping[int, Place]) -> None:
        """Make lanes stand at these places."""
        self._expected = []  # answers to what was asked before are passed over, by their numbers
        self._send("place", places)
        self._take(self._receive())
        self._stale = False

    def _settle(self) -> None:
        """Bring the workers to where the lanes are known to stand, if something else may have happened."""
        if self._stale or self._expected:
            self._put(self._places(range(len(self.lanes))))

    def _take(self, news: Mapping[int, News], order: Collection[int] = ()) -> dict[int, Outcome]:
        """Note the news of lanes; the outcomes of a step, in the order of the lanes it was asked for."""
        for number, told in news.items():
            self.lanes[number].take(told, self._crew.pictures.scene(number))
        outcomes = {}
        for number in order:
            outcome = news[number].outcome
            assert outcome is not None
            sample = outcome.sample
            if sample is not None:
                outcome = Outcome(replace(sample, rgb=self._crew.pictures.sample(number)), None, None)
            outcomes[number] = outcome
        return outcomes

    def _send(self, name: str, lanes: Mapping[int, Any], cells: Mapping[str, Any] | None = None) -> None:
        """Tell each worker what concerns its lanes."""
        if not self._end.alive:
            raise UserError("the environment is closed")
        for worker, numbers in enumerate(self._numbers):
            mine = {number: lanes[number] for number in numbers if number in lanes}
            if mine:
                self._asked += 1
                command = Command(self._asked, name, mine, cells)
                self._expected.append((worker, command))
                self._tell(worker, command)

    def _tell(self, worker: int, command: Command) -> None:
        hand = self._team[worker]
        if hand is not None:
            hand.tell(command)

    def _receive(self) -> dict[int, News]:
        """The answers to all that was asked. Raises what a worker raised; no lane has moved then."""
        asked, self._expected = self._expected, []
        self._stale = True  # until all answers are here: the wait may be interrupted
        answers = [self._answer(worker, command) for worker, command in asked]
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        self._stale = False
        return {number: news for answer in answers for number, news in answer.items()}

    def _answer(self, worker: int, command: Command) -> Any:
        """A worker's answer to a command; one that has died is replaced and told again."""
        for _ in range(TRIES):
            hand = self._team[worker]
            answer = None if hand is None else hand.answer(command.number)
            if answer is not None:
                return answer
            self._replace(worker)
            self._tell(worker, command)
        raise RuntimeError(f"{self._name(worker)} has died {TRIES} times over the same step; see what it printed")

    def _replace(self, worker: int) -> None:
        """Start a dead worker again, from where its lanes are known to stand."""
        hand = self._team[worker]
        if hand is not None:
            logger.warn(f"{self._name(worker)} {hand.death()}; it is started again where its stages stood")
        self._team[worker] = hand = self._crew.start(self._numbers[worker])
        self._asked += 1
        hand.tell(Command(self._asked, "place", self._places(self._numbers[worker])))

    def _places(self, numbers: Iterable[int]) -> dict[int, Place]:
        """Where lanes stand, of those that have begun."""
        places = {number: self.lanes[number].place for number in numbers}
        return {number: place for number, place in places.items() if place is not None}

    def _name(self, worker: int) -> str:
        numbers = self._numbers[worker]
        return f"the worker of lane{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"


def _end_all(team: list[Hand | None], crew: Crew, owner: int) -> None:
    """End workers. They hold nothing that needs saving. A fork of the process that owns them leaves them alone."""
    if os.getpid() != owner:
        return
    hands = [hand for hand in team if hand is not None]
    for hand in hands:
        hand.end()
    for hand in hands:
        hand.wait()
    team[:] = [None] * len(team)
    crew.dismiss()
