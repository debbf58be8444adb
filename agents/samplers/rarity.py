"""The greedy baseline: of the proposals the one that it has made least often. It adapts to its own samples alone.

What a learning sampler is worth beside it is what it makes of the VLM's answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces
from pydantic import Field

from rls3_agents.samplers.scripted import ScriptedAgent
from rls3_gym.envs.views import FEATURES
from rls3_gym.scene.relations import BY_TERMS, RELATIONS, Term
from rls3_registry.errors import UserError
from rls3_registry.validation import Settings, check


class RaritySettings(Settings):
    """Settings of the rarity sampler."""

    kept: float = Field(gt=0, le=1)  # factor on all counts at each sample: old samples fade
    prior: float = Field(gt=0, le=1e6)  # added to every cell's count: the first samples do not say what is rare


class RarityAgent(ScriptedAgent):
    """Makes the proposal whose relation cell it has made least often; of equal ones any."""

    name = "rarity"
    action_views: ClassVar[tuple[str, ...]] = ("select",)
    observations: ClassVar[tuple[str, ...]] = ("state",)

    def __init__(self, settings: Mapping[str, Any], *, seed: int) -> None:
        self.settings = check(RaritySettings, settings, section="settings")
        super().__init__(seed=seed)
        self._counts = np.zeros(len(RELATIONS))

    def choose(self, space: gymnasium.Space[Any]) -> Any:
        observation = np.asarray(self.observation)
        if not isinstance(space, spaces.Discrete) or observation.ndim != 1:
            raise UserError("rarity: takes action_view 'select' and observation 'state'")
        proposals = observation[: space.n * FEATURES].reshape(space.n, FEATURES)
        cells = [_cell(features) for features in proposals]
        counts = np.array([np.inf if cell is None else self._counts[cell] + self.settings.prior for cell in cells])
        return np.int64(space.start + self.rng.choice(np.flatnonzero(counts == counts.min())))

    def on_step(self, info: Mapping[str, Any]) -> None:
        if info["feasible"]:
            self._counts *= self.settings.kept
            self._counts[info["cell"]] += 1

    def own_state(self) -> dict[str, Any]:
        return {"counts": self._counts.tolist(), "observation": np.asarray(self.observation).tolist()}

    def load_own_state(self, state: Mapping[str, Any]) -> None:
        self._counts = np.array(state["counts"], np.float64)
        self.observation = np.array(state["observation"], np.float32)


def _cell(features: np.ndarray[Any, Any]) -> int | None:
    """The relation cell of a proposal's features; None for a row of zeros, where there are fewer proposals."""
    terms = frozenset(term for term in Term if features[term] > 0)
    return BY_TERMS[terms].index if terms else None
