"""RLS3: RL agents choose the training data that makes a vision-language model better.

Importing this package registers the environment ids; it imports neither torch nor any RL library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rls3_gym.registration import register_envs

if TYPE_CHECKING:
    from pettingzoo import AECEnv

    from rls3_gym.envs.parallel_env import RLS3SceneParallelEnv

register_envs()


def parallel_env(**arguments: Any) -> RLS3SceneParallelEnv:
    """A PettingZoo environment with one agent per active object; see `RLS3SceneParallelEnv` for the arguments.

    Raises `UserError` for a wrong argument, or when PettingZoo is not installed.
    """
    from rls3_gym.envs.parallel_env import RLS3SceneParallelEnv

    return RLS3SceneParallelEnv(**arguments)


def aec_env(**arguments: Any) -> AECEnv[str, Any, Any]:
    """The AEC form of `parallel_env`."""
    from rls3_gym.envs.parallel_env import aec_env

    return aec_env(**arguments)
