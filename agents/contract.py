"""The contract of a sampler agent as a test suite. Plugins run it against themselves:

    from rls3_agents.contract import AgentContract

    class TestMine(AgentContract):
        agent = "mypackage.agent:Mine"  # or a registry name, a path to a YAML, an entry point's name
        overrides = {"batch_size": 16}  # smaller than in the YAML, so that the tests are quick

The tests use the real environment, with four steps per episode and a fine-tuning every six episodes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from rls3_agents.base import SamplerAgent, choose_view, make_agent
from rls3_agents.global_rng import fingerprint
from rls3_gym.envs.scene_env import RLS3SceneEnv
from rls3_gym.envs.views import VIEWS
from rls3_registry.errors import UserError

SEED = 7
EPISODE_STEPS = 4


class Recorder(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Keeps every action that was taken, how often the env was reset, and the newest count of valid samples."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        self.actions: list[NDArray[Any]] = []
        self.n_resets = 0
        self.n_generated = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        assert seed is None, "learn must not seed the environment: a seed returns the VLM to its first state"
        self.n_resets += 1
        return self.env.reset(options=options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), f"{action!r} is not an element of {self.action_space}"
        self.actions.append(np.array(action))
        result = self.env.step(action)
        self.n_generated = result[4]["n_generated"]
        return result


class BudgetMonitor:
    """Done after `budget` valid samples; calls `at_safe_point(agent, steps)` at every safe point."""

    def __init__(
        self, env: Recorder, budget: int, at_safe_point: Callable[[SamplerAgent, int], None] | None = None
    ) -> None:
        self.env = env
        self.budget = budget
        self.at_safe_point = at_safe_point
        self.steps_when_done: int | None = None
        self.logged: list[dict[str, float]] = []

    @property
    def done(self) -> bool:
        done = self.env.n_generated >= self.budget
        if done and self.steps_when_done is None:
            self.steps_when_done = len(self.env.actions)
        return done

    def safe_point(self, agent: SamplerAgent) -> None:
        if self.at_safe_point is not None:
            self.at_safe_point(agent, len(self.env.actions))

    def log(self, values: Mapping[str, float]) -> None:
        assert all(isinstance(name, str) and isinstance(value, float) for name, value in values.items()), values
        self.logged.append(dict(values))


@dataclass(frozen=True)
class TrainedAgent:
    """An agent after its run, the record of the run, and where the agent was saved afterwards."""

    agent: SamplerAgent
    env: Recorder
    directory: Path


class AgentContract:
    """Subclass it and set `agent`; a class whose name begins with Test is collected by pytest."""

    agent: ClassVar[str]
    overrides: ClassVar[Mapping[str, Any]] = {}
    budget: ClassVar[int] = 16
    """Valid samples in a run; choose settings with which the agent learns in both halves."""

    def make_agent(self, seed: int = SEED) -> SamplerAgent:
        """A new agent."""
        return make_agent(self.agent, seed, self.overrides)

    def make_env(self, view: str) -> gymnasium.Env[Any, Any]:
        """A new environment in an action view, seeded."""
        env = RLS3SceneEnv(steps_per_episode=EPISODE_STEPS, episodes_per_round=6, action_view=view)
        env.reset(seed=SEED)
        return env

    def run(self, agent: SamplerAgent, view: str) -> Recorder:
        """Let a new agent learn in a new environment; returns the record of it."""
        env = Recorder(self.make_env(view))
        monitor = BudgetMonitor(env, self.budget)
        before = fingerprint()
        agent.learn(env, monitor)
        assert fingerprint() == before, "learn moved the global random generators (see rls3_agents.global_rng)"
        assert monitor.steps_when_done is not None, "learn ended before the budget was spent"
        late = len(env.actions) - monitor.steps_when_done
        assert late <= EPISODE_STEPS, f"learn went on for {late} steps after the monitor was done"
        return env

    def view(self) -> str:
        """The agent's best view."""
        return self.make_agent().action_views[0]

    @pytest.fixture
    def trained(self, tmp_path_factory: pytest.TempPathFactory) -> TrainedAgent:
        """An agent that has learned; one for all tests."""
        if type(self) not in _TRAINED:
            agent = self.make_agent()
            env = self.run(agent, self.view())
            directory = tmp_path_factory.mktemp("agent")
            agent.save(directory)
            _TRAINED[type(self)] = TrainedAgent(agent, env, directory)
        return _TRAINED[type(self)]

    def test_same_seed_same_actions_and_another_seed_others(self, trained: TrainedAgent) -> None:
        assert _same(self.run(self.make_agent(SEED), self.view()).actions, trained.env.actions)
        assert not _same(self.run(self.make_agent(SEED + 1), self.view()).actions, trained.env.actions)

    def test_it_works_in_every_view_it_declares(self) -> None:
        """`run` checks that every action is in the space, and that the agent stops within an episode of the budget."""
        views = self.make_agent().action_views
        assert views
        assert set(views) <= set(VIEWS)
        for view in views:
            agent = self.make_agent()
            env = self.run(agent, view)
            observation, _ = env.reset()
            for deterministic in (False, True):
                assert env.action_space.contains(agent.act(observation, deterministic=deterministic))

    def test_a_view_it_does_not_take_is_refused_with_those_it_takes(self) -> None:
        agent = self.make_agent()
        with pytest.raises(UserError, match=agent.action_views[0]):
            choose_view(agent, "no_such_view")

    def test_it_stops_at_once_when_the_monitor_is_done_already(self) -> None:
        env = Recorder(self.make_env(self.view()))
        self.make_agent().learn(env, BudgetMonitor(env, budget=0))
        assert len(env.actions) <= EPISODE_STEPS

    def test_save_load_continue_equals_the_uninterrupted_run(self, tmp_path: Path) -> None:
        """Saved at a safe point in the middle, whether or not an episode has just begun there. The rest of the run has
        the same actions, the agent says the same of its training, and at its end both agents save the same content."""
        view = self.view()
        safe_points: list[int] = []
        saved_at: list[tuple[int, int, int]] = []
        env_state: dict[str, Any] = {}

        def save_once(agent: SamplerAgent, steps: int) -> None:
            safe_points.append(steps)
            if 2 * env.n_generated > self.budget and not saved_at:
                saved_at.append((steps, env.n_resets, len(monitor.logged)))
                agent.save(tmp_path / "middle")
                env_state.update(deepcopy(env.unwrapped.state()))  # type: ignore[attr-defined]

        env = Recorder(self.make_env(view))
        uninterrupted = self.make_agent()
        monitor = BudgetMonitor(env, self.budget, save_once)
        uninterrupted.learn(env, monitor)
        assert safe_points[0] == 0, "the first safe point comes before the first step"
        assert saved_at, f"no safe point in the second half of a run of {len(env.actions)} steps"

        again = Recorder(self.make_env(view))
        again.unwrapped.load_state(env_state)  # type: ignore[attr-defined]
        loaded = self.make_agent(seed=SEED + 1)
        loaded.load(tmp_path / "middle")
        rest = BudgetMonitor(again, self.budget)
        loaded.learn(again, rest)
        steps, resets, logged = saved_at[0]
        assert _same(again.actions, env.actions[steps:])
        assert again.n_resets == env.n_resets - resets, "a loaded agent continues the episode it was saved in"
        assert rest.logged == monitor.logged[logged:]
        uninterrupted.save(tmp_path / "uninterrupted")
        loaded.save(tmp_path / "continued")
        _assert_same(_saved(tmp_path / "continued"), _saved(tmp_path / "uninterrupted"))

    def test_a_loaded_agent_acts_as_the_saved_one_without_an_environment(self, trained: TrainedAgent) -> None:
        loaded = self.make_agent(seed=SEED + 1)
        loaded.load(trained.directory)
        observation, _ = trained.env.reset()
        for deterministic in (False, True, False):
            actions = (one.act(observation, deterministic=deterministic) for one in (trained.agent, loaded))
            np.testing.assert_array_equal(*actions)

    def test_what_it_saves_can_be_read_without_running_code(self, trained: TrainedAgent) -> None:
        assert _saved(trained.directory)

    def test_it_refuses_to_load_a_folder_without_a_saved_agent(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=tmp_path.name):
            self.make_agent().load(tmp_path)

    def test_an_unknown_setting_is_a_user_error_that_names_it(self) -> None:
        with pytest.raises(UserError, match="no_such_setting"):
            make_agent(self.agent, SEED, {**self.overrides, "no_such_setting": 1})


