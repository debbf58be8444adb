"""The vector environment as a Stable-Baselines3 `VecEnv`: many lanes, one VLM.

import gymnasium, rls3_gym
from rls3_agents.sb3.sb3_vec_env import Sb3VecEnv

env = Sb3VecEnv(gymnasium.make_vec("RLS3Scene-v0", num_envs=8))
PPO("MlpPolicy", env, n_steps=32).learn(10_000)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn


class Sb3VecEnv(VecEnv):
    """An `RLS3SceneVectorEnv`, or an `AgentsAsLanes`, wrapped or not.

    Each lane's info is that of its step; where an episode has ended it also has `terminal_observation` and
    `TimeLimit.truncated`, as SB3 wants them. What a reset said is in `reset_infos`.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any], infos: bool = True) -> None:
        """`infos=False` leaves out all but SB3's own keys: SB3 copies each info at every step."""
        self.env = env
        self._scene_env: Any = env.unwrapped
        self._infos = infos
        self._actions: Any = None
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)

    def reset(self) -> VecEnvObs:
        """The next episode on all lanes, or after `seed` a new experiment."""
        seeds = self._seeds if any(seed is not None for seed in self._seeds) else None
        observation: VecEnvObs
        observation, _ = self.env.reset(seed=seeds)  # type: ignore[arg-type]  # one for each lane is fine
        self._note_resets()
        self._reset_seeds()
        self._reset_options()
        return observation

    def step_async(self, actions: NDArray[Any]) -> None:
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        observation, rewards, terminated, truncated, infos = self.env.step(self._actions)
        dones = terminated | truncated
        told: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        if self._infos:
            told = [dict(info) for info in self._scene_env.infos]
        for number in np.flatnonzero(dones):
            told[number]["terminal_observation"] = infos["final_obs"][number]
            told[number]["TimeLimit.truncated"] = bool(truncated[number] and not terminated[number])
        self._note_resets()
        return observation, rewards.astype(np.float32), dones, told

    def _note_resets(self) -> None:
        if self._infos:
            for number, info in self._scene_env.begun.items():
                self.reset_infos[number] = info

    def close(self) -> None:
        self.env.close()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        return [getattr(self._scene_env, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        setattr(self._scene_env, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> list[Any]:
        """Of the vector environment; what has a row for each lane, as `action_masks` has, is given row by row."""
        result = getattr(self._scene_env, method_name)(*method_args, **method_kwargs)
        return [result[number] for number in self._get_indices(indices)]

    def env_is_wrapped(
        self, wrapper_class: type[gymnasium.Wrapper[Any, Any, Any, Any]], indices: VecEnvIndices = None
    ) -> list[bool]:
        return [False for _ in self._get_indices(indices)]

    def get_images(self) -> Sequence[NDArray[np.uint8] | None]:
        return self._scene_env.render() or [None] * self.num_envs
