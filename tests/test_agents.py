"""Every agent of the registry keeps the contract, in the real environment."""

from __future__ import annotations

import pytest
from experiment_tools import agents_here

from rls3_agents.base import AGENTS
from rls3_agents.contract import AgentContract

SMALL = {
    "batch_size": 3,
    "buffer_size": 8,  # runs over
    "exploration_final_eps": 0.1,
    "exploration_steps": 10,
    "gamma": 0.9,  # from 0, target networks would make no difference
    "gradient_steps": 1,
    "hidden_sizes": [16],
    "learning_rate": 0.05,  # so large that anything lost in saving shows in the actions
    "learning_starts": 3,
    "lr": 0.05,
    "lstm_hidden_size": 8,
    "n_steps": 6,
    "net_arch": [16],
    "rollout_steps": 6,
    "target_update_freq": 7,
    "target_update_interval": 3,
}
"""Settings with which a run of a few steps goes through everything that an agent does, for agents that have them."""


SLOW = {
    "sb3/a2c", "sb3/crossq", "sb3/maskable_ppo", "sb3/ppo", "sb3/ppo_relation", "sb3/recurrent_ppo", "sb3/td3",
    "sb3/tqc", "tianshou/a2c", "tianshou/dqn", "tianshou/redq",
}  # fmt: skip
"""Agents whose plugin the quick tests put through the contract with another algorithm of its library."""


def contract_of(name: str) -> type[AgentContract]:
    """The contract's tests for a registered agent, with those of its settings made small that can be."""
    settings = AGENTS.find(name)[1].settings
    overrides = {key: value for key, value in SMALL.items() if key in settings}
    title = "Test" + "".join(part.title() for part in name.split("/"))
    test = type(title, (AgentContract,), {"agent": name, "overrides": overrides})
    return pytest.mark.slow(test) if name in SLOW else test


globals().update({test.__name__: test for test in map(contract_of, agents_here())})
