"""A worker: it runs the stages of some lanes and draws their pictures. No VLM, so no torch, is loaded here."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rls3_gym.loop.cells import CellRecord
from rls3_gym.loop.lane import Draws, Lane
from rls3_gym.loop.lanes import LanePlan, Order
from rls3_gym.scene.arrangement import Arrangement
from rls3_gym.stage import Outcome

NICE = 10
"""Of workers that share their cores with the process of the VLM."""
NO_PICTURE = np.zeros((0, 0, 3), np.uint8)
"""Stands in a message for a picture that is in `Pictures`."""


@dataclass(frozen=True)
class Place:
    """Where a lane stands: enough to go on from there in a new process."""

    draws: Draws
    """What was drawn before the offer."""
    scenes: int
    arrangement: Arrangement | None
    """None before the first scene."""


@dataclass(frozen=True)
class News:
    """What a worker tells of a lane after each command. Its pictures are in the worker's `Pictures`."""

    outcome: Outcome | None
    """Of a step; its sample without a picture."""
    place: Place
    choices: NDArray[np.int64] | None
    """(k,) relation cells of the proposals."""
    on_offer: NDArray[np.bool_] | None


@dataclass(frozen=True)
class Command:
    """What a worker is told to do, and the answer's number."""

    number: int
    name: str
    """`place`, `begin` or `step`."""
    lanes: Mapping[int, Any]
    """By lane: a `Place`, an arrangement or None, or an `Order`."""
    cells: Mapping[str, Any] | None = None
    """State of the `CellRecord`, for the action views that look at it."""


class Pictures:
    """Two pictures for each lane in some memory: of the last sample, and of the scene as it stands.

    Processes of one machine see the same memory. It has no name in the file system, so nothing can be left behind.
    """

    def __init__(self, memory: Any, lanes: int, size: int) -> None:
        """`memory`: `bytes_for(lanes, size)` bytes, such as a `multiprocessing.RawArray` or a `bytearray`."""
        self._pictures = np.frombuffer(memory, np.uint8).reshape(lanes, 2, size, size, 3)

    @staticmethod
    def bytes_for(lanes: int, size: int) -> int:
        """Of memory, for so many lanes with pictures of `size` pixels a side."""
        return lanes * 2 * size**2 * 3

    def write(self, lane: int, sample: NDArray[np.uint8] | None, scene: NDArray[np.uint8]) -> None:
        if sample is not None:
            self._pictures[lane, 0] = sample
        self._pictures[lane, 1] = scene

    def sample(self, lane: int) -> NDArray[np.uint8]:
        return np.array(self._pictures[lane, 0])

    def scene(self, lane: int) -> NDArray[np.uint8]:
        return np.array(self._pictures[lane, 1])


class Worker:
    """The lanes of one worker."""

    def __init__(self, plan: LanePlan, numbers: Sequence[int], pictures: Pictures) -> None:
        self._plan = plan
        self._cells = CellRecord()
        self._lanes: dict[int, Lane] = {number: plan.make() for number in numbers}
        for lane in self._lanes.values():
            lane.cells = self._cells
        self._pictures = pictures

    def obey(self, command: Command) -> dict[int, News]:
        """Do what a command says on each of its lanes."""
        if command.cells is not None:
            self._cells.load_state(command.cells)
        return {number: self._obey(command.name, number, told) for number, told in command.lanes.items()}

    def _obey(self, name: str, number: int, told: Any) -> News:
        lane, outcome = self._lanes[number], None
        if name == "step":
            assert isinstance(told, Order)
            outcome = self._plan.carry_out(lane, told)
        elif name == "begin":
            self._plan.begin(lane, told)
        else:
            self._go_to(lane, told)
        return self._news(number, lane, outcome)

    def _go_to(self, lane: Lane, place: Place) -> None:
        lane.restart()
        lane.rng.bit_generator.state = place.draws.rng
        if place.arrangement is None:
            lane.stage.restart(place.scenes)
        else:
            lane.stage.load_state({"scenes": place.scenes, "arrangement": place.arrangement.encode()})
            lane.draw_again(place.draws, self._plan.proposals)

    def _news(self, number: int, lane: Lane, outcome: Outcome | None) -> News:
        if not lane.stage.has_scene:
            return News(None, Place(lane.draws, lane.stage.scenes, None), None, None)
        sample = None if outcome is None else outcome.sample
        self._pictures.write(number, None if sample is None else sample.rgb, lane.picture)
        if outcome is not None:
            told = None if sample is None else replace(sample, rgb=NO_PICTURE)
            outcome = Outcome(told, outcome.reason, None)
        on_offer = None if lane.relations is None else lane.relations.on_offer
        place = Place(lane.draws, lane.stage.scenes, lane.arrangement)
        choices = None if lane.proposals is None else lane.proposals.relations
        return News(outcome, place, choices, on_offer)


def run(
    pipe: Connection, plan: LanePlan, numbers: Sequence[int], memory: Any, lanes: int, gives_way: bool = False
) -> None:
    """Obey commands until the other end of the pipe is gone; with `gives_way`, at a low priority.

    Each answer is the command's number with the lanes' news, or with the exception that was raised.
    """
    # Ctrl-C goes to all processes of a terminal; the main one decides what becomes of it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if gives_way and hasattr(os, "nice"):  # not on Windows
        os.nice(NICE)
    worker = Worker(plan, numbers, Pictures(memory, lanes, plan.image_size))
    while True:
        try:
            command: Command = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            answer: Any = worker.obey(command)
        except Exception as error:  # it is raised in the main process
            answer = error
        try:
            pipe.send((command.number, answer))
        except OSError:
            return
