"""A small probe of whether a round has destroyed what a VLM knew before: which objects a picture shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rls3_gym.sample import CaptionItem, Sample
from rls3_gym.scene.captions import Change, Negative
from rls3_gym.vlm.base import Float

ITEMS = 12
"""Items of a round that are asked about."""
FOREIGN = 3
"""Captions of other pictures that each of them is asked about."""
FEWEST = 24
"""Comparisons below which the accuracy says nothing."""
KNOWN = 0.7
"""Accuracy before the round from which on it can be lost; chance is 0.5."""


@dataclass(frozen=True)
class PresenceProbe:
    """Some items of a round, whose negatives are captions of others of them, about other objects where items say which
    they are about; so few different captions are quickly scored."""

    items: list[CaptionItem]
    foreign: NDArray[np.bool_]
    """(n,) whether an item's negatives are such; one that has no such others keeps the first of its own."""

    @classmethod
    def of(cls, items: Sequence[CaptionItem]) -> PresenceProbe:
        """Of items taken evenly from a round."""
        n = min(len(items), ITEMS)
        chosen = [items[i * len(items) // n] for i in range(n)]
        foreign = [_foreign(item, [*chosen[i + 1 :], *chosen[:i]]) for i, item in enumerate(chosen)]
        probe = [
            CaptionItem(item.rgb, item.caption, others or item.negatives[:1])
            for item, others in zip(chosen, foreign, strict=True)
        ]
        return cls(probe, np.array([bool(others) for others in foreign]))

    def lost(self, before: Float, after: Float) -> str | None:
        """What became of a model that gave these logits before a round and after it; None where it is fine."""
        was, is_ = self._accuracy(before), self._accuracy(after)
        # Halfway to chance: no useful round takes away that much, and the comparisons are enough to tell it from noise.
        if was is not None and is_ is not None and was >= KNOWN and is_ < (was + 0.5) / 2:
            return f"the model no longer sees which objects are there: {is_:.0%} right, {was:.0%} before the round"
        return None

    def _accuracy(self, logits: Float) -> float | None:
        """How often an item's own caption is preferred to one of another item; None where too few can be compared."""
        own, others = logits[self.foreign, :1], logits[self.foreign, 1:]
        asked = ~np.isneginf(others)
        return float((own > others)[asked].mean()) if asked.sum() >= FEWEST else None


def _foreign(item: CaptionItem, others: Sequence[CaptionItem]) -> tuple[Negative, ...]:
    captions = dict.fromkeys(other.caption for other in others if not _alike(item, other))
    return tuple(Negative(caption, Change.OBJECT) for caption in [*captions][:FOREIGN])


def _alike(one: CaptionItem, other: CaptionItem) -> bool:
    if isinstance(one, Sample) and isinstance(other, Sample):
        kinds = {thing.kind for thing in one.arrangement.objects}
        return bool(kinds & {other.kind_a, other.kind_b})
    return one.caption == other.caption
