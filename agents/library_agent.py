"""What the agents of RL libraries have in common: settings from a table, generators of their own, spaces, saving."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import gymnasium
from gymnasium.vector import VectorEnv

from rls3_agents import saving
from rls3_agents.algorithms import Algorithm, S, parse_algorithm
from rls3_agents.base import Monitor
from rls3_agents.global_rng import LibraryGenerators
from rls3_registry.errors import UserError

M = TypeVar("M")
"""The library's class of models."""


class LibraryAgent(ABC, Generic[S, M]):
    """One algorithm of a library as a sampler agent. Subclasses build, run, save and load the library's model."""

    library: ClassVar[str]
    """Identifies the agent in its saved files."""

    def __init__(self, table: Mapping[str, Algorithm[S]], settings: Mapping[str, Any], seed: int) -> None:
        self.settings = parse_algorithm(table, settings)
        self.row = table[self.settings.algorithm]
        self.seed = seed
        self.generators = LibraryGenerators(seed)
        self.lanes = 1
        """Of the environment it learns in."""
        self._model: M | None = None

    @property
    def action_views(self) -> tuple[str, ...]:
        return self.row.action_views

    @property
    def takes_lanes(self) -> bool:
        """Whether it learns in a vector environment."""
        return self.row.takes_lanes

    @abstractmethod
    def learn(self, env: gymnasium.Env[Any, Any] | VectorEnv[Any, Any, Any], monitor: Monitor) -> None:
        """See `SamplerAgent.learn`."""

    @abstractmethod
    def act(self, observation: Any, deterministic: bool = False) -> Any:
        """See `SamplerAgent.act`."""

    @abstractmethod
    def build(self) -> M:
        """A new model for `observation_space`, `action_space` and `lanes`; called with the generators in place."""

    @abstractmethod
    def save_model(self, directory: Path) -> dict[str, Any]:
        """Write the model's tensors and arrays; returns its counters, JSON-ready."""

    @abstractmethod
    def load_model(self, directory: Path, counters: Mapping[str, Any]) -> None:
        """Put what `save_model` wrote into the model, which is newly built."""

    def save(self, directory: Path) -> None:
        self.model("save")
        directory.mkdir(parents=True, exist_ok=True)
        header = {
            "algorithm": self.settings.algorithm,
            "observation_space": saving.describe_space(self.observation_space),
            "action_space": saving.describe_space(self.action_space),
            "lanes": self.lanes,
            "generators": self.generators.state(),
            "action_generator": saving.generator_state(self.action_space),
            "counters": self.save_model(directory),
        }
        saving.write_header(directory, self.library, header)

    def load(self, directory: Path) -> None:
        header = saving.read_header(directory, self.library)
        with saving.restoring(directory):
            if header["algorithm"] != self.settings.algorithm:
                raise UserError(f"{directory}: holds {header['algorithm']}, not {self.settings.algorithm}")
            seen, actions = (saving.restore_space(header[name]) for name in ("observation_space", "action_space"))
            self._begin(seen, actions, int(header.get("lanes", 1)))
            self.load_model(directory, header["counters"])
            saving.load_generator_state(self.action_space, header["action_generator"])
            self.generators.load_state(header["generators"])

    def model(self, purpose: str) -> M:
        """The library's model. Raises `UserError` naming the `purpose` when there is none yet."""
        if self._model is None:
            raise UserError(f"{purpose}: the agent has no model yet; let it learn, or load it, first")
        return self._model

    def model_for(self, env: gymnasium.Env[Any, Any] | VectorEnv[Any, Any, Any]) -> M:
        """The model to learn with in `env`: a new one at first, else the one there is.

        Raises:
            UserError: The agent learned, before or when it was saved, with other spaces or another number of lanes.
        """
        if isinstance(env, VectorEnv):
            seen, actions, lanes = env.single_observation_space, env.single_action_space, env.num_envs
        else:
            seen, actions, lanes = env.observation_space, env.action_space, 1
        if self._model is None:
            self._begin(seen, actions, lanes)
        elif (self.observation_space, self.action_space, self.lanes) != (seen, actions, lanes):
            raise UserError(
                f"the agent observes {self.observation_space} and acts in {self.action_space} on {self.lanes} lanes; "
                f"this environment has {seen} and {actions} on {lanes}"
            )
        return self.model("learn")

    def _begin(self, observation_space: gymnasium.Space[Any], action_space: gymnasium.Space[Any], lanes: int) -> None:
        if not isinstance(action_space, self.row.spaces):
            takes = " or ".join(space_type.__name__ for space_type in self.row.spaces)
            raise UserError(f"{self.library} {self.settings.algorithm} acts in {takes}, not in {action_space}")
        # Copies: the environment's own spaces have generators that other code may draw from.
        self.observation_space, self.action_space = deepcopy(observation_space), deepcopy(action_space)
        self.action_space.seed(self.seed)
        self.lanes = lanes
        """Of the environment that it learns in."""
        with self.generators:
            self._model = self.build()
