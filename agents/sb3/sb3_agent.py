"""Stable-Baselines3 and sb3-contrib as samplers: one plugin for every algorithm of `sb3_algorithms.py`.

The library's `learn` runs unchanged; a callback tells it when to stop, and tells the monitor when it can save.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import gymnasium
from gymnasium import spaces
from gymnasium.vector import VectorEnv
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import KVWriter, Logger
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from rls3_agents.base import Monitor
from rls3_agents.library_agent import LibraryAgent
from rls3_agents.sb3.sb3_algorithms import ALGORITHMS, HORIZON, Sb3Settings, constructor_arguments
from rls3_agents.sb3.sb3_state import Memory, load_model, save_model
from rls3_agents.sb3.sb3_vec_env import Sb3VecEnv
from rls3_registry.errors import UserError

SMALLEST_PICTURE = 36
"""Pixels a side below which nothing is left after the three convolutions of SB3's network for pictures."""


_SORTS = {"state": "Mlp", "pixels": "Cnn", "dict": "MultiInput"}
"""How the names of SB3's policies begin, by the observations that they take."""


def _policy_name(algorithm: type[BaseAlgorithm], sort: str) -> str | None:
    """An algorithm's name of its policy of a sort; None where it has none."""
    return next((name for name in algorithm.policy_aliases if name in (f"{sort}Policy", f"{sort}LstmPolicy")), None)


class Sb3Agent(LibraryAgent[Sb3Settings, BaseAlgorithm]):
    """One SB3 algorithm as a sampler agent."""

    library = "sb3"

    def __init__(self, settings: Mapping[str, Any], *, seed: int) -> None:
        super().__init__(ALGORITHMS, settings, seed)
        self._memory: Memory | None = None
        """Of a recurrent policy: what it has seen since it began to act."""

    @property
    def observations(self) -> tuple[str, ...]:
        """Names of the observations it can learn from."""
        algorithm = cast(type[BaseAlgorithm], self.row.build)
        if self.row.policy is not None:
            return ("state",)
        return tuple(seen for seen, sort in _SORTS.items() if _policy_name(algorithm, sort) is not None)

    def learn(self, env: gymnasium.Env[Any, Any] | VectorEnv[Any, Any, Any], monitor: Monitor) -> None:
        model = self.model_for(env)
        # Never reset by force: a loaded model holds the observation at which the environment stands.
        model.set_env(_for_sb3(env), force_reset=False)
        model.set_logger(Logger(folder=None, output_formats=[MonitorWriter(monitor)]))
        self.begin_episode()
        if monitor.done:
            return
        with self.generators:
            model.learn(
                HORIZON - model.num_timesteps,
                callback=MonitorCallback(self, monitor),
                log_interval=None,  # type: ignore[arg-type]
                reset_num_timesteps=False,
            )

    def act(self, observation: Any, deterministic: bool = False) -> Any:
        """See `SamplerAgent.act`. A recurrent policy remembers the observations since `begin_episode`."""
        with self.generators:
            action, self._memory = self.model("act").predict(observation, self._memory, deterministic=deterministic)
        return action

    def begin_episode(self) -> None:
        """Forget what `act` was shown: the next observation is the first of an episode."""
        self._memory = None

    def build(self) -> BaseAlgorithm:
        algorithm = cast(type[BaseAlgorithm], self.row.build)
        stand_in = DummyVecEnv([lambda: _SpacesOnly(self.observation_space, self.action_space)] * self.lanes)
        arguments = constructor_arguments(self.settings, self.action_space, self.lanes)
        # No seed for SB3: it would seed the environment too, and Python's own generator.
        policy = self.row.policy or self._policy(algorithm)
        model = algorithm(policy, stand_in, device="cpu", **arguments)
        # Uniform actions are drawn from the space's generator, which is saved with the agent.
        model.action_space = self.action_space
        return model

    def save_model(self, directory: Path) -> dict[str, Any]:
        return save_model(self.model("save"), directory, self._memory)

    def load_model(self, directory: Path, counters: Mapping[str, Any]) -> None:
        self._memory = load_model(self.model("load"), directory, counters)

    def _policy(self, algorithm: type[BaseAlgorithm]) -> str:
        """SB3's name of the policy for the observations."""
        seen = self.observation_space
        parts = seen.values() if isinstance(seen, spaces.Dict) else [seen]
        pictures = [part.shape for part in parts if part.shape is not None and len(part.shape) == 3]
        for height, *_ in pictures:
            if height < SMALLEST_PICTURE:
                raise UserError(f"image_size: SB3's network for pictures needs {SMALLEST_PICTURE} pixels, not {height}")
        sort = "MultiInput" if isinstance(seen, spaces.Dict) else "Cnn" if pictures else "Mlp"
        name = _policy_name(algorithm, sort)
        if name is None:
            raise UserError(f"observation: sb3 {self.settings.algorithm} takes flat observations only; use 'state'")
        return name


class MonitorCallback(BaseCallback):
    """Connects the monitor to SB3's loop. At the start of a rollout no work is half done, so the agent can be saved."""

    def __init__(self, agent: Sb3Agent, monitor: Monitor) -> None:
        super().__init__()
        self.agent = agent
        self.monitor = monitor

    def _on_rollout_start(self) -> None:
        self.logger.dump(self.num_timesteps)  # what the update before said
        self.monitor.safe_point(self.agent)

    def _on_step(self) -> bool:
        return not self.monitor.done


class MonitorWriter(KVWriter):
    """Hands what SB3 logs to the monitor, without the settings that it repeats."""

    LEFT_OUT = frozenset({"clip_range", "learning_rate", "n_updates"})

    def __init__(self, monitor: Monitor) -> None:
        self.monitor = monitor

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        named = {key.rsplit("/")[-1]: float(value) for key, value in key_values.items()}
        if values := {name: value for name, value in named.items() if name not in self.LEFT_OUT}:
            self.monitor.log(values)

    def close(self) -> None:
        """Nothing is open."""


def _for_sb3(env: gymnasium.Env[Any, Any] | VectorEnv[Any, Any, Any]) -> VecEnv:
    if isinstance(env, VectorEnv):
        return Sb3VecEnv(env, infos=False)
    return DummyVecEnv([lambda: _WithoutInfo(env)])


class _WithoutInfo(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Hides `info` from SB3, which would deep-copy it at every step and gives some keys a meaning of its own."""

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, _ = self.env.step(action)
        return observation, reward, terminated, truncated, {}


class _SpacesOnly(gymnasium.Env[Any, Any]):
    """What a model needs of an environment to be built. It can't be stepped."""

    def __init__(self, observation_space: gymnasium.Space[Any], action_space: gymnasium.Space[Any]) -> None:
        self.observation_space = observation_space
        self.action_space = action_space
