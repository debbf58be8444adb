"""Policies for the `select` and `relation` views that treat all choices alike: one small network scores each of them.

What it learns about a proposal in one place of the observation holds in every other, as it must where the order of the
proposals says nothing; a plain network would have to learn it again for each place.
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


class ProposalExtractor(BaseFeaturesExtractor):
    """Embeds every proposal, together with what the observation says beside them, by one shared network.

    Observations (n, k * 11 + c) -> features (n, k * width), a proposal's next to each other.
    """

    def __init__(self, observation_space: spaces.Box, proposals: int, layers: Sequence[int]) -> None:
        super().__init__(observation_space, features_dim=proposals * layers[-1])
        self.proposals = proposals
        context = observation_space.shape[0] - proposals * FEATURES
        sizes = [FEATURES + context, *layers]
        parts: list[nn.Module] = []
        for before, after in zip(sizes, sizes[1:], strict=False):
            parts += [nn.Linear(before, after), nn.Tanh()]
        self.shared = nn.Sequential(*parts)

    def forward(self, observations: Tensor) -> Tensor:
        cut = self.proposals * FEATURES
        each = observations[:, :cut].reshape(len(observations), self.proposals, FEATURES)
        context = observations[:, None, cut:].expand(-1, self.proposals, -1)
        embedded: Tensor = self.shared(torch.cat([each, context], dim=-1))
        return embedded.flatten(1)


class _Scores(nn.Module):
    """(n, k * width) -> (n, k): one score for each proposal."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.score = nn.Linear(width, 1)
        nn.init.orthogonal_(self.score.weight, gain=0.01)  # at first all are alike
        nn.init.zeros_(self.score.bias)

    def forward(self, features: Tensor) -> Tensor:
        scores: Tensor = self.score(features.unflatten(1, (-1, self.width))).squeeze(-1)
        return scores


class _Value(nn.Module):
    """(n, k * width) -> (n, 1): the value of the mean proposal."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.value = nn.Linear(width, 1)

    def forward(self, features: Tensor) -> Tensor:
        value: Tensor = self.value(features.unflatten(1, (-1, self.width)).mean(dim=1))
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
            features_extractor_class=ProposalExtractor,
            features_extractor_kwargs={"proposals": int(action_space.n), "layers": list(net_arch)},
            **arguments,
        )

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)  # type: ignore[misc]  # SB3's, which comes next
        _take_scores(self, self._width, lr_schedule)


def _take_scores(policy: Any, width: int, lr_schedule: Schedule) -> None:
    """Put the scores and the value of the choices in the place of a policy's last layers."""
    policy.action_net, policy.value_net = _Scores(width), _Value(width)
    policy.optimizer = policy.optimizer_class(policy.parameters(), lr=lr_schedule(1), **policy.optimizer_kwargs)


class ProposalPolicy(_ScoresChoices, ActorCriticPolicy):
    """An actor and critic over proposals, for PPO in the `select` view with flat observations."""

    agent, view = "ppo_select", "select"


class RelationPolicy(_ScoresChoices, MaskableActorCriticPolicy):
    """An actor and critic over relations, for MaskablePPO in the `relation` view with flat observations."""

    agent, view = "ppo_relation", "relation"
