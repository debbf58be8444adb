"""Samplers from the literature on curricula do what their papers define, on cases small enough to compute by hand."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest

from rls3_agents.base import make_agent
from rls3_agents.contract import BudgetMonitor, Recorder
from rls3_agents.samplers.alp_gmm import AlpGmm, AlpGmmSettings
from rls3_agents.samplers.bandit import OnlineTeacher
from rls3_agents.samplers.cem import CemSettings, CrossEntropy
from rls3_agents.samplers.plr import PlrAgent, replay_chances
from rls3_gym.envs.scene_env import RLS3SceneEnv
from rls3_registry.errors import UserError


def learn(name: str, view: str, budget: int, settings: dict[str, Any] | None = None) -> tuple[Any, RLS3SceneEnv]:
    """An agent after `budget` samples in an environment that teaches nothing, and that environment."""
    env = RLS3SceneEnv(action_view=view, steps_per_episode=6, finetune=False)
    env.reset(seed=0)
    agent = make_agent(name, 0, settings)
    record = Recorder(env)
    agent.learn(record, BudgetMonitor(record, budget))
    return agent, env


def test_the_bandits_q_follows_the_change_of_a_cells_score() -> None:
    teacher = OnlineTeacher(3, alpha=0.5, temperature=1.0)
    teacher.observe(0, 0.4)
    assert teacher.q[0] == 0  # a first score is no progress
    teacher.observe(0, 0.8)
    assert teacher.q[0] == pytest.approx(0.5 * 0.4)
    teacher.observe(0, 0.2)
    assert teacher.q[0] == pytest.approx(0.5 * -0.6 + 0.5 * 0.2)
    teacher.q[:] = [-np.log(4), np.log(2), 0]
    assert teacher.chances(np.array([True, True, True])) == pytest.approx(np.array([4, 2, 1]) / 7)
    assert teacher.chances(np.array([False, True, True])) == pytest.approx(np.array([0, 2, 1]) / 3)


def test_the_bandit_asks_only_for_relations_that_are_on_offer() -> None:
    agent, env = learn("bandit", "relation", 40)
    assert np.isfinite(agent.teacher.last).any()
    assert env.scheduler.n_generated / env.scheduler.n_steps > 0.7  # unmasked, about half of them would be refused


def test_replay_chances_are_those_of_ranks_and_staleness() -> None:
    by_rank, stale = np.array([2, 6, 3]) / 11, np.array([4, 3, 2]) / 9
    scores, replayed = [1.0, 3.0, 2.0], [0, 1, 2]
    assert replay_chances(scores, replayed, 4, beta=1.0, rho=0.0) == pytest.approx(by_rank)
    assert replay_chances(scores, replayed, 4, beta=1.0, rho=1.0) == pytest.approx(stale)
    assert replay_chances(scores, replayed, 4, beta=1.0, rho=0.25) == pytest.approx(0.75 * by_rank + 0.25 * stale)
    assert replay_chances(scores, replayed, 4, beta=0.5, rho=0.0) == pytest.approx(np.array([4, 36, 9]) / 49)
    assert replay_chances([1.0], [4], 4, beta=1.0, rho=0.5) == pytest.approx([1.0])


def test_level_replay_keeps_the_hardest_scenes_and_begins_in_them() -> None:
    agent, _ = learn("plr", "box", 30, {"replay": 1.0, "capacity": 3})
    plr = cast(PlrAgent, agent)
    assert len(plr._levels) == 3
    wanted = plr.next_scene()
    assert wanted in [level.arrangement for level in plr._levels]
    agent, _ = learn("plr", "box", 10, {"replay": 0.0})
    assert cast(PlrAgent, agent).next_scene() is None


def test_cross_entropy_moves_to_the_best_candidates_with_noise_that_fades() -> None:
    settings = CemSettings(population=3, elite=2, spread=1.0, noise=0.5, noise_generations=2)
    search = CrossEntropy(1, settings)
    for candidate, score in ((1.0, 1.0), (2.0, 3.0), (3.0, 2.0)):
        search.score(np.array([candidate]), score)
    assert search.mean == pytest.approx([2.5])
    assert search.variance == pytest.approx([0.25 + 0.5])
    for candidate, score in ((5.0, 2.0), (7.0, 1.0), (0.0, 0.0)):
        search.score(np.array([candidate]), score)
    assert search.mean == pytest.approx([6.0])
    assert search.variance == pytest.approx([1.0 + 0.25])
    with pytest.raises(UserError, match="elite should be less than population"):
        make_agent("cem", 0, {"elite": 10})


def test_cross_entropy_keeps_one_preference_for_an_episode() -> None:
    env = RLS3SceneEnv(action_view="preference", steps_per_episode=5, finetune=False)
    env.reset(seed=0)
    record = Recorder(env)
    make_agent("cem", 0).learn(record, BudgetMonitor(record, 10))
    first, second = np.stack(record.actions[:5]), np.stack(record.actions[5:10])
    assert (first == first[0]).all() and (second == second[0]).all() and (first[0] != second[0]).any()


def test_learning_progress_is_the_change_since_the_nearest_task() -> None:
    teacher = AlpGmm(AlpGmmSettings(fit_every=100, most_components=3, random_share=0.2, memory=100))
    rng = np.random.default_rng(0)
    for x, score in ((0.0, 0.5), (1.0, 0.9), (0.1, 0.2), (0.8, 1.0)):
        teacher.observe(np.array([x, 0, 0]), score, rng)
    assert teacher.recent[:, 3] == pytest.approx([0, 0.4, 0.3, 0.1])


def test_tasks_are_drawn_where_the_score_changes() -> None:
    teacher = AlpGmm(AlpGmmSettings(fit_every=80, most_components=4, random_share=0.1, memory=1000))
    rng = np.random.default_rng(0)
    for i in range(80):
        changing = i % 2 == 0
        center = np.array([1.2 if changing else -1.2, 0, 0])
        teacher.observe(center + rng.normal(0, 0.05, 3), float(i // 2 % 2) if changing else 0.5, rng)
    right = np.array([teacher.draw(rng)[0] > 0.5 for _ in range(200)])
    assert right.mean() > 0.65  # uniform tasks: a third


def test_the_hardest_of_the_candidates_is_made() -> None:
    env = RLS3SceneEnv(action_view="select", steps_per_episode=6, finetune=False, proposals=4)
    env.reset(seed=1)
    agent = make_agent("hard_example", 0, {"candidates": 4})
    agent.loop = env.loop  # type: ignore[attr-defined]
    agent.action_space = env.action_space  # type: ignore[attr-defined]
    lane = env.loop.lane()
    assert lane.proposals is not None
    before = lane.state()
    losses = {}
    for row in range(4):
        sample = lane.stage.preview(lane.proposals.edit(row), lane.aside().rng).sample
        if sample is not None:
            losses[row] = float(env.scheduler.vlm.evaluate([sample]).loss[0])
    chosen = int(agent.act(env.observation()))
    assert losses[chosen] == pytest.approx(max(losses.values()), abs=1e-4)
    assert len(losses) > 1
    assert lane.state()["rng"] == before["rng"]
