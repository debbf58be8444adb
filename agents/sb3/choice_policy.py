"""Policies for the `select` and `relation` views that treat all choices alike: one small network scores each of them.

What it learns about a choice in one place of the observation holds in every other, as it must where the order says
nothing; a plain network would have to learn it again for each place. A row of zeros stands for no choice: it is never
taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import gymnasium
import torch
from gymnasium import spaces
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import Schedule
from torch import Tensor, nn

from rls3_gym.envs.views import FEATURES
from rls3_registry.errors import UserError

_NEVER = -1e8
"""The score of a row that stands for no choice: its probability is 0, and still a number where all rows are such."""


class ChoiceExtractor(BaseFeaturesExtractor):
    """Embeds every choice, together with what the observation says beside them, by one shared network.

    Observations (n, k * 11 + c) -> features (n, k * width), those of a choice next to each other; zeros for a row of
    zeros.
    """

    def __init__(self, observation_space: spaces.Box, choices: int, layers: Sequence[int]) -> None:
        super().__init__(observation_space, features_dim=choices * layers[-1])
        self.choices = choices
        context = observation_space.shape[0] - choices * FEATURES
        sizes = [FEATURES + context, *layers]
        parts: list[nn.Module] = []
        for before, after in zip(sizes, sizes[1:], strict=False):
            parts += [nn.Linear(before, after), nn.Tanh()]
        self.shared = nn.Sequential(*parts)

    def forward(self, observations: Tensor) -> Tensor:
        cut = self.choices * FEATURES
        each = observations[:, :cut].reshape(len(observations), self.choices, FEATURES)
        context = observations[:, None, cut:].expand(-1, self.choices, -1)
        embedded: Tensor = self.shared(torch.cat([each, context], dim=-1))
        return (embedded * each.any(dim=-1, keepdim=True)).flatten(1)


class _Head(nn.Module):
    """A linear layer on every choice."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.linear = nn.Linear(width, 1)

    def split(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(n, k * width) -> the embedded choices (n, k, width), and (n, k, 1) whether each is one."""
        embedded = features.unflatten(1, (-1, self.width))
        return embedded, embedded.any(dim=-1, keepdim=True)


class _Scores(_Head):
    """-> (n, k): one score for each choice."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        nn.init.orthogonal_(self.linear.weight, gain=0.01)  # at first all are alike
        nn.init.zeros_(self.linear.bias)

    def forward(self, features: Tensor) -> Tensor:
        embedded, there = self.split(features)
        scores: Tensor = self.linear(embedded).masked_fill(~there, _NEVER).squeeze(-1)
        return scores


class _Value(_Head):
    """-> (n, 1): the value of the mean choice."""

    def forward(self, features: Tensor) -> Tensor:
        embedded, there = self.split(features)
        value: Tensor = self.linear(embedded.sum(dim=1) / there.sum(dim=1).clamp(min=1))
        return value


class _ScoresChoices:
    """Stands before a policy class of SB3 and gives it one network for all choices."""

    agent: ClassVar[str]
    view: ClassVar[str]

    def __init__(
        self,
        observation_space: gymnasium.Space[Any],
        action_space: gymnasium.Space[Any],
        lr_schedule: Schedule,
        net_arch: Sequence[int] = (64, 64),
        **arguments: Any,
    ) -> None:
        """`net_arch`: layers of the shared network. Raises `UserError` for spaces that are not those of the view."""
        if not isinstance(action_space, spaces.Discrete) or not (
            isinstance(observation_space, spaces.Box) and len(observation_space.shape) == 1
        ):
            raise UserError(f"{self.agent}: takes action_view {self.view!r} and observation 'state'")
        self._width = net_arch[-1]
        super().__init__(  # type: ignore[call-arg]  # SB3's, which comes next
            observation_space,
            action_space,
            lr_schedule,
            net_arch=[],
            features_extractor_class=ChoiceExtractor,
            features_extractor_kwargs={"choices": int(action_space.n), "layers": list(net_arch)},
            **arguments,
        )

    def _build(self: Any, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)  # type: ignore[misc]  # SB3's, which comes next
        _score_choices(self, lr_schedule)


def _score_choices(policy: Any, lr_schedule: Schedule) -> None:
    """Put the scores and the value of the choices in the place of a policy's last layers."""
    policy.action_net, policy.value_net = _Scores(policy._width), _Value(policy._width)
    policy.optimizer = policy.optimizer_class(policy.parameters(), lr=lr_schedule(1), **policy.optimizer_kwargs)


class ProposalPolicy(_ScoresChoices, ActorCriticPolicy):
    """An actor and critic over proposals, for PPO in the `select` view with flat observations."""

    agent, view = "ppo_select", "select"


class RelationPolicy(_ScoresChoices, MaskableActorCriticPolicy):
    """An actor and critic over relations, for MaskablePPO in the `relation` view with flat observations."""

    agent, view = "ppo_relation", "relation"
