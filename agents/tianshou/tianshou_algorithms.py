"""The Tianshou algorithms that can be samplers, put together through its low-level API, and their settings.

Names of settings are Tianshou's own where it has one. A builder is called with the settings, the observation space
and the action space.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Self

import gymnasium
import torch
from gymnasium.spaces import Box, Discrete, MultiDiscrete, flatdim
from pydantic import Field, model_validator
from tianshou.algorithm import A2C, DQN, PPO, REDQ, SAC
from tianshou.algorithm.modelfree.dqn import DiscreteQLearningPolicy
from tianshou.algorithm.modelfree.redq import REDQPolicy
from tianshou.algorithm.modelfree.reinforce import ProbabilisticActorPolicy
from tianshou.algorithm.modelfree.sac import AutoAlpha, SACPolicy
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.utils.net.common import EnsembleLinear, Net
from tianshou.utils.net.continuous import ContinuousActorProbabilistic, ContinuousCritic
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, Independent, Normal

from rls3_agents.algorithms import (
    Algorithm,
    AlgorithmSettings,
    BufferSize,
    Count,
    EntropyPerDim,
    Fraction,
    Layers,
    LogStd,
    Norm,
    PositiveWeight,
    Rate,
    Steps,
    Weight,
    target_entropy,
)

IMPOSSIBLE = -1e9
"""Logit of a choice that isn't there."""


class TianshouSettings(AlgorithmSettings):
    """What every algorithm has."""

    lr: Rate
    gamma: Fraction  # 0 where every step is paid for its own sample; near 1 for a reward at the episode's end
    hidden_sizes: Layers
    batch_size: Annotated[int, Field(ge=2, le=1_000_000)]


class OnPolicySettings(TianshouSettings):
    """Learners from fresh rollouts."""

    rollout_steps: Annotated[int, Field(ge=2, le=1_000_000)]  # environment steps per update, over all lanes
    repeat: Count  # passes over the rollout
    gae_lambda: Fraction
    ent_coef: Weight
    vf_coef: Weight
    max_grad_norm: Norm
    log_std_init: LogStd


class PpoSettings(OnPolicySettings):
    eps_clip: Annotated[float, Field(gt=0, lt=1)]


class OffPolicySettings(TianshouSettings):
    """Learners from a replay buffer."""

    buffer_size: BufferSize  # transitions kept
    learning_starts: Steps  # uniform actions before the first gradient step
    gradient_steps: Count  # after every environment step


class SacSettings(OffPolicySettings):
    tau: Annotated[float, Field(gt=0, le=1)]  # share of the new weights in the target networks
    alpha: PositiveWeight  # weight of entropy at the start; learned from there
    target_entropy_per_dim: EntropyPerDim  # entropy that the learned weight keeps


class RedqSettings(SacSettings):
    ensemble_size: Annotated[int, Field(ge=1, le=256)]  # critics
    subset_size: Annotated[int, Field(ge=1, le=256)]  # critics drawn for each target value
    actor_delay: Count  # gradient steps of the critics per one of the actor

    @model_validator(mode="after")
    def _check_subset(self) -> Self:
        if self.subset_size > self.ensemble_size:
            raise ValueError(f"subset_size should be at most ensemble_size ({self.ensemble_size})")
        return self


class DqnSettings(OffPolicySettings):
    target_update_freq: Steps  # gradient steps between copies to the target network
    eps_training: Fraction  # share of random actions


def build_a2c(settings: OnPolicySettings, seen: Box, actions: gymnasium.Space[Any]) -> A2C:
    """A2C for every action space that a view has."""
    return A2C(**_on_policy(settings, seen, actions))


def build_ppo(settings: PpoSettings, seen: Box, actions: gymnasium.Space[Any]) -> PPO:
    """PPO for every action space that a view has."""
    return PPO(**_on_policy(settings, seen, actions), eps_clip=settings.eps_clip)


def build_sac(settings: SacSettings, seen: Box, actions: Box) -> SAC:
    """SAC for a Box."""
    adam = AdamOptimizerFactory(lr=settings.lr)
    actor = _gaussian_actor(settings, seen, actions)
    return SAC(
        policy=SACPolicy(actor=actor, action_space=actions, observation_space=seen),
        policy_optim=adam,
        critic=_critic(settings, seen, actions),
        critic2=_critic(settings, seen, actions),  # left out, it would be a copy of the first, weights and all
        critic_optim=adam,
        tau=settings.tau,
        gamma=settings.gamma,
        alpha=_alpha(settings, actions),
    )


