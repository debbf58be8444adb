"""A stage of the tiny PaliGemma's pre-training: steps of an optimizer that can be stopped and taken up again."""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from rls3_gym.pretraining.generative_settings import GenerativeSettings
from rls3_registry.errors import UserError


class Stage(ABC):
    """Trains the parts that are given; what it goes through are rows of the scene table."""

    def __init__(
        self, parts: nn.Module, n_rows: int, batch_size: int, steps: int, settings: GenerativeSettings
    ) -> None:
        """Deterministic for a seed and a number of threads. Parameters of `parts` that need no gradient stay."""
        self.steps = steps
        self.step = 0
        self.losses: dict[str, float] = {}
        """Running means."""
        self._settings = settings
        self._parts = parts.train()
        self._parameters = [weight for weight in parts.parameters() if weight.requires_grad]
        self._optimizer = torch.optim.AdamW(
            self._parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        self._n_rows, self._batch_size = n_rows, min(batch_size, n_rows)
        self._order: list[int] = []
        self.rng = np.random.default_rng([settings.seed, 2])

    @abstractmethod
    def losses_of(self, rows: list[int]) -> dict[str, Tensor]:
        """Scalar losses by name; their sum is what a step lowers."""

    def advance(self) -> None:
        """One optimizer step."""
        for group in self._optimizer.param_groups:
            group["lr"] = self._settings.learning_rate * self._learning_rate_share()
        parts = self.losses_of(self._next_rows())
        self._optimizer.zero_grad(set_to_none=True)
        torch.stack(list(parts.values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(self._parameters, self._settings.clip_norm)
        self._optimizer.step()
        self.step += 1
        for name, part in parts.items():
            value = part.item()
            self.losses[name] = 0.98 * self.losses.get(name, value) + 0.02 * value

    def _learning_rate_share(self) -> float:
        """Warm-up, then a cosine down to the final share."""
        s = self._settings
        if self.step < s.warmup_steps:
            return (self.step + 1) / s.warmup_steps
        along = (self.step - s.warmup_steps) / max(1, self.steps - s.warmup_steps)
        return s.final_learning_rate_share + (1 - s.final_learning_rate_share) * 0.5 * (1 + math.cos(math.pi * along))

    def _next_rows(self) -> list[int]:
        if len(self._order) < self._batch_size:
            self._order = [int(i) for i in self.rng.permutation(self._n_rows)]
        rows, self._order = self._order[: self._batch_size], self._order[self._batch_size :]
        return rows

    def save(self, path: Path) -> None:
        """Write all that `load` needs to continue; loadable with `weights_only=True`."""
        torch.save(
            {
                "settings": json.dumps(self._settings.as_dict(), sort_keys=True),
                "parts": self._parts.state_dict(),
                "optimizer": self._optimizer.state_dict(),
                "order": self._order,
                "rng": json.dumps(self.rng.bit_generator.state),
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
        if settings != self._settings.as_dict():
            raise UserError(f"{path}: belongs to a run with other settings; remove it to start over")
        self._parts.load_state_dict(state["parts"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._order, self.step, self.losses = state["order"], state["step"], state["losses"]
        self.rng.bit_generator.state = json.loads(state["rng"])
