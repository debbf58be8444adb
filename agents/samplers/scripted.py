"""What agents that do not learn have in common: the loop, and a generator and spaces to save."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np

from rls3_agents import saving, spaces
from rls3_agents.base import EnvFactory, Monitor
from rls3_registry.errors import UserError


class ScriptedAgent:
    """Acts by a rule. Subclasses say how (`choose`), and what they learn from the answer (`heard`)."""

    kind: ClassVar[str]
    action_views: ClassVar[tuple[str, ...]]

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.action_space: gymnasium.Space[Any] | None = None
        self._loaded = False

    def choose(self, space: gymnasium.Space[Any]) -> Any:
        """The next action."""
        raise NotImplementedError

    def heard(self, info: Mapping[str, Any]) -> None:
        """The environment's answer to the action just taken."""

    def own_state(self) -> dict[str, Any]:
        """State beyond the generator, JSON-ready."""
        return {}

    def load_own_state(self, state: Mapping[str, Any]) -> None:
        """Take up what `own_state` gave."""

    def learn(self, make_env: EnvFactory, monitor: Monitor) -> None:
        env = make_env()
        self.action_space = env.action_space
        if not self._loaded:
            env.reset()
        while not monitor.done:
            *_, terminated, truncated, info = env.step(self.choose(env.action_space))
            self.heard(info)
            if terminated or truncated:
                env.reset()
            monitor.safe_point(self)

    def act(self, observation: Any, deterministic: bool = False) -> Any:
        """The next action; `observation` and `deterministic` change nothing here."""
        if self.action_space is None:
            raise UserError("act: the agent does not know its action space yet; let it learn, or load it, first")
        return self.choose(self.action_space)

    def save(self, directory: Path) -> None:
        if self.action_space is None:
            raise UserError("save: nothing to save before the agent has begun")
        state = {"action_space": spaces.describe(self.action_space), "rng": self.rng.bit_generator.state}
        saving.write_header(directory, self.kind, {**state, "own": self.own_state()})

    def load(self, directory: Path) -> None:
        state = saving.read_header(directory, self.kind)
        self.action_space = spaces.restore(state["action_space"])
        self.rng.bit_generator.state = state["rng"]
        self.load_own_state(state["own"])
        self._loaded = True
