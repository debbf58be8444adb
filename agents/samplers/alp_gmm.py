"""ALP-GMM: absolute learning progress with Gaussian mixtures (Portelas et al., 2019, arXiv 1910.07224).

A task is where the edited object stands to its reference: an offset in the camera frame (right, up, away), in meters.
How well the VLM does on a sample is the chance it gives the caption against its hardest negative; the absolute learning
progress (ALP) of the task is the change since the nearest earlier task. Gaussian mixtures with 2 to `most_components`
parts are fitted to the latest (task, ALP) rows, and the one of the best Akaike criterion is kept. A task is drawn from
one of its Gaussians, chosen in proportion to its mean ALP, or uniformly with a small chance. Of the proposals
the one nearest to the task is made.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.random import Generator
from numpy.typing import NDArray
from pydantic import Field
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from rls3_agents.samplers.scripted import ScriptedAgent
from rls3_gym.sample import Sample
from rls3_registry.errors import UserError
from rls3_registry.validation import Settings, check

Float = NDArray[np.float64]

LOW, HIGH = np.array([-1.7, -0.8, -1.4]), np.array([1.7, 0.8, 1.4])
"""Bounds of the tasks, meters: nearly all offsets of random edits lie within."""


class AlpGmmSettings(Settings):
    """Settings of ALP-GMM."""

    fit_every: int = Field(ge=10, le=100_000)  # tasks between two fits, and the rows that a fit looks at
    most_components: int = Field(ge=2, le=1000)
    random_share: float = Field(gt=0, le=1)  # chance of a uniform task
    memory: int = Field(ge=10, le=10_000_000)  # earlier tasks that the nearest one is looked for among


class AlpGmm:
    """Tasks by learning progress."""

    def __init__(self, settings: AlpGmmSettings) -> None:
        self.settings = settings
        self.tasks: Float = np.zeros((0, 3))
        self.scores: Float = np.zeros(0)
        self.recent: Float = np.zeros((0, 4))
        """Rows (task, ALP) since the last fit."""
        self.means: Float = np.zeros((0, 4))
        self.covariances: Float = np.zeros((0, 4, 4))

    def draw(self, rng: Generator) -> Float:
        """(3,) a task."""
        if not len(self.means) or rng.random() < self.settings.random_share:
            return rng.uniform(LOW, HIGH)
        progress = self.means[:, 3].clip(0)
        chances = progress / progress.sum() if progress.sum() > 0 else None
        part = int(rng.choice(len(self.means), p=chances))
        drawn = rng.multivariate_normal(self.means[part, :3], self.covariances[part, :3, :3])
        return np.asarray(drawn.clip(LOW, HIGH))

    def observe(self, task: Float, score: float, rng: Generator) -> None:
        """The VLM did so well, 0..1, on a task."""
        progress = 0.0
        if len(self.tasks):
            nearest = int(np.square(self.tasks - task).sum(axis=1).argmin())
            progress = abs(score - self.scores[nearest])
        self.tasks = np.vstack([self.tasks, task])[-self.settings.memory :]
        self.scores = np.append(self.scores, score)[-self.settings.memory :]
        self.recent = np.vstack([self.recent, [*task, progress]])
        if len(self.recent) >= self.settings.fit_every:
            self._fit(rng)

    def _fit(self, rng: Generator) -> None:
        rows, self.recent = self.recent, np.zeros((0, 4))
        parts = range(2, min(self.settings.most_components, len(rows) // 4) + 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            fits = [GaussianMixture(n, random_state=int(rng.integers(2**31))).fit(rows) for n in parts]
        best = min(fits, key=lambda fit: fit.aic(rows))
        self.means, self.covariances = np.array(best.means_), np.array(best.covariances_)


class AlpGmmAgent(ScriptedAgent):
    """Draws a task, and makes the proposal nearest to it. It looks into the environment for the proposals' offsets;
    where it acts without one, it chooses as `random` does."""

    name = "alp_gmm"
    action_views: ClassVar[tuple[str, ...]] = ("select",)

    def __init__(self, settings: Mapping[str, Any], *, seed: int) -> None:
        self.settings = check(AlpGmmSettings, settings, section="settings")
        super().__init__(seed=seed)
        self.teacher = AlpGmm(self.settings)

    def choose(self, space: gymnasium.Space[Any]) -> Any:
        if not isinstance(space, spaces.Discrete):
            raise UserError("alp_gmm: takes action_view 'select'")
        proposals = None if self.loop is None else self.loop.lane().proposals
        if proposals is None or not len(proposals):
            return np.int64(space.start + self.rng.integers(space.n))
        task = self.teacher.draw(self.rng)
        return np.int64(space.start + np.square(proposals.offsets - task).sum(axis=1).argmin())

    def on_episode_end(self, samples: Sequence[Sample], feedback: Mapping[str, Any]) -> None:
        margins = np.asarray(feedback["margin"][: len(samples)], np.float64).clip(-60, 60)
        for sample, score in zip(samples, 1 / (1 + np.exp(-margins)), strict=True):
            self.teacher.observe(np.array(sample.offset), float(score), self.rng)

    def log_values(self) -> Mapping[str, float]:
        recent = self.teacher.recent[:, 3]
        return {"progress": float(recent.mean())} if len(recent) else {}

    def own_state(self) -> dict[str, Any]:
        return {name: getattr(self.teacher, name).tolist() for name in _ARRAYS}

    def load_own_state(self, state: Mapping[str, Any]) -> None:
        for name, shape in _ARRAYS.items():
            setattr(self.teacher, name, np.array(state[name], np.float64).reshape(shape))


_ARRAYS = {"tasks": (-1, 3), "scores": (-1,), "recent": (-1, 4), "means": (-1, 4), "covariances": (-1, 4, 4)}
"""What a teacher knows, with the shapes of its arrays."""
