"""Multi-agent learning with Tianshou: a DQN of its own for each of the three agents, in the AEC form.

python examples/parallel_tianshou.py [--steps N]
"""

from __future__ import annotations

import argparse

from tianshou.algorithm import DQN
from tianshou.algorithm.modelfree.dqn import DiscreteQLearningPolicy
from tianshou.algorithm.multiagent.marl import MultiAgentOffPolicyAlgorithm
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import Collector, CollectStats, VectorReplayBuffer
from tianshou.env import DummyVectorEnv, PettingZooEnv
from tianshou.utils.net.common import Net
from tianshou.utils.torch_utils import policy_within_training_step

import rls3_gym


def learner(env: PettingZooEnv) -> DQN:
    """A DQN for one agent."""
    n = int(env.action_space.n)
    policy = DiscreteQLearningPolicy(
        model=Net(state_shape=env.observation_space.shape, action_shape=n, hidden_sizes=[64]),
        action_space=env.action_space,
        observation_space=env.observation_space,
        eps_training=0.2,
    )
    return DQN(policy=policy, optim=AdamOptimizerFactory(lr=1e-3), gamma=0.0, target_update_freq=50)


def main(steps: int, steps_per_episode: int = 8) -> int:
    """Collect and learn for `steps` actions of the three agents together; returns the samples made."""
    scenes = rls3_gym.aec_env(steps_per_episode=steps_per_episode, samples_per_round=50, train_fraction=1.0)
    env = PettingZooEnv(scenes)
    algorithm = MultiAgentOffPolicyAlgorithm(algorithms=[learner(env) for _ in env.agents], env=env)
    buffer = VectorReplayBuffer(5000, 1)
    collector = Collector[CollectStats](algorithm, DummyVectorEnv([lambda: env]), buffer, exploration_noise=True)
    collector.reset()
    for _ in range(0, steps, 24):
        collector.collect(n_step=24)
        with policy_within_training_step(algorithm.policy):
            algorithm.update(buffer, 24)
    scheduler = scenes.unwrapped.scheduler
    print(f"{scheduler.n_generated} samples, {scheduler.round} rounds, VLM {scheduler.vlm_digest}")
    return int(scheduler.n_generated)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2400)
    main(parser.parse_args().steps)
