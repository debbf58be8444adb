"""One adapter for every open_clip model: the packaged tiny one, registry names, local checkpoints."""

from __future__ import annotations

import copy
import hashlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from rls3_gym.sample import Sample, decode_samples, encode_items
from rls3_gym.scene.relations import Term
from rls3_gym.vlm.base import Feedback, FineTuneReport
from rls3_gym.vlm.losses import contrastive_loss, hard_negative_loss
from rls3_gym.vlm.open_clip.clip_model import ClipModel
from rls3_gym.vlm.open_clip.features import FeatureCache
from rls3_gym.vlm.open_clip.weights import load_clip
from rls3_gym.vlm.settings import FineTuneSettings, finetune_settings

_EVALUATION_BATCH = 256


class OpenClipVLM:
    """A contrastive VLM that scores samples by image-text similarity and learns with the dual loss."""

    def __init__(self, name: str, clip: ClipModel, settings: FineTuneSettings) -> None:
        """`clip` is taken over and changed by fine-tuning. Raises `UserError` when nothing would train."""
        self.name = name
        self.clip = clip
        self.image_size = clip.image_size
        self.settings = settings
        self._trainable = clip.set_trainable(settings.train)
        self._features = FeatureCache(clip)
        self._optimizer = self._new_optimizer()
        self._replay: list[Sample] = []
        self._digest: str | None = None

    @classmethod
    def from_yaml(cls, name: str, options: Mapping[str, Any], finetune: Mapping[str, Any], where: str) -> OpenClipVLM:
        """The VLM that a YAML file (`where`) describes. Raises `UserError` for an unknown key or unreadable weights."""
        return cls(name, load_clip(options, where), finetune_settings(finetune, where))

    # ------------------------------------------------------------------ scoring

    def evaluate(self, samples: Sequence[Sample]) -> Feedback:
        """Score samples, (n,) arrays in their order; see `Feedback`. The model stays as it is."""
        parts = [
            self._evaluate_batch(samples[start : start + _EVALUATION_BATCH])
            for start in range(0, len(samples), _EVALUATION_BATCH)
        ]
        return _joined(parts)

    def similarities(self, samples: Sequence[Sample], captions: Sequence[str]) -> Tensor:
        """(n samples, m captions) logits; no gradients."""
        with torch.inference_mode():
            images = self._embed_images(samples)
            return self.scale() * images @ self._embed_texts(captions).T

    def _evaluate_batch(self, samples: Sequence[Sample]) -> Feedback:
        captions = [c for s in samples for c in (s.caption, *(n.caption for n in s.negatives))]
        counts = np.array([1 + len(s.negatives) for s in samples])
        owner = np.repeat(np.arange(len(samples)), counts)
        with torch.inference_mode():
            images = self._embed_images(samples)
            texts = self._embed_texts(captions)
            flat = (self.scale() * (images[torch.from_numpy(owner)] * texts).sum(-1)).float().cpu().numpy()
        width = int(counts.max())
        logits = np.full((len(samples), width), -np.inf, np.float32)
        column = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
        logits[owner, column] = flat
        return feedback_from_logits(samples, logits)

    def _embed_images(self, samples: Sequence[Sample]) -> Tensor:
        self.clip.model.eval()
        return F.normalize(self.clip.embed_features(self._features.of(samples)), dim=-1)

    def _embed_texts(self, captions: Sequence[str]) -> Tensor:
        unique = list(dict.fromkeys(captions))
        index = {caption: i for i, caption in enumerate(unique)}
        embedded = torch.cat(
            [
                F.normalize(self.clip.embed_texts(unique[start : start + 1024]), dim=-1)
                for start in range(0, len(unique), 1024)
            ]
        )
        return embedded[torch.tensor([index[c] for c in captions])]

    def scale(self) -> Tensor:
        """The logit scale, capped."""
        return self.clip.model.get_parameter("logit_scale").exp().clamp(max=self.settings.max_logit_scale)

    # ------------------------------------------------------------------ learning

    def finetune(self, samples: Sequence[Sample], rng: np.random.Generator) -> FineTuneReport:
        """One round on `samples`. On a non-finite loss or a collapse the weights of before are restored."""
        started = time.perf_counter()
        before, digest_before = self._snapshot(), self.digest()
        losses, failure = self._train(samples, rng)
        if failure is None:
            failure = self._collapsed(samples)
        if failure is not None:
            self._restore(before)
        else:
            self._replay = [*self._replay, *samples][-self.settings.replay_capacity :]
        self._digest = None
        table = np.array(losses, np.float64).reshape(-1, 3)
        tenth = max(1, len(table) // 10)
        mean = [float(v) for v in table.mean(0)] if len(table) else [float("nan")] * 3
        return FineTuneReport(
            n_samples=len(samples),
            optimizer_steps=len(table),
            loss_first=float(table[:tenth, 0].mean()) if len(table) else float("nan"),
            loss_last=float(table[-tenth:, 0].mean()) if len(table) else float("nan"),
            contrastive=mean[1],
            hard_negative=mean[2],
            digest_before=digest_before,
            digest_after=self.digest(),
            seconds=time.perf_counter() - started,
            rolled_back=failure,
        )

    def _train(self, samples: Sequence[Sample], rng: np.random.Generator) -> tuple[list[list[float]], str | None]:
        losses: list[list[float]] = []
        self._features.prepare(samples)
        for step, batch in enumerate(self.batches(samples, rng)):
            values = self.train_step(batch, rng, warmup=min(1.0, (step + 1) / max(1, self.settings.warmup_steps)))
            losses.append(values)
            if not np.isfinite(values[0]):
                return losses, f"the loss became {values[0]} at step {step + 1}"
        return losses, None

    def batches(self, samples: Sequence[Sample], rng: np.random.Generator) -> list[list[Sample]]:
        """The round's batches: new samples, reshuffled each pass, and the replay share of earlier ones."""
        s = self.settings
        n_old = int(s.batch_size * s.replay) if self._replay else 0
        n_new = s.batch_size - n_old
        n_steps = max(1, int(len(samples) * s.epochs / s.batch_size))
        order: list[int] = []
        while len(order) < n_steps * n_new:
            order.extend(int(i) for i in rng.permutation(len(samples)))
        batches = []
        for step in range(n_steps):
            new = [samples[i] for i in order[step * n_new : (step + 1) * n_new]]
            old = [self._replay[int(i)] for i in rng.integers(len(self._replay), size=n_old)] if n_old else []
            batches.append(new + old)
        return batches

    def train_step(self, batch: Sequence[Sample], rng: np.random.Generator, warmup: float = 1.0) -> list[float]:
        """One optimizer step of the dual loss; returns total, contrastive and hard-negative loss (nats)."""
        s = self.settings
        self.clip.model.train()
        self.clip.freeze_statistics()
        captions = [sample.caption for sample in batch]
        negatives = [self._draw_negative(sample, rng) for sample in batch]
        features = self._features.of(batch)
        with torch.autocast("cpu", torch.bfloat16, enabled=s.precision == "bf16"):
            images = F.normalize(self.clip.embed_features(features), dim=-1)
            texts = F.normalize(self.clip.embed_texts([*captions, *negatives]), dim=-1)
        images, texts = images.float(), texts.float()
        true, false = texts[: len(batch)], texts[len(batch) :]
        ids = np.unique(captions, return_inverse=True)[1]
        same = torch.from_numpy(ids[:, None] == ids[None, :])
        scale = self.scale()
        contrastive = contrastive_loss(images, true, same, scale)
        hard = hard_negative_loss(images, true, false, scale)
        loss = s.contrastive_weight * contrastive + s.hard_negative_weight * hard
        values = [loss.item(), contrastive.item(), hard.item()]
        if np.isfinite(values[0]):
            for group in self._optimizer.param_groups:
                group["lr"] = s.learning_rate * warmup
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_([p for _, p in self._trainable], s.clip_norm)
            self._optimizer.step()
            self._digest = None
        return values

    def _draw_negative(self, sample: Sample, rng: np.random.Generator) -> str:
        singles = sample.opposites
        pool = singles if singles and rng.random() < self.settings.single_opposite_share else sample.negatives
        return pool[int(rng.integers(len(pool)))].caption

    def _collapsed(self, samples: Sequence[Sample]) -> str | None:
        """Whether the model can no longer tell pictures and captions apart; the reason, or None."""
        probe = list(samples[:64])
        similarity = self.similarities(probe, [s.caption for s in probe])
        if not torch.isfinite(similarity).all():
            return "similarities became non-finite"
        if len(probe) > 1 and float(similarity.std()) < 1e-3:
            return "the model collapsed: all image-text similarities are equal"
        return None

    # ------------------------------------------------------------------ state

    def _new_optimizer(self) -> torch.optim.AdamW:
        return torch.optim.AdamW(
            [p for _, p in self._trainable], lr=self.settings.learning_rate, weight_decay=self.settings.weight_decay
        )

    def _snapshot(self) -> dict[str, Any]:
        weights = {k: v.detach().clone() for k, v in self.clip.model.state_dict().items()}
        return {"weights": weights, "optimizer": copy.deepcopy(self._optimizer.state_dict())}

    def _restore(self, snapshot: Mapping[str, Any]) -> None:
        self.clip.model.load_state_dict(snapshot["weights"])
        self._optimizer = self._new_optimizer()
        self._optimizer.load_state_dict(copy.deepcopy(dict(snapshot["optimizer"])))
        self._digest = None

    def state(self) -> dict[str, Any]:
        """Weights by name, optimizer moments by position, and the replayed samples; tensors, arrays and JSON."""
        optimizer = self._optimizer.state_dict()["state"]
        return {
            "weights": {k: v.detach().clone() for k, v in self.clip.model.state_dict().items()},
            "optimizer": {str(i): {k: v.clone() for k, v in row.items()} for i, row in optimizer.items()},
            "replay": encode_items(self._replay),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`. Raises `RuntimeError` for weights of another architecture."""
        self.clip.model.load_state_dict(dict(state["weights"]))
        self._features.clear()
        self._optimizer = self._new_optimizer()
        if state["optimizer"]:
            fresh = self._optimizer.state_dict()
            fresh["state"] = {int(i): {k: v.clone() for k, v in row.items()} for i, row in state["optimizer"].items()}
            self._optimizer.load_state_dict(fresh)
        self._replay = decode_samples(state["replay"])
        self._digest = None

    def digest(self) -> str:
        """12 hex digits of the SHA-256 over all weights."""
        if self._digest is None:
            sha = hashlib.sha256()
            for name, tensor in sorted(self.clip.model.state_dict().items()):
                sha.update(name.encode())
                sha.update(tensor.detach().cpu().contiguous().numpy().tobytes())
            self._digest = sha.hexdigest()[:12]
        return self._digest


def feedback_from_logits(samples: Sequence[Sample], logits: np.ndarray[Any, np.dtype[np.float32]]) -> Feedback:
    """Feedback from (n, 1 + most negatives) logits: the true caption first, -inf where a sample has no more."""
    true, wrong = logits[:, :1], logits[:, 1:]
    margin = true[:, 0] - wrong.max(1)
    exp = np.exp(logits - logits.max(1, keepdims=True))
    p_true = exp[:, 0] / exp.sum(1)
    by_term = np.full((len(samples), len(Term)), np.nan, np.float32)
    p_opposite = np.zeros(len(samples), np.float32)
    for i, sample in enumerate(samples):
        singles = len(sample.opposites)
        gaps = true[i, 0] - wrong[i, :singles]
        for negative, gap in zip(sample.opposites, gaps, strict=True):
            if negative.term is not None:
                by_term[i, negative.term] = float(gap > 0)
        p_opposite[i] = (1 / (1 + np.exp(-np.clip(gaps, -60, 60)))).mean() if singles else float(margin[i] > 0)
    known = ~np.isnan(by_term)
    with np.errstate(invalid="ignore"):
        pairwise = np.where(known.any(1), np.where(known, by_term, 0).sum(1) / known.sum(1), margin > 0)
    return Feedback(
        correct=margin > 0,
        pairwise=pairwise.astype(np.float32),
        by_term=by_term,
        margin=margin.astype(np.float32),
        hardest=wrong.argmax(1),
        loss=(-np.log(np.maximum(p_true, 1e-30))).astype(np.float32),
        p_true=p_true.astype(np.float32),
        p_opposite=p_opposite,
    )


def _joined(parts: Sequence[Feedback]) -> Feedback:
    if not parts:
        raise ValueError("there are no samples to evaluate")
    if len(parts) == 1:
        return parts[0]
    fields = Feedback.__dataclass_fields__
    return Feedback(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in fields})
