"""PPO of skrl on the bare environment.

python examples/skrl_ppo.py --timesteps 3000
"""

from __future__ import annotations

from typing import Any

import gymnasium
import typer
from skrl import config
from skrl.agents.torch.ppo import PPO, PPO_CFG
from skrl.envs.wrappers.torch import wrap_env
from skrl.memories.torch import RandomMemory
from skrl.models.torch import CategoricalMixin, DeterministicMixin, Model
from skrl.trainers.torch import SequentialTrainer
from torch import Tensor, nn

import rls3_gym  # noqa: F401  registers the ids
from rls3_gym.evalsets.loader import load_set
from rls3_gym.vlm.seeding import seeded_torch

ROLLOUT = 128


def network(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, 128), nn.Tanh(), nn.Linear(128, 128), nn.Tanh(), nn.Linear(128, outputs))


class Actor(CategoricalMixin, Model):  # type: ignore[misc]  # skrl has no types
    def __init__(self, **spaces: Any) -> None:
        Model.__init__(self, **spaces, device="cpu")
        CategoricalMixin.__init__(self)
        self.net = network(self.num_observations, self.num_actions)

    def compute(self, inputs: dict[str, Tensor], role: str = "") -> tuple[Tensor, dict[str, Any]]:
        return self.net(inputs["observations"]), {}


class Critic(DeterministicMixin, Model):  # type: ignore[misc]
    def __init__(self, **spaces: Any) -> None:
        Model.__init__(self, **spaces, device="cpu")
        DeterministicMixin.__init__(self)
        self.net = network(self.num_observations, 1)

    def compute(self, inputs: dict[str, Tensor], role: str = "") -> tuple[Tensor, dict[str, Any]]:
        return self.net(inputs["observations"]), {}


def main(timesteps: int = 3000, seed: int = 0) -> None:
    """Train for so many steps; the VLM is fine-tuned inside the environment on the way."""
    inner: Any = gymnasium.make("RLS3Scene-v0")
    config.torch.key = seed  # skrl seeds the first reset with it, which begins the experiment, and no later one
    env = wrap_env(inner, wrapper="gymnasium")
    spaces = {"observation_space": env.observation_space, "action_space": env.action_space}
    with seeded_torch(seed):
        agent = PPO(
            models={"policy": Actor(**spaces), "value": Critic(**spaces)},
            memory=RandomMemory(memory_size=ROLLOUT, num_envs=1, device="cpu"),
            **spaces,
            device="cpu",
            cfg=PPO_CFG(
                rollouts=ROLLOUT,
                learning_epochs=6,
                mini_batches=2,
                discount_factor=0.0,  # every step is paid for its own sample
                learning_rate=1e-3,
                entropy_loss_scale=0.01,
                value_loss_scale=0.5,
                experiment={"write_interval": 0, "checkpoint_interval": 0},
            ),
        )
        trainer = SequentialTrainer(
            env=env,
            agents=agent,
            cfg={
                "timesteps": timesteps,
                "headless": True,
                "disable_progressbar": None,
                "close_environment_at_exit": False,
            },
        )
        trainer.train()
    scheduler = inner.unwrapped.scheduler
    feedback = scheduler.vlm.evaluate(load_set("validation", inner.unwrapped.loop.backend).samples)
    print(
        f"{scheduler.n_generated:,} samples, {scheduler.n_trained:,} of them trained: {feedback.pairwise_accuracy:.1%}"
    )
    env.close()


if __name__ == "__main__":
    typer.run(main)
