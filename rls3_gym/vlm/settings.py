"""Settings of a fine-tuning round, shared by the adapters and read from YAML."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from rls3_registry.validation import check


class FineTuneSettings(BaseModel):
    """How one round teaches the VLM. Defaults suit the packaged tiny model."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    learning_rate: float = Field(1e-3, gt=0, le=1)
    epochs: float = Field(4.0, gt=0, le=1000)
    """Passes over the round's samples; with replay, steps are counted as if without it."""
    batch_size: int = Field(64, ge=2)
    weight_decay: float = Field(0.02, ge=0)
    clip_norm: float = Field(1.0, gt=0)
    """Largest gradient norm."""
    warmup_steps: int = Field(10, ge=0)
    """Steps of linear warm-up at the start of each round."""
    contrastive_weight: float = Field(1.0, ge=0)
    hard_negative_weight: float = Field(1.0, ge=0)
    single_opposite_share: float = Field(0.6, ge=0, le=1)
    """Chance that a sample's hard negative of a step turns one term; otherwise any of its negatives."""
    replay: float = Field(0.5, ge=0, lt=1)
    """Share of each batch drawn from earlier rounds. The paper clears its batch: 0."""
    replay_capacity: int = Field(8192, ge=1)
    """Most recent trained samples kept for replay."""
    max_logit_scale: float = Field(60.0, gt=0)
    train: tuple[str, ...] = ("visual.*", "text.*", "logit_scale")
    """Patterns (shell style) of the parameters that train; all others are frozen."""
    precision: Literal["fp32", "bf16"] = "fp32"


def finetune_settings(values: Mapping[str, Any], where: str) -> FineTuneSettings:
    """Check settings that were read from `where`. Raises `UserError` naming the key."""
    return check(FineTuneSettings, values, where, section="finetune")
