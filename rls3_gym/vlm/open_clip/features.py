"""Features of the frozen part of an image tower, kept for as long as their samples live."""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from rls3_gym.sample import Sample
from rls3_gym.vlm.open_clip.clip_model import ClipModel

_BATCH = 256


class FeatureCache:
    """Frozen features by sample (half precision in memory). Where nothing is frozen, pictures pass through."""

    def __init__(self, clip: ClipModel) -> None:
        self._clip = clip
        self._kept: WeakKeyDictionary[Sample, Tensor] = WeakKeyDictionary()

    def of(self, samples: Sequence[Sample]) -> Tensor:
        """(n, ...) inputs of `ClipModel.embed_features`."""
        if self._clip.frozen_depth == 0:
            return self._clip.pixels([s.rgb for s in samples])
        self.prepare(samples)
        return torch.stack([self._kept[s] for s in samples]).float()

    def prepare(self, samples: Sequence[Sample]) -> None:
        """Compute what is not kept yet, in large batches."""
        if self._clip.frozen_depth == 0:
            return
        missing = [s for s in dict.fromkeys(samples) if s not in self._kept]
        for start in range(0, len(missing), _BATCH):
            chunk = missing[start : start + _BATCH]
            with torch.no_grad():
                # Always through half precision, kept or new: scores must not depend on what was cached.
                # Never one alone: torch takes another kernel for a batch of one, whose last digits differ, and a
                # resumed run finds its samples in other batches than the run that was not interrupted.
                pictures = [s.rgb for s in chunk] if len(chunk) > 1 else [chunk[0].rgb] * 2
                features = self._clip.frozen_features(self._clip.pixels(pictures)).half()[: len(chunk)]
            self._kept.update(zip(chunk, features.unbind(0), strict=True))

    def clear(self) -> None:
        """Forget all features (the frozen weights changed)."""
        self._kept.clear()
