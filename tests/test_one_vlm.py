"""Copies of an environment: what vector wrappers may make of it, and what pickles and forks of it do."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import gymnasium
import pytest
from env_parts import make_env
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.vector.utils import CloudpickleWrapper
from stable_baselines3.common.vec_env import DummyVecEnv
from test_env_state import steps
from tianshou.env import DummyVectorEnv

from rls3_registry.errors import UserError

FROZEN = "RLS3SceneFrozen-v0"


def learning() -> gymnasium.Env[Any, Any]:
    return make_env()


@pytest.mark.parametrize(
    "wrap",
    [
        lambda: gymnasium.make_vec("RLS3Scene-v0", num_envs=2, vectorization_mode="sync"),
        lambda: gymnasium.make_vec("RLS3Scene-v0", num_envs=2, vectorization_mode="async"),
        lambda: DummyVecEnv([learning, learning]),
        lambda: DummyVectorEnv([learning, learning]),
    ],
    ids=["sync", "async", "sb3", "tianshou"],
)
def test_a_second_learning_vlm_in_a_vector_wrapper_is_an_error_that_names_the_vector_environment(
    wrap: Callable[[], Any],
) -> None:
    with pytest.raises(UserError, match="RLS3SceneVectorEnv"):
        wrap()


def test_one_learning_environment_may_be_wrapped_again_and_again() -> None:
    for _ in range(2):
        DummyVecEnv([learning]).close()
    gymnasium.vector.SyncVectorEnv([learning]).close()


def test_a_deep_copy_made_in_a_wrapper_counts_as_well() -> None:
    env = make_env()
    with pytest.raises(UserError, match="make_vec"):
        DummyVecEnv([lambda: copy.deepcopy(env), lambda: copy.deepcopy(env)])


SUBPROCESSES = """
import gymnasium, rls3_gym
from stable_baselines3.common.vec_env import SubprocVecEnv
def make():
    return gymnasium.make("{id}", steps_per_episode=4)
if __name__ == "__main__":
    env = SubprocVecEnv([make] * 2, start_method="{start}")
    env.reset()
    env.step([0, 1])
    env.close()
    print("done")
"""


@pytest.mark.slow
@pytest.mark.parametrize("start", ["spawn", "fork"])
def test_sb3s_processes_take_frozen_environments_and_refuse_a_second_learning_one(start: str, tmp_path: Any) -> None:
    """Forked, the process that is refused says so as well; but its sibling holds its pipe open, and SB3 waits on."""
    refused = [("RLS3Scene-v0", False)] if start == "spawn" else []
    for env_id, fine in ((FROZEN, True), *refused):
        script = tmp_path / "script.py"
        script.write_text(SUBPROCESSES.format(id=env_id, start=start), encoding="utf-8")
        done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=300)
        assert ("done" in done.stdout) == fine, done.stderr
        assert ("RLS3SceneVectorEnv" in done.stderr) == (not fine)


def test_frozen_environments_run_in_forks_when_torch_may_use_all_threads() -> None:
    """In a fresh interpreter without `OMP_NUM_THREADS`: torch's threads have been used before the fork."""
    code = (
        "import gymnasium, rls3_gym\n"
        f"env = gymnasium.make_vec('{FROZEN}', num_envs=4, vectorization_mode='async', steps_per_episode=2)\n"
        "env.reset(seed=1)\n"
        "for _ in range(3): env.step(env.action_space.sample())\n"
        "env.close()\n"
        "print('done')\n"
    )
    unset = {name: value for name, value in os.environ.items() if not name.endswith("NUM_THREADS")}
    done = subprocess.run([sys.executable, "-c", code], env=unset, capture_output=True, text=True, timeout=240)
    assert done.stdout.strip() == "done", done.stderr


def sent(env: Any) -> Any:
    """What another process would be sent of an environment, as Gymnasium's vector wrappers pickle it."""
    there = CloudpickleWrapper(None)
    there.__setstate__(CloudpickleWrapper(env).__getstate__())
    return there.fn


@pytest.mark.parametrize("copied", [copy.deepcopy, sent])
def test_a_copy_and_a_pickle_go_on_exactly_as_the_first_does(copied: Callable[[Any], Any]) -> None:
    first = make_env(steps_per_episode=6, episodes_per_round=2, observation="dict")
    first.action_space.seed(0)
    actions = [first.action_space.sample() for _ in range(20)]
    first.reset(seed=1)
    steps(first, actions[:9])
    second = copied(first)
    assert data_equivalence(steps(first, actions[9:]), steps(second, actions[9:]), exact=True)
