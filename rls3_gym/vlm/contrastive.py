"""How a VLM with an image tower and a text tower learns: hard negatives, the named losses, and gradient caching."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from rls3_gym.sample import CaptionItem
from rls3_gym.vlm.finetune_settings import FineTuneSettings
from rls3_gym.vlm.losses import LOSSES, Embedded

T = TypeVar("T")


class ContrastiveSettings(FineTuneSettings):
    """How one round teaches a contrastive VLM."""

    batch_size: int = Field(64, ge=2, le=65_536)
    loss: Literal["dual", "negclip"] = "dual"
    """`dual`: the paper's; its parts are `contrastive` and `hard_negative`. `negclip`: the hard negatives are further
    captions of the batch's contrastive loss. Of a model with a logit bias (SigLIP) the contrastive loss is sigmoid."""
    single_opposite_share: float = Field(0.6, ge=0, le=1)
    """Chance that an item's hard negative of a step turns one term; otherwise any of its negatives."""
    max_logit_scale: float = Field(60.0, gt=0, le=10_000)
    """CLIP was trained with at most 100, SigLIP without a limit (about 120)."""
    cached_chunk: int | None = Field(None, ge=1, le=65_536)
    """Gradient caching (GradCache, arXiv 2101.06983): pictures or captions embedded at once. The loss is of the whole
    batch, and so are its gradients, while activations are held for one chunk; costs a second forward pass."""

    @model_validator(mode="after")
    def _parts_have_pairs(self) -> ContrastiveSettings:
        if self.batch_size < 2 * self.accumulation_steps:
            raise ValueError("accumulation_steps should leave two pictures in each part of a batch, to be contrasted")
        return self


class DualEncoder(Protocol):
    """What the losses need of a model. Embeddings are (n, d), with gradients, not normalized."""

    def embed_items(self, items: Sequence[CaptionItem]) -> Tensor:
        """Of their pictures."""

    def embed_texts(self, captions: Sequence[str]) -> Tensor:
        """Of captions."""

    def scale(self) -> Tensor:
        """What similarities are multiplied by."""

    def bias(self) -> Tensor | None:
        """What is added to them; None for models that compare pairs with each other."""

    def full_precision(self) -> AbstractContextManager[Any]:
        """Inside it, nothing is computed in half precision."""


def contrastive_losses(
    encoder: DualEncoder, settings: ContrastiveSettings, batch: Sequence[CaptionItem], rng: np.random.Generator
) -> dict[str, Tensor]:
    """The parts of the loss that the settings name, by name; `rng` draws each item's hard negative."""
    captions = [item.caption for item in batch]
    negatives = [draw_negative(item, rng, settings.single_opposite_share) for item in batch]
    images = _normalized(encoder.embed_items, batch, settings.cached_chunk)
    texts = _normalized(encoder.embed_texts, [*captions, *negatives], settings.cached_chunk)
    with encoder.full_precision():
        images, texts = images.float(), texts.float()
        true, false = texts[: len(batch)], texts[len(batch) :]
        embedded = Embedded(images, true, false, captions, negatives, encoder.scale(), encoder.bias())
        return dict(LOSSES[settings.loss].of(embedded))


def draw_negative(item: CaptionItem, rng: np.random.Generator, single_opposite_share: float) -> str:
    """One of an item's negatives, as `ContrastiveSettings.single_opposite_share` has it."""
    singles = item.opposites
    pool = singles if singles and rng.random() < single_opposite_share else item.negatives
    return pool[int(rng.integers(len(pool)))].caption


def _normalized(embed: Callable[[Sequence[T]], Tensor], inputs: Sequence[T], chunk: int | None) -> Tensor:
    """Embeddings of length 1; in chunks whose activations are computed again when their gradients are.

    That is gradient caching: the loss is differentiated with respect to the embeddings first, and each chunk is then
    embedded again and given its part of that gradient.
    """
    if chunk is None or chunk >= len(inputs):
        return F.normalize(embed(inputs), dim=-1)
    chunks = [inputs[start : start + chunk] for start in range(0, len(inputs), chunk)]
    return torch.cat([F.normalize(checkpoint(embed, part, use_reentrant=False), dim=-1) for part in chunks])
