"""A generative model with what the adapter needs of it: how likely answers are, their loss, and answers of its own.

An answer is scored by the mean log-likelihood of its tokens, the one that ends it included. The prompt with its picture
is gone through once, whatever the number of answers; prompts of one length go together, so that none is padded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from rls3_gym.vlm.base import Float
from rls3_gym.vlm.transformers.library import transformers
from rls3_gym.vlm.transformers.prompt_formats import prompt_format

_PROMPTS = 64
"""Most prompts gone through at once."""
_KEPT = 200_000
"""Most answers whose token ids are kept."""
_LOGITS = 2**28
"""Most logits computed at once."""


@dataclass(frozen=True, eq=False)
class Prompt:
    """A picture (height, width, 3) uint8 and what is asked about it."""

    picture: NDArray[np.uint8]
    text: str


class GenerativeModel:
    """A model of transformers that goes from picture and text to text."""

    def __init__(self, module: Any, processor: Any) -> None:
        """`module` is used as it is, on its device."""
        self.module = module
        self.processor = processor
        self.format = prompt_format(module.config.model_type, processor)
        self.vocabulary = int(module.get_input_embeddings().weight.shape[0])
        self._prefixes: dict[tuple[str, tuple[int, ...]], dict[str, Tensor]] = {}
        self._answers: dict[str, list[int]] = {}

    @property
    def device(self) -> torch.device:
        return next(self.module.parameters()).device  # type: ignore[no-any-return]

    # ------------------------------------------------------------------ scoring

    @torch.inference_mode()
    def log_likelihoods(self, prompts: Sequence[Prompt], answers: Sequence[Sequence[str]]) -> list[Float]:
        """For each prompt, the mean log-likelihoods (nats per token) of its answers, of which there is at least one."""
        scores: list[Float] = [np.zeros(0, np.float32)] * len(prompts)
        for lot in self._lots(prompts, [len(some) for some in answers]):
            for place, row in zip(lot, self._score([prompts[i] for i in lot], [answers[i] for i in lot]), strict=True):
                scores[place] = row[: len(answers[place])]
        return scores

    def _score(self, prompts: Sequence[Prompt], answers: Sequence[Sequence[str]]) -> Float:
        """(prompts, most answers); the table is filled up by the first answer of each row."""
        width = max(len(some) for some in answers)
        tokens = [self._answer(text) for some in answers for text in (*some, *[some[0]] * (width - len(some)))]
        ids, known = self._padded(tokens)
        prefix = self._prefixed(prompts)
        begun = self.module(**prefix, use_cache=True, logits_to_keep=1)
        first, past, length = begun.logits, begun.past_key_values, prefix["input_ids"].shape[1]
        past.batch_repeat_interleave(width)
        seen = torch.cat([known.new_ones(len(ids), length), known], dim=1)
        going_on = self.format.continuing(self.module, length, ids)
        rest = self.module(input_ids=ids, attention_mask=seen, past_key_values=past, use_cache=True, **going_on).logits
        logits = torch.cat([first.repeat_interleave(width, dim=0), rest[:, :-1]], dim=1)
        scores: Float = _mean_log_likelihood(logits, ids, known).view(len(prompts), width).cpu().numpy()
        return scores

    # ------------------------------------------------------------------ teaching

    def loss(self, prompts: Sequence[Prompt], answers: Sequence[str], features: Tensor | None = None) -> Tensor:
        """Minus the mean log-likelihood of the answers, nats per token, with gradients. Scalar.

        `features` (n, tokens, width): what `get_image_features` makes of the pictures, where that is known.
        """
        prefixes = [self._prefix(prompt) for prompt in prompts]
        rows = [self._answer(text) for text in answers]
        lengths = [len(prefix["input_ids"][0]) for prefix in prefixes]
        ids, known = self._padded([p["input_ids"][0].tolist() + row for p, row in zip(prefixes, rows, strict=True)])
        position = torch.arange(ids.shape[1], device=ids.device)
        answered = (position >= torch.tensor(lengths, device=ids.device)[:, None]) & (known > 0)
        types = self.format.answer_types(ids)
        for name, rest in types.items():
            for i, prefix in enumerate(prefixes):
                rest[i, : lengths[i]] = self.format.prefix_types(prefix)[name][0]
        pictures = self._seen([prompt.picture for prompt in prompts]) if features is None else _shown(features)
        keep = ids.shape[1] - min(lengths) + 1
        out = self.module(
            input_ids=ids, attention_mask=known, **types, **pictures, use_cache=False, logits_to_keep=keep
        )
        logits, target = out.logits[:, :-1], ids[:, 1 - keep :]
        return -_mean_log_likelihood(logits, target, answered[:, 1 - keep :].long()).mean()

    # ------------------------------------------------------------------ writing

    @torch.inference_mode()
    def write(self, prompts: Sequence[Prompt], max_new_tokens: int) -> list[str]:
        """The answer to each prompt, token by token the likeliest, without the token that ends it."""
        texts = [""] * len(prompts)
        for lot in self._lots(prompts, [1] * len(prompts)):
            written = self._write([prompts[i] for i in lot], max_new_tokens)
            for place, ids in zip(lot, written, strict=True):
                texts[place] = self.processor.tokenizer.decode(ids, skip_special_tokens=True).strip()
        return texts

    def _write(self, prompts: Sequence[Prompt], max_new_tokens: int) -> list[list[int]]:
        end = self._answer("")[-1]
        prefix = self._prefixed(prompts)
        out = self.module(**prefix, use_cache=True, logits_to_keep=1)
        past, length = out.past_key_values, prefix["input_ids"].shape[1]
        written: list[Tensor] = []
        going = torch.ones(len(prompts), dtype=torch.bool, device=self.device)
        while True:
            token = out.logits[:, -1].argmax(-1)
            going = going & (token != end)
            written.append(torch.where(going, token, end))
            if len(written) == max_new_tokens or not bool(going.any()):
                break
            ids, so_far = token[:, None], length + len(written)
            seen = ids.new_ones(len(prompts), so_far)
            going_on = self.format.continuing(self.module, so_far - 1, ids)
            out = self.module(input_ids=ids, attention_mask=seen, past_key_values=past, use_cache=True, **going_on)
        rows = torch.stack(written, dim=1).tolist()
        return [row[: row.index(end)] if end in row else row for row in rows]

    # ------------------------------------------------------------------ inputs

    def _lots(self, prompts: Sequence[Prompt], widths: Sequence[int]) -> Iterator[list[int]]:
        """Places of prompts that can be gone through at once: of one length, with about as many answers each."""
        keys = [
            (self._prefix(p)["input_ids"].shape[1], p.picture.shape, n) for p, n in zip(prompts, widths, strict=True)
        ]
        order = sorted(range(len(prompts)), key=keys.__getitem__)
        lot: list[int] = []
        for i in order:
            rows = (len(lot) + 1) * keys[i][2]
            full = len(lot) == _PROMPTS or rows * self.vocabulary * _TOKENS > _LOGITS
            if lot and (full or keys[i][:2] != keys[lot[0]][:2]):
                yield lot
                lot = []
            lot.append(i)
        if lot:
            yield lot

    def prefix_ids(self, prompt: Prompt) -> Tensor:
        """(length,) token ids of a prompt, those that stand for the picture included."""
        return self._prefix(prompt)["input_ids"][0]

    def _prefix(self, prompt: Prompt) -> dict[str, Tensor]:
        """Token ids (1, length) of a prompt, and what else is said of its tokens; all follow from text and size."""
        key = (prompt.text, prompt.picture.shape)
        if key not in self._prefixes:
            made = self.processor(
                images=[_channels_first(prompt.picture)], text=[self.format.prompt(prompt.text)], return_tensors="pt"
            )
            self._prefixes[key] = {
                name: made[name].to(self.device) for name in ("input_ids", "mm_token_type_ids") if name in made
            }
        return self._prefixes[key]

    def _prefixed(self, prompts: Sequence[Prompt]) -> dict[str, Any]:
        """Inputs of prompts that have one length."""
        made = [self._prefix(prompt) for prompt in prompts]
        prefix = {name: torch.cat([one[name] for one in made]) for name in made[0]}
        ids = prefix["input_ids"]
        types = self.format.prefix_types(prefix)
        pictures = self._seen([prompt.picture for prompt in prompts])
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), **types, **pictures}

    def _seen(self, pictures: Sequence[NDArray[np.uint8]]) -> dict[str, Any]:
        """What the vision tower makes of pictures; it looks at each once, however often it is among them."""
        once = {id(picture): picture for picture in pictures}
        number = {key: n for n, key in enumerate(once)}
        places = [number[id(picture)] for picture in pictures]
        pixels = self.processor.image_processor(
            images=[[_channels_first(p)] for p in once.values()], return_tensors="pt"
        )
        inputs = {name: value.to(self.device) for name, value in pixels.items() if isinstance(value, Tensor)}
        features = self.module.get_image_features(**inputs, return_dict=True).pooler_output
        listed = not isinstance(features, Tensor)  # by picture already, of different lengths
        parts = list(features) if listed else features.chunk(len(once))
        shown = [parts[place] for place in places]
        grid = {"image_grid_thw": inputs["image_grid_thw"][places]} if "image_grid_thw" in inputs else {}
        return _shown(tuple(shown) if listed else torch.cat(shown)) | grid

    def _answer(self, text: str) -> list[int]:
        """Token ids of an answer, to be put behind a prompt."""
        if text not in self._answers:
            ids: list[int] = self.processor.tokenizer(self.format.answer(text), add_special_tokens=False)["input_ids"]
            if len(self._answers) >= _KEPT:
                self._answers.clear()
            self._answers[text] = ids
        return self._answers[text]

    def _padded(self, rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Token ids (n, length), filled up on the right, and which of them are known (1) or filled up (0)."""
        length = max(len(row) for row in rows)
        ids = torch.tensor([[*row, *[row[-1]] * (length - len(row))] for row in rows])
        known = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows])
        return ids.to(self.device), known.to(self.device)


_TOKENS = 24
"""About as many has an answer."""


def _shown(features: Tensor | tuple[Tensor, ...]) -> dict[str, Any]:
    """The model's input that stands for pictures it has looked at already."""
    found = transformers.modeling_outputs.BaseModelOutputWithPooling(pooler_output=features)
    return {"mm_encoder_outputs": {"image": found}}


def _mean_log_likelihood(logits: Tensor, ids: Tensor, known: Tensor) -> Tensor:
    """(n,) means over the tokens that are `known` of (n, length, vocabulary) logits, (n, length) ids."""
    n, length, size = logits.shape
    each = -F.cross_entropy(logits.reshape(-1, size).float(), ids.reshape(-1), reduction="none").view(n, length)
    return (each * known).sum(1) / known.sum(1)


def _channels_first(picture: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)
