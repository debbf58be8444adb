"""PPO of TorchRL on the bare environment.

python examples/torchrl_ppo.py --timesteps 3000
"""

from __future__ import annotations

from typing import Any

import gymnasium
import torch
import typer
from tensordict.nn import TensorDictModule
from torch import nn
from torchrl.collectors import Collector
from torchrl.data import LazyTensorStorage, ReplayBuffer, SamplerWithoutReplacement
from torchrl.envs import GymWrapper
from torchrl.modules import OneHotCategorical, ProbabilisticActor, ValueOperator
from torchrl.objectives import ClipPPOLoss
from torchrl.objectives.value import GAE

import rls3_gym  # noqa: F401  registers the ids
from rls3_gym.evalsets.loader import load_set
from rls3_gym.vlm.seeding import seeded_torch

ROLLOUT, MINIBATCH, EPOCHS = 128, 64, 6


def network(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, 128), nn.Tanh(), nn.Linear(128, 128), nn.Tanh(), nn.Linear(128, outputs))


class FirstSeed(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Begins the experiment with a seed at the first reset, and passes on no other: a seed begins a new experiment."""

    def __init__(self, env: gymnasium.Env[Any, Any], seed: int) -> None:
        super().__init__(env)
        self._seed: int | None = seed

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        first, self._seed = self._seed, None
        return self.env.reset(seed=first, options=options)


def main(timesteps: int = 3000, seed: int = 0) -> None:
    """Train for so many steps; the VLM is fine-tuned inside the environment on the way."""
    inner: Any = gymnasium.make("RLS3Scene-v0")
    with seeded_torch(seed):
        env = GymWrapper(FirstSeed(inner, seed), device="cpu")
        n_observation, n_action = env.observation_spec["observation"].shape[-1], env.action_spec.shape[-1]
        actor = ProbabilisticActor(
            TensorDictModule(network(n_observation, n_action), in_keys=["observation"], out_keys=["logits"]),
            in_keys=["logits"],
            distribution_class=OneHotCategorical,
            return_log_prob=True,
        )
        critic = ValueOperator(network(n_observation, 1), in_keys=["observation"])
        advantage = GAE(gamma=0.0, lmbda=0.95, value_network=critic)  # every step is paid for its own sample
        loss = ClipPPOLoss(
            actor, critic, clip_epsilon=0.2, entropy_coeff=0.01, critic_coeff=0.5, normalize_advantage=True
        )
        optimizer = torch.optim.Adam(loss.parameters(), lr=1e-3)
        memory = ReplayBuffer(
            storage=LazyTensorStorage(ROLLOUT), sampler=SamplerWithoutReplacement(), batch_size=MINIBATCH
        )
        for rollout in Collector(env, actor, frames_per_batch=ROLLOUT, total_frames=timesteps):
            for _ in range(EPOCHS):
                advantage(rollout)
                memory.extend(rollout.reshape(-1))
                for _ in range(ROLLOUT // MINIBATCH):
                    parts = loss(memory.sample())
                    total = parts["loss_objective"] + parts["loss_critic"] + parts["loss_entropy"]
                    optimizer.zero_grad()
                    total.backward()
                    nn.utils.clip_grad_norm_(loss.parameters(), 0.5)
                    optimizer.step()
    scheduler = inner.unwrapped.scheduler
    feedback = scheduler.vlm.evaluate(load_set("validation", inner.unwrapped.loop.backend).samples)
    print(
        f"{scheduler.n_generated:,} samples, {scheduler.n_trained:,} of them trained: {feedback.pairwise_accuracy:.1%}"
    )
    env.close()


if __name__ == "__main__":
    typer.run(main)
