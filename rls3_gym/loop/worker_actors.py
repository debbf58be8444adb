"""Workers that are actors in a Ray cluster, one for each lane. Pictures come with the answers."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rls3_gym.cluster import Actor, Answer, Cluster, Died, go_to, join
from rls3_gym.loop.lanes import LanePlan
from rls3_gym.loop.worker import Command, News, Pictures, Worker

RGB = NDArray[np.uint8]


class ActorCrew:
    """See `rls3_gym.loop.worker_lanes.Crew`. An actor keeps no CPU from others: Ray spreads them over the machines."""

    def __init__(self, plan: LanePlan, lanes: int) -> None:
        """Raises `UserError` without Ray."""
        self.count = lanes
        self.pictures = Pictures(bytearray(Pictures.bytes_for(lanes, plan.image_size)), lanes, plan.image_size)
        self._plan, self._lanes = plan, lanes
        self._cluster: Cluster = join("workers: ray")

    def start(self, numbers: Sequence[int]) -> WorkerActor:
        actor = self._cluster.actor(StageActor, self._plan, numbers, self._lanes, os.getcwd())
        return WorkerActor(actor, self.pictures)

    def dismiss(self) -> None:
        self._cluster.leave()


class WorkerActor:
    """The main process's side of an actor; see `rls3_gym.loop.worker_lanes.Hand`."""

    def __init__(self, actor: Actor, pictures: Pictures) -> None:
        self._actor, self._pictures = actor, pictures
        self._answers: dict[int, Answer] = {}
        self._death = "has died"

    @property
    def pid(self) -> int:
        return int(self._actor.tell("pid").wait())

    def tell(self, command: Command) -> None:
        try:
            self._answers[command.number] = self._actor.tell("obey", command)
        except Died as death:
            self._death = f"has died ({death})"

    def answer(self, number: int) -> Any:
        answer = self._answers.get(number)
        self._answers = {later: other for later, other in self._answers.items() if later > number}
        try:
            found = None if answer is None else answer.wait()
        except Died as death:
            self._death = f"has died ({death})"
            return None
        if found is None or isinstance(found, Exception):
            return found
        news, pictures = found
        for lane, shown in pictures.items():
            self._pictures.write(lane, *shown)
        return news

    def death(self) -> str:
        self._actor.kill()
        return self._death

    def end(self) -> None:
        self._actor.kill()

    def wait(self) -> None:
        """Ray kills at once."""


class StageActor:
    """The worker, in its process."""

    def __init__(self, plan: LanePlan, numbers: Sequence[int], lanes: int, folder: str) -> None:
        go_to(folder)
        self._pictures = Pictures(bytearray(Pictures.bytes_for(lanes, plan.image_size)), lanes, plan.image_size)
        self._worker = Worker(plan, numbers, self._pictures)

    def pid(self) -> int:
        return os.getpid()

    def obey(self, command: Command) -> tuple[dict[int, News], dict[int, tuple[RGB | None, RGB]]] | Exception:
        """The lanes' news, and of each that has a scene the pictures of its sample and of the scene."""
        try:
            news = self._worker.obey(command)
        except Exception as error:  # it is raised in the main process
            return error
        return news, self._shown(news)

    def _shown(self, news: Mapping[int, News]) -> dict[int, tuple[RGB | None, RGB]]:
        shown = {}
        for lane, told in news.items():
            if told.place.arrangement is not None:
                made = told.outcome is not None and told.outcome.sample is not None
                shown[lane] = (self._pictures.sample(lane) if made else None, self._pictures.scene(lane))
        return shown
