"""The support table of the documents: every cell of it is tried, in the real environment, until two rounds are over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from experiment_tools import agents_here
from test_agents import SMALL as SAVED_IN_FULL

from rls3_agents.base import (
    AGENTS,
    DOORS,
    OBSERVATIONS,
    check_lanes,
    check_observation,
    choose_view,
    doors_of,
    make_agent,
    observations_of,
)
from rls3_gym.envs.views import VIEWS
from rls3_gym.experiment.config import EnvironmentConfig
from rls3_gym.experiment.doors import make_door
from rls3_gym.vlm.loading import load_vlm
from rls3_registry.errors import UserError

QUICK = {("tianshou/dqn", DOORS[0]), ("rarity", DOORS[0]), ("sb3/ppo_select", DOORS[1])}
"""One agent of each library."""
LANES: dict[str, dict[str, Any]] = {DOORS[0]: {}, DOORS[1]: {"num_envs": 2}, DOORS[2]: {"door": "parallel"}}
SMALL = SAVED_IN_FULL | {"learning_rate": 0.001, "lr": 0.001}  # with its large one, pictures drive SAC's weights to NaN
ROWS = [
    pytest.param(name, door, marks=[] if (name, door) in QUICK else pytest.mark.slow)
    for name in agents_here()
    for door in DOORS
]


class TwoRounds:
    """A monitor that is done when the VLM has been taught twice."""

    def __init__(self, env: Any) -> None:
        self.env = env
        self.logged: list[Mapping[str, float]] = []

    @property
    def done(self) -> bool:
        return bool(self.env.scheduler.round >= 2)

    def safe_point(self, agent: Any) -> None:
        """Nothing to save."""

    def log(self, values: Mapping[str, float]) -> None:
        self.logged.append(values)


@pytest.mark.parametrize(("name", "door"), ROWS)
def test_a_cell_of_the_support_table_is_true(name: str, door: str) -> None:
    settings = AGENTS.find(name)[1].settings
    small = {key: value for key, value in SMALL.items() if key in settings}
    vlm = load_vlm("tiny", {"batch_size": 8, "epochs": 1.0})
    agent = make_agent(name, 0, small)
    if door not in doors_of(agent):
        with pytest.raises(UserError, match="takes one lane"):
            check_lanes(agent, 3, name)
        with pytest.raises(UserError, match=r"^environment.door: agent .* takes one lane"):
            check_lanes(agent, 3, name, "environment.door")
        return
    for view in agent.action_views:
        for observation in observations_of(agent):
            agent = make_agent(name, 0, small)
            asked = {"observation": observation, "steps_per_episode": 4, "episodes_per_round": 2, **LANES[door]}
            env: Any = make_door(EnvironmentConfig.model_validate(asked), vlm, view)
            try:
                env.reset(seed=0)
                agent.learn(env, TwoRounds(env))
                assert env.scheduler.round == 2, (view, observation)
            finally:
                env.close()


@pytest.mark.parametrize("name", agents_here())
def test_an_empty_cell_of_the_support_table_is_refused(name: str) -> None:
    agent = make_agent(name, 0)
    for view in set(VIEWS) - set(agent.action_views):
        with pytest.raises(UserError, match=f"action_view: agent '{name}' cannot take '{view}'"):
            choose_view(agent, view, name)
    for observation in OBSERVATIONS:
        if observation in observations_of(agent):
            check_observation(agent, observation, name)
        else:
            with pytest.raises(UserError, match=f"agent '{name}' cannot take '{observation}'; it takes state"):
                check_observation(agent, observation, name)
