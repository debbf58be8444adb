"""Several agents: PettingZoo's own tests, the order of edits, pay, examples, and experiments through this door."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from env_parts import ROOMS
from experiment_tools import go_on, metrics, run, tiny
from gymnasium.utils.env_checker import data_equivalence
from pettingzoo.test import api_test, parallel_api_test, parallel_seed_test
from test_vec_adapters import stop_after

import rls3_gym
from rls3_gym.envs.agents_as_lanes import AgentsAsLanes
from rls3_gym.envs.parallel_env import AGENTS, RLS3SceneParallelEnv
from rls3_gym.envs.views import FEATURES
from rls3_registry.errors import UserError

SHORT: dict[str, Any] = {
    "steps_per_episode": 3,
    "samples_per_round": 12,
    "train_fraction": 1.0,
    "families": ROOMS,
    "finetune_settings": {"epochs": 1, "batch_size": 8},
}
EXAMPLES = Path(__file__).parents[1] / "examples"


def make(**arguments: Any) -> RLS3SceneParallelEnv:
    return rls3_gym.parallel_env(**(SHORT | arguments))


def sampled(env: RLS3SceneParallelEnv) -> dict[str, Any]:
    return {agent: env.action_space(agent).sample() for agent in AGENTS}


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"action_view": "preference", "observation": "dict", "pay": "shared"},
        {"action_view": "relation", "observation": "pixels"},
        {"action_view": "box", "choose_reference": True},
        {"action_view": "multi_discrete"},
    ],
    ids=lambda arguments: arguments.get("action_view", "select"),
)
def test_pettingzoos_parallel_test_passes_without_a_warning(arguments: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parallel_api_test(make(**arguments), num_cycles=8)


def test_pettingzoos_other_tests_pass_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        api_test(rls3_gym.aec_env(**SHORT), num_cycles=12)
        parallel_seed_test(make, num_cycles=4)


def test_an_unknown_option_of_reset_is_an_error_and_the_one_of_pettingzoos_tests_is_not() -> None:
    env = make()
    env.reset(seed=0, options={"options": 1})
    with pytest.raises(UserError, match="reset: unknown option 'arangement'; did you mean 'arrangement'"):
        env.reset(options={"arangement": None})


def test_each_agent_is_first_in_turn_and_edits_its_own_object() -> None:
    env = make(steps_per_episode=6)
    env.reset(seed=1)
    first = []
    for _ in range(6):
        env.step(sampled(env))
        steps = [step.info["n_steps"] for step in env.taken]
        assert steps == list(range(steps[0], steps[0] + 3))
        first.append((steps[0] - 1) // 3 % 3)
        for place, step in enumerate(env.taken):
            if step.sample is not None:
                assert step.sample.slot_a == (first[-1] + place) % 3
    assert first == [0, 1, 2, 0, 1, 2]


def test_each_agent_sees_the_relations_that_its_own_object_can_have() -> None:
    env = make(action_view="relation")
    observations, _ = env.reset(seed=0)
    masks = env.action_masks()
    assert masks.shape == (3, 26)
    for observation, mask in zip(observations.values(), masks, strict=True):
        rows = observation[: 26 * FEATURES].reshape(26, FEATURES)
        np.testing.assert_array_equal(rows.any(axis=1), mask)


def test_an_agent_is_paid_for_the_samples_its_object_takes_part_in_or_all_alike() -> None:
    per_agent, shared = make(), make(pay="shared")
    for env in (per_agent, shared):
        env.reset(seed=3)
    seen_reference = False
    for _ in range(3):
        actions = sampled(per_agent)
        rewards, alike = (env.step(actions)[1] for env in (per_agent, shared))
        for slot, agent in enumerate(AGENTS):
            paid = 0.0
            for step in per_agent.taken:
                if step.sample is not None and slot in (step.sample.slot_a, step.sample.slot_b):
                    paid += step.info["extrinsic"]
                    seen_reference |= slot == step.sample.slot_b
            assert rewards[agent] == pytest.approx(paid)
        mean = np.mean([step.reward for step in shared.taken])
        assert list(alike.values()) == pytest.approx([mean] * 3)
    assert seen_reference


def test_the_reward_of_an_episode_is_paid_to_all() -> None:
    env = make(extrinsic="episode_error", steps_per_episode=2)
    env.reset(seed=3)
    env.step(sampled(env))
    _, rewards, _, truncated, _ = env.step(sampled(env))
    assert all(truncated.values()) and len(set(rewards.values())) == 1 and env.taken[-1].for_episode > 0


def test_it_is_the_same_loop_and_goes_on_from_a_state() -> None:
    first, second = make(), make()
    first.reset(seed=2)
    while first.scheduler.round < 1:
        first.step(sampled(first))
        if not first.agents:
            first.reset()
    first.step(sampled(first))
    assert first.scheduler.n_steps % len(AGENTS) == 0
    second.load_state(first.loop_state())
    assert data_equivalence(first.observations(), second.observations(), exact=True)
    actions = sampled(first)
    assert data_equivalence(first.step(actions)[:4], second.step(actions)[:4], exact=True)


@pytest.mark.parametrize("wrong", [[], [0], [0] * 4, 0, None])
def test_a_wrong_number_of_actions_for_the_lanes_is_refused_and_nothing_happens(wrong: Any) -> None:
    env = AgentsAsLanes(make())
    env.reset(seed=1)
    with pytest.raises(UserError, match="step: .* 3 lanes"):
        env.step(wrong)
    assert env.scheduler.n_steps == 0


def test_wrong_actions_and_arguments_are_refused_and_nothing_happens() -> None:
    env = make()
    env.reset(seed=1)
    for wrong in ({}, dict.fromkeys(AGENTS, 99), {"object_0": 1}):
        with pytest.raises(UserError):
            env.step(wrong)
    assert env.scheduler.n_steps == 0
    with pytest.raises(UserError, match="did you mean 'shared'"):
        make(pay="share")


def test_agents_can_be_lanes() -> None:
    env = AgentsAsLanes(make())
    observation, _ = env.reset(seed=1)
    for _ in range(3):
        assert env.observation_space.contains(observation)
        observation, rewards, _, truncated, infos = env.step(env.action_space.sample())
    assert truncated.all() and rewards.shape == (3,) and infos["final_obs"][0].shape == observation[0].shape
    assert env.action_masks().shape == (3, 16)


@pytest.mark.parametrize("agent", ["sb3/ppo", pytest.param("tianshou/ppo", marks=pytest.mark.slow)])
def test_a_run_through_the_parallel_door_is_continued_exactly(
    agent: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = {
        "sb3/ppo": {"n_steps": 12, "batch_size": 6, "n_epochs": 1},
        "tianshou/ppo": {"rollout_steps": 12, "repeat": 1},
    }
    config = tiny(
        agent={"name": agent, "settings": short[agent]},
        environment={"door": "parallel", "steps_per_episode": 2, "samples_per_round": 8, "train_fraction": 1.0},
        budget={"rounds": 3},
    )
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert not run(config, whole).stopped
    with monkeypatch.context() as patch:
        stop_after(10, patch)
        assert run(config, cut).stopped
    go_on(config, cut)
    assert metrics(cut) == metrics(whole)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "steps"), [("parallel_sb3.py", 48), ("parallel_tianshou.py", 48)])
def test_the_examples_run(name: str, steps: int) -> None:
    command = [sys.executable, str(EXAMPLES / name), "--steps", str(steps)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    assert "samples" in done.stdout
