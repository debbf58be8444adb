"""What Ray is asked for, without starting it: settings, refusals, what to install."""

from __future__ import annotations

import os
import subprocess
import sys
from copy import deepcopy
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from experiment_tools import tiny

from rls3_agents.base import make_agent
from rls3_gym import cluster
from rls3_gym.cluster import Cluster, join
from rls3_gym.envs.scene_env import RLS3SceneEnv
from rls3_gym.envs.vector_env import RLS3SceneVectorEnv
from rls3_gym.loop.lane import Draws
from rls3_gym.loop.lanes import Order
from rls3_gym.loop.worker import Command, Place
from rls3_gym.loop.worker_actors import StageActor
from rls3_gym.vlm.loading import load_vlm
from rls3_registry.errors import SettingError, UserError

FROZEN = {"environment": {"finetune": False, "steps_per_episode": 6}, "budget": {"n_generated": 12}}


def test_stages_on_ray_take_several_lanes_and_a_vlm_on_ray_a_frozen_environment() -> None:
    assert tiny(environment={"num_envs": 2, "workers": "ray"}).environment.workers == "ray"
    with pytest.raises(UserError, match="workers go with several lanes"):
        tiny(environment={"workers": "ray"})
    assert tiny(vlm={"name": "tiny", "actor": "ray"}, **FROZEN).vlm.actor == "ray"
    with pytest.raises(UserError, match=r"vlm\.actor is for a VLM that others share: set environment\.finetune to fal"):
        tiny(vlm={"name": "tiny", "actor": "ray"})
    with pytest.raises(UserError, match="workers should be a whole number, at least 0, or 'ray', not 'rai'"):
        RLS3SceneVectorEnv(2, workers="rai")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="worker_start goes with a number of workers"):
        RLS3SceneVectorEnv(2, workers="ray", worker_start="forkserver")


def test_a_vlm_that_others_share_is_not_taught() -> None:
    vlm = load_vlm("tiny")
    vlm.frozen = True  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=r"others share this VLM .* set finetune to false"):
        RLS3SceneEnv(vlm=vlm)
    env = RLS3SceneEnv(vlm=vlm, finetune=False)
    env.reset(seed=0)


def test_without_ray_and_without_rllib_a_line_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['ray'] = None\n"
        "from rls3_gym.cluster import join\n"
        "from rls3_registry.errors import UserError\n"
        "try: join('workers: ray')\n"
        "except UserError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == 'workers: ray needs ray: pip install "rls3_gym[ray]"\n', done.stderr
    with pytest.raises(UserError, match=r'agents/rllib/ppo\.yaml: .* pip install "rls3_gym\[rllib\]"'):
        make_agent("rllib/ppo", 0)


def test_the_last_to_leave_ends_ray_once(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[str] = []
    first, last, before = (Cluster(SimpleNamespace(shutdown=lambda: ended.append("Ray"))) for _ in range(3))
    monkeypatch.setattr(cluster, "_stays", [first, last])
    monkeypatch.setattr(cluster, "_owner", os.getpid())
    before.leave()  # the program has ended Ray under it, and joined again
    first.leave()
    assert ended == []
    for _ in range(2):
        last.leave()
    assert ended == ["Ray"]


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("127.0.0.1:1", "--on ray: RAY_ADDRESS: there is no Ray cluster at 127.0.0.1:1 (.*refused.*)"),
        ("ray://head:10001", "--on ray: RAY_ADDRESS: Ray Client .* is not for this; name HOST:PORT of the head node"),
    ],
)
def test_an_address_where_there_is_no_cluster_is_told_at_once(
    address: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray", reason="needs the extra ray, which make test and CI install")
    monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    with pytest.raises(UserError, match=said):
        join("--on ray")


def test_an_actor_gives_the_news_and_pictures_that_a_worker_gives() -> None:
    """The class that Ray is given, called directly."""
    env: Any = RLS3SceneVectorEnv(2, steps_per_episode=4)
    env.reset(seed=3)
    plan = env.loop._lanes._plan
    actor = StageActor(plan, [0, 1], 2, os.getcwd())
    places = {n: Place(Draws(dict(np.random.default_rng(n).bit_generator.state)), n, None) for n in range(2)}
    news, pictures = actor.obey(Command(1, "place", places))  # type: ignore[misc]
    assert set(news) == {0, 1} and pictures == {}
    news, pictures = actor.obey(Command(2, "begin", {0: None, 1: None}))  # type: ignore[misc]
    assert all(sample is None and scene.shape == (64, 64, 3) for sample, scene in pictures.values())
    news, pictures = actor.obey(Command(3, "step", {1: Order(0, False)}))  # type: ignore[misc]
    made = news[1].outcome
    assert made is not None and (made.sample is None) == (pictures[1][0] is None)
    wrong = actor.obey(Command(4, "step", {0: Order("nonsense", False)}))
    assert isinstance(wrong, Exception)


def test_an_error_of_a_setting_reaches_other_processes() -> None:
    error = SettingError("unknown key ", ("settings", "gama"), "; did you mean 'gamma'?", "sac.yaml")
    again = deepcopy(error)  # in the way of a pickle
    assert str(again) == str(error) and again.keys == error.keys
