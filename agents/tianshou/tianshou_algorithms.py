"""Tianshou's PPO and SAC put together through the low-level API, with the settings their YAML gives."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import gymnasium
import torch
from gymnasium import spaces
from pydantic import Field, PositiveFloat, PositiveInt
from tianshou.algorithm import PPO, SAC
from tianshou.algorithm.modelfree.reinforce import ProbabilisticActorPolicy
from tianshou.algorithm.modelfree.sac import AutoAlpha, SACPolicy
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.utils.net.common import Net
from tianshou.utils.net.continuous import ContinuousActorProbabilistic, ContinuousCritic
from torch import Tensor
from torch.distributions import Categorical, Distribution, Independent, Normal

from rls3_agents.settings import Settings, parse_algorithm
from rls3_registry.errors import UserError

Fraction = Annotated[float, Field(ge=0, le=1)]
IMPOSSIBLE = -1e9
"""Logit of a choice that isn't there."""


class TianshouSettings(Settings):
    """What both algorithms have; names are Tianshou's own where it has one."""

    algorithm: str  # ppo or sac
    lr: PositiveFloat
    gamma: Fraction  # 0 where every step is paid for its own sample; near 1 for a reward at the episode's end
    hidden_sizes: Annotated[list[PositiveInt], Field(min_length=1)]
    batch_size: Annotated[int, Field(ge=2)]


class PpoSettings(TianshouSettings):
    algorithm: Literal["ppo"]
    rollout_steps: Annotated[int, Field(ge=2)]  # environment steps per update
    repeat: PositiveInt  # passes over the rollout
    eps_clip: Annotated[float, Field(gt=0, lt=1)]
    gae_lambda: Fraction
    ent_coef: Annotated[float, Field(ge=0)]
    vf_coef: Annotated[float, Field(ge=0)]
    max_grad_norm: PositiveFloat
    log_std_init: float  # log of the standard deviation that actions in the box view start with


class SacSettings(TianshouSettings):
    algorithm: Literal["sac"]
    buffer_size: Annotated[int, Field(ge=1, le=10_000_000)]  # transitions kept
    learning_starts: PositiveInt  # uniform actions before the first gradient step
    tau: Annotated[float, Field(gt=0, le=1)]  # share of the new weights in the target networks
    alpha: PositiveFloat  # weight of entropy at the start; learned from there
    target_entropy: float  # nats that the learned weight holds the policy at; uniform in the box view has 5 ln 2 = 3.5


ALGORITHMS: dict[str, type[TianshouSettings]] = {"ppo": PpoSettings, "sac": SacSettings}


def parse_tianshou(values: Mapping[str, Any]) -> TianshouSettings:
    """Settings of the algorithm that `values["algorithm"]` names. Raises `UserError` naming the key."""
    return parse_algorithm(ALGORITHMS, values)


def build_ppo(settings: PpoSettings, seen: spaces.Box, actions: gymnasium.Space[Any]) -> PPO:
    """PPO for a flat observation and any of the three action views."""

    def trunk(outputs: int = 0) -> Net:
        return Net(state_shape=seen.shape, action_shape=outputs, hidden_sizes=settings.hidden_sizes)

    if isinstance(actions, spaces.Box):
        actor = ContinuousActorProbabilistic(preprocess_net=trunk(), action_shape=actions.shape, unbounded=True)
        actor.sigma_param.data.fill_(settings.log_std_init)
    elif isinstance(actions, spaces.MultiDiscrete):
        actor = trunk(int(actions.nvec.sum()))
    elif isinstance(actions, spaces.Discrete):
        actor = trunk(int(actions.n))
    else:
        raise UserError(f"tianshou ppo: cannot act in {actions}")
    policy = ProbabilisticActorPolicy(
        actor=actor,
        dist_fn=distribution(actions),
        deterministic_eval=True,
        action_space=actions,
        observation_space=seen,
        action_scaling=False,  # the box view is -1..1 already
        action_bound_method="clip" if isinstance(actions, spaces.Box) else None,
    )
    return PPO(
        policy=policy,
        critic=ContinuousCritic(preprocess_net=trunk()),
        optim=AdamOptimizerFactory(lr=settings.lr),
        **settings.model_dump(include={"eps_clip", "gae_lambda", "ent_coef", "vf_coef", "max_grad_norm", "gamma"}),
    )


def build_sac(settings: SacSettings, seen: spaces.Box, actions: spaces.Box) -> SAC:
    """SAC for a flat observation and the box view."""

    def critic() -> ContinuousCritic:
        shapes = {"state_shape": seen.shape, "action_shape": actions.shape}
        return ContinuousCritic(preprocess_net=Net(**shapes, hidden_sizes=settings.hidden_sizes, concat=True))

    adam = AdamOptimizerFactory(lr=settings.lr)
    actor = ContinuousActorProbabilistic(
        preprocess_net=Net(state_shape=seen.shape, hidden_sizes=settings.hidden_sizes),
        action_shape=actions.shape,
        unbounded=True,
        conditioned_sigma=True,
    )
    return SAC(
        policy=SACPolicy(actor=actor, action_space=actions, observation_space=seen),
        policy_optim=adam,
        critic=critic(),
        critic2=critic(),  # left out, it would be a copy of the first, weights and all
        critic_optim=adam,
        tau=settings.tau,
        gamma=settings.gamma,
        alpha=AutoAlpha(settings.target_entropy, math.log(settings.alpha), adam),
    )


def distribution(actions: gymnasium.Space[Any]) -> Callable[[Any], Distribution]:
    """What turns an actor's output into a distribution over the action space."""
    if isinstance(actions, spaces.Box):
        return lambda parts: Independent(Normal(*parts), 1)
    if isinstance(actions, spaces.Discrete):
        return lambda logits: Categorical(logits=logits)
    assert isinstance(actions, spaces.MultiDiscrete)
    sizes = [int(n) for n in actions.nvec]

    def joint(logits: Tensor) -> Distribution:
        """One categorical per component, padded to the same number of choices: (batch, components, choices)."""
        parts = logits.split(sizes, dim=-1)
        padded = [torch.nn.functional.pad(part, (0, max(sizes) - part.shape[-1]), value=IMPOSSIBLE) for part in parts]
        return Independent(Categorical(logits=torch.stack(padded, dim=-2)), 1)

    return joint
