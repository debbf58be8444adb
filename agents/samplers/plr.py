"""Prioritized level replay (Jiang et al., 2021, arXiv 2010.03934) with mutation as in ACCEL (Parker-Holder et al.,
2022, arXiv 2203.01302): episodes begin anew in the scenes that the VLM found hard.

A level is an arrangement. At the end of an episode, the arrangement of its hardest sample becomes a level, with that
sample's loss as its score: it differs from the level that the episode began in by the edits since, which are random
ones, so that replay and mutation are one. (Of samples with an object out of sight none: no episode may begin there.)
A level is replayed with probability
P = (1 - rho) P_score + rho P_staleness, where P_score is in proportion to rank^(-1 / beta), and P_staleness to the
episodes since the level was last replayed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from pydantic import Field

from rls3_agents.samplers.scripted import ScriptedAgent
from rls3_gym.sample import Sample
from rls3_gym.scene.arrangement import SLOTS, Arrangement
from rls3_gym.stage import FeasibilityRules
from rls3_registry.errors import UserError
from rls3_registry.validation import Settings, check


class PlrSettings(Settings):
    """Settings of prioritized level replay."""

    replay: float = Field(ge=0, le=1)  # chance that an episode begins in a level, not in a new scene
    capacity: int = Field(ge=2, le=1_000_000)  # levels kept; the one with the lowest score goes first
    beta: float = Field(gt=0, le=1000)  # temperature of the ranks: the lower, the more the hardest levels are replayed
    rho: float = Field(ge=0, le=1)  # share of staleness


@dataclass
class Level:
    """A scene to begin in again."""

    arrangement: Arrangement
    score: float
    """Loss of the VLM there, nats."""
    replayed: int
    """Number of the episode in which it was last played."""


def replay_chances(scores: Sequence[float], replayed: Sequence[int], now: int, beta: float, rho: float) -> NDArray[Any]:
    """(levels,) probability that each level is the one that is replayed in episode `now`."""
    ranks = np.empty(len(scores))
    ranks[np.argsort(-np.asarray(scores), kind="stable")] = np.arange(1, len(scores) + 1)
    by_score = ranks ** (-1 / beta)
    stale = now - np.asarray(replayed, np.float64)
    by_staleness = stale / stale.sum() if stale.sum() > 0 else np.full(len(scores), 1 / len(scores))
    return np.asarray((1 - rho) * by_score / by_score.sum() + rho * by_staleness)


class PlrAgent(ScriptedAgent):
    """Acts at random; what it chooses is the scene in which an episode begins."""

    name = "plr"
    action_views: ClassVar[tuple[str, ...]] = ("select", "box")

    def __init__(self, settings: Mapping[str, Any], *, seed: int) -> None:
        self.settings = check(PlrSettings, settings, section="settings")
        super().__init__(seed=seed)
        self._levels: list[Level] = []
        self._played: int | None = None  # the level that the running episode began in
        self._episode = 0

    def choose(self, space: gymnasium.Space[Any]) -> Any:
        if isinstance(space, spaces.Box):
            return self.rng.uniform(space.low, space.high).astype(space.dtype)
        if isinstance(space, spaces.Discrete):
            return np.int64(space.start + self.rng.integers(space.n))
        raise UserError(f"plr: takes action_view 'select' or 'box', not a {type(space).__name__}")

    def next_scene(self) -> Arrangement | None:
        self._played = None
        if not self._levels or self.rng.random() >= self.settings.replay:
            return None
        scores, replayed = [level.score for level in self._levels], [level.replayed for level in self._levels]
        chances = replay_chances(scores, replayed, self._episode, self.settings.beta, self.settings.rho)
        self._played = int(self.rng.choice(len(self._levels), p=chances))
        self._levels[self._played].replayed = self._episode
        return self._levels[self._played].arrangement

    def on_episode_end(self, samples: Sequence[Sample], feedback: Mapping[str, Any]) -> None:
        self._episode += 1
        losses = np.logaddexp(0.0, -np.asarray(feedback["margin"][: len(samples)], np.float64))  # to hardest negatives
        if self._played is not None:
            played = self._levels[self._played]
            there = [sample.arrangement.layout.key == played.arrangement.layout.key for sample in samples]
            if any(there):
                played.score = float(losses[there].mean())
        rules = FeasibilityRules() if self.loop is None else self.loop.lane().stage.rules
        fit = [all(rules.visibility(sample, slot) is None for slot in range(SLOTS)) for sample in samples]
        if any(fit):
            worst = int(np.where(fit, losses, -np.inf).argmax())
            self._levels.append(Level(samples[worst].arrangement, float(losses[worst]), self._episode))
        if len(self._levels) > self.settings.capacity:
            self._levels.remove(min(self._levels, key=lambda level: level.score))
        self._played = None

    def log_values(self) -> Mapping[str, float]:
        if not self._levels:
            return {}
        return {"levels": float(len(self._levels)), "score": float(np.mean([level.score for level in self._levels]))}

    def own_state(self) -> dict[str, Any]:
        levels = [[level.arrangement.encode(), level.score, level.replayed] for level in self._levels]
        return {"levels": levels, "episode": self._episode, "played": self._played}

    def load_own_state(self, state: Mapping[str, Any]) -> None:
        self._levels = [Level(Arrangement.decode(a), score, replayed) for a, score, replayed in state["levels"]]
        self._episode, self._played = int(state["episode"]), state["played"]
