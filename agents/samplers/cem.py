"""The cross-entropy method over preferences, with noise as in Szita and Lorincz (2006): black-box search, no gradient.

A candidate is one preference action, kept for a whole episode, and its score is the mean reward of its steps. After a
population of candidates, the mean and the spread of the best become those of the next, and noise that fades is added to
the variance, so that it does not shrink too soon.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.random import Generator
from numpy.typing import NDArray
from pydantic import Field, model_validator

from rls3_agents.samplers.scripted import ScriptedAgent
from rls3_gym.sample import Sample
from rls3_registry.errors import UserError
from rls3_registry.validation import Settings, check

Float = NDArray[np.float64]


class CemSettings(Settings):
    """Settings of the cross-entropy method."""

    population: int = Field(ge=2, le=100_000)  # candidates, of one episode each, before the distribution changes
    elite: int = Field(ge=1, le=100_000)  # the best of them, which it changes to
    spread: float = Field(gt=0, le=1000)  # standard deviation of the first candidates
    noise: float = Field(ge=0, le=1000)  # variance added after the first population; it fades linearly ...
    noise_generations: int = Field(ge=1, le=10**9)  # ... to nothing in this many populations

    @model_validator(mode="after")
    def _elite_is_a_part(self) -> CemSettings:
        if self.elite >= self.population:
            raise ValueError(f"elite should be less than population ({self.population})")
        return self


class CrossEntropy:
    """A diagonal Gaussian that moves to the best of what was drawn from it."""

    def __init__(self, size: int, settings: CemSettings) -> None:
        self.settings = settings
        self.mean: Float = np.zeros(size)
        self.variance: Float = np.full(size, settings.spread**2)
        self.generation = 0
        self.candidates: list[Float] = []
        self.scores: list[float] = []

    def draw(self, rng: Generator) -> Float:
        """A candidate (size,); it is not kept until it has a score."""
        return np.asarray(rng.normal(self.mean, np.sqrt(self.variance)))

    def score(self, candidate: Float, score: float) -> None:
        """Take in a candidate's score; with the last of a population, the distribution moves."""
        self.candidates.append(candidate)
        self.scores.append(score)
        if len(self.scores) < self.settings.population:
            return
        best = np.stack([self.candidates[i] for i in np.argsort(self.scores)[::-1][: self.settings.elite]])
        fading = max(0.0, 1 - self.generation / self.settings.noise_generations)
        self.mean, self.variance = best.mean(axis=0), best.var(axis=0) + self.settings.noise * fading
        self.generation += 1
        self.candidates, self.scores = [], []


class CemAgent(ScriptedAgent):
    """Holds one preference for an episode."""

    name = "cem"
    action_views: ClassVar[tuple[str, ...]] = ("preference",)

    def __init__(self, settings: Mapping[str, Any], *, seed: int) -> None:
        self.settings = check(CemSettings, settings, section="settings")
        super().__init__(seed=seed)
        self._search: CrossEntropy | None = None
        self._candidate: Float | None = None
        self._rewards: list[float] = []

    def choose(self, space: gymnasium.Space[Any]) -> Any:
        if not isinstance(space, spaces.Box) or len(space.shape) != 1:
            raise UserError("cem: takes action_view 'preference'")
        if self._search is None:
            self._search = CrossEntropy(space.shape[0], self.settings)
        if self._candidate is None:
            self._candidate = self._search.draw(self.rng).clip(space.low, space.high)
        return self._candidate.astype(space.dtype)

    def on_step(self, info: Mapping[str, Any]) -> None:
        self._rewards.append(info["intrinsic"] + info["extrinsic"])

    def on_episode_end(self, samples: Sequence[Sample], feedback: Mapping[str, Any]) -> None:
        if self._search is not None and self._candidate is not None:
            self._search.score(self._candidate, float(np.mean(self._rewards)))
            self._candidate, self._rewards = None, []

    def log_values(self) -> Mapping[str, float]:
        if self._search is None:
            return {}
        means = {f"mean/{place}": float(mean) for place, mean in enumerate(self._search.mean)}
        return means | {"spread": float(np.sqrt(self._search.variance).mean())}

    def own_state(self) -> dict[str, Any]:
        if self._search is None:
            return {}
        search = self._search
        return {
            "mean": search.mean.tolist(),
            "variance": search.variance.tolist(),
            "generation": search.generation,
            "candidates": [candidate.tolist() for candidate in search.candidates],
            "scores": search.scores,
            "candidate": None if self._candidate is None else self._candidate.tolist(),
            "rewards": self._rewards,
        }

    def load_own_state(self, state: Mapping[str, Any]) -> None:
        if not state:
            return
        search = self._search = CrossEntropy(len(state["mean"]), self.settings)
        search.mean[:], search.variance[:] = state["mean"], state["variance"]
        search.generation, search.scores = int(state["generation"]), list(state["scores"])
        search.candidates = [np.array(candidate) for candidate in state["candidates"]]
        self._candidate = None if state["candidate"] is None else np.array(state["candidate"])
        self._rewards = list(state["rewards"])
