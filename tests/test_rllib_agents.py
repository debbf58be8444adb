"""The agents of RLlib keep the contract, in the environment of their own that `make test-rllib` makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray.rllib", reason="RLlib has an environment of its own: make test-rllib", exc_type=ImportError)

from experiment_tools import metrics, run, tiny

import rls3_registry
from rls3_agents.base import AGENTS, make_agent, observations_of
from rls3_agents.contract import AgentContract
from rls3_gym.envs.vector_env import RLS3SceneVectorEnv
from rls3_registry.errors import UserError

PPO = {"lr": 0.05, "gamma": 0.9, "fcnet_hiddens": [16], "train_batch_size": 6, "minibatch_size": 3, "num_epochs": 2}
SAC = {"lr": 0.05, "gamma": 0.9, "fcnet_hiddens": [16], "train_batch_size": 3, "buffer_size": 8, "learning_starts": 3}
"""Settings with which a run of a few steps goes through everything that an agent does; a buffer that runs over."""


class TestPpo(AgentContract):
    agent = "rllib/ppo"
    overrides = PPO


class TestSac(AgentContract):
    agent = "rllib/sac"
    overrides = SAC


def test_these_are_all_that_the_registry_has() -> None:
    names = [name for name in rls3_registry.names("agents") if AGENTS.find(name)[1].plugin == "rllib"]
    assert names == [TestPpo.agent, TestSac.agent]


def test_they_take_flat_observations() -> None:
    for name in (TestPpo.agent, TestSac.agent):
        assert observations_of(make_agent(name, 0)) == ("state",)


def config(name: str, settings: dict[str, Any], **environment: Any) -> Any:
    environment = {"steps_per_episode": 6, "samples_per_round": 8, "train_fraction": 1.0, **environment}
    return tiny(agent={"name": name, "settings": settings}, environment=environment, budget={"rounds": 2})


@pytest.mark.parametrize(("name", "settings"), [("rllib/ppo", PPO), ("rllib/sac", SAC)])
def test_a_run_of_two_rounds_can_be_made_and_made_again(name: str, settings: dict[str, Any], tmp_path: Path) -> None:
    for folder in ("one", "two"):
        run(config(name, settings), tmp_path / folder)
    assert metrics(tmp_path / "one") == metrics(tmp_path / "two")
    assert metrics(tmp_path / "one", "end")[0]["round"] == 2


def test_ppo_learns_on_lanes_whose_stages_are_on_two_nodes_of_a_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with stages in the run's own process, to the last digit."""
    from ray.cluster_utils import Cluster

    run(config("rllib/ppo", PPO, num_envs=2), tmp_path / "here")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=1)
        monkeypatch.setenv("RAY_ADDRESS", cluster.address)
        run(config("rllib/ppo", PPO, num_envs=2, workers="ray"), tmp_path / "there")
    finally:
        cluster.shutdown()
    assert metrics(tmp_path / "here") == metrics(tmp_path / "there")


def test_sac_is_refused_on_lanes_and_pictures_are_refused() -> None:
    with pytest.raises(UserError, match="one lane"):
        run(config("rllib/sac", SAC, num_envs=2), Path("unused"))
    env = RLS3SceneVectorEnv(2, observation="pixels", action_view="select")
    agent = make_agent("rllib/ppo", 0, PPO)
    with pytest.raises(UserError, match="flat observations"):
        agent.learn(env, None)  # type: ignore[arg-type]
    env.close()
