"""The vector environment as a Tianshou one: many lanes, one VLM, for Tianshou's collectors and trainers.

import gymnasium, rls3_gym
from rls3_agents.tianshou.tianshou_vec_env import TianshouVecEnv

env = TianshouVecEnv(gymnasium.make_vec("RLS3Scene-v0", num_envs=8))
Collector(algorithm, env, VectorReplayBuffer(2048, 8))
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray
from tianshou.env import BaseVectorEnv

from rls3_gym.envs.vector_env import RLS3SceneVectorEnv

Lanes = int | Sequence[int] | NDArray[np.int64] | None


class TianshouVecEnv(BaseVectorEnv):  # type: ignore[misc]  # Tianshou is untyped to mypy
    """An `RLS3SceneVectorEnv`. Tianshou resets the lanes whose episodes have ended itself, so nothing resets here."""

    def __init__(self, env: VectorEnv[Any, Any, Any]) -> None:
        # Not the base's: it makes an environment, and a worker, for each lane.
        self.env: RLS3SceneVectorEnv = env.unwrapped  # type: ignore[assignment]
        self.env_num = self.wait_num = env.num_envs
        self.timeout = None
        self.is_async = False
        self.waiting_id: list[int] = []
        self.ready_id = list(range(self.env_num))
        self.is_closed = False
        self._seeds: list[int] | None = None

    def reset(self, env_id: Lanes = None, **kwargs: Any) -> tuple[Any, NDArray[np.object_]]:
        """The next episode on some lanes, all when left out; after `seed`, a new experiment on all of them."""
        self._assert_is_not_closed()
        chosen = [int(number) for number in self._wrap_id(env_id)]
        seeds = kwargs.pop("seed", self._seeds)
        if seeds is not None or not self.env.loop.begun:
            self._seeds = None
            self.env.reset(seed=seeds, **kwargs)
        else:
            mask = np.isin(np.arange(self.env_num), chosen)
            options = {**(kwargs.pop("options", None) or {}), "reset_mask": mask}
            self.env.reset(options=options, **kwargs)
        return self._observations(chosen), np.array([dict(self.env.begun[number]) for number in chosen], object)

    def step(self, action: Any, id: Lanes = None) -> tuple[Any, ...]:
        """One step on some lanes, all when left out: observations, rewards, terminated, truncated, infos."""
        self._assert_is_not_closed()
        chosen = [int(number) for number in self._wrap_id(id)]
        if action is None or len(action) != len(chosen):
            raise ValueError("give one action for each lane")
        taken = self.env.act(dict(zip(chosen, action, strict=True)))
        steps = [taken[number] for number in chosen]
        return (
            self._observations(chosen),
            np.array([step.reward for step in steps], np.float64),
            np.zeros(len(steps), np.bool_),
            np.array([step.ended for step in steps], np.bool_),
            np.array([{**step.info, "env_id": step.lane} for step in steps], object),
        )

    def seed(self, seed: int | list[int] | None = None) -> list[list[int] | None]:
        """The next reset begins a new experiment with these seeds."""
        self._assert_is_not_closed()
        if seed is None:
            return [None] * self.env_num
        self._seeds = [seed + number for number in range(self.env_num)] if isinstance(seed, int) else list(seed)
        return [[s] for s in self._seeds]

    def get_env_attr(self, key: str, id: Lanes = None) -> list[Any]:
        """Of the vector environment, for each lane; its spaces are those of one lane."""
        self._assert_is_not_closed()
        name = {"action_space": "single_action_space", "observation_space": "single_observation_space"}.get(key, key)
        return [getattr(self.env, name) for _ in self._wrap_id(id)]

    def set_env_attr(self, key: str, value: Any, id: Lanes = None) -> None:
        """Of the vector environment: all lanes have it."""
        self._assert_is_not_closed()
        setattr(self.env, key, value)

    def render(self, **kwargs: Any) -> list[Any]:
        """A picture for each lane."""
        self._assert_is_not_closed()
        return list(self.env.render() or [None] * self.env_num)

    def close(self) -> None:
        self._assert_is_not_closed()
        self.env.close()
        self.is_closed = True

    def _observations(self, lanes: Sequence[int]) -> Any:
        return np.stack([self.env.observe(number) for number in lanes])
