"""The environment that an experiment asks for, and the same as its agent gets it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rls3_gym.envs.scene_env import RLS3SceneEnv
from rls3_gym.envs.vector_env import RLS3SceneVectorEnv
from rls3_gym.experiment.config import EnvironmentConfig
from rls3_gym.experiment.monitor import RunMonitor
from rls3_gym.experiment.monitored import MonitoredEnv, MonitoredVectorEnv
from rls3_gym.vlm.base import VLM

if TYPE_CHECKING:
    from rls3_gym.envs.agents_as_lanes import AgentsAsLanes

    SceneDoor = RLS3SceneEnv | RLS3SceneVectorEnv | AgentsAsLanes


def make_door(config: EnvironmentConfig, vlm: VLM, action_view: str) -> SceneDoor:
    """A new environment. Raises `UserError` for a name that is unknown."""
    settings = config.settings(action_view)
    if config.door == "parallel":
        from rls3_gym.envs.agents_as_lanes import AgentsAsLanes  # PettingZoo is needed here alone
        from rls3_gym.envs.parallel_env import RLS3SceneParallelEnv

        return AgentsAsLanes(RLS3SceneParallelEnv(vlm=vlm, pay=config.pay, **settings))
    if config.num_envs == 1:
        return RLS3SceneEnv(vlm=vlm, **settings)
    return RLS3SceneVectorEnv(
        config.num_envs, vlm=vlm, workers=config.workers, worker_start=config.worker_start, **settings
    )


def watch(env: SceneDoor, monitor: RunMonitor, under_way: bool) -> MonitoredEnv | MonitoredVectorEnv:
    """The environment with a monitor; `under_way`: its experiment was continued."""
    env.loop.follower = monitor.stepped
    if isinstance(env, RLS3SceneEnv):
        return MonitoredEnv(env, monitor, under_way)
    return MonitoredVectorEnv(env, monitor, under_way)
