"""The vector environment: many lanes, one VLM, in this process."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import gymnasium
import numpy as np
import pytest
from env_parts import ROOMS
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.vector import AutoresetMode

from rls3_gym.backends.base import load_backend
from rls3_gym.envs.vector_env import RLS3SceneVectorEnv
from rls3_gym.registration import ENV_IDS
from rls3_gym.stage import FeasibilityRules, Stage
from rls3_registry.errors import UserError

STEPS = 4
SHORT: dict[str, Any] = {
    "steps_per_episode": STEPS,
    "samples_per_round": 10,
    "train_fraction": 1.0,
    "families": ROOMS,
    "finetune_settings": {"epochs": 1, "batch_size": 8},
}


def make_vec(num_envs: int = 3, env_id: str = "RLS3Scene-v0", **arguments: Any) -> RLS3SceneVectorEnv:
    """A vector environment with short episodes and rounds."""
    env = gymnasium.make_vec(env_id, num_envs=num_envs, **(SHORT | arguments))
    assert isinstance(env, RLS3SceneVectorEnv)
    return env


def trace(env: RLS3SceneVectorEnv, seed: int, steps: int) -> list[Any]:
    """All that a run gives, wall-clock figures left out."""
    env.action_space.seed(seed)
    rows: list[Any] = [env.reset(seed=seed)]
    for _ in range(steps):
        result = env.step(env.action_space.sample())
        for infos in (result[4], result[4].get("final_info", {"finetune": {}})):
            infos["finetune"].pop("seconds", None)
        rows.append(result)
    return rows


@pytest.mark.parametrize("env_id", ENV_IDS)
def test_every_id_makes_a_vector_environment_whose_observations_are_in_its_space(env_id: str) -> None:
    env = make_vec(2, env_id)
    assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    observation, _ = env.reset(seed=1)
    for _ in range(STEPS + 1):
        assert env.observation_space.contains(observation)
        observation, rewards, terminated, truncated, _ = env.step(env.action_space.sample())
        assert rewards.shape == terminated.shape == truncated.shape == (2,)


def test_one_lane_is_the_single_environment() -> None:
    single, vector = gymnasium.make("RLS3Scene-v0", observation="dict", **SHORT), make_vec(1, observation="dict")
    rows = [single.reset(seed=5), vector.reset(seed=5)]
    single.action_space.seed(5)
    for _ in range(5 * STEPS):
        action = single.action_space.sample()
        seen, reward, _, truncated, info = single.step(action)
        batch = vector.step(np.array([action]))
        last = batch[4]["final_obs"][0] if truncated else {name: part[0] for name, part in batch[0].items()}
        assert data_equivalence(last, seen, exact=True)
        assert batch[1][0] == reward and batch[3][0] == truncated
        assert vector.taken[0].info["vlm_digest"] == info["vlm_digest"]
        if truncated:
            rows = [single.reset()[0], {name: part[0] for name, part in batch[0].items()}]
            assert data_equivalence(*rows, exact=True)
    assert info["round"] > 0


def test_all_lanes_teach_one_vlm_and_count_one_after_the_other() -> None:
    env = make_vec(3)
    env.reset(seed=2)
    env.action_space.seed(2)
    for step in range(1, 3 * STEPS + 1):
        env.step(env.action_space.sample())
        infos = [taken.info for taken in env.taken.values()]
        assert [info["n_steps"] for info in infos] == [3 * step - 2, 3 * step - 1, 3 * step]
        generated = [info["n_generated"] for info in infos]
        assert np.diff(generated).tolist() == [info["feasible"] for info in infos[1:]]
        if step % STEPS == 0:
            episode = 3 * step // STEPS
            assert [info["n_episodes"] for info in infos] == [episode - 2, episode - 1, episode]
    assert infos[-1]["round"] == env.scheduler.round > 0
    assert infos[-1]["vlm_digest"] == env.scheduler.vlm.digest()
    assert infos[-1]["n_trained"] == env.scheduler.n_trained


def test_an_episode_that_ends_begins_anew_in_the_same_step() -> None:
    env = make_vec(2)
    env.reset(seed=3)
    for _ in range(STEPS - 1):
        _, _, _, truncated, infos = env.step(env.action_space.sample())
        assert not truncated.any() and "final_obs" not in infos
    observation, _, _, truncated, infos = env.step(env.action_space.sample())
    assert truncated.all() and infos["_final_obs"].all()
    assert [e.step for e in (lane.episode for lane in env.loop.lanes)] == [0, 0]
    np.testing.assert_array_equal(observation, env.observation())
    step = env.observer.state.slices["step"]
    assert [final[step] for final in infos["final_obs"]] == [1.0, 1.0] and not observation[:, step].any()
    assert infos["final_info"]["feedback"]["n"].sum() > 0 and not infos["feedback"]["n"].any()


def test_the_same_seed_gives_the_same_run_and_lanes_differ() -> None:
    first, again, other = (trace(make_vec(2), seed, 2 * STEPS) for seed in (4, 4, 5))
    assert data_equivalence(first, again, exact=True) and not data_equivalence(first, other, exact=True)
    assert not np.array_equal(first[0][0][0], first[0][0][1])
    env = make_vec(2)
    assert data_equivalence(env.reset(seed=[4, 5]), first[0], exact=True)


def test_lanes_begin_with_different_families() -> None:
    env = make_vec(2)
    env.reset(seed=0)
    assert [lane.arrangement.layout.family for lane in env.loop.lanes] == list(ROOMS)


def test_some_lanes_can_be_reset() -> None:
    env = make_vec(3)
    env.reset(seed=1)
    env.step(env.action_space.sample())
    before = env.observation()
    observation, infos = env.reset(options={"reset_mask": np.array([False, True, False])})
    assert infos["_n_steps"].tolist() == [False, True, False]
    assert [lane.episode.step for lane in env.loop.lanes] == [1, 0, 1]
    np.testing.assert_array_equal(observation[[0, 2]], before[[0, 2]])
    with pytest.raises(UserError, match="reset_mask"):
        env.reset(seed=1, options={"reset_mask": np.array([False, True, False])})


@pytest.mark.parametrize("view", ["select", "preference", "box", "multi_discrete", "relation"])
def test_a_wrong_action_moves_no_lane(view: str) -> None:
    env = make_vec(2, action_view=view)
    env.reset(seed=1)
    actions = [env.single_action_space.sample(), "left"]
    for wrong in (actions, actions[:1]):
        with pytest.raises(UserError):
            env.step(wrong)
    assert env.scheduler.n_steps == 0 and [lane.episode.step for lane in env.loop.lanes] == [0, 0]


@pytest.mark.parametrize("seed", [None, 8])
@pytest.mark.parametrize(("num_envs", "workers"), [(1, 0), (2, 0), (2, 1)])
def test_a_given_scene_in_which_something_is_hidden_is_refused_and_all_is_as_before(
    num_envs: int, workers: int, seed: int | None
) -> None:
    def made() -> Any:
        env = gymnasium.make("RLS3Scene-v0", **SHORT) if num_envs == 1 else make_vec(num_envs, workers=workers)
        env.reset(seed=3)
        env.action_space.seed(3)
        return env

    stage = Stage(load_backend("embedded", 64), families=ROOMS, rules=FeasibilityRules(min_visible=0, min_pixels=0))
    hidden, rng = stage.set_scene(np.random.default_rng(0)), np.random.default_rng(1)
    while stage.frame.visible.min() >= 0.5:
        hidden = stage.set_scene(rng)
    env, undisturbed, states = made(), made(), []
    for step in range(STEPS):
        if step == 2:
            with pytest.raises(UserError, match="is not seen well enough: hidden"):
                env.reset(seed=seed, options={"arrangement": hidden})
            for one in (env, undisturbed):
                state = one.unwrapped.state()
                state["scheduler"].pop("vlm")  # its digest is there as well
                for lane in state["lanes"]:
                    lane["episode"].pop("scored")  # has NaN, which equals nothing
                states.append(state)
            assert data_equivalence(*states, exact=True)
        action = env.action_space.sample()
        assert data_equivalence(env.step(action)[:4], undisturbed.step(action)[:4], exact=True)
    assert data_equivalence(env.reset()[0], undisturbed.reset()[0], exact=True)
    env.close()
    undisturbed.close()


def test_wrong_arguments_are_refused_in_one_line() -> None:
    for arguments, said in (
        ({"num_envs": 0}, "num_envs"),
        ({"workers": -1}, "workers"),
        ({"workers": 1, "worker_start": "fork"}, "worker_start"),
        ({"render_mode": "human"}, "render_mode"),
        ({"proposal": 3}, "proposal"),
    ):
        with pytest.raises(UserError, match=said):
            RLS3SceneVectorEnv(**({"num_envs": 2} | arguments))
    with pytest.raises(UserError, match="seed"):
        make_vec(2).reset(seed=[1, 2, 3])


def test_masks_and_pictures_come_for_each_lane() -> None:
    env = make_vec(2, "RLS3SceneRelation-v0", render_mode="rgb_array")
    env.reset(seed=1)
    masks = env.action_masks()
    assert masks.shape == (2, 78) and masks.any(axis=1).all() and not np.array_equal(*masks)
    pictures = env.render()
    assert pictures is not None
    assert [picture.shape for picture in pictures] == [(392, 320, 3)] * 2 and not np.array_equal(*pictures)


def test_a_state_is_gone_on_from_exactly() -> None:
    first, second = make_vec(2, observation="dict"), make_vec(2, observation="dict")
    trace(first, 1, STEPS + 2)
    second.load_state(first.state())
    actions = [first.action_space.sample() for _ in range(2 * STEPS)]
    for action in actions:
        rows = [env.step(action)[:4] for env in (first, second)]
        assert data_equivalence(*rows, exact=True)
    assert first.scheduler.vlm.digest() == second.scheduler.vlm.digest()


def test_making_one_imports_no_rl_library() -> None:
    code = (
        "import sys, gymnasium; gymnasium.make_vec('rls3_gym:RLS3Scene-v0', num_envs=2); "
        "assert not {'stable_baselines3', 'tianshou', 'pettingzoo'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
