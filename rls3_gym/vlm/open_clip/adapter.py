"""One adapter for every open_clip model: the packaged tiny one, names of open_clip's table, local checkpoints."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional as F

from rls3_gym.sample import CaptionItem
from rls3_gym.vlm.base import Feedback, FineTuneReport, Float
from rls3_gym.vlm.feedback import captions_of, feedback_from_logits, join_feedback, logits_table
from rls3_gym.vlm.finetune_settings import FineTuneSettings
from rls3_gym.vlm.finetuner import Finetuner
from rls3_gym.vlm.losses import contrastive_loss, hard_negative_loss, same_caption
from rls3_gym.vlm.open_clip.clip_model import FeatureCache
from rls3_gym.vlm.open_clip.folder import save_folder
from rls3_gym.vlm.open_clip.weights import OpenClipSettings, load_clip
from rls3_registry.validation import check

LOSSES = ("contrastive", "hard_negative")
_EVALUATION_BATCH = 256
_TEXT_BATCH = 1024


class OpenClipFineTuneSettings(FineTuneSettings):
    """How one round teaches a contrastive VLM."""

    batch_size: int = Field(64, ge=2)
    train: tuple[str, ...] = ("visual.*", "text.*", "logit_scale")
    single_opposite_share: float = Field(0.6, ge=0, le=1)
    """Chance that an item's hard negative of a step turns one term; otherwise any of its negatives."""
    max_logit_scale: float = Field(60.0, gt=0)

    @model_validator(mode="after")
    def _parts_have_pairs(self) -> OpenClipFineTuneSettings:
        if self.batch_size < 2 * self.accumulation_steps:
            raise ValueError("accumulation_steps should leave two pictures in each part of a batch, to be contrasted")
        return self


class OpenClipVLM:
    """A contrastive VLM that scores items by image-text similarity and learns with the paper's dual loss."""

    def __init__(self, settings: Mapping[str, Any], *, name: str, finetune: Mapping[str, Any]) -> None:
        """See `OpenClipSettings` and `OpenClipFineTuneSettings`. Raises `UserError` for a wrong key or value, for
        weights that don't load, and when nothing would train."""
        self.name = name
        self.settings = check(OpenClipFineTuneSettings, finetune, section="finetune")
        self.source = check(OpenClipSettings, settings, section="settings")
        self.clip = load_clip(self.source)
        self.image_size = self.clip.image_size
        self._tuner = Finetuner(self.clip.model, self.settings, LOSSES, self.clip.public_name)
        self.clip.note_trainable(self._tuner.trainable)
        self._features = FeatureCache(self.clip)

    def evaluate(self, items: Sequence[CaptionItem]) -> Feedback:
        """See `VLM.evaluate`."""
        lots = [items[start : start + _EVALUATION_BATCH] for start in range(0, len(items), _EVALUATION_BATCH)]
        return join_feedback([feedback_from_logits(lot, self.logits(lot)) for lot in lots])

    def finetune(self, items: Sequence[CaptionItem], rng: np.random.Generator) -> FineTuneReport:
        """See `VLM.finetune`."""
        self._features.prepare(items)
        return self._tuner.teach(items, rng, self.losses, self.logits)

    def state(self) -> dict[str, Any]:
        """See `VLM.state`."""
        return self._tuner.state()

    def weights(self) -> dict[str, Any]:
        """See `WeightsVLM.weights`."""
        return self._tuner.weights()

    def save_folder(self, folder: Path) -> None:
        """See `FolderVLM.save_folder`."""
        save_folder(self.clip, self.source, folder)

    def load_state(self, state: Mapping[str, Any]) -> None:
        """See `VLM.load_state`."""
        self._tuner.load_state(state)

    def digest(self) -> str:
        """See `VLM.digest`."""
        return self._tuner.digest()

    def nudged(self, items: Sequence[CaptionItem], rng: np.random.Generator, share: float) -> OpenClipVLM:
        """See `GradientVLM.nudged`."""
        twin = copy.deepcopy(self)
        twin._features.prepare(items)
        twin._tuner.nudge(items, rng, twin.losses, share)
        return twin

    def batches(self, items: Sequence[CaptionItem], rng: np.random.Generator) -> list[list[CaptionItem]]:
        """The batches that a round on these items would have."""
        return self._tuner.batches(items, rng)

    def logits(self, items: Sequence[CaptionItem]) -> Float:
        """(n, 1 + most negatives) scaled similarities, the true caption's first, -inf where an item has no more."""
        captions, owners = captions_of(items)
        with torch.inference_mode():
            images = self._embed_images(items)[self.clip.here(torch.from_numpy(owners))]
            similarities = self.scale() * (images * self._embed_texts(captions)).sum(-1)
        return logits_table(owners, similarities.float().cpu().numpy())

    def losses(self, batch: Sequence[CaptionItem], rng: np.random.Generator) -> dict[str, Tensor]:
        """The two parts of the dual loss, scalars in nats; `rng` draws each item's hard negative."""
        captions = [item.caption for item in batch]
        negatives = [self._draw_negative(item, rng) for item in batch]
        features = self._features.of(batch)
        images = F.normalize(self.clip.embed_features(features), dim=-1)
        texts = F.normalize(self.clip.embed_texts([*captions, *negatives]), dim=-1)
        with self.clip.full_precision():
            images, texts = images.float(), texts.float()
            true, false = texts[: len(batch)], texts[len(batch) :]
            same, scale = same_caption(captions, self.clip.device), self.scale()
            return {
                "contrastive": contrastive_loss(images, true, same, scale),
                "hard_negative": hard_negative_loss(images, true, false, scale),
            }

    def scale(self) -> Tensor:
        """The logit scale, capped."""
        return self.clip.model.get_parameter("logit_scale").exp().clamp(max=self.settings.max_logit_scale)

    def _draw_negative(self, item: CaptionItem, rng: np.random.Generator) -> str:
        singles = item.opposites
        pool = singles if singles and rng.random() < self.settings.single_opposite_share else item.negatives
        return pool[int(rng.integers(len(pool)))].caption

    def _embed_images(self, items: Sequence[CaptionItem]) -> Tensor:
        return F.normalize(self.clip.embed_features(self._features.of(items)), dim=-1)

    def _embed_texts(self, captions: Sequence[str]) -> Tensor:
        unique = list(dict.fromkeys(captions))
        place = {caption: i for i, caption in enumerate(unique)}
        lots = [unique[start : start + _TEXT_BATCH] for start in range(0, len(unique), _TEXT_BATCH)]
        embedded = torch.cat([F.normalize(self.clip.embed_texts(lot), dim=-1) for lot in lots])
        return embedded[self.clip.here(torch.tensor([place[caption] for caption in captions]))]
