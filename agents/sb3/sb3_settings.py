"""Settings of the Stable-Baselines3 agents, by algorithm; names are SB3's own unless a comment says otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from rls3_agents.settings import Settings, parse_algorithm

Fraction = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0)]
Layers = Annotated[list[PositiveInt], Field(min_length=1)]


class Sb3Settings(Settings):
    """What every algorithm has."""

    algorithm: str  # ppo, a2c, sac, td3 or dqn
    learning_rate: PositiveFloat
    gamma: Fraction  # 0 where every step is paid for its own sample; near 1 for a reward at the episode's end
    net_arch: Layers  # hidden layers of the actor and of the critic


class OnPolicySettings(Sb3Settings):
    """Learners from fresh rollouts."""

    n_steps: Annotated[int, Field(ge=2)]  # environment steps per rollout
    gae_lambda: Fraction
    ent_coef: Weight
    vf_coef: Weight
    max_grad_norm: PositiveFloat
    log_std_init: float  # log of the standard deviation that actions in the box view start with


class PpoSettings(OnPolicySettings):
    algorithm: Literal["ppo"]
    batch_size: Annotated[int, Field(ge=2)]
    n_epochs: PositiveInt
    clip_range: Annotated[float, Field(gt=0, lt=1)]


class A2cSettings(OnPolicySettings):
    algorithm: Literal["a2c"]


class OffPolicySettings(Sb3Settings):
    """Learners from a replay buffer."""

    buffer_size: Annotated[int, Field(ge=1, le=10_000_000)]  # transitions kept
    learning_starts: Annotated[int, Field(ge=0)]  # uniform actions before the first gradient step
    batch_size: PositiveInt
    tau: Annotated[float, Field(gt=0, le=1)]  # share of the new weights in the target networks
    train_freq: PositiveInt  # environment steps between updates
    gradient_steps: PositiveInt  # gradient steps per update


class SacSettings(OffPolicySettings):
    algorithm: Literal["sac"]
    # Weight of entropy: a number, or `auto_X` to learn it, starting from X (`auto` starts from 1).
    ent_coef: Weight | Annotated[str, Field(pattern=r"^auto(_\d*\.?\d*[1-9]\d*)?$")]
    target_entropy: float  # nats that a learned weight holds the policy at; uniform in the box view has 5 ln 2 = 3.5


class Td3Settings(OffPolicySettings):
    algorithm: Literal["td3"]
    policy_delay: PositiveInt
    action_noise: Weight  # ours: standard deviation of the Gaussian noise on the actions


class DqnSettings(OffPolicySettings):
    algorithm: Literal["dqn"]
    target_update_interval: PositiveInt  # environment steps
    max_grad_norm: PositiveFloat
    exploration_steps: PositiveInt  # ours: steps from all-random to the final share (a run's length isn't known ahead)
    exploration_final_eps: Fraction


ALGORITHMS: dict[str, type[Sb3Settings]] = {
    "ppo": PpoSettings,
    "a2c": A2cSettings,
    "sac": SacSettings,
    "td3": Td3Settings,
    "dqn": DqnSettings,
}


def parse_sb3(values: Mapping[str, Any]) -> Sb3Settings:
    """Settings of the algorithm that `values["algorithm"]` names. Raises `UserError` naming the key."""
    return parse_algorithm(ALGORITHMS, values)
