"""Tianshou as a sampler: PPO and SAC through its low-level API.

The loop is ours, for Tianshou's trainers count epochs, steps and test episodes, where a sampler's budget is valid
samples; acting, storing and updating are the library's.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces as gym_spaces
from numpy.typing import NDArray
from tianshou.algorithm import PPO, SAC
from tianshou.data import Batch, ReplayBuffer
from tianshou.utils.torch_utils import policy_within_training_step

from rls3_agents import saving, spaces
from rls3_agents.base import Monitor
from rls3_agents.global_rng import LibraryGenerators
from rls3_agents.tianshou.tianshou_algorithms import PpoSettings, SacSettings, build_ppo, build_sac, parse_tianshou
from rls3_registry.errors import UserError

COLUMNS = ("obs", "act", "rew", "terminated", "truncated", "done", "obs_next")
VIEWS = {"ppo": ("box", "multi_discrete", "relation"), "sac": ("box",)}


class TianshouAgent:
    """One Tianshou algorithm as a sampler agent; takes flat observations (`observation: state`)."""

    def __init__(self, settings: Mapping[str, Any], *, seed: int) -> None:
        self.settings = parse_tianshou(settings)
        self.seed = seed
        self.generators = LibraryGenerators(seed)
        self._algorithm: PPO | SAC | None = None
        self._steps = 0
        self._observation: NDArray[Any] | None = None

    @property
    def action_views(self) -> tuple[str, ...]:
        return VIEWS[self.settings.algorithm]

    def learn(self, env: gymnasium.Env[Any, Any], monitor: Monitor) -> None:
        if self._algorithm is None:
            self._build(env.observation_space, env.action_space)
        elif (self._seen, self._actions) != (env.observation_space, env.action_space):
            raise UserError(
                f"the saved agent sees {self._seen} and acts in {self._actions}; "
                f"this environment has {env.observation_space} and {env.action_space}"
            )
        if self._observation is None:
            self._observation, _ = env.reset()
        with self.generators:
            while not monitor.done:
                self._step(env)
                if self._update():
                    monitor.safe_point(self)

    def act(self, observation: Any, deterministic: bool = False) -> Any:
        with self.generators:
            return self._to_env(self._raw_action(observation, deterministic))

    def save(self, directory: Path) -> None:
        algorithm = self._begun("save")
        header = {
            "algorithm": self.settings.algorithm,
            "observation_space": spaces.describe(self._seen),
            "action_space": spaces.describe(self._actions),
            "generators": self.generators.state(),
            "action_generator": spaces.generator_state(self._actions),
            "steps": self._steps,
            "buffer_next": self._buffer._insertion_idx,
            "buffer_size": len(self._buffer),
        }
        saving.write_header(directory, "tianshou", header)
        # The optimizer of alpha is the one piece that Tianshou's state dict leaves out.
        tensors = {"algorithm": algorithm.state_dict()}
        if isinstance(algorithm, SAC):
            tensors["alpha_optimizer"] = algorithm.alpha._optim.state_dict()
        saving.write_tensors(directory / "model.pt", tensors)
        rows = len(self._buffer)
        arrays = {column: self._buffer._meta[column][:rows] for column in COLUMNS} if rows else {}
        saving.write_arrays(directory / "arrays.npz", arrays | {"observation": np.asarray(self._observation)})

    def load(self, directory: Path) -> None:
        header = saving.read_header(directory, "tianshou")
        if header["algorithm"] != self.settings.algorithm:
            raise UserError(f"{directory}: holds {header['algorithm']}, not {self.settings.algorithm}")
        self._build(spaces.restore(header["observation_space"]), spaces.restore(header["action_space"]))
        algorithm = self._begun("load")
        tensors = saving.read_tensors(directory / "model.pt")
        arrays = saving.read_arrays(directory / "arrays.npz")
        try:
            algorithm.load_state_dict(tensors["algorithm"])
            if isinstance(algorithm, SAC):
                algorithm.alpha._optim.load_state_dict(tensors["alpha_optimizer"])
            self._fill_buffer(arrays, header["buffer_size"], header["buffer_next"])
            self._observation = arrays["observation"]
        except (KeyError, ValueError, RuntimeError, IndexError) as error:
            raise UserError(f"{directory}: does not fit the agent's settings ({str(error).splitlines()[0]})") from error
        self._steps = header["steps"]
        spaces.load_generator_state(self._actions, header["action_generator"])
        self.generators.load_state(header["generators"])

    def _step(self, env: gymnasium.Env[Any, Any]) -> None:
        """One environment step into the buffer; the next episode begins where one ends."""
        settings, observation = self.settings, self._observation
        if isinstance(settings, SacSettings) and self._steps < settings.learning_starts:
            raw = self._begun("learn").policy.map_action_inverse(self._actions.sample())
        else:
            raw = self._raw_action(observation, deterministic=False)
        following, reward, terminated, truncated, _ = env.step(self._to_env(raw))
        self._steps += 1
        self._buffer.add(
            Batch(
                obs=observation,
                act=raw,
                rew=np.float64(reward),
                terminated=np.bool_(terminated),
                truncated=np.bool_(truncated),
                obs_next=following,
            )
        )
        self._observation = env.reset()[0] if terminated or truncated else following

    def _update(self) -> bool:
        """Learn if it is time to; returns whether nothing is half done, so that the agent can be saved."""
        algorithm, settings = self._begun("learn"), self.settings
        with policy_within_training_step(algorithm.policy):
            if isinstance(settings, PpoSettings):
                if len(self._buffer) < settings.rollout_steps:
                    return False
                algorithm.update(self._buffer, settings.batch_size, settings.repeat)
                self._buffer.reset()
            elif isinstance(settings, SacSettings) and self._steps >= settings.learning_starts:
                algorithm.update(self._buffer, settings.batch_size)
        return True

    def _raw_action(self, observation: Any, deterministic: bool) -> NDArray[Any]:
        """An action as the network gives it, unbounded for PPO's box."""
        policy = self._begun("act").policy
        with torch.no_grad(), policy_within_training_step(policy, enabled=not deterministic):
            action = policy(Batch(obs=np.asarray(observation)[None], info={})).act
        return np.asarray(action[0].numpy())

    def _to_env(self, raw: NDArray[Any]) -> NDArray[Any]:
        action = self._begun("act").policy.map_action(raw)
        return np.asarray(action, dtype=self._actions.dtype)

    def _begun(self, what: str) -> PPO | SAC:
        if self._algorithm is None:
            raise UserError(f"{what}: there is no model yet; let the agent learn, or load it, first")
        return self._algorithm

    def _build(self, observation_space: gymnasium.Space[Any], action_space: gymnasium.Space[Any]) -> None:
        if not isinstance(observation_space, gym_spaces.Box) or len(observation_space.shape) != 1:
            raise UserError("observation: the tianshou agents take flat observations; use 'state'")
        self._seen, self._actions = deepcopy(observation_space), deepcopy(action_space)
        self._actions.seed(self.seed)
        with self.generators:
            if isinstance(self.settings, PpoSettings):
                self._algorithm = build_ppo(self.settings, self._seen, self._actions)
                rows = self.settings.rollout_steps
            elif isinstance(self.settings, SacSettings) and isinstance(self._actions, gym_spaces.Box):
                self._algorithm = build_sac(self.settings, self._seen, self._actions)
                rows = self.settings.buffer_size
            else:
                raise UserError(f"tianshou {self.settings.algorithm}: cannot act in {action_space}")
        self._buffer = _Buffer(rows)

    def _fill_buffer(self, arrays: dict[str, NDArray[Any]], size: int, following: int) -> None:
        """Put the rows back where they stood: sampling draws row numbers."""
        for row in range(size):
            self._buffer.add(Batch({column: arrays[column][row] for column in COLUMNS if column != "done"}))
        self._buffer._insertion_idx = following
        self._buffer.last_index[0] = (following - 1) % max(size, 1)


class _Buffer(ReplayBuffer):  # type: ignore[misc]  # Tianshou is untyped to mypy
    """A replay buffer that draws from the same stream as all else in the library, so that there is one to save."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._random_state = np.random  # numpy's global functions; see generators.py
