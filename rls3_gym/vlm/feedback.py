"""Feedback: made from a VLM's logits, joined, split and stored. The one place for it, whatever the VLM is.

An adapter scores every caption of `captions_of(items)`, and `logits_table` puts the scores in rows of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rls3_gym.sample import CaptionItem
from rls3_gym.scene.relations import Term
from rls3_gym.vlm.base import Feedback, Float

_NAMES = tuple(f.name for f in fields(Feedback))
_DTYPES = {"correct": np.bool_, "hardest": np.int64}


def captions_of(items: Sequence[CaptionItem]) -> tuple[list[str], NDArray[np.int64]]:
    """All captions, each item's true one before its negatives; and (captions,) whose they are. Raises `ValueError` for
    an item without negatives: there is nothing to prefer its caption to."""
    if not all(item.negatives for item in items):
        raise ValueError("an item has no negatives")
    captions = [caption for item in items for caption in (item.caption, *(n.caption for n in item.negatives))]
    owners = np.repeat(np.arange(len(items)), [1 + len(item.negatives) for item in items])
    return captions, owners


def logits_table(owners: NDArray[np.int64], logits: Float) -> Float:
    """(n, 1 + most negatives) from the (captions,) logits of `captions_of`: -inf where an item has no more."""
    counts = np.bincount(owners)
    table = np.full((len(counts), int(counts.max())), -np.inf, np.float32)
    table[owners, np.arange(len(owners)) - np.repeat(np.cumsum(counts) - counts, counts)] = logits
    return table


def feedback_from_logits(items: Sequence[CaptionItem], logits: Float) -> Feedback:
    """Feedback on n >= 1 items from their (n, 1 + most negatives) logits, as `logits_table` gives them."""
    true, wrong = logits[:, :1], logits[:, 1:]
    margin = true[:, 0] - wrong.max(1)
    exp = np.exp(logits - logits.max(1, keepdims=True))
    p_true = exp[:, 0] / exp.sum(1)
    by_term = np.full((len(items), len(Term)), np.nan, np.float32)
    p_opposite = np.zeros(len(items), np.float32)
    for i, item in enumerate(items):
        singles = len(item.opposites)
        gaps = true[i, 0] - wrong[i, :singles]
        for negative, gap in zip(item.opposites, gaps, strict=True):
            if negative.term is not None:
                by_term[i, negative.term] = float(gap > 0)
        p_opposite[i] = (1 / (1 + np.exp(-np.clip(gaps, -60, 60)))).mean() if singles else float(margin[i] > 0)
    known = ~np.isnan(by_term)
    with np.errstate(invalid="ignore"):
        pairwise = np.where(known.any(1), np.where(known, by_term, 0).sum(1) / known.sum(1), margin > 0)
    return Feedback(
        correct=margin > 0,
        pairwise=pairwise.astype(np.float32),
        by_term=by_term,
        margin=margin.astype(np.float32),
        hardest=wrong.argmax(1),
        loss=(-np.log(np.maximum(p_true, 1e-30))).astype(np.float32),
        p_true=p_true.astype(np.float32),
        p_opposite=p_opposite,
    )


def join_feedback(parts: Sequence[Feedback]) -> Feedback:
    """The feedback on several lots of items as one, in order; length 0 for no parts."""
    if not parts:
        empty: dict[str, Any] = {name: np.zeros(0, _DTYPES.get(name, np.float32)) for name in _NAMES}
        return Feedback(**(empty | {"by_term": np.zeros((0, len(Term)), np.float32)}))
    return Feedback(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in _NAMES})


def split_feedback(feedback: Feedback) -> list[Feedback]:
    """One feedback of length 1 per item."""
    return [feedback[i : i + 1] for i in range(len(feedback))]


def encode_feedback(feedback: Feedback) -> dict[str, Any]:
    """The arrays by name, for a checkpoint."""
    return {name: np.array(getattr(feedback, name)) for name in _NAMES}


def decode_feedback(state: Mapping[str, Any]) -> Feedback:
    """The inverse of `encode_feedback`."""
    return Feedback(**{name: np.array(state[name]) for name in _NAMES})
