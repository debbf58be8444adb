"""Samplers and selections without RL do what they are defined to, on cases small enough to compute by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from rls3_agents.base import make_agent
from rls3_agents.samplers.stratified import CARDS_PER_COMPLEXITY
from rls3_gym.envs.views import FEATURES
from rls3_gym.loop.selection import SELECTIONS, LearnableSelection
from rls3_gym.scene.relations import BY_TERMS, RELATIONS, Term

LEFT, RIGHT, ABOVE = (BY_TERMS[frozenset({term})].index for term in (Term.LEFT, Term.RIGHT, Term.ABOVE))


def test_stratified_deals_every_length_and_within_it_every_cell_equally_often() -> None:
    agent: Any = make_agent("stratified", 0)
    space = spaces.Discrete(3 * len(RELATIONS))
    dealt = [RELATIONS[int(agent.choose(space)) % len(RELATIONS)] for _ in range(3 * CARDS_PER_COMPLEXITY)]
    assert [sum(r.complexity == n for r in dealt) for n in (1, 2, 3)] == [24, 24, 24]
    made = np.bincount([r.index for r in dealt], minlength=len(RELATIONS))
    cells_of_length = {1: 6, 2: 12, 3: 8}
    assert made.tolist() == [24 // cells_of_length[r.complexity] for r in RELATIONS]


def test_rarity_makes_the_proposal_whose_cell_it_has_made_least_often() -> None:
    agent: Any = make_agent("rarity", 0, {"kept": 0.5, "prior": 1.0})
    proposals = np.zeros((4, FEATURES))  # the fourth is none: there are three
    for row, term in enumerate((Term.LEFT, Term.RIGHT, Term.ABOVE)):
        proposals[row, term] = 1.0
    agent.observation = proposals.ravel()
    for cell in (LEFT, ABOVE, RIGHT, ABOVE):
        agent.on_step({"feasible": True, "cell": cell})
    agent.on_step({"feasible": False, "cell": -1})
    assert agent._counts[[LEFT, RIGHT, ABOVE]] == pytest.approx([0.125, 0.5, 0.25 + 1.0])
    assert {int(agent.choose(spaces.Discrete(4))) for _ in range(10)} == {0}
    agent._counts[RIGHT] = 0.0
    assert {int(agent.choose(spaces.Discrete(4))) for _ in range(10)} == {1}


def test_the_oracle_draws_cells_by_their_validation_error_averaged_over_antonyms() -> None:
    agent: Any = make_agent("oracle", 0, {"floor": 0.02})
    agent._error = np.zeros(len(RELATIONS))
    agent._error[LEFT] = 0.6
    weights = 26 * 0.02 + 0.6
    chances = agent._chances()
    assert chances[[LEFT, RIGHT]] == pytest.approx((0.3 + 0.02) / weights)
    assert chances[ABOVE] == pytest.approx(0.02 / weights)
    said = agent.log_values()
    assert said["chance/left"] == pytest.approx(sum(chances[r.index] for r in RELATIONS if Term.LEFT in r.terms))


@pytest.mark.parametrize("name", ["oracle", "bandit"])
def test_a_sampler_of_relations_asks_for_none_that_the_scene_has_not(name: str) -> None:
    agent: Any = make_agent(name, 0)
    offered = np.zeros((3, len(RELATIONS)), np.bool_)
    offered[1, LEFT] = offered[2, LEFT] = offered[2, ABOVE] = True
    agent.masks = lambda: offered.ravel()
    asked = {int(agent.choose(spaces.Discrete(offered.size))) for _ in range(60)}
    assert asked == set(np.flatnonzero(offered))
    agent.masks = lambda: np.zeros(offered.size, np.bool_)
    assert agent.choose(spaces.Discrete(offered.size)) in range(offered.size)


def test_jests_score_trains_the_samples_of_the_highest_learner_loss_minus_reference_loss() -> None:
    chooser = LearnableSelection()
    reference = [0.1, 2.0, 0.2, 0.9]
    chooser._reference = SimpleNamespace(evaluate=lambda samples: SimpleNamespace(loss=np.array(reference)))  # type: ignore[assignment]
    feedback: Any = SimpleNamespace(loss=np.array([0.5, 2.5, 1.2, 0.8]))  # learnability: 0.4, 0.5, 1.0, -0.1
    assert chooser.choose([None] * 4, feedback, 0.5, np.random.default_rng(0)) == [1, 2]  # type: ignore[list-item]


def test_mined_trains_the_samples_whose_opposite_the_vlm_believes_most() -> None:
    feedback: Any = SimpleNamespace(p_opposite=np.array([0.9, 0.2, 0.6, 0.1]))  # of the true caption
    chosen = SELECTIONS["mined"]().choose([None] * 4, feedback, 0.5, np.random.default_rng(0))  # type: ignore[list-item]
    assert chosen == [1, 3]
