"""Features of the frozen part of an image tower, kept for as long as their items live."""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from rls3_gym.sample import CaptionItem
from rls3_gym.vlm.open_clip.clip_model import ClipModel

_BATCH = 256


class FeatureCache:
    """Frozen features by item, in half precision on the model's device. With no frozen part, pictures pass through."""

    def __init__(self, clip: ClipModel) -> None:
        self._clip = clip
        self._kept: WeakKeyDictionary[CaptionItem, Tensor] = WeakKeyDictionary()

    def of(self, items: Sequence[CaptionItem]) -> Tensor:
        """(n, ...) inputs of `ClipModel.embed_features`."""
        with self._clip.full_precision():
            if self._clip.frozen_depth == 0:
                return self._clip.pixels([item.rgb for item in items])
            self.prepare(items)
            return torch.stack([self._kept[item] for item in items]).float()

    def prepare(self, items: Sequence[CaptionItem]) -> None:
        """Compute what is not kept yet, in large batches."""
        if self._clip.frozen_depth == 0:
            return
        missing = [item for item in dict.fromkeys(items) if item not in self._kept]
        for start in range(0, len(missing), _BATCH):
            chunk = missing[start : start + _BATCH]
            with torch.no_grad():
                # Always through half precision, kept or new: scores must not depend on what was cached.
                # Never one alone: torch takes another kernel for a batch of one, whose last digits differ, and a
                # resumed run finds its items in other batches than the run that was not interrupted.
                pictures = [item.rgb for item in chunk] if len(chunk) > 1 else [chunk[0].rgb] * 2
                features = self._clip.frozen_features(self._clip.pixels(pictures)).half()[: len(chunk)]
            self._kept.update(zip(chunk, features.unbind(0), strict=True))
