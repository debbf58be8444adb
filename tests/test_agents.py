"""Every built-in agent keeps the contract, in the real environment."""

from __future__ import annotations

from rls3_agents.contract import AgentContract

SMALL_OFF_POLICY = {"batch_size": 4, "learning_starts": 3, "net_arch": [16]}


class TestRandom(AgentContract):
    agent = "random"


class TestStratified(AgentContract):
    agent = "stratified"


class TestSb3Sac(AgentContract):
    agent = "sb3/sac"
    overrides = {**SMALL_OFF_POLICY, "buffer_size": 8}  # a buffer that runs over


class TestSb3Td3(AgentContract):
    agent = "sb3/td3"
    overrides = SMALL_OFF_POLICY


class TestSb3Dqn(AgentContract):
    agent = "sb3/dqn"
    overrides = {**SMALL_OFF_POLICY, "exploration_steps": 20, "exploration_final_eps": 0.5, "target_update_interval": 5}


class TestSb3Ppo(AgentContract):
    agent = "sb3/ppo"
    overrides = {"n_steps": 6, "batch_size": 3, "net_arch": [16]}


class TestSb3A2c(AgentContract):
    agent = "sb3/a2c"
    overrides = {"n_steps": 3, "net_arch": [16]}


class TestTianshouSac(AgentContract):
    agent = "tianshou/sac"
    overrides = {"batch_size": 4, "learning_starts": 3, "hidden_sizes": [16], "buffer_size": 8}


class TestTianshouPpo(AgentContract):
    agent = "tianshou/ppo"
    overrides = {"rollout_steps": 6, "batch_size": 3, "hidden_sizes": [16]}
