"""Real parts for the tests of scheduler, rewards and environment, made once."""

from __future__ import annotations

from functools import cache
from typing import Any

import gymnasium
import numpy as np

import rls3_gym  # noqa: F401  registers the ids
from rls3_gym.backends.base import load_backend
from rls3_gym.sample import Sample
from rls3_gym.scene.layouts import family_names
from rls3_gym.stage import Stage
from rls3_gym.vlm.base import VLM, Feedback
from rls3_gym.vlm.loading import load_vlm

ROOMS = ("bedroom", "kitchen")


def make_env(env_id: str = "RLS3Scene-v0", **arguments: Any) -> gymnasium.Env[Any, Any]:
    """An environment with short episodes and rounds, in two rooms."""
    short = {
        "steps_per_episode": 6,
        "episodes_per_round": 2,
        "train_fraction": 1.0,
        "families": ROOMS,
        "finetune_settings": {"epochs": 1, "batch_size": 8},
    }
    return gymnasium.make(env_id, **(short | arguments))


def tiny_vlm() -> VLM:
    """A new packaged VLM, taught in short rounds."""
    return load_vlm("tiny", {"epochs": 1, "batch_size": 8})


@cache
def samples(n: int = 24) -> tuple[Sample, ...]:
    """Samples of random edits in real rooms."""
    stage = Stage(load_backend("embedded", 64), families=family_names())
    return tuple(draw_samples(stage, n, np.random.default_rng(7), edits=6))


def draw_samples(stage: Stage, n: int, rng: np.random.Generator, edits: int = 30) -> list[Sample]:
    """`n` samples of random edits, so many edits to a scene."""
    made: list[Sample] = []
    while len(made) < n:
        stage.set_scene(rng)
        for _ in range(edits):
            outcome = stage.try_edit(stage.random_edit(rng), rng)
            if outcome.sample is not None:
                made.append(outcome.sample)
    return made[:n]


def feedback(of: tuple[Sample, ...] | list[Sample], right: float | list[bool], p_opposite: float = 0.5) -> Feedback:
    """What a VLM would say that is right about all terms of the samples marked right, and wrong about all others."""
    n = len(of)
    marks = np.array(right if isinstance(right, list) else [right] * n, dtype=np.float32)
    by_term = np.full((n, 6), np.nan, np.float32)
    for row, sample, mark in zip(by_term, of, marks, strict=True):
        row[[int(term) for term in sample.relation.terms]] = mark
    return Feedback(
        correct=marks > 0.5,
        pairwise=marks,
        by_term=by_term,
        margin=2 * marks - 1,
        hardest=np.zeros(n, np.int64),
        loss=1 - marks,
        p_true=marks,
        p_opposite=np.full(n, p_opposite, np.float32),
    )


def run_episode(env: gymnasium.Env[Any, Any]) -> list[dict[str, Any]]:
    """The infos of one episode of sampled actions, without the reset."""
    infos = []
    truncated = False
    while not truncated:
        _, _, _, truncated, info = env.step(env.action_space.sample())
        infos.append(info)
    return infos
