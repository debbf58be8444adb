"""A bandit over relation cells that follows learning progress: the "online" teacher of teacher-student curriculum
learning (Matiisen et al., 2017, arXiv 1707.00183, algorithm 1).

A cell is a task, and the VLM is the student. Its score on a task is the share of that cell's samples of an episode that
it got right. The change since the last score of the same cell is the reward r, and Q(cell) = alpha r + (1 - alpha)
Q(cell). Cells are drawn with probabilities in proportion to exp(|Q| / temperature): what the VLM learns is practised,
and so is what it forgets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import gymnasium
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from rls3_agents.samplers.scripted import ScriptedAgent, chances_of_terms
from rls3_gym.sample import Sample
from rls3_gym.scene.relations import RELATIONS
from rls3_registry.validation import Settings, check

Float = NDArray[np.float64]


class BanditSettings(Settings):
    """Settings of the bandit."""

    alpha: float = Field(gt=0, le=1)  # weight of the newest progress in Q
    temperature: float = Field(gt=0, le=1000)  # of the Boltzmann choice: the lower, the more it follows Q


class OnlineTeacher:
    """Q values of tasks by the change of the student's score."""

    def __init__(self, tasks: int, alpha: float, temperature: float) -> None:
        self.alpha, self.temperature = alpha, temperature
        self.q: Float = np.zeros(tasks)
        """(tasks,) running learning progress."""
        self.last: Float = np.full(tasks, np.nan)
        """(tasks,) the last score of each; NaN before the first."""

    def observe(self, task: int, score: float) -> None:
        """The student scored 0..1 on a task. A first score is no progress yet."""
        progress = 0.0 if np.isnan(self.last[task]) else score - self.last[task]
        self.q[task] = self.alpha * progress + (1 - self.alpha) * self.q[task]
        self.last[task] = score

    def chances(self, able: NDArray[np.bool_]) -> Float:
        """(tasks,) probability of each task among those that are possible now."""
        strength = np.where(able, np.abs(self.q) / self.temperature, -np.inf)
        weights = np.exp(strength - strength.max())
        return np.asarray(weights / weights.sum())


class BanditAgent(ScriptedAgent):
    """Draws a relation cell by its learning progress, among those the scene allows, and any slot that can make it."""

    name = "bandit"
    action_views: ClassVar[tuple[str, ...]] = ("relation",)

    def __init__(self, settings: Mapping[str, Any], *, seed: int) -> None:
        self.settings = check(BanditSettings, settings, section="settings")
        super().__init__(seed=seed)
        self.teacher = OnlineTeacher(len(RELATIONS), self.settings.alpha, self.settings.temperature)

    def choose(self, space: gymnasium.Space[Any]) -> Any:
        offered = self.offered_relations(space)
        cell = int(self.rng.choice(len(RELATIONS), p=self.teacher.chances(np.asarray(offered.any(axis=0)))))
        slot = int(self.rng.choice(np.flatnonzero(offered[:, cell])))
        return np.int64(slot * len(RELATIONS) + cell)

    def on_episode_end(self, samples: Sequence[Sample], feedback: Mapping[str, Any]) -> None:
        correct = np.asarray(feedback["correct"][: len(samples)], np.float64)
        cells = np.array([sample.relation.index for sample in samples], np.int64)
        for cell in np.unique(cells):
            self.teacher.observe(int(cell), float(correct[cells == cell].mean()))

    def log_values(self) -> Mapping[str, float]:
        chances = self.teacher.chances(np.ones(len(RELATIONS), np.bool_))
        return chances_of_terms(chances) | {"progress": float(np.abs(self.teacher.q).mean())}

    def own_state(self) -> dict[str, Any]:
        last = [None if np.isnan(score) else score for score in self.teacher.last.tolist()]
        return {"q": self.teacher.q.tolist(), "last": last}

    def load_own_state(self, state: Mapping[str, Any]) -> None:
        self.teacher.q[:] = state["q"]
        self.teacher.last[:] = [np.nan if score is None else score for score in state["last"]]
