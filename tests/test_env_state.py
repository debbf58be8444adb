"""Going on from a saved state: at any step, everything comes out as if nothing had happened."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from env_parts import make_env
from gymnasium.utils.env_checker import data_equivalence


def leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        assert all(isinstance(key, str) for key in value)
        for item in value.values():
            yield from leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from leaves(item)
    else:
        yield value


def steps(env: gymnasium.Env[Any, Any], actions: list[Any]) -> list[Any]:
    rows = []
    for action in actions:
        observation, reward, _, truncated, info = env.step(action)
        info["finetune"].pop("seconds")
        rows.append([observation, reward, info])
        if truncated:
            rows.append(env.reset()[0])
    return rows


@pytest.mark.parametrize("extrinsic", ["episode_error", "sample_error", "cell_error"])
@pytest.mark.parametrize("done", [3, 15])  # within the first episode; within the first of the second round
def test_a_restored_environment_goes_on_exactly_as_the_first_would_have(extrinsic: str, done: int) -> None:
    first, second = (
        make_env(steps_per_episode=6, episodes_per_round=2, extrinsic=extrinsic, observation="dict") for _ in range(2)
    )
    first.action_space.seed(0)
    actions = [first.action_space.sample() for _ in range(30)]
    first.reset(seed=1)
    steps(first, actions[:done])
    state = first.unwrapped.state()
    second.reset(seed=77)
    steps(second, actions[:4])
    second.unwrapped.load_state(state)
    assert data_equivalence(second.unwrapped.observation(), first.unwrapped.observation(), exact=True)
    assert data_equivalence(steps(first, actions[done:]), steps(second, actions[done:]), exact=True)


def test_a_deep_copy_goes_on_exactly_as_the_first_does() -> None:
    first = make_env(steps_per_episode=6, episodes_per_round=2, observation="dict")
    first.action_space.seed(0)
    actions = [first.action_space.sample() for _ in range(20)]
    first.reset(seed=1)
    steps(first, actions[:9])
    second = copy.deepcopy(first)
    assert data_equivalence(steps(first, actions[9:]), steps(second, actions[9:]), exact=True)


def test_a_state_is_plain_data_and_does_not_change_when_the_environment_goes_on() -> None:
    env = make_env(steps_per_episode=6, episodes_per_round=1)
    env.reset(seed=1)
    env.action_space.seed(1)
    steps(env, [env.action_space.sample() for _ in range(8)])
    state = env.unwrapped.state()
    for leaf in leaves(state):
        if isinstance(leaf, np.ndarray):
            assert leaf.dtype != object
        elif not isinstance(leaf, torch.Tensor):
            json.dumps(leaf, allow_nan=False)
    weights = {name: tensor.clone() for name, tensor in state["scheduler"]["vlm"]["weights"].items()}
    steps(env, [env.action_space.sample() for _ in range(12)])
    assert all(torch.equal(weights[name], tensor) for name, tensor in state["scheduler"]["vlm"]["weights"].items())


@pytest.mark.parametrize("position", [[-1, 0, 0], [1, 0, -5], [1, 2**80, 0], [1, 0]])
def test_a_pool_of_proposals_that_stands_nowhere_is_refused(position: list[int]) -> None:
    env = make_env()
    env.reset(seed=1)
    state = env.unwrapped.state()
    assert state["lanes"][0]["pools"] == []
    env.step(0)
    state = env.unwrapped.state()
    assert len(state["lanes"][0]["pools"]) == 1
    state["lanes"][0]["pools"] = [position]
    with pytest.raises(ValueError):
        env.unwrapped.load_state(state)


def test_there_is_no_state_before_the_first_reset() -> None:
    with pytest.raises(gymnasium.error.ResetNeeded):
        make_env().unwrapped.state()


@pytest.mark.slow
@pytest.mark.parametrize("extrinsic", ["reducible_error", "learning_progress"])
def test_rewards_with_a_guide_set_go_on_exactly_too(extrinsic: str) -> None:
    test_a_restored_environment_goes_on_exactly_as_the_first_would_have(extrinsic, 15)
