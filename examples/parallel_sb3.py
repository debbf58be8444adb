"""Independent learners with a shared policy: SB3's PPO, one learner for the three agents of the parallel environment.

python examples/parallel_sb3.py [--steps N]
"""

from __future__ import annotations

import argparse

from stable_baselines3 import PPO

import rls3_gym
from rls3_agents.sb3.sb3_vec_env import Sb3VecEnv
from rls3_gym.envs.agents_as_lanes import AgentsAsLanes


def main(steps: int, steps_per_episode: int = 8) -> PPO:
    """Learn for `steps` actions of the three agents together."""
    env = rls3_gym.parallel_env(steps_per_episode=steps_per_episode, samples_per_round=50, train_fraction=1.0)
    model = PPO("MlpPolicy", Sb3VecEnv(AgentsAsLanes(env)), n_steps=16, batch_size=24, gamma=0.0, seed=0)
    model.learn(steps)
    print(f"{env.scheduler.n_generated} samples, {env.scheduler.round} rounds, VLM {env.scheduler.vlm_digest}")
    env.close()
    return model


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2400)
    main(parser.parse_args().steps)
