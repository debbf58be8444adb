"""Environments as agents get them: episodes are reported to the monitor, and only the experiment's seed counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium
from gymnasium.vector import VectorWrapper

from rls3_gym.envs.scene_env import RLS3SceneEnv
from rls3_gym.envs.vector_env import RLS3SceneVectorEnv
from rls3_gym.experiment.monitor import RunMonitor

if TYPE_CHECKING:
    from rls3_gym.envs.agents_as_lanes import AgentsAsLanes

    _VectorWrapper = VectorWrapper[Any, Any, Any, Any, Any]
else:
    _VectorWrapper = VectorWrapper  # takes no parameters before gymnasium 1.3


class MonitoredEnv(gymnasium.Wrapper[Any, Any, Any, Any]):
    """One lane."""

    def __init__(self, env: RLS3SceneEnv, monitor: RunMonitor, under_way: bool) -> None:
        """`under_way`: the experiment was continued, so that the first reset begins none."""
        super().__init__(env)
        self._monitor = monitor
        self._under_way = under_way

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start the next episode, or the next life. `seed` is not passed on: libraries seed environments as they like,
        and here a seed would start a new experiment."""
        begins = self._monitor.next_life() or not self._under_way
        self._under_way = True
        observation, info = self.env.reset(seed=self._monitor.seed if begins else None, options=options)
        self._monitor.episodes_begun([0], first=begins)
        return observation, info


class MonitoredVectorEnv(_VectorWrapper):
    """Many lanes. They end their episodes together, so a life ends on all of them."""

    def __init__(self, env: RLS3SceneVectorEnv | AgentsAsLanes, monitor: RunMonitor, under_way: bool) -> None:
        """`under_way`: as for `MonitoredEnv`."""
        super().__init__(env)
        self._scene_env = env
        self._monitor = monitor
        self._under_way = under_way

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start the next episodes, or the next life; see `MonitoredEnv.reset`."""
        return self._begin(self._monitor.next_life() or not self._under_way, options)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        observation, rewards, terminated, truncated, infos = self.env.step(actions)
        if self._scene_env.begun:
            self._monitor.episodes_begun(self._recorded_lanes(), first=False)
        if truncated.all() and self._monitor.next_life():
            observation, begun = self._begin(True, None)
            infos |= begun
        return observation, rewards, terminated, truncated, infos

    def _begin(self, first: bool, options: dict[str, Any] | None) -> tuple[Any, dict[str, Any]]:
        self._under_way = True
        observation, infos = self.env.reset(seed=self._monitor.seed if first else None, options=options)
        self._monitor.episodes_begun(self._recorded_lanes(), first=first)
        return observation, infos

    def _recorded_lanes(self) -> list[int]:
        """Lanes of the learning loop whose episode has begun: agents of one scene have one lane together."""
        return list(self._scene_env.begun) if isinstance(self._scene_env, RLS3SceneVectorEnv) else [0]
