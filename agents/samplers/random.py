"""The baseline: uniform actions. Infeasible ones give no sample, so its samples are uniform over feasible edits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces

from rls3_agents.samplers.scripted import ScriptedAgent
from rls3_registry.errors import UserError
from rls3_registry.validation import Settings, check


class RandomSettings(Settings):
    """Nothing to set."""


class RandomAgent(ScriptedAgent):
    """Draws uniformly from the action space, whichever view that is."""

    name = "random"
    action_views: ClassVar[tuple[str, ...]] = ("box", "multi_discrete", "relation", "select", "preference")

    def __init__(self, settings: Mapping[str, Any], *, seed: int) -> None:
        check(RandomSettings, settings, section="settings")
        super().__init__(seed=seed)

    def choose(self, space: gymnasium.Space[Any]) -> Any:
        if isinstance(space, spaces.Box):
            return self.rng.uniform(space.low, space.high).astype(space.dtype)
        if isinstance(space, spaces.MultiDiscrete):
            return self.rng.integers(space.nvec).astype(space.dtype)
        if isinstance(space, spaces.Discrete):
            return np.int64(space.start + self.rng.integers(space.n))
        raise UserError(f"random: cannot draw from a {type(space).__name__} action space")
