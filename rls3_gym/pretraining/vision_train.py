"""First stage of the tiny PaliGemma: its image tower learns from the packaged tiny CLIP.

Linear layers, thrown away later, read off the features of every patch what the CLIP's token of that place is
(distillation), which kind stands there, and where that stands. On captions alone, a tower of this size learns too
little in minutes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rls3_gym.pretraining.generative_model import VISION_WIDTH, new_tower
from rls3_gym.pretraining.generative_settings import GenerativeSettings
from rls3_gym.pretraining.scenes import GRID, SceneTable
from rls3_gym.pretraining.stages import Stage
from rls3_gym.pretraining.train import Targets
from rls3_gym.vlm.open_clip.weights import PACKAGED, load_folder
from rls3_gym.vlm.seeding import seeded_torch

TEACHER = "tiny"
_TEACHER_WIDTH = 128
_NO_KIND_WEIGHT = 0.1
"""Weight of patches without an object in the loss of kinds: they are many."""
_BATCH = 256


class VisionHeads(nn.Module):
    """Read-outs of a patch's features that exist during this stage only."""

    def __init__(self, n_kinds: int) -> None:
        super().__init__()
        self.teacher = nn.Linear(VISION_WIDTH, _TEACHER_WIDTH)
        self.kind = nn.Linear(VISION_WIDTH, n_kinds + 1)
        self.place = nn.Linear(VISION_WIDTH, 3)


class VisionStage(Stage):
    """Trains the image tower; see the module's docstring."""

    def __init__(self, table: SceneTable, names: Sequence[str], settings: GenerativeSettings) -> None:
        """`names`: the training kinds, as the table numbers them."""
        self.tower = new_tower(settings.seed)
        with seeded_torch(settings.seed + 1):
            self.heads = VisionHeads(len(names))
        self._table = table
        self._targets = Targets(table, len(names))
        self._teacher: tuple[Tensor, Tensor, Tensor] | None = None
        self._weight = torch.ones(len(names) + 1)
        self._weight[-1] = _NO_KIND_WEIGHT
        parts = nn.ModuleDict({"tower": self.tower, "heads": self.heads})
        super().__init__(parts, len(table), settings.vision_batch_size, settings.vision_steps, settings)

    def losses_of(self, rows: list[int]) -> dict[str, Tensor]:
        """Mean squared errors, and the cross entropy of kinds in nats."""
        if self._teacher is None:
            self._teacher = self._ask_teacher()
        tokens, mean, std = self._teacher
        seen = look(self.tower, self._table, rows)
        cells = self._targets.cells[rows]
        at, cell = torch.nonzero(cells < len(self._weight) - 1, as_tuple=True)
        places = self._targets.places[torch.tensor(rows)[at], cells[at, cell]]
        return {
            "teacher": F.mse_loss(self.heads.teacher(seen), (tokens[rows].float() - mean) / std),
            "kinds": F.cross_entropy(self.heads.kind(seen).flatten(0, 1), cells.flatten(), weight=self._weight),
            "places": 3 * F.mse_loss(self.heads.place(seen[at, cell]), places),
        }

    @torch.no_grad()
    def _ask_teacher(self) -> tuple[Tensor, Tensor, Tensor]:
        """(n, 64, 128) the CLIP's tokens of all scenes in half precision; mean and deviation of each feature."""
        clip = load_folder(PACKAGED / TEACHER, torch.device("cpu"))
        trunk: Any = clip.model.eval().visual.trunk  # type: ignore[union-attr]
        tokens = torch.empty(len(self._table), GRID**2, _TEACHER_WIDTH, dtype=torch.float16)
        for start in range(0, len(tokens), _BATCH):
            pixels = clip.pixels(list(self._table.rgb[start : start + _BATCH]))
            tokens[start : start + _BATCH] = trunk.forward_tokens(trunk.forward_stem(pixels)).half()
        some = tokens[:: -(-len(tokens) // 2000)].float()
        return tokens, some.mean((0, 1)), some.std((0, 1))


def look(tower: Any, table: SceneTable, rows: Sequence[int]) -> Tensor:
    """(n, 64, width) features of the patches of scenes."""
    pixels = (torch.from_numpy(table.rgb[np.array(rows)]).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5
    features: Tensor = tower(pixels).last_hidden_state
    return features


@torch.no_grad()
def look_at_all(tower: Any, table: SceneTable) -> Tensor:
    """(n, 64, width) the features of all scenes, in half precision."""
    starts = range(0, len(table), _BATCH)
    return torch.cat([look(tower, table, range(start, min(start + _BATCH, len(table)))).half() for start in starts])
