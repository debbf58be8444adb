"""Pre-training the tiny CLIP, in three stages: the text tower alone, both towers, both with the image stem frozen.

The dual loss on presence, location and comparison captions, and auxiliary losses whose heads are thrown away: which
kind stands in which cell of the 8x8 tokens; and, with one linear head on the embeddings of *both* towers, which kinds
are there and where. Without the text tower's share of that head, 4,000 samples taught the model no relation at all.
Nothing is taught about relation words.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rls3_gym.pretraining.pretraining_captions import CaptionWriter, Written
from rls3_gym.pretraining.scenes import GRID, IMAGE_SIZE, SceneTable
from rls3_gym.vlm.losses import contrastive_loss, hard_negative_loss, same_caption
from rls3_gym.vlm.open_clip.clip_model import ClipModel
from rls3_gym.vlm.open_clip.preprocessing import Preprocessing
from rls3_gym.vlm.open_clip.tokenizer import CompactTokenizer
from rls3_gym.vlm.open_clip.weights import open_clip_module
from rls3_gym.vlm.seeding import seeded_torch
from rls3_registry.errors import UserError

CONTEXT_LENGTH = 24
EMBED_DIM = 256
PREPROCESSING = {"mean": [0.5] * 3, "std": [0.5] * 3, "resize_mode": "squash"}


@dataclass(frozen=True)
class PretrainSettings:
    """What `rls3 pretrain` runs with; written into the model card."""

    scenes_per_layout: int = 500
    text_steps: int = 700
    """Steps of the text tower alone: what captions say of each kind."""
    stem_steps: int = 1000
    """Steps of both towers, before the image tower's stem is frozen and its features kept: three times faster then."""
    frozen_steps: int = 1200
    """Steps of both towers with the stem frozen."""
    batch_size: int = 128
    learning_rate: float = 1e-3
    final_learning_rate_share: float = 0.03
    warmup_steps: int = 100
    weight_decay: float = 0.02
    clip_norm: float = 1.0
    location_share: float = 0.35
    """Share of a batch with location captions."""
    comparison_share: float = 0.3
    """Share of a batch with comparison captions; the rest has presence captions."""
    cell_weight: float = 1.0
    """Weight of the per-cell kind loss."""
    coordinate_weight: float = 1.0
    """Weight of the presence-and-coordinates loss on the image embedding."""
    meaning_weight: float = 1.0
    """Weight of the same loss on the text embedding: what a caption says of each kind."""
    max_logit_scale: float = 60.0
    threads: int = 2
    seed: int = 0

    @property
    def steps(self) -> int:
        """All steps."""
        return self.text_steps + self.stem_steps + self.frozen_steps

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def model_config(vocab_size: int) -> dict[str, Any]:
    """open_clip's description of the model, as written to `open_clip_config.json`."""
    return {
        "model_cfg": {
            "embed_dim": EMBED_DIM,
            "custom_text": True,
            "vision_cfg": {
                "image_size": IMAGE_SIZE,
                "timm_model_name": "rls3_scene_tower",
                "timm_pool": "",
                "timm_proj": "",
            },
            "text_cfg": {
                "context_length": CONTEXT_LENGTH,
                "vocab_size": vocab_size,
                "width": 128,
                "heads": 4,
                "layers": 2,
                "mlp_ratio": 2.0,
                "no_causal_mask": True,
                "pool_type": "none",
            },
        },
        "preprocess_cfg": PREPROCESSING,
    }


def new_model(tokenizer: CompactTokenizer, seed: int) -> ClipModel:
    """The untrained tiny CLIP."""
    open_clip_module()
    from open_clip.model import CustomTextCLIP

    config = model_config(tokenizer.vocab_size)["model_cfg"]
    del config["custom_text"]
    with seeded_torch(seed):
        model = CustomTextCLIP(**config)
        # CLIP's small initial embeddings suit its long training; here the words must differ from the start.
        nn.init.normal_(model.text.token_embedding.weight, std=0.3)
        nn.init.normal_(model.text.positional_embedding, std=0.1)
    return ClipModel(model, tokenizer, Preprocessing.of({"size": IMAGE_SIZE, **PREPROCESSING}))


_READ_OUT = (0, 2, 1)
"""Position of the camera axes x, y, z among the coordinates that the heads read out (x, z, height)."""


