"""One adapter for every open_clip model: the packaged tiny one, names of open_clip's table, local checkpoints."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional as F

from rls3_gym.sample import CaptionItem
from rls3_gym.vlm.base import Feedback, FineTuneReport, Float
from rls3_gym.vlm.contrastive import ContrastiveSettings, contrastive_losses
from rls3_gym.vlm.feedback import captions_of, feedback_from_logits, join_feedback, logits_table
from rls3_gym.vlm.finetuner import Finetuner
from rls3_gym.vlm.losses import LOSSES
from rls3_gym.vlm.open_clip.clip_model import FeatureCache
from rls3_gym.vlm.open_clip.folder import save_folder
from rls3_gym.vlm.open_clip.layers import locked, tower_layers
from rls3_gym.vlm.open_clip.named import fetched_by, load_clip
from rls3_gym.vlm.open_clip.weights import OpenClipSettings
from rls3_registry.validation import check

_EVALUATION_BATCH = 256
_TEXT_BYTES = 2**26
"""What one layer's activations of the captions that are scored at once may take."""


class OpenClipFineTuneSettings(ContrastiveSettings):
    """How one round teaches a model of open_clip."""

    train: tuple[str, ...] = ("visual.*", "text.*", "logit_*")
    lock_image_unlocked_groups: int | None = Field(None, ge=0, le=1024)
    """As open_clip's option: the image tower is locked but for so many of its upper layer groups; 0 locks all of it.
    Left out, nothing is locked. `train` holds besides."""
    lock_text_unlocked_layers: int | None = Field(None, ge=0, le=1024)
    """The same of the text tower."""

    @model_validator(mode="after")
    def _locks_are_about_weights(self) -> OpenClipFineTuneSettings:
        locks = (self.lock_image_unlocked_groups, self.lock_text_unlocked_layers)
        if self.lora is not None and locks != (None, None):
            raise ValueError("with lora, lora.targets says which layers learn; leave out what locks a tower")
        return self


class OpenClipVLM:
    """A contrastive VLM that scores items by image-text similarity; `rls3_gym.vlm.contrastive` is how it learns."""

    def __init__(self, settings: Mapping[str, Any], *, name: str, finetune: Mapping[str, Any]) -> None:
        """See `OpenClipSettings` and `OpenClipFineTuneSettings`. Raises `UserError` for a wrong key or value, for
        weights that don't load, and when nothing would train."""
        self.name = name
        self.settings = check(OpenClipFineTuneSettings, finetune, section="finetune")
        self.source = check(OpenClipSettings, settings, section="settings")
        self.clip = load_clip(self.source)
        self.image_size = self.clip.image_size
        parts, layers = LOSSES[self.settings.loss].parts, tower_layers(self.clip.model, self.clip.public_name)
        fixed = locked(layers["visual"], self.settings.lock_image_unlocked_groups, "lock_image_unlocked_groups")
        fixed |= locked(layers["text"], self.settings.lock_text_unlocked_layers, "lock_text_unlocked_layers")
        towers = tuple(layers.values())
        self._tuner = Finetuner(self.clip.model, self.settings, parts, self.clip.public_name, towers, fixed)
        self.clip.note_trainable(self._tuner.trainable)
        self._features = FeatureCache(self.clip)

    @staticmethod
    def reaches_for(settings: Mapping[str, Any]) -> list[str]:
        """What would be fetched (`rls3_registry.trust`): weights by their tag, as `MODEL/TAG`; the description or the
        tokenizer of a text tower that is one of transformers."""
        return fetched_by(settings)

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

    def save_folder(self, folder: Path) -> str:
        """See `FolderVLM.save_folder`."""
        return save_folder(self.clip, self.source, folder)

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
            bias = self.bias()
            if bias is not None:
                similarities = similarities + bias
        return logits_table(owners, similarities.float().cpu().numpy())

    def losses(self, batch: Sequence[CaptionItem], rng: np.random.Generator) -> dict[str, Tensor]:
        """The parts of the loss, scalars in nats; `rng` draws each item's hard negative."""
        return contrastive_losses(self, self.settings, batch, rng)

    def embed_items(self, items: Sequence[CaptionItem]) -> Tensor:
        """See `DualEncoder.embed_items`."""
        return self.clip.embed_features(self._features.of(items))

    def embed_texts(self, captions: Sequence[str]) -> Tensor:
        """See `DualEncoder.embed_texts`."""
        return self.clip.embed_texts(captions)

    def scale(self) -> Tensor:
        """The logit scale, capped."""
        return self.clip.model.get_parameter("logit_scale").exp().clamp(max=self.settings.max_logit_scale)

    def bias(self) -> Tensor | None:
        """The logit bias of a SigLIP model; None for a CLIP."""
        bias: Tensor | None = self.clip.model.logit_bias  # type: ignore[assignment]
        return bias

    def full_precision(self) -> AbstractContextManager[Any]:
        """See `DualEncoder.full_precision`."""
        return self.clip.full_precision()

    def fit(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """See `FittingVLM.fit`."""
        return self.clip.preprocessing.fit(picture)

    def _embed_images(self, items: Sequence[CaptionItem]) -> Tensor:
        return F.normalize(self.clip.embed_features(self._features.of(items)), dim=-1)

    def _embed_texts(self, captions: Sequence[str]) -> Tensor:
        unique = list(dict.fromkeys(captions))
        place = {caption: i for i, caption in enumerate(unique)}
        at_once = self.clip.texts_in(_TEXT_BYTES)
        lots = [unique[start : start + at_once] for start in range(0, len(unique), at_once)]
        embedded = torch.cat([F.normalize(self.clip.embed_texts(lot), dim=-1) for lot in lots])
        return embedded[self.clip.here(torch.tensor([place[caption] for caption in captions]))]
