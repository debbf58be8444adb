"""The RLlib algorithms that can be samplers, on its new API stack, and their settings.

Names of settings are RLlib's own unless a comment says otherwise. A builder is called with the settings, the
observation space and the action space, and gives RLlib's configuration.
"""

from __future__ import annotations

from typing import Annotated, Any

import gymnasium
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from pydantic import Field
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.algorithms.sac import SACConfig
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig

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


class RllibSettings(AlgorithmSettings):
    """What every algorithm has."""

    lr: Rate  # of all networks, and of SAC's weight of entropy
    gamma: Fraction  # 0 where every step is paid for its own sample; near 1 for a reward at the episode's end
    fcnet_hiddens: Layers
    # PPO: steps of a rollout, over all lanes; SAC: rows per update.
    train_batch_size: Annotated[int, Field(ge=2, le=1_000_000)]


class PpoSettings(RllibSettings):
    minibatch_size: Annotated[int, Field(ge=2, le=1_000_000)]
    num_epochs: Count
    lambda_: Fraction
    clip_param: Annotated[float, Field(gt=0, lt=1)]
    entropy_coeff: Weight
    vf_loss_coeff: Weight
    grad_clip: Norm
    log_std_init: LogStd  # ours


class SacSettings(RllibSettings):
    buffer_size: BufferSize  # ours: transitions kept
    learning_starts: Steps  # ours: uniform actions before the first gradient step
    gradient_steps: Count  # ours: after every environment step
    tau: Annotated[float, Field(gt=0, le=1)]
    initial_alpha: PositiveWeight
    target_entropy_per_dim: EntropyPerDim  # ours: RLlib takes that of all dimensions


def build_ppo(settings: PpoSettings, seen: Box, actions: gymnasium.Space[Any]) -> AlgorithmConfig:
    """PPO for every action space that a view has."""
    in_a_box = isinstance(actions, Box)
    model = DefaultModelConfig(fcnet_hiddens=settings.fcnet_hiddens, vf_share_layers=False, free_log_std=in_a_box)
    names = ("lr", "gamma", "lambda_", "clip_param", "entropy_coeff", "vf_loss_coeff", "grad_clip")
    config = PPOConfig().training(use_kl_loss=False, **settings.model_dump(include=set(names)))
    return _in_this_process(config, model, seen, actions)


def build_sac(settings: SacSettings, seen: Box, actions: Box) -> AlgorithmConfig:
    """SAC for a Box."""
    layers = settings.fcnet_hiddens
    model = DefaultModelConfig(fcnet_hiddens=layers, fcnet_activation="relu", head_fcnet_hiddens=layers[-1:])
    config = SACConfig().training(
        lr=None,
        actor_lr=settings.lr,
        critic_lr=settings.lr,
        alpha_lr=settings.lr,
        target_entropy=target_entropy(settings.target_entropy_per_dim, actions),
        **settings.model_dump(include={"gamma", "tau", "initial_alpha"}),
    )
    return _in_this_process(config, model, seen, actions)


ALGORITHMS: dict[str, Algorithm[RllibSettings]] = {
    "ppo": Algorithm(build_ppo, PpoSettings, (Box, MultiDiscrete, Discrete), takes_lanes=True),
    "sac": Algorithm(build_sac, SacSettings, (Box,)),
}


def _in_this_process(
    config: AlgorithmConfig, model: DefaultModelConfig, seen: Box, actions: gymnasium.Space[Any]
) -> AlgorithmConfig:
    """With the learner where the environment is: there is one learning VLM, and it lives inside."""
    config = config.framework("torch").environment(observation_space=seen, action_space=actions)
    return config.env_runners(num_env_runners=0).learners(num_learners=0).rl_module(model_config=model)
