"""An open_clip model with what the adapter needs of it: pixels in, embeddings out, and a part that stays frozen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rls3_gym.sample import CaptionItem
from rls3_gym.vlm.open_clip.preprocessing import Preprocessing
from rls3_gym.vlm.open_clip.tokenizer import PAD


class ClipModel:
    """A CLIP, its tokenizer and its picture normalization."""

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Callable[[Sequence[str]], Tensor],
        preprocessing: Preprocessing,
    ) -> None:
        """`model` is used as it is, on its device and in its precision."""
        self.model = model
        self.device = next(model.parameters()).device
        self.tokenizer = tokenizer
        self.preprocessing = preprocessing
        self.half = any(p.dtype == torch.bfloat16 for p in model.parameters())
        """Its weights are in bfloat16, and it computes in it; what trains of them is in float32 all the same."""
        self._mean = self.here(torch.tensor(preprocessing.mean).view(1, 3, 1, 1))
        self._std = self.here(torch.tensor(preprocessing.std).view(1, 3, 1, 1))
        text: Any = getattr(model, "text", None)
        self.pools_tokens = getattr(text, "pool_type", None) == "none"
        if self.pools_tokens:
            text.use_pad_mask = True  # open_clip has no key for it in a model's config
        self.frozen_depth = 0
        """0: no part of the image tower is frozen as a whole; 1: its stem; 2: all of it."""

    def here(self, tensor: Tensor) -> Tensor:
        """The tensor on the model's device: the one place where tensors are moved."""
        return tensor.to(self.device)

    @property
    def image_size(self) -> int:
        return self.preprocessing.size

    def computing(self) -> AbstractContextManager[Any]:
        """Inside it, a model in half precision computes in half precision, and all else as the fine-tuner asked."""
        return torch.autocast(self.device.type, torch.bfloat16) if self.half else nullcontext()

    def full_precision(self) -> torch.autocast:
        """Inside it, nothing is computed in half precision, whatever the fine-tuner asked for around it."""
        return torch.autocast(self.device.type, enabled=False)

    def texts_in(self, nbytes: int) -> int:
        """How many captions are embedded at once, when the widest activations of a layer should take `nbytes`: as many
        as are worth it, and 16 at least."""
        embedding: Any = getattr(getattr(self.model, "text", self.model), "token_embedding", None)
        width = 1024 if embedding is None else embedding.embedding_dim
        length = getattr(self.tokenizer, "context_length", None) or 77
        return min(1024, max(16, nbytes // (4 * 4 * width * length)))

    def note_trainable(self, trainable: Mapping[str, nn.Parameter]) -> None:
        """Find the part of the image tower that stays frozen, from the parameters that train by their public names."""
        for weight in trainable.values():
            weight.data = weight.data.float()  # steps are too small for half precision
        visual = [name for name in trainable if name.startswith("visual.")]
        if not visual:
            self.frozen_depth = 2
        elif hasattr(self._trunk, "forward_stem") and not any(n.startswith("visual.trunk.stem.") for n in visual):
            self.frozen_depth = 1
        else:
            self.frozen_depth = 0

    def public_name(self, name: str) -> str:
        """A parameter's name in settings: open_clip's plain CLIP keeps its text tower at the top level."""
        own_text = hasattr(self.model, "text") or name.startswith(("visual.", "logit_"))
        return name if own_text else f"text.{name}"

    @property
    def _trunk(self) -> Any:
        return getattr(self.model.visual, "trunk", self.model.visual)

    def pixels(self, pictures: Sequence[NDArray[np.uint8]]) -> Tensor:
        """Pictures (h, w, 3) uint8 -> (n, 3, size, size) float32, as the model's preprocessing has them."""
        fitted = [self.preprocessing.fit(picture) for picture in pictures]
        x = self.here(torch.from_numpy(np.stack(fitted))).permute(0, 3, 1, 2).float() / 255
        return (x - self._mean) / self._std

    def frozen_features(self, pixels: Tensor) -> Tensor:
        """What the frozen part makes of pictures; input of `embed_features`."""
        with self.computing():
            if self.frozen_depth == 2:
                self.model.visual.eval()  # type: ignore[union-attr]
                return self.model.encode_image(pixels)  # type: ignore[no-any-return, operator]
            self._trunk.stem.eval()
            return self._trunk.forward_stem(pixels)  # type: ignore[no-any-return]

    def embed_features(self, features: Tensor) -> Tensor:
        """Image embeddings (n, d), not normalized, from what `FeatureCache.of` gives."""
        if self.frozen_depth == 2:
            return features
        with self.computing():
            if self.frozen_depth == 1:
                return self._trunk.forward_head(features)  # type: ignore[no-any-return]
            return self.model.encode_image(features)  # type: ignore[no-any-return, operator]

    def embed_texts(self, captions: Sequence[str]) -> Tensor:
        """Text embeddings (n, d), not normalized."""
        with self.computing():
            return self.embed_tokens(self.tokenizer(captions))

    def embed_tokens(self, ids: Tensor) -> Tensor:
        """Text embeddings (n, d) of token ids (n, context length), not normalized.

        A text tower that gives one vector a token (open_clip's `pool_type: none`, as the packaged model has) is
        pooled here: the mean over the caption's own tokens.
        """
        if not self.pools_tokens:
            return self.model.encode_text(self.here(ids))  # type: ignore[no-any-return, operator]
        length = int((ids != PAD).sum(1).max())
        ids = self.here(ids[:, :length])
        tokens = self.model.encode_text(ids)  # type: ignore[operator]
        weight = (ids != PAD)[..., None].to(tokens.dtype)
        return (tokens * weight).sum(1) / weight.sum(1)  # type: ignore[no-any-return]


_BATCH = 256


class FeatureCache:
    """Frozen features by item, in half precision on the model's device. With no frozen part, pictures pass through."""

    def __init__(self, clip: ClipModel) -> None:
        self._clip = clip
        self._kept: WeakKeyDictionary[CaptionItem, Tensor] = WeakKeyDictionary()

    def __getstate__(self) -> dict[str, Any]:
        """Weak references can be copied but not pickled."""
        return self.__dict__ | {"_kept": list(self._kept.items())}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._kept = WeakKeyDictionary(dict(state["_kept"]))

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
        missing = []
        for item in dict.fromkeys(items):
            # An equal item may be gone at any moment, and its features with it: from now on they are this one's.
            kept = self._kept.pop(item, None)
            if kept is None:
                missing.append(item)
            else:
                self._kept[item] = kept
        for start in range(0, len(missing), _BATCH):
            chunk = missing[start : start + _BATCH]
            with torch.no_grad():
                # Always through half precision, kept or new: scores must not depend on what was cached.
                # Never one alone: torch takes another kernel for a batch of one, whose last digits differ, and a
                # resumed run finds its items in other batches than the run that was not interrupted.
                pictures = [item.rgb for item in chunk] if len(chunk) > 1 else [chunk[0].rgb] * 2
                features = self._clip.frozen_features(self._clip.pixels(pictures)).half()[: len(chunk)]
            self._kept.update(zip(chunk, features.unbind(0), strict=True))
