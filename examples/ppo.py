"""PPO in one file, on the bare environment: no plugin, no experiment, no RL library.

The policy scores every proposal with the same small network. All that is particular to this environment stands in
`main`: one seeded `reset` begins the experiment, every later `reset()` goes on with the VLM as it has become, and the
budget counts samples, not steps.

    python examples/ppo.py --samples 2000
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import torch
import typer
from torch import Tensor, nn
from torch.distributions import Categorical

import rls3_gym  # noqa: F401  registers the ids
from rls3_gym.envs.views import FEATURES
from rls3_gym.evalsets.loader import load_set
from rls3_gym.vlm.seeding import seeded_torch

WIDTH = 64


class Policy(nn.Module):
    """An actor and a critic over k proposals."""

    def __init__(self, n_observation: int, k: int) -> None:
        super().__init__()
        self.k = k
        n_each = n_observation - (k - 1) * FEATURES  # one proposal, and what the observation says beside them
        self.embed = nn.Sequential(nn.Linear(n_each, WIDTH), nn.Tanh(), nn.Linear(WIDTH, WIDTH), nn.Tanh())
        self.score = nn.Linear(WIDTH, 1)
        self.value = nn.Linear(WIDTH, 1)
        nn.init.orthogonal_(self.score.weight, gain=0.01)  # at first all proposals are alike

    def forward(self, observations: Tensor) -> tuple[Categorical, Tensor]:
        """(n, observation) -> the choice among k proposals, and (n,) values."""
        each = observations[:, : self.k * FEATURES].unflatten(1, (self.k, FEATURES))
        context = observations[:, None, self.k * FEATURES :].expand(-1, self.k, -1)
        embedded = self.embed(torch.cat([each, context], dim=-1))
        return Categorical(logits=self.score(embedded).squeeze(-1)), self.value(embedded.mean(dim=1)).squeeze(-1)


def accuracy(env: Any) -> float:
    """The VLM's pairwise accuracy on the validation set; chance is 50 %."""
    feedback = env.scheduler.vlm.evaluate(load_set("validation", env.loop.backend).samples)
    env.stage.show_again()  # the pictures of the set were taken with the environment's own backend
    return float(feedback.pairwise_accuracy)


def main(
    samples: int = 2000,
    seed: int = 0,
    rollout: int = 128,
    epochs: int = 6,
    minibatch: int = 64,
    learning_rate: float = 3e-3,
    gamma: float = 0.0,
    gae_lambda: float = 0.95,
    clip: float = 0.2,
    entropy_weight: float = 0.01,
    value_weight: float = 0.5,
    largest_gradient: float = 0.5,
) -> None:
    """Train until so many valid samples were generated."""
    env: Any = gymnasium.make("RLS3Scene-v0")
    rng = np.random.default_rng(seed)
    with seeded_torch(seed):
        policy = Policy(env.observation_space.shape[0], int(env.action_space.n))
        optimizer = torch.optim.Adam(policy.parameters(), lr=learning_rate, eps=1e-5)
        observation, info = env.reset(seed=seed)
        print(f"before: {accuracy(env.unwrapped):.1%} right on the validation set")

        while info["n_generated"] < samples:
            # Act.
            observations = torch.zeros((rollout, *env.observation_space.shape))
            actions, log_probs, rewards, values, ends = (torch.zeros(rollout) for _ in range(5))
            for t in range(rollout):
                observations[t] = torch.from_numpy(observation)
                with torch.no_grad():
                    choice, value = policy(observations[t : t + 1])
                    action = choice.sample()
                actions[t], log_probs[t], values[t] = action, choice.log_prob(action), value
                observation, reward, terminated, truncated, info = env.step(int(action))
                rewards[t], ends[t] = float(reward), float(terminated or truncated)
                if info["finetune"]["n_samples"]:
                    made = info["n_generated"]
                    print(f"round {info['round']}, {made:,} samples: mean reward {rewards[: t + 1].mean():+.3f}")
                if terminated or truncated:
                    observation, info = env.reset()

            # Advantages. With gamma 0 they are reward minus value: every step is paid for its own sample.
            with torch.no_grad():
                following = policy(torch.from_numpy(observation)[None])[1]
            advantages, ahead = torch.zeros(rollout), torch.zeros(())
            for t in reversed(range(rollout)):
                after = values[t + 1] if t < rollout - 1 else following
                going_on = gamma * (1 - ends[t])
                ahead = rewards[t] + going_on * after - values[t] + going_on * gae_lambda * ahead
                advantages[t] = ahead
            returns = advantages + values

            # Learn.
            for _ in range(epochs):
                for part in np.array_split(rng.permutation(rollout), max(1, rollout // minibatch)):
                    choice, value = policy(observations[part])
                    ratio = (choice.log_prob(actions[part]) - log_probs[part]).exp()
                    gain = (advantages[part] - advantages[part].mean()) / (advantages[part].std() + 1e-8)
                    actor = -torch.min(ratio * gain, ratio.clamp(1 - clip, 1 + clip) * gain).mean()
                    critic = (value - returns[part]).square().mean()
                    loss = actor + value_weight * critic - entropy_weight * choice.entropy().mean()
                    optimizer.zero_grad()
                    loss.backward()
                    nn.utils.clip_grad_norm_(policy.parameters(), largest_gradient)
                    optimizer.step()

        print(f"after {info['n_trained']:,} trained samples: {accuracy(env.unwrapped):.1%}")
    env.close()


if __name__ == "__main__":
    typer.run(main)
