"""Second stage of the tiny PaliGemma: its language model learns to speak of what the frozen image tower sees.

By its own loss, on exchanges about scenes (`rls3_gym.pretraining.questions`), and by one more: after the first layer a
linear layer, thrown away later, reads off a kind's name in the prompt where that kind stands. Nothing is taught of
relation words but that they are the form of an answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rls3_gym.pretraining.generative_model import TEXT_WIDTH, kind_token, new_model, new_processor, wire
from rls3_gym.pretraining.generative_settings import GenerativeSettings
from rls3_gym.pretraining.questions import QuestionWriter
from rls3_gym.pretraining.scenes import SceneTable
from rls3_gym.pretraining.stages import Stage
from rls3_gym.pretraining.train import Targets
from rls3_gym.pretraining.vision_train import VisionStage, look_at_all
from rls3_gym.vlm.seeding import seeded_torch
from rls3_gym.vlm.transformers.generative_model import GenerativeModel, Prompt

_SOME = 500
"""Scenes that the first weights are adjusted to."""


class LanguageStage(Stage):
    """Trains language model and projector; see the module's docstring."""

    def __init__(
        self, table: SceneTable, names: Sequence[str], settings: GenerativeSettings, seeing: VisionStage
    ) -> None:
        """`names`: the training kinds, as the table numbers them; `seeing`: the first stage, complete."""
        processor = new_processor()
        module = new_model(processor, seeing.tower.eval(), settings.seed + 2)
        self.model = GenerativeModel(module, processor)
        self._features = look_at_all(module.model.vision_tower.eval(), table)
        tokens = [processor.tokenizer.convert_tokens_to_ids(kind_token(name)) for name in names]
        heads = seeing.heads
        wire(module, tokens, heads.kind, heads.place, self._features[:: -(-len(table) // _SOME)].float(), settings.seed)
        self._number = torch.full((len(processor.tokenizer),), -1)
        self._number[tokens] = torch.arange(len(tokens))
        with seeded_torch(settings.seed + 3):
            self._place = nn.Linear(TEXT_WIDTH, 3)
        shares = (settings.description_share, settings.place_share, settings.comparison_share)
        self._writer = QuestionWriter(table, names, shares)
        self._table, self._places = table, Targets(table, len(names)).places
        spoken = {"language": module.model.language_model, "projector": module.model.multi_modal_projector}
        parts = nn.ModuleDict({**spoken, "place": self._place})
        module.model.vision_tower.requires_grad_(False)
        super().__init__(parts, len(table), settings.language_batch_size, settings.language_steps, settings)

    def losses_of(self, rows: list[int]) -> dict[str, Tensor]:
        """The language-model loss, nats per token, and a mean squared error of places."""
        tickets = (self.rng.permutation(len(rows)) + 0.5) / len(rows)
        said = [self._writer.draw(row, float(t), self.rng) for row, t in zip(rows, tickets, strict=True)]
        prompts = [Prompt(self._table.rgb[row], one.prompt) for row, one in zip(rows, said, strict=True)]
        seen = self.model.module.model.multi_modal_projector(self._features[rows].float())
        first: list[Tensor] = []
        layer: Any = self.model.module.model.language_model.layers[0]
        hook = layer.register_forward_hook(lambda part, given, out: first.append(out))
        try:
            spoken = self.model.loss(prompts, [one.answer for one in said], seen)
        finally:
            hook.remove()
        return {"language": spoken, "places": self._place_loss(rows, prompts, first[0])}

    def _place_loss(self, rows: list[int], prompts: Sequence[Prompt], hidden: Tensor) -> Tensor:
        """Where the kinds that prompts name are, read off (n, length, width) states after the first layer."""
        told, true = [], []
        for i, (row, prompt) in enumerate(zip(rows, prompts, strict=True)):
            numbers = self._number[self.model.prefix_ids(prompt)]
            for at in torch.nonzero(numbers >= 0).flatten().tolist():
                told.append(hidden[i, at])
                true.append(self._places[row, numbers[at]])
        if not told:
            return hidden.sum() * 0
        return 3 * F.mse_loss(self._place(torch.stack(told)), torch.stack(true))