class AuxiliaryHeads(nn.Module):
    """Linear read-outs that exist during pre-training only."""

    def __init__(self, n_kinds: int, width: int = 128) -> None:
        super().__init__()
        self.n_kinds = n_kinds
        self.cell = nn.Linear(width, n_kinds + 1)
        self.scene = nn.Linear(EMBED_DIM, 4 * n_kinds)

    def loss(
        self, tokens: Tensor, embedding: Tensor, cells: Tensor, present: Tensor, places: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Per-cell kind loss and presence-and-coordinates loss.

        `cells` (n, 64) kind index or n_kinds for none; `present` (n, kinds); `places` (n, kinds, 3) scaled.
        """
        weight = torch.ones(self.n_kinds + 1)
        weight[-1] = 0.1
        by_cell = F.cross_entropy(self.cell(tokens).flatten(0, 1), cells.flatten(), weight=weight)
        return by_cell, self.scene_loss(embedding, present, places)

    def scene_loss(self, embedding: Tensor, present: Tensor, places: Tensor) -> Tensor:
        """Presence of every kind and coordinates of those present, read off embeddings (n, d) of either tower."""
        out = self.scene(embedding).view(-1, self.n_kinds, 4)
        presence = F.binary_cross_entropy_with_logits(out[..., 0], present)
        squared = ((out[..., 1:] - places) ** 2).mean(-1)
        return presence + 3 * (squared * present).sum() / present.sum()  # type: ignore[no-any-return]

    def meaning_loss(self, embedding: Tensor, written: Sequence[Written]) -> Tensor:
        """What captions say, read off their text embeddings; axes a caption does not mention are 0."""
        present = torch.zeros(len(written), self.n_kinds)
        places = torch.zeros(len(written), self.n_kinds, 3)
        for row, one in enumerate(written):
            for kind, values in one.meaning.items():
                present[row, kind] = 1
                for axis, value in values.items():
                    places[row, kind, _READ_OUT[axis]] = value
        return self.scene_loss(embedding, present, places)


class Targets:
    """What the auxiliary heads are asked, as tensors over the whole table."""

    def __init__(self, table: SceneTable, n_kinds: int) -> None:
        n = len(table)
        cells = np.full((n, GRID * GRID), n_kinds, np.int64)
        present = np.zeros((n, n_kinds), np.float32)
        places = np.zeros((n, n_kinds, 3), np.float32)
        for slot in range(table.kinds.shape[1]):
            rows = np.flatnonzero(table.kinds[:, slot] >= 0)
            kinds = table.kinds[rows, slot]
            cells[rows, table.cells[rows, slot]] = kinds
            present[rows, kinds] = 1
            x, z = table.positions[rows, slot, 0], table.positions[rows, slot, 2]
            places[rows, kinds] = np.stack([1.4 * x, 1.8 * (z - 2.3), 1.8 * (table.heights[rows, slot] - 0.4)], 1)
        self.cells, self.present, self.places = (torch.from_numpy(a) for a in (cells, present, places))


class Pretraining:
    """A run of pre-training that can be stopped after any step and taken up again."""

    def __init__(
        self, table: SceneTable, names: Sequence[str], tokenizer: CompactTokenizer, settings: PretrainSettings
    ) -> None:
        """Deterministic for a seed and a number of threads. `names`: the training kinds, as the table numbers them."""
        self.settings = settings
        self.clip = new_model(tokenizer, settings.seed)
        with seeded_torch(settings.seed + 1):
            self._heads = AuxiliaryHeads(len(names))
        self._table = table
        self._targets, self._writer = Targets(table, len(names)), CaptionWriter(table, names)
        self._parameters = [*self.clip.model.parameters(), *self._heads.parameters()]
        self._optimizer = torch.optim.AdamW(
            self._parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        self._rng = np.random.default_rng([settings.seed, 2])
        self._order: list[int] = []
        self._features: Tensor | None = None
        self.step = 0
        self.losses: dict[str, float] = {}
        """Running means of the four losses, nats."""

    @property
    def steps(self) -> int:
        """How many there will be."""
        return self.settings.steps

    def advance(self) -> None:
        """One optimizer step."""
        s = self.settings
        rows = self._next_rows()
        alone = self.step < s.text_steps
        pairs = [self._write(row, i / s.batch_size) for i, row in enumerate(rows)]
        for group in self._optimizer.param_groups:
            group["lr"] = s.learning_rate * learning_rate_share(self.step, s)
        if self.step >= s.text_steps + s.stem_steps and self._features is None:
            self._freeze_stem()
        self.clip.model.train()
        true, false = [one for one, _ in pairs], [one for _, one in pairs]
        parts = self._meaning(true, false) if alone else self._losses(rows, true, false)
        weights = {"cells": s.cell_weight, "scene": s.coordinate_weight, "meaning": s.meaning_weight}
        loss = torch.stack([weights.get(name, 1.0) * part for name, part in parts.items()]).sum()
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._parameters, s.clip_norm)
        self._optimizer.step()
        self.step += 1
        for name, part in parts.items():
            value = part.item()
            self.losses[name] = 0.98 * self.losses.get(name, value) + 0.02 * value

    def _write(self, row: int, ticket: float) -> tuple[Written, Written]:
        """A true and a false caption; `ticket` in [0, 1) is the scene's place in its batch."""
        s = self.settings
        if ticket < s.location_share:
            return self._writer.location(row, self._rng)
        if ticket < s.location_share + s.comparison_share:
            return self._writer.comparison(row, self._rng)
        return self._writer.presence(row, self._rng)

    def _next_rows(self) -> list[int]:
        size = self.settings.batch_size
        if len(self._order) < size:
            self._order = [int(i) for i in self._rng.permutation(len(self._table))]
        rows, self._order = self._order[:size], self._order[size:]
        return rows

    @property
    def _trunk(self) -> Any:
        return self.clip.model.visual.trunk  # type: ignore[union-attr]

    def _freeze_stem(self) -> None:
        """Compute the stem's features of all scenes once, in half precision as fine-tuning keeps them."""
        self._trunk.stem.requires_grad_(False).eval()
        kept = torch.empty((len(self._table), self._trunk.position.shape[-1], GRID, GRID), dtype=torch.float16)
        with torch.no_grad():
            for start in range(0, len(self._table), 256):
                pixels = self.clip.pixels(list(self._table.rgb[start : start + 256]))
                kept[start : start + 256] = self._trunk.forward_stem(pixels).half()
        self._features = kept

    def _stem_features(self, rows: list[int]) -> Tensor:
        if self._features is not None:
            return self._features[rows].float()
        return self._trunk.forward_stem(self.clip.pixels([self._table.rgb[row] for row in rows]))  # type: ignore[no-any-return]

    def _meaning(self, true: list[Written], false: list[Written]) -> dict[str, Tensor]:
        written = self.clip.embed_texts([one.caption for one in (*true, *false)])
        return {"meaning": self._heads.meaning_loss(written, [*true, *false])}

    def _losses(self, rows: list[int], true: list[Written], false: list[Written]) -> dict[str, Tensor]:
        tokens = self._trunk.forward_tokens(self._stem_features(rows))
        embedding = self._trunk.forward_pool(tokens)
        images = F.normalize(embedding, dim=-1)
        written = self.clip.embed_texts([one.caption for one in (*true, *false)])
        texts = F.normalize(written, dim=-1)
        right, wrong = texts[: len(rows)], texts[len(rows) :]
        same = same_caption([one.caption for one in true], self.clip.device)
        log_scale: Any = self.clip.model.logit_scale
        scale = log_scale.exp().clamp(max=self.settings.max_logit_scale)
        t = self._targets
        by_cell, by_scene = self._heads.loss(tokens, embedding, t.cells[rows], t.present[rows], t.places[rows])
        return {
            "contrastive": contrastive_loss(images, right, same, scale),
            "hard_negative": hard_negative_loss(images, right, wrong, scale),
            "cells": by_cell,
            "scene": by_scene,
            "meaning": self._heads.meaning_loss(written, [*true, *false]),
        }

    def save(self, path: Path) -> None:
        """Write all that `load` needs to continue; loadable with `weights_only=True`."""
        torch.save(
            {
                "settings": json.dumps(self.settings.as_dict(), sort_keys=True),
                "model": self.clip.model.state_dict(),
                "heads": self._heads.state_dict(),
                "optimizer": self._optimizer.state_dict(),
                "order": self._order,
                "rng": json.dumps(self._rng.bit_generator.state),
                "step": self.step,
                "losses": self.losses,
            },
            path.with_suffix(".part"),
        )
        path.with_suffix(".part").replace(path)

    def load(self, path: Path) -> None:
        """Continue from what `save` wrote. Raises `UserError` for another run's or an unreadable file."""
        try:
            state = torch.load(path, weights_only=True)
            settings = json.loads(state["settings"])
        except Exception as error:  # zip, unpickling and JSON errors have no narrower common base
            raise UserError(f"{path}: is not a checkpoint of `rls3 pretrain`; remove it to start over") from error
        if settings != self.settings.as_dict():
            raise UserError(f"{path}: belongs to a run with other settings; remove it to start over")
        self.clip.model.load_state_dict(state["model"])
        self._heads.load_state_dict(state["heads"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._order, self.step, self.losses = state["order"], state["step"], state["losses"]
        self._rng.bit_generator.state = json.loads(state["rng"])


def learning_rate_share(step: int, settings: PretrainSettings) -> float:
    """Warm-up and constant for the text tower alone; then warm-up again and a cosine down to the final share."""
    joint = step - settings.text_steps
    if joint < 0:
        return min(1.0, (step + 1) / settings.warmup_steps)
    if joint < settings.warmup_steps:
        return (joint + 1) / settings.warmup_steps
    along = (joint - settings.warmup_steps) / max(1, settings.steps - settings.text_steps - settings.warmup_steps)
    floor = settings.final_learning_rate_share
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * along))
