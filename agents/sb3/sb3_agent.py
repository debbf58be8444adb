"""Stable-Baselines3 as samplers: one plugin for PPO, A2C, SAC, TD3 and DQN.

The library's `learn` runs unchanged; a callback tells it when to stop and the monitor when to save. `sb3_state.py`
takes a model's state apart and puts it together again.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces as gym_spaces
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.vec_env import DummyVecEnv

from rls3_agents import saving, spaces
from rls3_agents.base import Monitor
from rls3_agents.global_rng import LibraryGenerators
from rls3_agents.sb3.sb3_settings import Sb3Settings, parse_sb3
from rls3_agents.sb3.sb3_state import load_model, save_model
from rls3_registry.errors import UserError

CLASSES: dict[str, type[BaseAlgorithm]] = {"ppo": PPO, "a2c": A2C, "sac": SAC, "td3": TD3, "dqn": DQN}
VIEWS = {
    "ppo": ("box", "multi_discrete", "relation"),
    "a2c": ("box", "multi_discrete", "relation"),
    "sac": ("box",),
    "td3": ("box",),
    "dqn": ("relation",),
}
SMALLEST_PICTURE = 36
"""Pixels a side below which nothing is left after the three convolutions of SB3's network for pictures."""
HORIZON = 1_000_000_000
"""Steps told to SB3 as the run's length. The budget counts valid samples, so the true number isn't known ahead."""


class Sb3Agent:
    """One SB3 algorithm as a sampler agent."""

    def __init__(self, settings: Mapping[str, Any], *, seed: int) -> None:
        self.settings = parse_sb3(settings)
        self.seed = seed
        self.generators = LibraryGenerators(seed)
        self._model: BaseAlgorithm | None = None

    @property
    def action_views(self) -> tuple[str, ...]:
        return VIEWS[self.settings.algorithm]

    def learn(self, env: gymnasium.Env[Any, Any], monitor: Monitor) -> None:
        watched = _WithoutInfo(env)
        model = self._fitted(watched)
        # Never reset by force: a loaded model holds the observation at which the environment stands.
        model.set_env(DummyVecEnv([lambda: watched]), force_reset=False)
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
        with self.generators:
            action, _ = self._begun("act").predict(observation, deterministic=deterministic)
        return action

    def save(self, directory: Path) -> None:
        model = self._begun("save")
        directory.mkdir(parents=True, exist_ok=True)
        header = {
            "algorithm": self.settings.algorithm,
            "observation_space": spaces.describe(self._seen),
            "action_space": spaces.describe(model.action_space),
            "generators": self.generators.state(),
            "action_generator": spaces.generator_state(model.action_space),
        }
        saving.write_header(directory, "sb3", header | {"counters": save_model(model, directory)})

    def load(self, directory: Path) -> None:
        header = saving.read_header(directory, "sb3")
        if header["algorithm"] != self.settings.algorithm:
            raise UserError(f"{directory}: holds {header['algorithm']}, not {self.settings.algorithm}")
        seen, actions = spaces.restore(header["observation_space"]), spaces.restore(header["action_space"])
        self._model = self._build(seen, actions)
        load_model(self._model, directory, header["counters"])
        spaces.load_generator_state(self._model.action_space, header["action_generator"])
        self.generators.load_state(header["generators"])

    def _begun(self, what: str) -> BaseAlgorithm:
        if self._model is None:
            raise UserError(f"{what}: there is no model yet; let the agent learn, or load it, first")
        return self._model

    def _fitted(self, env: gymnasium.Env[Any, Any]) -> BaseAlgorithm:
        """The model for this environment: the loaded one if it fits, or a new one."""
        if self._model is None:
            self._model = self._build(env.observation_space, env.action_space)
        elif (self._seen, self._model.action_space) != (env.observation_space, env.action_space):
            raise UserError(
                f"the saved agent sees {self._seen} and acts in {self._model.action_space}; "
                f"this environment has {env.observation_space} and {env.action_space}"
            )
        return self._model

    def _build(self, observation_space: gymnasium.Space[Any], action_space: gymnasium.Space[Any]) -> BaseAlgorithm:
        self._seen = deepcopy(observation_space)
        stand_in = DummyVecEnv([lambda: _SpacesOnly(deepcopy(observation_space), deepcopy(action_space))])
        algorithm = CLASSES[self.settings.algorithm]
        with self.generators:
            # No seed for SB3: it would seed the environment too, and Python's own generator.
            arguments = _arguments(self.settings, action_space)
            model = algorithm(_policy(observation_space), stand_in, device="cpu", **arguments)
        model.action_space.seed(self.seed)
        model.set_logger(Logger(folder=None, output_formats=[]))
        return model


class MonitorCallback(BaseCallback):
    """Carries the monitor's word into SB3's loop. A rollout's start is the point at which nothing is half done."""

    def __init__(self, agent: Sb3Agent, monitor: Monitor) -> None:
        super().__init__()
        self.agent = agent
        self.monitor = monitor

    def _on_rollout_start(self) -> None:
        self.monitor.safe_point(self.agent)

    def _on_step(self) -> bool:
        return not self.monitor.done


class _WithoutInfo(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Keeps `info` from SB3, which copies it deeply at every step and reads a meaning of its own into its keys."""

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, _ = self.env.step(action)
        return observation, reward, terminated, truncated, {}


class _SpacesOnly(gymnasium.Env[Any, Any]):
    """What a model needs of an environment to be built. It can't be stepped."""

    def __init__(self, observation_space: gymnasium.Space[Any], action_space: gymnasium.Space[Any]) -> None:
        self.observation_space = observation_space
        self.action_space = action_space


def _policy(observation_space: gymnasium.Space[Any]) -> str:
    parts = observation_space.values() if isinstance(observation_space, gym_spaces.Dict) else [observation_space]
    for height, *_ in (part.shape for part in parts if part.shape is not None and len(part.shape) == 3):
        if height < SMALLEST_PICTURE:
            raise UserError(f"image_size: SB3's network for pictures needs {SMALLEST_PICTURE} pixels, not {height}")
    if isinstance(observation_space, gym_spaces.Dict):
        return "MultiInputPolicy"
    return "CnnPolicy" if len(observation_space.shape or ()) == 3 else "MlpPolicy"


def _arguments(settings: Sb3Settings, action_space: gymnasium.Space[Any]) -> dict[str, Any]:
    """The settings as SB3's constructors spell them."""
    arguments = settings.model_dump(exclude={"algorithm"})
    arguments["policy_kwargs"] = {"net_arch": arguments.pop("net_arch")}
    if "log_std_init" in arguments:
        arguments["policy_kwargs"]["log_std_init"] = arguments.pop("log_std_init")
    if "action_noise" in arguments:
        sigma = np.full(action_space.shape or (), arguments["action_noise"])
        arguments["action_noise"] = NormalActionNoise(np.zeros_like(sigma), sigma)
    if "exploration_steps" in arguments:
        arguments["exploration_fraction"] = arguments.pop("exploration_steps") / HORIZON
    return arguments
