"""The Stable-Baselines3 algorithms that can be samplers, sb3-contrib's included, and their settings.

Names of settings are the library's own unless a comment says otherwise. What is not a setting keeps the library's
default.
"""

from __future__ import annotations

from typing import Annotated, Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from pydantic import Field
from sb3_contrib import TQC, CrossQ, MaskablePPO, RecurrentPPO
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3
from stable_baselines3.common.noise import NormalActionNoise

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
    Rate,
    Steps,
    Weight,
    steps_per_lane,
    target_entropy,
)
from rls3_agents.sb3.choice_policy import ProposalPolicy, RelationPolicy

POLICY = ("net_arch", "log_std_init", "lstm_hidden_size")
"""Settings that SB3 takes as arguments of the policy."""
HORIZON = 1_000_000_000
"""Steps told to SB3 as the run's length. The budget counts valid samples, so the true number isn't known ahead."""

SoftUpdate = Annotated[float, Field(gt=0, le=1)]
"""Share of the new weights in the target networks."""


class Sb3Settings(AlgorithmSettings):
    """What every algorithm has."""

    learning_rate: Rate
    gamma: Fraction  # 0 where every step is paid for its own sample; near 1 for a reward at the episode's end
    net_arch: Layers  # hidden layers of the actor and of the critic


class OnPolicySettings(Sb3Settings):
    """Learners from fresh rollouts."""

    # Environment steps per rollout, over all lanes (SB3 counts those of one).
    n_steps: Annotated[int, Field(ge=2, le=1_000_000)]
    gae_lambda: Fraction
    ent_coef: Weight
    vf_coef: Weight
    max_grad_norm: Norm


class A2cSettings(OnPolicySettings):
    log_std_init: LogStd


class MaskablePpoSettings(OnPolicySettings):
    """PPO that never takes a numbered action which the environment says is infeasible."""

    batch_size: Annotated[int, Field(ge=2, le=1_000_000)]
    n_epochs: Count
    clip_range: Annotated[float, Field(gt=0, lt=1)]


class PpoSettings(MaskablePpoSettings):
    log_std_init: LogStd


class RecurrentPpoSettings(PpoSettings):
    """PPO with a memory: an LSTM before the actor and one before the critic."""

    lstm_hidden_size: Annotated[int, Field(ge=1, le=16_384)]


class OffPolicySettings(Sb3Settings):
    """Learners from a replay buffer."""

    buffer_size: BufferSize  # transitions kept
    learning_starts: Annotated[int, Field(ge=0, le=10**9)]  # uniform actions before the first gradient step
    batch_size: Count
    train_freq: Count  # environment steps between updates
    gradient_steps: Count  # gradient steps per update


class EntropySettings(OffPolicySettings):
    """Off-policy learners that are paid for the entropy of their policy as well."""

    # Weight of entropy: a number, or `auto_X` to learn it, starting from X (`auto` starts from 1).
    ent_coef: Weight | Annotated[str, Field(pattern=r"^auto(_\d*\.?\d*[1-9]\d*)?$")]
    target_entropy_per_dim: EntropyPerDim  # ours: entropy that a learned weight keeps; SB3 takes that of all dimensions


class SacSettings(EntropySettings):
    tau: SoftUpdate


class CrossQSettings(EntropySettings):
    policy_delay: Count


class Td3Settings(OffPolicySettings):
    tau: SoftUpdate
    policy_delay: Count
    action_noise: Weight  # ours: standard deviation of the Gaussian noise on the actions


class DqnSettings(OffPolicySettings):
    tau: SoftUpdate
    target_update_interval: Steps  # environment steps
    max_grad_norm: Norm
    exploration_steps: Steps  # ours: steps from all-random to the final share (a run's length isn't known ahead)
    exploration_final_eps: Fraction


ALGORITHMS: dict[str, Algorithm[Sb3Settings]] = {
    "ppo": Algorithm(PPO, PpoSettings, (Box, MultiDiscrete, Discrete), takes_lanes=True),
    "ppo_select": Algorithm(PPO, PpoSettings, (Discrete,), policy=ProposalPolicy, views=("select",), takes_lanes=True),
    "maskable_ppo": Algorithm(
        MaskablePPO, MaskablePpoSettings, (Discrete,), views=("relation", "select"), takes_lanes=True
    ),
    "ppo_relation": Algorithm(
        MaskablePPO, MaskablePpoSettings, (Discrete,), policy=RelationPolicy, views=("relation",), takes_lanes=True
    ),
    "recurrent_ppo": Algorithm(RecurrentPPO, RecurrentPpoSettings, (Box, MultiDiscrete, Discrete), takes_lanes=True),
    "a2c": Algorithm(A2C, A2cSettings, (Box, MultiDiscrete, Discrete), takes_lanes=True),
    "sac": Algorithm(SAC, SacSettings, (Box,)),
    "td3": Algorithm(TD3, Td3Settings, (Box,)),
    "tqc": Algorithm(TQC, SacSettings, (Box,)),
    "crossq": Algorithm(CrossQ, CrossQSettings, (Box,)),
    "dqn": Algorithm(DQN, DqnSettings, (Discrete,)),
}


def constructor_arguments(settings: Sb3Settings, actions: gymnasium.Space[Any], lanes: int = 1) -> dict[str, Any]:
    """The settings as SB3's constructors spell them, for actions in this space and so many lanes."""
    arguments = settings.model_dump(exclude={"algorithm"})
    if "n_steps" in arguments:
        arguments["n_steps"] = steps_per_lane(arguments["n_steps"], lanes)
    arguments["policy_kwargs"] = {name: arguments.pop(name) for name in POLICY if name in arguments}
    if "exploration_steps" in arguments:
        arguments["exploration_fraction"] = arguments.pop("exploration_steps") / HORIZON
    if isinstance(actions, Box):
        if "action_noise" in arguments:
            sigma = np.full(actions.shape, arguments["action_noise"])
            arguments["action_noise"] = NormalActionNoise(np.zeros_like(sigma), sigma)
        if "target_entropy_per_dim" in arguments:
            arguments["target_entropy"] = target_entropy(arguments.pop("target_entropy_per_dim"), actions)
    return arguments
