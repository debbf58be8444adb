"""From names and files to agents: what is found, and what a mistake is told."""

from __future__ import annotations

import re
import runpy
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import yaml
from env_parts import make_env
from experiment_tools import agents_here, run, tiny
from sb3_contrib import QRDQN

import rls3_registry
from rls3_agents.algorithms import VIEWS_BY_SPACE, Algorithm
from rls3_agents.base import AGENTS, choose_view, make_agent, observations_of
from rls3_agents.samplers.random import RandomAgent
from rls3_agents.saving import describe_space, restore_space
from rls3_agents.sb3.sb3_algorithms import ALGORITHMS as SB3_ALGORITHMS
from rls3_agents.sb3.sb3_algorithms import DqnSettings
from rls3_agents.tianshou.tianshou_algorithms import ALGORITHMS as TIANSHOU_ALGORITHMS
from rls3_gym.envs.scene_env import RLS3SceneEnv
from rls3_gym.envs.settings import EnvironmentSettings
from rls3_gym.envs.views import VIEWS
from rls3_gym.scene.catalog import load_catalog
from rls3_registry.errors import UserError
from rls3_registry.plugins import installed

ARCHITECTURE = Path(__file__).resolve().parent.parent / "docs" / "architecture.md"


class CountingEnv(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Counts steps and resets, by default of CartPole: a small environment for what does not depend on scenes."""

    def __init__(self, env: gymnasium.Env[Any, Any] | None = None) -> None:
        super().__init__(env or gymnasium.make("CartPole-v1"))
        self.steps = self.resets = 0
        self.reasons: list[str] = []

    def reset(self, **arguments: Any) -> Any:
        self.resets += 1
        return self.env.reset(**arguments)

    def step(self, action: Any) -> Any:
        self.steps += 1
        result = self.env.step(action)
        self.reasons.append(result[4].get("reason", ""))
        return result


class Until:
    """A monitor that is done after so many steps of the environment."""

    def __init__(self, env: CountingEnv, steps: int) -> None:
        self.env = env
        self.steps = steps

    @property
    def done(self) -> bool:
        return self.env.steps >= self.steps

    def safe_point(self, agent: Any) -> None:
        """Nothing to save."""

    def log(self, values: Mapping[str, float]) -> None:
        """Nothing to write."""


def test_every_registered_agent_can_be_made() -> None:
    names = rls3_registry.names("agents")
    assert {"random", "stratified"} <= set(names)
    assert {f"sb3/{name}" for name in SB3_ALGORITHMS} <= set(names)
    assert {f"tianshou/{name}" for name in TIANSHOU_ALGORITHMS} <= set(names)
    for name in agents_here():
        assert make_agent(name, seed=0).action_views
    for name in names:
        assert AGENTS.find(name)[1].description


def test_the_built_in_plugins_are_installed_as_third_parties_would_be() -> None:
    assert {"random", "stratified", "sb3", "tianshou"} <= set(installed(AGENTS.group))


def test_an_algorithm_of_sb3_takes_the_observations_that_it_has_policies_for(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = make_agent("sb3/sac", seed=0)
    assert observations_of(agent) == ("state", "pixels", "dict")
    policy = SB3_ALGORITHMS["sac"].build.policy_aliases["MlpPolicy"]
    for names, observations in (("Mlp", "Gru", "Other"), ("state",)), (("Cnn", "Mlp"), ("state", "pixels")):
        monkeypatch.setattr(SB3_ALGORITHMS["sac"].build, "policy_aliases", {f"{name}Policy": policy for name in names})
        assert observations_of(agent) == observations


@pytest.mark.parametrize(
    ("name", "views"),
    [
        ("sb3/sac", ("preference", "box")),
        ("sb3/td3", ("preference", "box")),
        ("sb3/tqc", ("preference", "box")),
        ("sb3/crossq", ("preference", "box")),
        ("sb3/dqn", ("select", "relation")),
        ("sb3/ppo", ("preference", "box", "multi_discrete", "select", "relation")),
        ("sb3/a2c", ("preference", "box", "multi_discrete", "select", "relation")),
        ("sb3/recurrent_ppo", ("preference", "box", "multi_discrete", "select", "relation")),
        ("tianshou/sac", ("preference", "box")),
        ("tianshou/redq", ("preference", "box")),
        ("tianshou/dqn", ("select", "relation")),
        ("tianshou/ppo", ("preference", "box", "multi_discrete", "select", "relation")),
        ("tianshou/a2c", ("preference", "box", "multi_discrete", "select", "relation")),
        ("sb3/ppo_select", ("select",)),
        ("sb3/maskable_ppo", ("relation", "select")),
        ("sb3/ppo_relation", ("relation",)),
        ("stratified", ("relation",)),
        ("random", ("box", "multi_discrete", "relation", "select", "preference")),
    ],
)
def test_an_algorithm_takes_the_views_it_can_and_a_wrong_one_is_told_which(name: str, views: tuple[str, ...]) -> None:
    agent = make_agent(name, seed=0)
    assert agent.action_views == views
    assert choose_view(agent, None, name) == views[0]
    for view in views:
        assert choose_view(agent, view, name) == view
    for view in set(VIEWS) - set(views):
        with pytest.raises(UserError) as refusal:
            choose_view(agent, view, name)
        assert str(refusal.value) == f"action_view: agent {name!r} cannot take {view!r}; it takes {' or '.join(views)}"


@pytest.mark.parametrize("agent", ["sb3/maskable_ppo", "sb3/ppo_relation"])
def test_an_agent_that_takes_masks_asks_only_for_relations_that_can_be_had(agent: str) -> None:
    env = CountingEnv(make_env(action_view="relation", steps_per_episode=12, episodes_per_round=100))
    small = {"n_steps": 6, "batch_size": 3, "net_arch": [16], "n_epochs": 1}
    make_agent(agent, 0, small).learn(env, Until(env, 30))
    assert len(env.reasons) >= 30 and "no_place" not in env.reasons


def test_an_agent_that_scores_relations_takes_none_that_can_not_be_had_without_being_told() -> None:
    env = make_env(action_view="relation", steps_per_episode=12, episodes_per_round=100)
    small = {"n_steps": 6, "batch_size": 3, "net_arch": [16], "n_epochs": 1}
    agent = make_agent("sb3/ppo_relation", 0, small)
    counting = CountingEnv(env)
    agent.learn(counting, Until(counting, 12))
    observation, _ = env.reset()
    for _ in range(12):
        masks = env.unwrapped.action_masks()
        assert all(masks[int(agent.act(observation))] for _ in range(20))
        observation, *_ = env.step(int(np.flatnonzero(masks)[-1]))


def test_a_recurrent_agent_remembers_the_episode_until_the_next_begins(tmp_path: Path) -> None:
    env = CountingEnv()
    small = {"n_steps": 6, "batch_size": 3, "lstm_hidden_size": 8, "learning_rate": 0.05}
    agent, again = (make_agent("sb3/recurrent_ppo", seed, small) for seed in (0, 1))
    agent.learn(env, Until(env, 20))

    def probed(one: Any) -> Any:
        return one._memory[0].ravel().tolist()

    observation = np.array([0.1, 0.2, 0.0, -0.1], np.float32)
    agent.act(observation)
    first = probed(agent)
    agent.act(observation)
    assert probed(agent) != first
    agent.save(tmp_path)
    again.load(tmp_path)
    assert probed(again) == probed(agent)
    assert all(again.act(observation) == agent.act(observation) for _ in range(5))
    agent.begin_episode()  # type: ignore[attr-defined]
    agent.act(observation)
    assert probed(agent) == first


def test_every_action_view_stands_under_the_type_of_its_space() -> None:
    kinds = [kind.name for kind in load_catalog().training]
    for name in VIEWS:
        (space_type,) = (space_type for space_type, views in VIEWS_BY_SPACE.items() if name in views)
        assert isinstance(VIEWS[name](kinds, EnvironmentSettings()).space, space_type)


def test_another_algorithm_of_a_library_is_one_row_and_one_yaml(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SB3_ALGORITHMS, "qrdqn", Algorithm(QRDQN, DqnSettings, (gymnasium.spaces.Discrete,)))
    settings = {**AGENTS.find("sb3/dqn")[1].settings, "algorithm": "qrdqn"}
    file = tmp_path / "qrdqn.yaml"
    file.write_text(yaml.safe_dump({"plugin": "sb3", "settings": settings}), encoding="utf-8")
    agent, again = (make_agent(str(file), seed) for seed in (0, 1))
    assert agent.action_views == ("select", "relation")
    env = CountingEnv()
    agent.learn(env, Until(env, 20))
    agent.save(tmp_path / "saved")
    again.load(tmp_path / "saved")
    observation, _ = env.reset(seed=3)
    assert again.act(observation, deterministic=True) == agent.act(observation, deterministic=True)


@pytest.mark.parametrize("name", ["sb3/sac", "sb3/tqc", "sb3/crossq", "tianshou/sac", "tianshou/redq"])
@pytest.mark.parametrize("dimensions", [3, 5])
def test_the_entropy_to_keep_grows_with_the_actions_dimensions(name: str, dimensions: int) -> None:
    agent: Any = make_agent(name, seed=0, overrides={"target_entropy_per_dim": 0.5})
    agent.observation_space = gymnasium.spaces.Box(-1.0, 1.0, (4,))
    agent.action_space = gymnasium.spaces.Box(-1.0, 1.0, (dimensions,))
    with agent.generators:
        model = agent.build()
    target = model.target_entropy if name.startswith("sb3") else model.alpha._target_entropy
    assert target == 0.5 * dimensions


def test_an_agent_says_which_spaces_it_needs() -> None:
    env = CountingEnv()
    for name in ("sb3/sac", "tianshou/sac"):
        with pytest.raises(UserError, match=rf"{name.replace('/', ' ')} acts in Box, not in Discrete\(2\)"):
            make_agent(name, seed=0).learn(env, Until(env, 1))
    pictures = RLS3SceneEnv(action_view="preference", observation="pixels")
    for name in ("sb3/crossq", "tianshou/sac"):
        with pytest.raises(UserError, match="flat observations.*use 'state'"):
            make_agent(name, seed=0).learn(pictures, Until(env, 1))


def test_an_agent_that_has_learned_continues_where_the_environment_stands() -> None:
    for name in ("random", "sb3/dqn", "tianshou/dqn"):
        env = CountingEnv()
        agent = make_agent(name, seed=0)
        for steps in (3, 6):
            agent.learn(env, Until(env, steps))
            assert (env.steps, env.resets) == (steps, 1)


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
        ("sb3/tqc", {"target_entropy_per_dim": 0.7}, "settings.target_entropy_per_dim: should be less than 0.6931"),
        ("tianshou/redq", {"subset_size": 11}, "settings: subset_size should be at most ensemble_size (10)"),
        ("sb3/sac", {"net_arch": []}, "settings.net_arch"),
        ("sb3/ppo", {"n_steps": "many"}, "settings.n_steps"),
        ("sb3/sac", {"algorithm": "sax"}, "settings.algorithm: unknown algorithm 'sax'; did you mean 'sac'"),
        ("tianshou/sac", {"algorithm": "ppo"}, "settings"),
        ("tianshou", {}, "settings.algorithm: is missing; one of a2c, ppo, sac, redq, dqn"),
        ("stratified", {"retries": -1}, "settings.retries: should be greater than or equal to 0, not -1"),
        ("rls3_agents.samplers.random:Nobody", {}, "has no class 'Nobody'"),
        ("nowhere.at_all:Agent", {}, "cannot be imported: No module named 'nowhere'"),
        ("rls3_registry.validation:Settings", {}, "is no agent; it lacks learn"),
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
        ("sb3/sac", "rls3_agents.sb3.sb3_agent", "sb3_contrib", "sb3"),
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
    env = CountingEnv()
    agent.learn(env, Until(env, 0))
    agent.save(tmp_path)
    with pytest.raises(UserError, match=r"agent\.json: holds the agent 'random', not 'sb3'"):
        make_agent("sb3/sac", seed=0).load(tmp_path)
    (tmp_path / "agent.json").write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match="cannot be read as part of a saved agent"):
        make_agent("random", seed=0).load(tmp_path)


def test_an_agent_of_a_run_acts_elsewhere_as_the_documents_show(tmp_path: Path, capsys: Any) -> None:
    experiment = tiny(agent="sb3/ppo_select", budget={"rounds": 1})
    run(experiment, tmp_path / "mine")
    (example,) = re.findall(r"```python\n(.*?)```", ARCHITECTURE.read_text(encoding="utf-8"), re.DOTALL)
    for old, new in (("runs/mine", str(tmp_path / "mine")), ('"human"', '"rgb_array"')):
        assert old in example
        example = example.replace(old, new)
    capsys.readouterr()
    (tmp_path / "example.py").write_text(example, encoding="utf-8")
    runpy.run_path(str(tmp_path / "example.py"))
    assert len(capsys.readouterr().out.splitlines()) == EnvironmentSettings().steps_per_episode


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
    assert restore_space(describe_space(space)) == space
