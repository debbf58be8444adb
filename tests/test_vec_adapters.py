"""The vector environment in Stable-Baselines3 and in Tianshou, by these libraries' own means, and in experiments."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from experiment_tools import go_on, metrics, run, sample_rows, tiny
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecCheckNan, VecMonitor, VecNormalize
from test_vector_env import STEPS, make_vec
from tianshou.data import Collector, VectorReplayBuffer

import rls3_registry
from rls3_agents.base import AGENTS, make_agent
from rls3_agents.sb3.sb3_vec_env import Sb3VecEnv
from rls3_agents.tianshou.tianshou_algorithms import PpoSettings, build_ppo
from rls3_agents.tianshou.tianshou_vec_env import TianshouVecEnv
from rls3_gym.experiment.monitor import RunMonitor
from rls3_gym.loop.learning_loop import LaneStep
from rls3_registry.errors import UserError

PPO_SHORT: dict[str, Any] = {"n_steps": 8, "batch_size": 8, "n_epochs": 1, "seed": 1}


@pytest.mark.parametrize(("observation", "policy"), [("state", "MlpPolicy"), ("dict", "MultiInputPolicy")])
def test_sb3_learns_through_its_own_checks_of_a_vec_env(observation: str, policy: str) -> None:
    env = Sb3VecEnv(make_vec(2, observation=observation))
    checked = (
        VecNormalize(VecMonitor(VecCheckNan(env, raise_exception=True)), norm_obs_keys=["state"])
        if (observation == "dict")
        else VecNormalize(VecMonitor(VecCheckNan(env, raise_exception=True)))
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model = PPO(policy, checked, **PPO_SHORT).learn(32)
    assert len(model.ep_info_buffer or ()) == 32 // STEPS
    assert env.env.unwrapped.scheduler.n_steps == 32  # type: ignore[attr-defined]


def test_sb3_gets_terminal_observations_and_infos_of_the_step() -> None:
    env = Sb3VecEnv(make_vec(2))
    env.seed(3)
    env.reset()
    scene_env: Any = env.env
    for _ in range(STEPS):
        before = env.reset_infos
        observation, _, dones, infos = env.step(np.array([0, 1]))
    assert dones.all() and before
    step = scene_env.observer.state.slices["step"]
    for lane, info in enumerate(infos):
        assert info["TimeLimit.truncated"] and info["terminal_observation"][step] == 1.0 and not observation[lane, step]
        assert info["feedback"]["n"] > 0 and not env.reset_infos[lane]["feedback"]["n"]


def test_sb3_evaluates_on_a_frozen_one_and_masks_by_lane() -> None:
    env = Sb3VecEnv(make_vec(2, "RLS3SceneFrozen-v0", action_view="relation", finetune_settings=None))
    assert is_masking_supported(env)
    env.reset()
    np.testing.assert_array_equal(get_action_masks(env), env.env.unwrapped.action_masks())  # type: ignore[attr-defined]
    model = MaskablePPO("MlpPolicy", env, **PPO_SHORT).learn(16)
    _, lengths = evaluate_policy(model, env, n_eval_episodes=3, return_episode_rewards=True)
    assert lengths == [STEPS] * 3


def test_tianshous_collector_takes_steps_and_whole_episodes() -> None:
    env = TianshouVecEnv(make_vec(2))
    space, actions = env.get_env_attr("observation_space")[0], env.action_space[0]
    settings = PpoSettings(algorithm="ppo", lr=1e-3, gamma=0.0, hidden_sizes=[16], batch_size=8, rollout_steps=16, repeat=1, eps_clip=0.2, gae_lambda=0.9, ent_coef=0.0, vf_coef=0.5, max_grad_norm=0.5, log_std_init=0.0)  # fmt: skip # noqa: E501
    buffer = VectorReplayBuffer(64, 2)
    collector = Collector(build_ppo(settings, space, actions), env, buffer)
    collector.reset(gym_reset_kwargs={"seed": 5})
    stats = collector.collect(n_step=2 * STEPS)
    assert stats.n_collected_episodes == 2 and not buffer.hasnull()
    step = env.env.observer.state.slices["step"]
    last = np.flatnonzero(buffer.truncated[: 2 * STEPS + 32])
    assert len(last) == 2 and (buffer.obs_next[last][:, step] == 1.0).all()
    assert collector.collect(n_episode=3, reset_before_collect=True).lens.tolist() == [STEPS] * 3
    assert env.env.scheduler.round > 0
    env.close()


@pytest.mark.slow
def test_tianshous_high_level_builder_takes_the_raw_environment() -> None:
    from tianshou.highlevel.config import OnPolicyTrainingConfig
    from tianshou.highlevel.env import EnvFactory, VectorEnvType
    from tianshou.highlevel.experiment import ExperimentConfig, PPOExperimentBuilder

    class Factory(EnvFactory):
        def __init__(self) -> None:
            super().__init__(VectorEnvType.DUMMY)

        def _create_env(self, mode: Any) -> gymnasium.Env[Any, Any]:
            return gymnasium.make("RLS3SceneFrozen-v0", steps_per_episode=STEPS)

    training = OnPolicyTrainingConfig(
        max_epochs=1, epoch_num_steps=32, num_training_envs=2, num_test_envs=1, test_step_num_episodes=1,
        buffer_size=64, batch_size=16, collection_step_num_env_steps=16, update_step_num_repetitions=1,
    )  # fmt: skip
    config = ExperimentConfig(persistence_enabled=False, watch=False)
    builder = PPOExperimentBuilder(Factory(), config, training).with_actor_factory_default((16,))
    result = builder.with_critic_factory_default((16,)).build().run()
    assert result.trainer_result is not None


def on_policy() -> list[str]:
    names = [name for name in rls3_registry.names("agents") if name.startswith(("sb3/", "tianshou/"))]
    return [name for name in names if getattr(make_agent(name, 0), "takes_lanes", False)]


def test_the_agents_that_take_lanes_are_the_on_policy_ones() -> None:
    sb3 = ["sb3/a2c", "sb3/maskable_ppo", "sb3/ppo", "sb3/ppo_relation", "sb3/ppo_select", "sb3/recurrent_ppo"]
    assert sorted(on_policy()) == [*sb3, "tianshou/a2c", "tianshou/ppo"]
    for name in ("sb3/sac", "random"):
        with pytest.raises(UserError, match="environment.num_envs"):
            run(tiny(agent=name, environment={"num_envs": 2}), Path("unused"))


def lanes_config(agent: str, workers: int = 0) -> Any:
    """Three lanes, rounds that end in the middle of a step's episodes."""
    own = AGENTS.find(agent)[1].settings
    changes = {"n_steps": 12, "rollout_steps": 12, "batch_size": 6, "n_epochs": 1, "repeat": 1}
    return tiny(
        agent={"name": agent, "settings": {key: value for key, value in changes.items() if key in own}},
        environment={
            "steps_per_episode": 6,
            "samples_per_round": 8,
            "train_fraction": 1.0,
            "num_envs": 3,
            "workers": workers,
        },
        budget={"rounds": 4},
    )


