"""The contract of a sampler agent as a test suite. Plugins run it against themselves:

    from rls3_agents.contract import AgentContract

    class TestMine(AgentContract):
        agent = "mypackage.agent:Mine"  # or a registry name, a path to a YAML, an entry point's name
        overrides = {"batch_size": 16}  # smaller than life, so that the tests are quick

It uses the real environment, small: four steps an episode, a fine-tuning every six episodes.
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

from rls3_agents.base import SamplerAgent, choose_view
from rls3_agents.global_rng import fingerprint
from rls3_agents.loading import make_agent
from rls3_gym.envs.scene_env import RLS3SceneEnv
from rls3_registry.errors import UserError

SEED = 7
EPISODE_STEPS = 4


class Recorder(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Keeps every action that was taken, and the newest count of valid samples."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        self.actions: list[NDArray[Any]] = []
        self.n_generated = 0

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), f"{action!r} is no element of {self.action_space}"
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

    @property
    def done(self) -> bool:
        done = self.env.n_generated >= self.budget
        if done and self.steps_when_done is None:
            self.steps_when_done = len(self.env.actions)
        return done

    def safe_point(self, agent: SamplerAgent) -> None:
        if self.at_safe_point is not None:
            self.at_safe_point(agent, len(self.env.actions))


@dataclass(frozen=True)
class Veteran:
    """An agent after its run."""

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
        """Let an agent learn in a new environment; returns the record of it."""
        env = Recorder(self.make_env(view))
        monitor = BudgetMonitor(env, self.budget)
        before = fingerprint()
        agent.learn(lambda: env, monitor)
        assert fingerprint() == before, "learn moved the global random generators (see rls3_agents.global_rng)"
        assert monitor.steps_when_done is not None, "learn ended before the budget was spent"
        late = len(env.actions) - monitor.steps_when_done
        assert late <= EPISODE_STEPS, f"learn went on for {late} steps after the monitor was done"
        return env

    def view(self) -> str:
        """The view the agent likes best."""
        return self.make_agent().action_views[0]

    @pytest.fixture
    def veteran(self, tmp_path_factory: pytest.TempPathFactory) -> Veteran:
        """An agent that has learned, the record of it, and where it was saved afterwards; one for all tests."""
        if type(self) not in _VETERANS:
            agent = self.make_agent()
            env = self.run(agent, self.view())
            directory = tmp_path_factory.mktemp("agent")
            agent.save(directory)
            _VETERANS[type(self)] = Veteran(agent, env, directory)
        return _VETERANS[type(self)]

    def test_same_seed_same_actions_and_another_seed_others(self, veteran: Veteran) -> None:
        assert _same(self.run(self.make_agent(SEED), self.view()).actions, veteran.env.actions)
        assert not _same(self.run(self.make_agent(SEED + 1), self.view()).actions, veteran.env.actions)

    def test_it_works_in_every_view_it_declares(self) -> None:
        """`run` checks that every action is in the space, and that the agent stops within an episode of the budget."""
        views = self.make_agent().action_views
        assert views
        assert set(views) <= {"box", "multi_discrete", "relation"}
        for view in views:
            agent = self.make_agent()
            env = self.run(agent, view)
            observation, _ = env.reset()
            for deterministic in (False, True):
                assert env.action_space.contains(agent.act(observation, deterministic=deterministic))

    def test_a_view_it_does_not_take_is_refused_with_those_it_takes(self) -> None:
        agent = self.make_agent()
        with pytest.raises(UserError, match=agent.action_views[0]):
            choose_view(agent, "telepathy")

    def test_it_does_nothing_when_the_monitor_is_done_already(self) -> None:
        env = Recorder(self.make_env(self.view()))
        self.make_agent().learn(lambda: env, BudgetMonitor(env, budget=0))
        assert len(env.actions) <= EPISODE_STEPS

    def test_save_load_continue_equals_the_uninterrupted_run(self, tmp_path: Path) -> None:
        """Saved at a safe point in the middle, whether or not an episode has just begun there."""
        view = self.view()
        saved_at: list[int] = []
        world: dict[str, Any] = {}

        def save_once(agent: SamplerAgent, steps: int) -> None:
            if 2 * env.n_generated > self.budget and not saved_at:
                saved_at.append(steps)
                agent.save(tmp_path)
                world.update(deepcopy(env.unwrapped.state()))  # type: ignore[attr-defined]

        env = Recorder(self.make_env(view))
        self.make_agent().learn(lambda: env, BudgetMonitor(env, self.budget, save_once))
        assert saved_at, f"no safe point in the second half of a run of {len(env.actions)} steps"

        again = Recorder(self.make_env(view))
        again.unwrapped.load_state(world)  # type: ignore[attr-defined]
        agent = self.make_agent(seed=SEED + 1)
        agent.load(tmp_path)
        agent.learn(lambda: again, BudgetMonitor(again, self.budget))
        assert _same(again.actions, env.actions[saved_at[0] :])

    def test_a_loaded_agent_acts_as_the_saved_one_without_an_environment(self, veteran: Veteran) -> None:
        loaded = self.make_agent(seed=SEED + 1)
        loaded.load(veteran.directory)
        observation, _ = veteran.env.reset()
        for deterministic in (False, True, False):
            actions = (one.act(observation, deterministic=deterministic) for one in (veteran.agent, loaded))
            np.testing.assert_array_equal(*actions)

    def test_what_it_saves_can_be_read_without_running_code(self, veteran: Veteran) -> None:
        files = [path for path in veteran.directory.rglob("*") if path.is_file()]
        assert files
        for path in files:
            _read_safely(path)

    def test_it_refuses_to_load_what_is_no_saved_agent(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=tmp_path.name):
            self.make_agent().load(tmp_path)

    def test_an_unknown_setting_is_a_user_error_that_names_it(self) -> None:
        with pytest.raises(UserError, match="no_such_setting"):
            make_agent(self.agent, SEED, {**self.overrides, "no_such_setting": 1})


_VETERANS: dict[type[AgentContract], Veteran] = {}


def _same(first: list[Any], second: list[Any]) -> bool:
    return len(first) == len(second) and all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def _read_safely(path: Path) -> None:
    match path.suffix:
        case ".json":
            json.loads(path.read_text(encoding="utf-8"))
        case ".npz":
            with np.load(path, allow_pickle=False) as archive:
                assert all(archive[name].dtype != object for name in archive.files)
        case ".pt":
            torch.load(path, weights_only=True)
        case ".safetensors":
            load_file(path)
        case other:
            pytest.fail(f"{path.name}: {other} is none of .json, .npz, .safetensors and (weights_only) .pt")
