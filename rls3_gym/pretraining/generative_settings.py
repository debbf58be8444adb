"""What `rls3 pretrain --vlm paligemma_tiny` runs with."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class GenerativeSettings:
    """Written into the model card."""

    scenes_per_layout: int = 400
    vision_steps: int = 1000
    """Steps of the image tower."""
    language_steps: int = 1000
    """Steps of the language model, with the image tower frozen."""
    vision_batch_size: int = 64
    language_batch_size: int = 32
    learning_rate: float = 2.5e-3
    final_learning_rate_share: float = 0.03
    warmup_steps: int = 30
    weight_decay: float = 0.02
    clip_norm: float = 1.0
    description_share: float = 0.2
    place_share: float = 0.2
    comparison_share: float = 0.5
    """Shares of a batch; the rest are relations drawn at random."""
    threads: int = 1
    seed: int = 0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)
