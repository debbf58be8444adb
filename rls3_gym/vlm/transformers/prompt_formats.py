"""How families of models want a picture, a prompt and an answer put together. A new family is a class here only where
its own chat template does not say so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from rls3_registry.errors import UserError


class ChatFormat:
    """A user's turn with a picture and the assistant's answer, by the chat template that the model comes with."""

    def __init__(self, processor: Any) -> None:
        self.processor = processor
        if not (getattr(processor, "chat_template", None) or getattr(processor.tokenizer, "chat_template", None)):
            raise UserError("the model has no chat template, and its family no prompt format of its own here")

    def prompt(self, text: str) -> str:
        """All up to the answer, with the placeholder of the picture."""
        asked: str = self.processor.apply_chat_template(self._turn(text), add_generation_prompt=True)
        return asked

    def answer(self, text: str) -> str:
        """An answer as it follows the prompt, with the token that ends it."""
        said = {"role": "assistant", "content": [{"type": "text", "text": text}]}
        before = self.prompt("")
        whole: str = self.processor.apply_chat_template([*self._turn(""), said])
        if not whole.startswith(before):
            raise UserError("the model's chat template does not put an answer where it asks for one")
        return whole[len(before) :].rstrip("\n")

    def prefix_types(self, prefix: Mapping[str, Any]) -> dict[str, Tensor]:
        """What the model must be told of each of the (n, length) prompt tokens, besides the tokens."""
        return {}

    def answer_types(self, ids: Tensor) -> dict[str, Tensor]:
        """The same of the (n, length) tokens of answers; padding counts as answer."""
        return {}

    def continuing(self, model: Any, past: int, ids: Tensor) -> dict[str, Tensor]:
        """What the model must be told when (n, length) tokens of answers follow `past` cached ones."""
        return {}

    @staticmethod
    def _turn(text: str) -> list[dict[str, Any]]:
        return [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}]


class QwenFormat(ChatFormat):
    """Qwen-VL: positions have three axes, which follow from where the picture's tokens are."""

    def prefix_types(self, prefix: Mapping[str, Any]) -> dict[str, Tensor]:
        return {"mm_token_type_ids": prefix["mm_token_type_ids"]}

    def answer_types(self, ids: Tensor) -> dict[str, Tensor]:
        return {"mm_token_type_ids": torch.zeros_like(ids)}

    def continuing(self, model: Any, past: int, ids: Tensor) -> dict[str, Tensor]:
        # The model itself would take one position for each token of the attention mask, the cached ones too.
        shift = model.model.rope_deltas[0]
        line = torch.arange(past, past + ids.shape[1], device=ids.device) + shift
        return {"position_ids": line.expand(3, *ids.shape)}


class PaliGemmaFormat(ChatFormat):
    """PaliGemma: picture, bos, prompt, newline; then the answer. The prefix is seen in both directions.

    `token_type_ids` (0 prefix, 1 answer) must be passed always. Without them the library makes one mask or another,
    depending on padding and backend; one of them shows the answer to itself, without a warning.
    """

    def __init__(self, processor: Any) -> None:
        self.processor = processor  # there is no chat template, and none is needed

    def prompt(self, text: str) -> str:
        return f"{self.processor.image_token}{text}"  # bos and newline are added by the processor

    def answer(self, text: str) -> str:
        return text + str(self.processor.tokenizer.eos_token)

    def prefix_types(self, prefix: Mapping[str, Any]) -> dict[str, Tensor]:
        return {"token_type_ids": torch.zeros_like(prefix["input_ids"])}

    def answer_types(self, ids: Tensor) -> dict[str, Tensor]:
        return {"token_type_ids": torch.ones_like(ids)}

    def continuing(self, model: Any, past: int, ids: Tensor) -> dict[str, Tensor]:
        return self.answer_types(ids)


FORMATS: dict[str, type[ChatFormat]] = {
    "paligemma": PaliGemmaFormat,
    "qwen2_vl": QwenFormat,
    "qwen2_5_vl": QwenFormat,
}
"""By the `model_type` of a model's configuration; all others are asked by their chat template."""


def prompt_format(model_type: str, processor: Any) -> ChatFormat:
    """Raises `UserError` for a model that says nothing of how it is asked."""
    return FORMATS.get(model_type, ChatFormat)(processor)
