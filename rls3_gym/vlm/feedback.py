"""Feedback on several lots of samples as one, as plain arrays, and one sample at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from rls3_gym.vlm.base import Feedback

_NAMES = tuple(f.name for f in fields(Feedback))
_DTYPES = {"correct": np.bool_, "hardest": np.int64}


def join_feedback(parts: Sequence[Feedback]) -> Feedback:
    """The feedback on several lots of samples as one, in order; of none it has length 0."""
    if not parts:
        empty: dict[str, Any] = {name: np.zeros(0, _DTYPES.get(name, np.float32)) for name in _NAMES}
        return Feedback(**(empty | {"by_term": np.zeros((0, 6), np.float32)}))
    return Feedback(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in _NAMES})


def split_feedback(feedback: Feedback) -> list[Feedback]:
    """One feedback of length 1 per sample."""
    return [Feedback(**{name: getattr(feedback, name)[i : i + 1] for name in _NAMES}) for i in range(len(feedback))]


def encode_feedback(feedback: Feedback) -> dict[str, Any]:
    """The arrays by name, for a checkpoint."""
    return {name: np.array(getattr(feedback, name)) for name in _NAMES}


def decode_feedback(state: Mapping[str, Any]) -> Feedback:
    """The inverse of `encode_feedback`."""
    return Feedback(**{name: np.array(state[name]) for name in _NAMES})
