"""Lanes in worker processes. The main process keeps what is seen of each lane, and where it stands.

So a worker that dies is replaced by one that goes on from there, and an exception, or a Ctrl-C in the middle of a step,
leaves every lane where it was.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from ctypes import c_uint8
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import ModuleType
from typing import Any, Literal

import numpy as np
from gymnasium import logger
from numpy.typing import NDArray

from rls3_gym.loop.cells import CellRecord
from rls3_gym.loop.lane import Episode
from rls3_gym.loop.lanes import LanePlan, Order
from rls3_gym.loop.worker import Command, News, Pictures, Place, run
from rls3_gym.scene.arrangement import Arrangement
from rls3_gym.stage import Outcome
from rls3_registry.errors import UserError

StartMethod = Literal["spawn", "forkserver"]
TRIES = 3
"""Workers that may die over the same command before it is given up."""
END_SECONDS = 5.0
"""How long a worker may take to end before it is killed."""


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
        self.place = Place({}, 0, None)

    @property
    def arrangement(self) -> Arrangement:
        """The scene as it stands. Raises `RuntimeError` before the first one."""
        if self.place.arrangement is None:
            raise RuntimeError("no scene is set; begin an episode first")
        return self.place.arrangement

    def take(self, news: News, scene: NDArray[np.uint8]) -> None:
        """Note what the worker told."""
        self.place, self.picture = news.place, scene
        self.proposals = None if news.choices is None else _Choices(news.choices)
        self.relations = None if news.on_offer is None else _OnOffer(news.on_offer)

    def state(self) -> dict[str, Any]:
        """As `Lane.state`."""
        stage = {"scenes": self.place.scenes, "arrangement": self.arrangement.encode()}
        return {"rng": dict(self.place.rng), "stage": stage, "episode": self.episode.state()}


class WorkerLanes:
    """Lanes spread evenly over worker processes."""

    def __init__(self, plan: LanePlan, count: int, workers: int, start_method: StartMethod) -> None:
        """Start the workers. `count` lanes; no more workers are started than there are lanes."""
        self._plan = plan
        self._context = multiprocessing.get_context(start_method)
        self._memory = self._context.RawArray(c_uint8, count * 2 * plan.image_size**2 * 3)
        self._pictures = Pictures(self._memory, count, plan.image_size)
        self.lanes: Sequence[RemoteLane] = [RemoteLane() for _ in range(count)]
        workers = min(workers, count)
        self._numbers = [list(range(first, count, workers)) for first in range(workers)]
        self._team: list[_Process | None] = [None] * workers
        self._asked = 0
        self._expected: list[tuple[int, Command]] = []
        """Commands whose answers have not been waited for yet, by worker."""
        self._stale = False
        """Whether the workers may be ahead of what is known of them."""
        self._end = weakref.finalize(self, _end_all, self._team, os.getpid())
        try:
            for worker in range(workers):
                self._team[worker] = self._start(worker)
        except BaseException:
            self.close()
            raise

    @property
    def pids(self) -> list[int]:
        """Process numbers of the workers; lane n is in worker n modulo their number."""
        return [process.process.pid or 0 for process in self._team if process is not None]

    def restart(self, rngs: Sequence[np.random.Generator]) -> None:
        states = [rng.bit_generator.state for rng in rngs]
        self._put({n: Place(dict(state), n, None) for n, state in enumerate(states)})

    def begin(self, scenes: Mapping[int, Arrangement | None]) -> None:
        told = {number: None for _, command in self._expected for number in command.lanes}
        if not (self._expected and told == dict(scenes)):
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
            places[number] = Place(dict(state["rng"]), int(stage["scenes"]), Arrangement.decode(stage["arrangement"]))
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
            self._put({number: lane.place for number, lane in enumerate(self.lanes) if lane.place.rng})

    def _take(self, news: Mapping[int, News], order: Collection[int] = ()) -> dict[int, Outcome]:
        """Note the news of lanes; the outcomes of a step, in the order of the lanes it was asked for."""
        for number, told in news.items():
            self.lanes[number].take(told, self._pictures.scene(number))
        outcomes = {}
        for number in order:
            outcome = news[number].outcome
            assert outcome is not None
            sample = outcome.sample
            if sample is not None:
                outcome = Outcome(replace(sample, rgb=self._pictures.sample(number)), None, None)
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
        process = self._team[worker]
        try:
            if process is not None:
                process.pipe.send(command)
        except OSError:
            pass  # it is dead; `_receive` will find that out

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
            process = self._team[worker]
            answer = None if process is None else process.answer(command.number)
            if answer is not None:
                return answer
            self._replace(worker)
            self._tell(worker, command)
        raise RuntimeError(f"{self._name(worker)} has died {TRIES} times over the same step; see what it printed")

    def _replace(self, worker: int) -> None:
        """Start a dead worker again, from where its lanes are known to stand."""
        process = self._team[worker]
        if process is not None:
            logger.warn(f"{self._name(worker)} {process.death()}; it is started again where its stages stood")
        self._team[worker] = process = self._start(worker)
        self._asked += 1
        places = {number: self.lanes[number].place for number in self._numbers[worker] if self.lanes[number].place.rng}
        process.pipe.send(Command(self._asked, "place", places))

    def _name(self, worker: int) -> str:
        numbers = self._numbers[worker]
        return f"the worker of lane{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"

    def _start(self, worker: int) -> _Process:
        return _Process(self._context, (self._plan, self._numbers[worker], self._memory, len(self.lanes)))


class _Process:
    """A worker process and the pipe to it."""

    def __init__(self, context: Any, arguments: tuple[Any, ...]) -> None:
        self.pipe: Connection
        self.pipe, other = context.Pipe()
        self.process: BaseProcess = context.Process(target=run, args=(other, *arguments), daemon=True)
        with _no_main_module():
            self.process.start()
        other.close()  # so that the pipe ends with the process

    def answer(self, number: int) -> Any:
        """The answer with this number, earlier ones passed over; None when the process has died."""
        while True:
            try:
                found, answer = self.pipe.recv()
            except (EOFError, OSError):
                return None
            if found == number:
                return answer

    def death(self) -> str:
        """What became of a dead process."""
        self.pipe.close()
        self.process.join(END_SECONDS)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        code = self.process.exitcode
        return f"was ended by signal {-code}" if code is not None and code < 0 else f"ended with exit code {code}"


def _end_all(team: list[_Process | None], owner: int) -> None:
    """End workers. They hold nothing that needs saving. A fork of the process that owns them leaves them alone."""
    if os.getpid() != owner:
        return
    for process in team:
        if process is not None:
            process.pipe.close()
            process.process.terminate()
    for process in team:
        if process is not None:
            process.process.join(END_SECONDS)
            if process.process.is_alive():
                process.process.kill()
                process.process.join()
            process.process.close()
    team[:] = [None] * len(team)


@contextmanager
def _no_main_module() -> Iterator[None]:
    """Keep a new process from importing the script that is running: it would load what that does, torch at least, and
    without an `if __name__ == "__main__"` start it all over again."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
