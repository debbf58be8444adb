"""The fine-tuner of every VLM: what trains, batches, replay, accumulation, precision, roll-back and state.

An adapter gives it a module when it is built, and two functions of itself when it teaches: `losses`, the loss of a few
items by name, and `logits`, their scores. All else that a round needs is here, whatever the model is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rls3_gym.sample import CaptionItem, decode_items, encode_items
from rls3_gym.vlm.base import FineTuneReport, Float
from rls3_gym.vlm.digest import ModuleDigest
from rls3_gym.vlm.ensemble import Ensemble
from rls3_gym.vlm.finetune_settings import FineTuneSettings
from rls3_gym.vlm.memory import forget_peak, peak_memory
from rls3_gym.vlm.optimizer import Towers, in_order, layer_scales, new_optimizer, set_rate
from rls3_gym.vlm.presence import PresenceProbe
from rls3_gym.vlm.snapshot import Snapshot
from rls3_gym.vlm.trainable import set_trainable, training
from rls3_registry.errors import SettingError, UserError, unknown

Losses = Callable[[Sequence[CaptionItem], np.random.Generator], Mapping[str, Tensor]]
"""Scalar losses of a batch by name, with gradients; called in training mode, under autocast where settings say bf16."""
Logits = Callable[[Sequence[CaptionItem]], Float]
"""(n, 1 + most negatives) logits of items as in `rls3_gym.vlm.feedback`; called in evaluation mode."""

Path = tuple[str, ...]
"""`("weights", name)` or `("optimizer", name, moment)`."""

_COLLAPSED = 1e-3
"""Standard deviation of logits below which a model counts as collapsed."""


class Finetuner:
    """Teaches a module in rounds."""

    def __init__(
        self,
        module: nn.Module,
        settings: FineTuneSettings,
        losses: Sequence[str],
        public_name: Callable[[str], str] = str,
        towers: Towers = (),
        locked: Collection[str] = (),
    ) -> None:
        """Freeze all that does not train, or put adapters beside it: see `rls3_gym.vlm.trainable`.

        Args:
            module: The whole model, on its device; it is changed by teaching, and left in evaluation mode.
            settings: How to teach.
            losses: Names of all losses that the adapter gives.
            public_name: From a parameter's name in the module to its name in settings and states.
            towers: The model's layers, where the adapter knows them: what `layer_decay` is about.
            locked: Public names of parameters that do not train, whatever `settings.train` says.

        Raises:
            UserError: A pattern that matches nothing, nothing left to train, a weight for an unknown loss, or no peft
                for adapters.
        """
        self.settings = settings
        self._module = module.eval()
        for name in settings.loss_weights:
            if name not in losses:
                raise SettingError("", ("finetune", "loss_weights"), f": {unknown('loss', name, losses)}")
        self.trainable = set_trainable(module, settings, public_name, locked)
        """The parameters that train, by their public names."""
        self._scales = layer_scales(self.trainable, settings, towers)
        self._ensemble = None if settings.ensemble_alpha == 1.0 else Ensemble(self.trainable, settings.ensemble_alpha)
        self._optimizer = new_optimizer(self.trainable, self._scales, settings)
        self._replay: list[CaptionItem] = []
        self._before = Snapshot()
        self._digest = ModuleDigest(module)

    # ------------------------------------------------------------------ teaching

    def teach(
        self, items: Sequence[CaptionItem], rng: np.random.Generator, losses: Losses, logits: Logits
    ) -> FineTuneReport:
        """One round on `items`. On a non-finite loss, a collapse, or where the model no longer sees
        which objects there are, the weights from before it are restored.

        Raises `ValueError` when there are no items.
        """
        if not items:
            raise ValueError("there is nothing to teach with")
        forget_peak(self.device)
        started = time.perf_counter()
        digest_before = self.digest()
        self._before.take(self._learned())
        probe = PresenceProbe.of(items)
        before = logits(probe.items)
        batches = self.batches(items, rng)
        steps, failure = self._train(batches, rng, losses)
        failure = failure or _collapse(after := logits(probe.items)) or probe.lost(before, after)
        if failure:
            self._put_back(self._before)
            self._digest.is_now(digest_before)
        else:
            self._replay = [*self._replay, *items][-self.settings.replay_capacity :]
        self._before.clear()
        digest_after, seconds = self.digest(), time.perf_counter() - started
        return FineTuneReport(
            n_samples=len(items),
            optimizer_steps=len(steps),
            losses=_summary(steps),
            digest_before=digest_before,
            digest_after=digest_after,
            seconds=seconds,
            rolled_back=failure,
            images_per_second=sum(len(batch) for batch in batches[: len(steps)]) / seconds,
            peak_memory=peak_memory(self.device),
        )

    def nudge(self, items: Sequence[CaptionItem], rng: np.random.Generator, losses: Losses, share: float) -> None:
        """One step straight down the gradient of the mean loss on all items together, without the optimizer.

        Args:
            items: At least one; they are gone through in batches.
            rng: What the losses draw from.
            losses: See `Losses`.
            share: How much of its loss the step takes away, to first order.
        """
        with self._teaching(rng):
            values = [
                len(part) / len(items) * self._backward(part, rng, losses, len(part) / len(items))["total"]
                for part in _parts(items, -(-len(items) // self.settings.batch_size))
            ]
            gradients = [(w, w.grad) for w in self.trainable.values() if w.grad is not None]
            steepness = sum(float(g.double().square().sum()) for _, g in gradients)
            if np.isfinite(sum(values)) and np.isfinite(steepness) and steepness > 0:
                with torch.no_grad():
                    for weight, gradient in gradients:
                        weight.sub_(gradient, alpha=share * sum(values) / steepness)

    def batches(self, items: Sequence[CaptionItem], rng: np.random.Generator) -> list[list[CaptionItem]]:
        """The round's batches: new items, reshuffled each pass, and the replay share of earlier ones."""
        s = self.settings
        n_old = int(s.batch_size * s.replay) if self._replay else 0
        n_new = s.batch_size - n_old
        n_steps = max(1, int(len(items) * s.epochs / s.batch_size))
        order: list[int] = []
        while len(order) < n_steps * n_new:
            order.extend(int(i) for i in rng.permutation(len(items)))
        batches = []
        for step in range(n_steps):
            new = [items[i] for i in order[step * n_new : (step + 1) * n_new]]
            old = [self._replay[int(i)] for i in rng.integers(len(self._replay), size=n_old)] if n_old else []
            batches.append(new + old)
        return batches

    @contextmanager
    def _teaching(self, rng: np.random.Generator) -> Iterator[None]:
        """Inside, the module has the weights that are taught, is in training mode, and has gradients; after, none.

        Gradients are switched on even where the caller has switched them off: libraries step environments so.
        """
        self._digest.is_now(None)
        self._optimizer.zero_grad(set_to_none=True)
        taught = nullcontext() if self._ensemble is None else self._ensemble.teaching()
        with taught, training(self._module, rng), torch.inference_mode(False), torch.enable_grad():
            yield
        self._optimizer.zero_grad(set_to_none=True)

    def _train(
        self, batches: Sequence[Sequence[CaptionItem]], rng: np.random.Generator, losses: Losses
    ) -> tuple[list[dict[str, float]], str | None]:
        """The losses of each step, and what went wrong."""
        steps: list[dict[str, float]] = []
        with self._teaching(rng):
            for number, batch in enumerate(batches, start=1):
                warmup = min(1.0, number / max(1, self.settings.warmup_steps))
                steps.append(self._step(batch, rng, losses, self.settings.learning_rate * warmup))
                if not np.isfinite(steps[-1]["total"]):
                    return steps, f"the loss became {steps[-1]['total']} at step {number}"
        return steps, None

    def _step(
        self, batch: Sequence[CaptionItem], rng: np.random.Generator, losses: Losses, learning_rate: float
    ) -> dict[str, float]:
        """One optimizer step; the weighted total and the losses by name. No step is taken on a non-finite total."""
        self._optimizer.zero_grad(set_to_none=True)
        values: dict[str, float] = {}
        for part in _parts(batch, self.settings.accumulation_steps):
            share = len(part) / len(batch)
            for name, value in self._backward(part, rng, losses, share).items():
                values[name] = values.get(name, 0.0) + share * value
            if not np.isfinite(values["total"]):
                return values
        set_rate(self._optimizer, learning_rate)
        torch.nn.utils.clip_grad_norm_(self.trainable.values(), self.settings.clip_norm)
        self._optimizer.step()
        return values

    def _backward(
        self, part: Sequence[CaptionItem], rng: np.random.Generator, losses: Losses, share: float
    ) -> dict[str, float]:
        """Add `share` times the gradient of the weighted total, unless that is not finite; the total and the losses."""
        with self._precision():
            named = losses(part, rng)
        weights = self.settings.loss_weights
        total = torch.stack([weights.get(name, 1.0) * loss for name, loss in named.items()]).sum()
        said = torch.stack([loss.detach().float() for loss in (total, *named.values())]).tolist()
        if np.isfinite(said[0]):
            (share * total).backward()
        return dict(zip(("total", *named), said, strict=True))

    def _precision(self) -> AbstractContextManager[Any]:
        if self.settings.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    @property
    def device(self) -> torch.device:
        """Where the trained weights are."""
        return next(iter(self.trainable.values())).device

    # ------------------------------------------------------------------ state

    def state(self) -> dict[str, Any]:
        """What teaching changes: weights and optimizer moments by name, replayed items; and the digest of the rest."""
        moments: dict[str, dict[str, Tensor]] = {}
        for _, name, key in (path for path in self._learned() if len(path) == 3):
            moments.setdefault(name, {})[key] = _copy(self._optimizer.state[self.trainable[name]][key])
        return {**self.weights(), "optimizer": moments, "replay": encode_items(self._replay)}

    def weights(self) -> dict[str, Any]:
        """The part of `state` that a VLM is judged by: without optimizer moments and replayed items."""
        return {"frozen": self.frozen, "weights": {name: _copy(weight) for name, weight in self._taught.items()}}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`, and of `weights`: optimizer and replay begin anew then. Raises `UserError` for the
        state of another model, and then changes nothing."""
        if state["frozen"] != self.frozen:
            raise UserError(
                f"the state belongs to frozen weights {state['frozen']}, not {self.frozen}: to another model, "
                "or to one with another finetune.train or finetune.lora"
            )
        there, here = ({name: tuple(w.shape) for name, w in ws.items()} for ws in (state["weights"], self.trainable))
        if there != here:
            name = sorted({*there.items()} ^ {*here.items()})[0][0]
            raise UserError(f"the state's {name} has the shape {there.get(name)}, the model's {here.get(name)}")
        replay = decode_items(state["replay"]) if "replay" in state else []
        learned: dict[Path, Tensor] = {("weights", name): weight for name, weight in state["weights"].items()}
        for name, moments in state.get("optimizer", {}).items():
            learned |= {("optimizer", name, key): tensor for key, tensor in moments.items()}
        self._put_back(learned)
        self._replay = replay
        self._digest.is_now(None)

    @property
    def _taught(self) -> Mapping[str, Tensor]:
        """The weights that teaching goes on from."""
        return self.trainable if self._ensemble is None else self._ensemble.taught

    def _learned(self) -> dict[Path, Tensor]:
        """The taught weights, and the optimizer's moments where there are any yet: the tensors themselves."""
        weights: dict[Path, Tensor] = {("weights", name): weight for name, weight in self._taught.items()}
        rows = {name: self._optimizer.state.get(weight, {}) for name, weight in self.trainable.items()}
        return weights | {("optimizer", name, key): tensor for name, row in rows.items() for key, tensor in row.items()}

    def _put_back(self, learned: Mapping[Path, Tensor]) -> None:
        """The inverse of `_learned`."""
        with torch.no_grad():
            for name, weight in self._taught.items():
                weight.copy_(learned["weights", name])
        if self._ensemble is not None:
            self._ensemble.mix()
        self._optimizer = new_optimizer(self.trainable, self._scales, self.settings)
        state = self._optimizer.state_dict()
        numbers = {name: number for number, name in enumerate(in_order(self.trainable, self._scales))}
        rows: dict[int, dict[str, Tensor]] = {}
        for path in learned:
            if path[0] == "optimizer":
                rows.setdefault(numbers[path[1]], {})[path[2]] = learned[path].clone()
        self._optimizer.load_state_dict({**state, "state": rows})

    @property
    def frozen(self) -> str:
        """See `ModuleDigest.frozen`."""
        return self._digest.frozen

    def digest(self) -> str:
        """See `ModuleDigest.whole`."""
        return self._digest.whole()


def _parts(batch: Sequence[CaptionItem], n: int) -> list[Sequence[CaptionItem]]:
    """The batch cut into `n` parts of equal length, give or take one."""
    ends = [len(batch) * i // n for i in range(n + 1)]
    return [batch[start:end] for start, end in zip(ends, ends[1:], strict=False)]


def _collapse(logits: Float) -> str | None:
    """Why these logits can't be a working model's; None when they can."""
    gaps = np.isneginf(logits)
    gaps[:, :2] = False  # every item has two captions at least: there, minus infinity is a score
    known = logits[~gaps]
    if not np.isfinite(known).all():
        return "the scores became non-finite"
    if known.std() < _COLLAPSED:
        return "the model collapsed: all captions of all pictures score alike"
    return None


def _summary(steps: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """See `FineTuneReport.losses`."""
    table = np.array([list(step.values()) for step in steps])
    tenth = max(1, len(table) // 10)
    means = dict(zip(steps[0], table.mean(0).tolist(), strict=True))
    del means["total"]
    return {"total_first": float(table[:tenth, 0].mean()), "total_last": float(table[-tenth:, 0].mean()), **means}


def _copy(tensor: Tensor) -> Tensor:
    """In main memory, whatever device it came from."""
    return tensor.detach().clone().cpu()
