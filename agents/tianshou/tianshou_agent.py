"""Tianshou as a sampler: one plugin for every algorithm of `tianshou_algorithms.py`.

The loop is ours, for Tianshou's trainers count epochs, steps and test episodes, where a sampler's budget is valid
samples; acting, storing and updating are the library's.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray
from tianshou.algorithm.algorithm_base import Algorithm, TrainingStats
from tianshou.algorithm.modelfree.sac import AutoAlpha
from tianshou.data import Batch, ReplayBuffer, VectorReplayBuffer
from tianshou.utils.torch_utils import policy_within_training_step

from rls3_agents import saving
from rls3_agents.algorithms import steps_per_lane
from rls3_agents.base import Monitor
from rls3_agents.library_agent import LibraryAgent
from rls3_agents.tianshou.tianshou_algorithms import ALGORITHMS, OffPolicySettings, OnPolicySettings
from rls3_registry.errors import UserError

COLUMNS = ("obs", "act", "rew", "terminated", "truncated", "done", "obs_next")
COUNTERS = ("_iter", "critic_gradient_step", "_last_actor_loss")
"""Every counter that steers learning, of DQN and of REDQ, and a loss that REDQ repeats until its next one."""


class TianshouAgent(LibraryAgent[OnPolicySettings | OffPolicySettings, Algorithm]):
    """One Tianshou algorithm as a sampler agent; takes flat observations (`observation: state`)."""

    library = "tianshou"
    observations = ("state",)

    def __init__(self, settings: Mapping[str, Any], *, seed: int) -> None:
        super().__init__(ALGORITHMS, settings, seed)
        self._steps = 0
        self._observation: NDArray[Any] | None = None

    def learn(self, env: gymnasium.Env[Any, Any] | VectorEnv[Any, Any, Any], monitor: Monitor) -> None:
        self.model_for(env)
        if self._observation is None:
            self._observation, _ = env.reset()
        with self.generators:
            monitor.safe_point(self)
            while not monitor.done:
                if isinstance(env, VectorEnv):
                    self._step_all(env)
                else:
                    self._step(env)
                if self._update(monitor):
                    monitor.safe_point(self)

    def act(self, observation: Any, deterministic: bool = False) -> Any:
        with self.generators:
            return self._to_env(self._raw_actions(np.asarray(observation)[None], deterministic)[0])

    def build(self) -> Algorithm:
        seen, settings = self.observation_space, self.settings
        if not isinstance(seen, spaces.Box) or len(seen.shape) != 1:
            raise UserError("observation: the tianshou agents take flat observations; use 'state'")
        rows = settings.rollout_steps if isinstance(settings, OnPolicySettings) else settings.buffer_size
        # An on-policy buffer holds one rollout, in a part for each lane.
        per_lane = steps_per_lane(rows, self.lanes)
        self._buffer = _Buffer(rows) if self.lanes == 1 else VectorReplayBuffer(per_lane * self.lanes, self.lanes)
        return self.row.build(settings, seen, self.action_space)

    def save_model(self, directory: Path) -> dict[str, Any]:
        algorithm = self.model("save")
        # The optimizer of alpha is the one piece that Tianshou's state dict leaves out.
        tensors = {"algorithm": algorithm.state_dict()}
        if isinstance(alpha := getattr(algorithm, "alpha", None), AutoAlpha):
            tensors["alpha_optimizer"] = alpha._optim.state_dict()
        saving.write_tensors(directory / "model.pt", tensors)
        rows = len(self._buffer)
        held = self._rows(rows)
        arrays = {column: self._buffer._meta[column][held] for column in COLUMNS} if rows else {}
        saving.write_arrays(directory / "arrays.npz", arrays | {"observation": np.asarray(self._observation)})
        counters = {name: getattr(algorithm, name) for name in COUNTERS if hasattr(algorithm, name)}
        return counters | {"steps": self._steps, "buffer_size": rows, "buffer_next": self._buffer_next}

    def load_model(self, directory: Path, counters: Mapping[str, Any]) -> None:
        algorithm = self.model("load")
        tensors = saving.read_tensors(directory / "model.pt")
        arrays = saving.read_arrays(directory / "arrays.npz")
        algorithm.load_state_dict(tensors["algorithm"])
        if isinstance(alpha := getattr(algorithm, "alpha", None), AutoAlpha):
            alpha._optim.load_state_dict(tensors["alpha_optimizer"])
        for name in COUNTERS:
            if hasattr(algorithm, name):
                setattr(algorithm, name, counters[name])
        self._fill_buffer(arrays, counters["buffer_size"], counters["buffer_next"])
        self._observation = arrays["observation"]
        self._steps = counters["steps"]

    def _step(self, env: gymnasium.Env[Any, Any]) -> None:
        """One environment step into the buffer; the next episode begins where one ends."""
        settings, observation = self.settings, self._observation
        if isinstance(settings, OffPolicySettings) and self._steps < settings.learning_starts:
            raw = self.model("learn").policy.map_action_inverse(self.action_space.sample())
        else:
            raw = self._raw_actions(np.asarray(observation)[None], deterministic=False)[0]
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

    def _step_all(self, env: VectorEnv[Any, Any, Any]) -> None:
        """One step on every lane into the buffer."""
        seen = np.asarray(self._observation)
        raw = self._raw_actions(seen, deterministic=False)
        following, rewards, terminated, truncated, infos = env.step(self._to_env(raw))
        last = following.copy()
        for lane in np.flatnonzero(terminated | truncated):
            last[lane] = infos["final_obs"][lane]
        self._steps += self.lanes
        rows = {"obs": seen, "act": raw, "rew": rewards, "terminated": terminated, "truncated": truncated}
        self._buffer.add(Batch(**rows, obs_next=last), buffer_ids=np.arange(self.lanes))
        self._observation = following

    def _update(self, monitor: Monitor) -> bool:
        """Learn if it is time to. Returns whether the agent can be saved now: no work is half done."""
        algorithm, settings = self.model("learn"), self.settings
        with policy_within_training_step(algorithm.policy):
            if isinstance(settings, OnPolicySettings):
                if len(self._buffer) < settings.rollout_steps:
                    return False
                _log(algorithm.update(self._buffer, settings.batch_size, settings.repeat), monitor)
                self._buffer.reset()
            elif self._steps >= settings.learning_starts:
                for _ in range(settings.gradient_steps):
                    _log(algorithm.update(self._buffer, settings.batch_size), monitor)
        return True

    def _raw_actions(self, observations: NDArray[Any], deterministic: bool) -> NDArray[Any]:
        """An action for each observation as the network gives it, unbounded for PPO's Box."""
        policy, batch = self.model("act").policy, Batch(obs=observations, info={})
        with torch.no_grad(), policy_within_training_step(policy, enabled=not deterministic):
            action = policy(batch).act
            action = action if isinstance(action, np.ndarray) else action.numpy()
            if not deterministic:
                action = policy.add_exploration_noise(action, batch)
        return np.asarray(action)

    def _to_env(self, raw: NDArray[Any]) -> NDArray[Any]:
        action = self.model("act").policy.map_action(raw)
        return np.asarray(action, dtype=self.action_space.dtype)

    def _rows(self, n: int) -> NDArray[np.int64]:
        """Numbers of the buffer's `n` rows: in order, or with lanes, which all have as many, step by step."""
        if self.lanes == 1:
            return np.arange(n)
        return np.ravel(np.arange(n // self.lanes)[:, None] + np.asarray(self._buffer._offset, np.int64))

    @property
    def _buffer_next(self) -> int:
        """Where the next row will go; with lanes, of each of them."""
        return len(self._buffer) // self.lanes if self.lanes > 1 else int(self._buffer._insertion_idx)

    def _fill_buffer(self, arrays: dict[str, NDArray[Any]], size: int, following: int) -> None:
        """Put the rows back where they stood: sampling draws row numbers."""
        if self.lanes > 1:
            for step in range(0, size, self.lanes):
                rows = {name: arrays[name][step : step + self.lanes] for name in COLUMNS if name != "done"}
                self._buffer.add(Batch(rows), buffer_ids=np.arange(self.lanes))
            return
        for row in range(size):
            self._buffer.add(Batch({column: arrays[column][row] for column in COLUMNS if column != "done"}))
        self._buffer._insertion_idx = following
        self._buffer.last_index[0] = (following - 1) % max(size, 1)


def _log(stats: TrainingStats, monitor: Monitor) -> None:
    """Hand the monitor what an update of Tianshou's says."""
    said = stats.get_loss_stats_dict().items()
    monitor.log({name: float(value) for name, value in said if name != "gradient_steps"})


class _Buffer(ReplayBuffer):  # type: ignore[misc]  # Tianshou is untyped to mypy
    """A replay buffer that draws from the same stream as all else in the library, so that there is one to save."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._random_state = np.random  # numpy's global functions; see global_rng.py
