"""An open_clip model with what the adapter needs of it: pixels in, embeddings out, and a part that stays frozen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from rls3_gym.vlm.open_clip.tokenizer import PAD
from rls3_registry.errors import UserError, unknown


class ClipModel:
    """A CLIP, its tokenizer and its picture normalization."""

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Callable[[Sequence[str]], Tensor],
        image_size: int,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.image_size = image_size
        self._mean = torch.tensor(mean).view(1, 3, 1, 1)
        self._std = torch.tensor(std).view(1, 3, 1, 1)
        text: Any = getattr(model, "text", None)
        self.pools_tokens = getattr(text, "pool_type", None) == "none"
        if self.pools_tokens:
            text.use_pad_mask = True  # open_clip has no key for it in a model's config
        self.frozen_depth = 0
        """0: no part of the image tower is frozen as a whole; 1: its stem; 2: all of it."""

    def set_trainable(self, patterns: Sequence[str]) -> list[tuple[str, nn.Parameter]]:
        """Freeze all parameters but those matching a pattern; raises `UserError` for one that matches none."""
        named = [(self._public_name(name), p) for name, p in self.model.named_parameters()]
        for pattern in patterns:
            if not any(fnmatchcase(name, pattern) for name, _ in named):
                parts = [name.split(".") for name, _ in named]
                groups = {f"{'.'.join(p[:depth])}.*" for p in parts for depth in (1, 2) if len(p) > depth}
                raise unknown("parameter pattern in finetune.train", pattern, groups)
        for name, parameter in named:
            parameter.requires_grad_(any(fnmatchcase(name, pattern) for pattern in patterns))
        trainable = [(name, p) for name, p in named if p.requires_grad]
        if not trainable:
            raise UserError("finetune.train: no parameter is left to train")
        visual = [name for name, _ in trainable if name.startswith("visual.")]
        if not visual:
            self.frozen_depth = 2
        elif hasattr(self._trunk, "forward_stem") and not any(n.startswith("visual.trunk.stem.") for n in visual):
            self.frozen_depth = 1
        else:
            self.frozen_depth = 0
        return trainable

    def _public_name(self, name: str) -> str:
        """A parameter's name in settings: open_clip's plain CLIP keeps its text tower at the top level."""
        own_text = hasattr(self.model, "text") or name.startswith(("visual.", "logit_"))
        return name if own_text else f"text.{name}"

    @property
    def _trunk(self) -> Any:
        return getattr(self.model.visual, "trunk", self.model.visual)

    def freeze_statistics(self) -> None:
        """Keep batch norms at their pre-trained statistics: a round's few pictures would distort them."""
        for module in self.model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()

    def pixels(self, pictures: Sequence[NDArray[np.uint8]]) -> Tensor:
        """Pictures (h, w, 3) uint8 -> (n, 3, size, size) float32, resized where needed and normalized."""
        x = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255
        if x.shape[-1] != self.image_size or x.shape[-2] != self.image_size:
            size = (self.image_size, self.image_size)
            x = F.interpolate(x, size=size, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
        return (x - self._mean) / self._std

    def frozen_features(self, pixels: Tensor) -> Tensor:
        """What the frozen part makes of pictures; input of `embed_features`."""
        if self.frozen_depth == 2:
            self.model.visual.eval()  # type: ignore[union-attr]
            return self.model.encode_image(pixels)  # type: ignore[no-any-return, operator]
        self._trunk.stem.eval()
        return self._trunk.forward_stem(pixels)  # type: ignore[no-any-return]

    def embed_features(self, features: Tensor) -> Tensor:
        """Image embeddings (n, d), not normalized, from what `FeatureCache.of` gives."""
        if self.frozen_depth == 2:
            return features
        if self.frozen_depth == 1:
            return self._trunk.forward_head(features)  # type: ignore[no-any-return]
        return self.model.encode_image(features)  # type: ignore[no-any-return, operator]

    def embed_texts(self, captions: Sequence[str]) -> Tensor:
        """Text embeddings (n, d), not normalized."""
        return self.embed_tokens(self.tokenizer(captions))

    def embed_tokens(self, ids: Tensor) -> Tensor:
        """Text embeddings (n, d) of token ids (n, context length), not normalized.

        A text tower that gives one vector a token (open_clip's `pool_type: none`, as the packaged model has) is
        pooled here: the mean over the caption's own tokens.
        """
        if not self.pools_tokens:
            return self.model.encode_text(ids)  # type: ignore[no-any-return, operator]
        own = ids != PAD
        length = int(own.sum(1).max())
        tokens = self.model.encode_text(ids[:, :length])  # type: ignore[operator]
        weight = own[:, :length, None].to(tokens.dtype)
        return (tokens * weight).sum(1) / weight.sum(1)  # type: ignore[no-any-return]
