"""What an environment says beside observation and reward: numbers, strings and arrays, in dictionaries of fixed keys.

The keys, types and shapes are the same at every step, and nothing is None or NaN: libraries put infos into buffers,
which have one column for each key.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rls3_gym.loop.lane import Episode
from rls3_gym.sample import Sample
from rls3_gym.scene.arrangement import Reason
from rls3_gym.vlm.base import Feedback, FineTuneReport

_NO_REASONS = {reason.value: 0 for reason in Reason}


@dataclass(frozen=True)
class Turn:
    """The counts of a loop when a lane has had its turn: lanes count one after the other, in order."""

    n_steps: int
    n_generated: int
    reasons: Mapping[str, int]
    """Steps without a sample, by reason."""
    n_trained: int
    n_episodes: int
    round: int
    vlm_digest: str
    early_stopped: bool


def step_info(
    turn: Turn,
    episode: Episode,
    steps_per_episode: int,
    intrinsic: float = 0.0,
    extrinsic: float = 0.0,
    feedback: Feedback | None = None,
    report: FineTuneReport | None = None,
) -> dict[str, Any]:
    """The `info` of a step or a reset; see the class docstring of `RLS3SceneEnv` for the table."""
    return {
        "n_generated": turn.n_generated,
        "n_trained": turn.n_trained,
        "n_steps": turn.n_steps,
        "n_episodes": turn.n_episodes,
        "round": turn.round,
        "reasons": {**_NO_REASONS, **turn.reasons},
        "intrinsic": float(intrinsic),
        "extrinsic": float(extrinsic),
        "feedback": feedback_info(episode.samples, feedback, steps_per_episode),
        "finetune": finetune_info(report),
        "vlm_digest": turn.vlm_digest,
        "early_stopped": turn.early_stopped,
    } | episode.last_step()


def feedback_info(samples: Sequence[Sample], feedback: Feedback | None, steps_per_episode: int) -> dict[str, Any]:
    """The VLM's feedback on an episode's samples; of no samples where there is none."""
    n = 0 if feedback is None else len(samples)
    correct, margin = np.full(steps_per_episode, -1, np.int8), np.zeros(steps_per_episode, np.float32)
    facts: dict[str, Any] = {"accuracy": 0.0, "pairwise": 0.0, "n": n, "correct": correct, "margin": margin}
    preferred: list[str] = []
    if feedback is not None and n:
        facts |= {"accuracy": float(feedback.correct.mean()), "pairwise": feedback.pairwise_accuracy}
        correct[:n], margin[:n] = feedback.correct, feedback.margin
        preferred = [hardest_negative(s, feedback, i) for i, s in enumerate(samples)]
    return facts | {"hardest_negative": "\n".join(preferred)}


def hardest_negative(sample: Sample, feedback: Feedback, row: int) -> str:
    """The false caption that the VLM likes best, of the sample that `row` of the feedback is about."""
    return sample.negatives[int(feedback.hardest[row])].caption


def finetune_info(report: FineTuneReport | None) -> dict[str, Any]:
    """What a round of fine-tuning did; of no samples where there was none."""
    if report is None:
        return dict(_NO_FINETUNE)
    return {
        "n_samples": report.n_samples,
        "optimizer_steps": report.optimizer_steps,
        "loss_first": _finite(report.losses.get("total_first", 0.0)),
        "loss_last": _finite(report.losses.get("total_last", 0.0)),
        "digest_before": report.digest_before,
        "digest_after": report.digest_after,
        "seconds": float(report.seconds),
        "rolled_back": report.rolled_back or "",
    }


def _finite(loss: float) -> float:
    return float(loss) if math.isfinite(loss) else 0.0


_NO_FINETUNE = finetune_info(FineTuneReport(0, 0, {}, "", "", 0.0))