_TRAINED: dict[type[AgentContract], TrainedAgent] = {}


def _same(first: list[Any], second: list[Any]) -> bool:
    return len(first) == len(second) and all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def _saved(directory: Path) -> dict[str, Any]:
    """The content of every file of a saved agent by its path, read without running code."""
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): _read_safely(path) for path in files}


def _read_safely(path: Path) -> Any:
    match path.suffix:
        case ".json":
            return json.loads(path.read_text(encoding="utf-8"))
        case ".npz":
            with np.load(path, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        case ".pt":
            return torch.load(path, weights_only=True)
        case ".safetensors":
            return load_file(path)
        case other:
            pytest.fail(f"{path.name}: {other} is not .json, .npz, .safetensors or (weights_only) .pt")


def _assert_same(first: Any, second: Any, where: str = "") -> None:
    """Compare nested content; the message says where it differs."""
    if isinstance(first, dict) and isinstance(second, dict):
        assert first.keys() == second.keys(), f"{where}: other keys"
        for key in first:
            _assert_same(first[key], second[key], f"{where}/{key}")
    elif isinstance(first, list | tuple) and isinstance(second, list | tuple):
        assert len(first) == len(second), f"{where}: other length"
        for index, parts in enumerate(zip(first, second, strict=True)):
            _assert_same(*parts, f"{where}/{index}")
    else:
        first, second = (part.detach() if isinstance(part, torch.Tensor) else part for part in (first, second))
        np.testing.assert_array_equal(first, second, err_msg=where)
