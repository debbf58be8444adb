"""A small probe of whether a round has destroyed what a VLM knew before: which objects a picture shows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rls3_gym.sample import CaptionItem, Sample
from rls3_gym.scene.captions import Change, Negative
from rls3_gym.vlm.base import Float

ITEMS = 16
"""Items of a round that are asked about."""
FOREIGN = 3
"""Captions of other pictures that each of them is asked about."""
FEWEST = 24
"""Comparisons below which the accuracy says nothing."""
KNOWN = 0.7
"""Accuracy before the round from which on it can be lost; chance is 0.5."""


def presence_probe(items: Sequence[CaptionItem]) -> list[CaptionItem]:
    """Some of the items, evenly taken, with other negatives: the first of their own, and captions of other items, about
    other objects where items say which they are about."""
    chosen = [items[i * len(items) // min(len(items), ITEMS)] for i in range(min(len(items), ITEMS))]
    probe = []
    for i, item in enumerate(chosen):
        others = [other for other in (*chosen[i + 1 :], *chosen[:i]) if not _alike(item, other)]
        foreign = [Negative(caption, Change.OBJECT) for caption in dict.fromkeys(other.caption for other in others)]
        probe.append(CaptionItem(item.rgb, item.caption, (*item.negatives[:1], *foreign[:FOREIGN])))
    return probe


def lost_presence(before: Float, after: Float) -> str | None:
    """What became of a model that had these logits of a probe before a round and after it; None where it is fine."""
    was, is_ = _accuracy(before), _accuracy(after)
    # Halfway to chance: no useful round takes away that much, and 16 items tell it from noise.
    if was is not None and is_ is not None and was >= KNOWN and is_ < (was + 0.5) / 2:
        return f"the model no longer sees which objects are there: {is_:.0%} right, {was:.0%} before the round"
    return None


def _accuracy(logits: Float) -> float | None:
    """How often an item's own caption is preferred to one of another item; None where there are too few."""
    foreign = logits[:, 2:]
    asked = ~np.isneginf(foreign)
    return float((logits[:, :1] > foreign)[asked].mean()) if asked.sum() >= FEWEST else None


def _alike(one: CaptionItem, other: CaptionItem) -> bool:
    if isinstance(one, Sample) and isinstance(other, Sample):
        kinds = {thing.kind for thing in one.arrangement.objects}
        return bool(kinds & {other.kind_a, other.kind_b})
    return one.caption == other.caption
