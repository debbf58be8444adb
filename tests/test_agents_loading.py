"""From names and files to agents: what is found, and what a mistake is told."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

import rls3_registry
from rls3_agents.base import choose_view
from rls3_agents.loading import GROUP, load_spec, make_agent
from rls3_agents.samplers.random import RandomAgent
from rls3_agents.spaces import describe, restore
from rls3_registry.errors import UserError
from rls3_registry.plugins import installed


def test_every_registered_agent_can_be_made() -> None:
    names = rls3_registry.names("agents")
    assert {"random", "stratified", "sb3/ppo", "sb3/a2c", "sb3/sac", "sb3/td3", "sb3/dqn"} <= set(names)
    assert {"tianshou/ppo", "tianshou/sac"} <= set(names)
    for name in names:
        assert make_agent(name, seed=0).action_views
        assert load_spec(name).description


def test_the_built_in_plugins_are_installed_as_third_parties_would_be() -> None:
    assert {"random", "stratified", "sb3", "tianshou"} <= set(installed(GROUP))


@pytest.mark.parametrize(
    ("name", "views"),
    [
        ("sb3/sac", ("box",)),
        ("sb3/td3", ("box",)),
        ("sb3/dqn", ("relation",)),
        ("sb3/ppo", ("box", "multi_discrete", "relation")),
        ("sb3/a2c", ("box", "multi_discrete", "relation")),
        ("tianshou/sac", ("box",)),
        ("tianshou/ppo", ("box", "multi_discrete", "relation")),
        ("stratified", ("relation",)),
    ],
)
def test_an_algorithm_takes_the_views_it_can_and_a_wrong_one_is_told_which(name: str, views: tuple[str, ...]) -> None:
    agent = make_agent(name, seed=0)
    assert agent.action_views == views
    assert choose_view(agent, None, name) == views[0]
    for view in views:
        assert choose_view(agent, view, name) == view
    for view in {"box", "multi_discrete", "relation"} - set(views):
        with pytest.raises(UserError) as refusal:
            choose_view(agent, view, name)
        assert str(refusal.value) == f"action_view: agent {name!r} cannot take {view!r}; it takes {views[0]}"


def test_an_agent_may_be_a_yaml_file_a_plugin_or_a_class(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("plugin: rls3_agents.samplers.random:RandomAgent\ndescription: Mine.\n", encoding="utf-8")
    for name in (str(file), "random", "rls3_agents.samplers.random:RandomAgent"):
        assert isinstance(make_agent(name, seed=0), RandomAgent)


def test_overrides_go_over_the_settings_of_the_yaml() -> None:
    agent: Any = make_agent("sb3/sac", seed=0, overrides={"gamma": 0.98})
    assert agent.settings.gamma == 0.98
    assert agent.settings.ent_coef == "auto_0.1"


@pytest.mark.parametrize(
    ("name", "overrides", "said"),
    [
        ("sb3/sca", {}, "unknown agent 'sb3/sca'; did you mean 'sb3/sac'"),
        ("stratifed", {}, "did you mean 'stratified'"),
        ("sb3/sac", {"gama": 0.9}, "unknown key 'settings.gama'; did you mean 'gamma'"),
        ("sb3/sac", {"gamma": 1.5}, "settings.gamma: should be less than or equal to 1, not 1.5"),
        ("sb3/sac", {"ent_coef": "atuo"}, "settings.ent_coef"),
        ("sb3/sac", {"net_arch": []}, "settings.net_arch"),
        ("sb3/ppo", {"n_steps": "many"}, "settings.n_steps"),
        ("sb3/sac", {"algorithm": "sax"}, "settings.algorithm: unknown algorithm 'sax'; did you mean 'sac'"),
        ("tianshou/sac", {"algorithm": "ppo"}, "settings"),
        ("tianshou", {}, "settings.algorithm: is missing; one of ppo, sac"),
        ("stratified", {"retries": -1}, "settings.retries: should be greater than or equal to 0, not -1"),
        ("rls3_agents.samplers.random:Nobody", {}, "has no class 'Nobody'"),
        ("nowhere.at_all:Agent", {}, "cannot be imported: No module named 'nowhere'"),
        ("rls3_agents.settings:Settings", {}, "is no agent plugin; it lacks learn"),
    ],
)
def test_a_mistake_is_one_line_that_says_what_would_be_right(name: str, overrides: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as mistake:
        make_agent(name, seed=0, overrides=overrides)
    assert said in str(mistake.value)
    assert "\n" not in str(mistake.value)


def test_an_unknown_key_of_an_agent_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("plugin: random\nsetings: {}\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"mine\.yaml: unknown key 'setings'; did you mean 'settings'"):
        make_agent(str(file), seed=0)


@pytest.mark.parametrize(
    ("name", "module", "library", "extra"),
    [
        ("sb3/sac", "rls3_agents.sb3.sb3_agent", "stable_baselines3", "sb3"),
        ("tianshou/sac", "rls3_agents.tianshou.tianshou_agent", "tianshou", "tianshou"),
    ],
)
def test_a_library_that_is_not_installed_comes_with_the_command_that_installs_it(
    name: str, module: str, library: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for loaded in [m for m in sys.modules if m.split(".")[0] == library or m.startswith(module.removesuffix("_agent"))]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(UserError, match=rf'needs {library}: pip install "rls3_gym\[{extra}\]"'):
        make_agent(name, seed=0)


def test_a_saved_agent_is_not_taken_for_another(tmp_path: Path) -> None:
    agent = make_agent("random", seed=0)
    env = gymnasium.make("CartPole-v1")
    agent.learn(env, _Done())
    agent.save(tmp_path)
    with pytest.raises(UserError, match=r"agent\.json: holds the agent 'random', not 'sb3'"):
        make_agent("sb3/sac", seed=0).load(tmp_path)
    (tmp_path / "agent.json").write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match="cannot be read as part of a saved agent"):
        make_agent("random", seed=0).load(tmp_path)


class _Done:
    """A monitor whose budget is spent."""

    done = True

    def safe_point(self, agent: Any) -> None:
        """Nothing to save."""


@pytest.mark.parametrize(
    "space",
    [
        gymnasium.spaces.Box(-1.0, 1.0, (5,), np.float32),
        gymnasium.spaces.Box(np.array([0.0, -2.0]), np.array([1.0, np.inf]), dtype=np.float64),
        gymnasium.spaces.Box(0, 255, (8, 8, 3), np.uint8),
        gymnasium.spaces.Discrete(78, start=3),
        gymnasium.spaces.MultiDiscrete([3, 8, 2]),
        gymnasium.spaces.Dict({"a": gymnasium.spaces.Discrete(2), "b": gymnasium.spaces.Box(0.0, 1.0, (2,))}),
    ],
)
def test_a_space_survives_being_written_as_json(space: gymnasium.Space[Any]) -> None:
    assert restore(describe(space)) == space
