"""One adapter for every generative VLM that transformers loads as image-text-to-text."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from rls3_gym.sample import CaptionItem
from rls3_gym.vlm.answers import agreement, parsed
from rls3_gym.vlm.base import Feedback, FineTuneReport, Float, Reading
from rls3_gym.vlm.feedback import captions_of, feedback_from_logits, join_feedback, logits_table
from rls3_gym.vlm.finetuner import Finetuner
from rls3_gym.vlm.transformers.folder import save_folder
from rls3_gym.vlm.transformers.generative_model import GenerativeModel, Prompt
from rls3_gym.vlm.transformers.loading import folder_of, load_pretrained
from rls3_gym.vlm.transformers.settings import LOSSES, TransformersFineTuneSettings, TransformersSettings
from rls3_registry.errors import UserError
from rls3_registry.validation import check

_ITEMS = 256
"""Most items scored at once."""


class TransformersVLM:
    """A generative VLM: captions are scored by their likelihood, or by how well its own answer agrees with them."""

    def __init__(self, settings: Mapping[str, Any], *, name: str, finetune: Mapping[str, Any]) -> None:
        """See `TransformersSettings` and `TransformersFineTuneSettings`. Raises `UserError` for a wrong key or value,
        for a model that doesn't load, and when nothing would train."""
        self.name = name
        self.settings = check(TransformersFineTuneSettings, finetune, section="finetune")
        self.source = check(TransformersSettings, settings, section="settings")
        if self.source.quantize and self.settings.lora is None:
            raise UserError("settings.quantize: weights in few bits can't be trained; give finetune.lora")
        self.model = GenerativeModel(*load_pretrained(self.source))
        self.image_size = self.source.image_size or _image_size(self.model)
        self._tuner = Finetuner(self.model.module, self.settings, LOSSES)

    @staticmethod
    def reaches_for(settings: Mapping[str, Any]) -> list[str]:
        """The model that would be fetched from the hub (`rls3_registry.trust`)."""
        model = str(settings.get("model", ""))
        return [] if not model or folder_of(model) is not None else [model]

    def evaluate(self, items: Sequence[CaptionItem]) -> Feedback:
        """See `VLM.evaluate`; in the reading that the settings name."""
        return self.evaluate_as(items, self.source.reading)

    def evaluate_as(self, items: Sequence[CaptionItem], reading: Reading) -> Feedback:
        """See `GenerativeVLM.evaluate_as`."""
        logits = self._agreements if reading == "generation" else self.logits
        lots = [items[start : start + _ITEMS] for start in range(0, len(items), _ITEMS)]
        return join_feedback([feedback_from_logits(lot, logits(lot)) for lot in lots])

    def answers(self, items: Sequence[CaptionItem]) -> list[str]:
        """See `GenerativeVLM.answers`."""
        return self.model.write([self._prompt(item, item.caption) for item in items], self.source.max_new_tokens)

    def finetune(self, items: Sequence[CaptionItem], rng: np.random.Generator) -> FineTuneReport:
        """See `VLM.finetune`."""
        return self._tuner.teach(items, rng, self.losses, self.logits)

    def state(self) -> dict[str, Any]:
        """See `VLM.state`."""
        return self._tuner.state()

    def weights(self) -> dict[str, Any]:
        """See `WeightsVLM.weights`."""
        return self._tuner.weights()

    def save_folder(self, folder: Path) -> str:
        """See `FolderVLM.save_folder`."""
        if self.source.quantize:
            raise UserError(
                f"settings.quantize: a model in {self.source.quantize} weights can't be written as a folder"
            )
        return save_folder(self.model, self.source, folder)

    def load_state(self, state: Mapping[str, Any]) -> None:
        """See `VLM.load_state`."""
        self._tuner.load_state(state)

    def digest(self) -> str:
        """See `VLM.digest`."""
        return self._tuner.digest()

    def nudged(self, items: Sequence[CaptionItem], rng: np.random.Generator, share: float) -> TransformersVLM:
        """See `GradientVLM.nudged`."""
        twin = copy.deepcopy(self)
        twin._tuner.nudge(items, rng, twin.losses, share)
        return twin

    def logits(self, items: Sequence[CaptionItem]) -> Float:
        """(n, 1 + most negatives) scaled mean log-likelihoods of captions, each under its own prompt; the true
        caption's first, -inf where an item has no more."""
        captions, owners = captions_of(items)
        asked: dict[tuple[int, str], list[int]] = {}
        for place, (caption, owner) in enumerate(zip(captions, owners.tolist(), strict=True)):
            asked.setdefault((owner, self._question(caption)), []).append(place)
        prompts = [Prompt(items[owner].rgb, text) for owner, text in asked]
        scores = self.model.log_likelihoods(prompts, [[captions[i] for i in places] for places in asked.values()])
        logits = np.zeros(len(captions), np.float32)
        for places, values in zip(asked.values(), scores, strict=True):
            logits[places] = self.source.scale * values
        return logits_table(owners, logits)

    def losses(self, batch: Sequence[CaptionItem], rng: np.random.Generator) -> dict[str, Tensor]:
        """The language-model loss of the true captions, nats per token."""
        prompts = [self._prompt(item, item.caption) for item in batch]
        return {"language": self.model.loss(prompts, [item.caption for item in batch])}

    def _agreements(self, items: Sequence[CaptionItem]) -> Float:
        """As `logits`: how well the VLM's own answer agrees with each caption."""
        captions, owners = captions_of(items)
        said = self.answers(items)
        about = [parsed(item.caption) for item in items]
        agreed = [agreement(said[i], caption, about[i]) for caption, i in zip(captions, owners.tolist(), strict=True)]
        return logits_table(owners, self.source.scale * np.array(agreed, np.float32))

    def _prompt(self, item: CaptionItem, caption: str) -> Prompt:
        return Prompt(item.rgb, self._question(caption))

    def _question(self, caption: str) -> str:
        """What a caption is the answer to."""
        about = parsed(caption)
        if about is None:
            return self.source.prompt
        return self.source.question.format(a=about.kind_a, b=about.kind_b)


def _image_size(model: GenerativeModel) -> int:
    """The side of the pictures that the model's processor makes, pixels."""
    size = getattr(model.processor.image_processor, "size", None) or {}
    return int(size.get("height") or getattr(model.module.config.vision_config, "image_size", None) or 224)