def stop_after(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    taken, stepped = [], RunMonitor.stepped

    def counting(self: RunMonitor, step: LaneStep) -> None:
        stepped(self, step)
        taken.append(step)
        if len(taken) == steps:
            self.ask_to_stop()

    monkeypatch.setattr(RunMonitor, "stepped", counting)


@pytest.mark.parametrize(
    "agent",
    ["sb3/ppo", "tianshou/ppo"]
    + [
        pytest.param(n, marks=pytest.mark.slow)
        for n in ("sb3/a2c", "sb3/maskable_ppo", "sb3/ppo_relation", "sb3/ppo_select", "tianshou/a2c")
    ],
)
def test_a_run_of_several_lanes_is_continued_exactly(
    agent: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert not run(lanes_config(agent), whole).stopped
    with monkeypatch.context() as patch:
        stop_after(20, patch)
        assert run(lanes_config(agent), cut).stopped
    go_on(lanes_config(agent), cut)
    assert metrics(cut) == metrics(whole)
    assert [row["episode"] for row in metrics(whole, "episode")] == list(range(1, len(metrics(whole, "episode")) + 1))
    assert sample_rows(cut) == sample_rows(whole)


@pytest.mark.slow
def test_a_run_with_workers_is_the_same_run(tmp_path: Path) -> None:
    runs = [tmp_path / str(workers) for workers in (0, 2)]
    for workers, directory in zip((0, 2), runs, strict=True):
        run(lanes_config("sb3/ppo", workers), directory)
    assert metrics(runs[0]) == metrics(runs[1])


@pytest.mark.slow
def test_lives_end_on_all_lanes(tmp_path: Path) -> None:
    config = lanes_config("sb3/ppo").model_copy(update={"lives": 2})
    run(config, tmp_path / "run")
    rows = metrics(tmp_path / "run")
    assert [row["row"] for row in rows].count("life") == 1 and rows[-1]["row"] == "end"