def build_redq(settings: RedqSettings, seen: Box, actions: Box) -> REDQ:
    """REDQ for a Box: SAC with an ensemble of critics, of which a few at random give each target."""
    adam = AdamOptimizerFactory(lr=settings.lr)
    actor = _gaussian_actor(settings, seen, actions)
    return REDQ(
        policy=REDQPolicy(actor=actor, action_space=actions, observation_space=seen),
        policy_optim=adam,
        critic=_critic(settings, seen, actions, partial(EnsembleLinear, settings.ensemble_size)),
        critic_optim=adam,
        alpha=_alpha(settings, actions),
        **settings.model_dump(include={"ensemble_size", "subset_size", "actor_delay", "tau", "gamma"}),
    )


def build_dqn(settings: DqnSettings, seen: Box, actions: Discrete) -> DQN:
    """Double DQN for a Discrete space."""
    policy = DiscreteQLearningPolicy(
        model=_trunk(settings, seen, int(actions.n)),
        action_space=actions,
        observation_space=seen,
        eps_training=settings.eps_training,
    )
    return DQN(
        policy=policy,
        optim=AdamOptimizerFactory(lr=settings.lr),
        gamma=settings.gamma,
        target_update_freq=settings.target_update_freq,
    )


ALGORITHMS: dict[str, Algorithm[OnPolicySettings | OffPolicySettings]] = {
    "a2c": Algorithm(build_a2c, OnPolicySettings, (Box, MultiDiscrete, Discrete), takes_lanes=True),
    "ppo": Algorithm(build_ppo, PpoSettings, (Box, MultiDiscrete, Discrete), takes_lanes=True),
    "sac": Algorithm(build_sac, SacSettings, (Box,)),
    "redq": Algorithm(build_redq, RedqSettings, (Box,)),
    "dqn": Algorithm(build_dqn, DqnSettings, (Discrete,)),
}


def _trunk(settings: TianshouSettings, seen: Box, outputs: int = 0) -> Net:
    return Net(state_shape=seen.shape, action_shape=outputs, hidden_sizes=settings.hidden_sizes)


def _on_policy(settings: OnPolicySettings, seen: Box, actions: gymnasium.Space[Any]) -> dict[str, Any]:
    """What the constructors of A2C and PPO have in common."""
    if isinstance(actions, Box):
        actor = ContinuousActorProbabilistic(
            preprocess_net=_trunk(settings, seen), action_shape=actions.shape, unbounded=True
        )
        actor.sigma_param.data.fill_(settings.log_std_init)
    else:
        actor = _trunk(settings, seen, flatdim(actions))
    policy = ProbabilisticActorPolicy(
        actor=actor,
        dist_fn=distribution(actions),
        deterministic_eval=True,
        action_space=actions,
        observation_space=seen,
        action_scaling=False,  # the views' Boxes are -1..1 already
        action_bound_method="clip" if isinstance(actions, Box) else None,
    )
    return {
        "policy": policy,
        "critic": ContinuousCritic(preprocess_net=_trunk(settings, seen)),
        "optim": AdamOptimizerFactory(lr=settings.lr),
        **settings.model_dump(include={"gae_lambda", "ent_coef", "vf_coef", "max_grad_norm", "gamma"}),
    }


def _gaussian_actor(settings: SacSettings, seen: Box, actions: Box) -> ContinuousActorProbabilistic:
    return ContinuousActorProbabilistic(
        preprocess_net=_trunk(settings, seen), action_shape=actions.shape, unbounded=True, conditioned_sigma=True
    )


def _critic(
    settings: SacSettings, seen: Box, actions: Box, linear: Callable[[int, int], nn.Module] = nn.Linear
) -> ContinuousCritic:
    sizes = {"state_shape": seen.shape, "action_shape": actions.shape, "hidden_sizes": settings.hidden_sizes}
    net = Net(**sizes, concat=True, linear_layer=linear)
    # An ensemble's values have a dimension more, which must not be flattened away.
    return ContinuousCritic(preprocess_net=net, linear_layer=linear, flatten_input=linear is nn.Linear)


def _alpha(settings: SacSettings, actions: Box) -> AutoAlpha:
    goal = target_entropy(settings.target_entropy_per_dim, actions)
    return AutoAlpha(goal, math.log(settings.alpha), AdamOptimizerFactory(lr=settings.lr))


def distribution(actions: gymnasium.Space[Any]) -> Callable[[Any], Distribution]:
    """What turns an actor's output into a distribution over the action space."""
    if isinstance(actions, Box):
        return lambda parts: Independent(Normal(*parts), 1)
    if isinstance(actions, Discrete):
        return lambda logits: Categorical(logits=logits)
    assert isinstance(actions, MultiDiscrete)
    sizes = [int(n) for n in actions.nvec]

    def joint(logits: Tensor) -> Distribution:
        """One categorical per component, padded to the same number of choices: (batch, components, choices)."""
        parts = logits.split(sizes, dim=-1)
        padded = [nn.functional.pad(part, (0, max(sizes) - part.shape[-1]), value=IMPOSSIBLE) for part in parts]
        return Independent(Categorical(logits=torch.stack(padded, dim=-2)), 1)

    return joint
