"""Settings that every adapter reads from YAML: how a round of fine-tuning goes, and the device. No torch here."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from rls3_registry.validation import Settings


def _device(name: str) -> str:
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d{1,2})?", name):
        raise ValueError("should be auto, cpu, cuda, cuda:N or mps")
    return name


Device = Annotated[str, AfterValidator(_device)]
"""`auto` is the first of cuda, mps and cpu that is there; see `rls3_gym.vlm.device`."""


class LoraSettings(Settings):
    """Low-rank adapters (LoRA, arXiv 2106.09685) that train in place of the weights; needs peft. See
    `rls3_gym.vlm.lora`."""

    rank: int = Field(8, ge=1, le=4096)
    alpha: float = Field(16.0, gt=0, le=65_536)
    """What an adapter adds is scaled by alpha / rank."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Of an adapter's input, while training."""
    targets: tuple[str, ...] = Field(("*",), min_length=1)
    """Patterns (shell style) of the linear and convolution layers that get an adapter. The projections of
    `nn.MultiheadAttention` go by `in_proj` (query, key and value together) and `out_proj`."""


class FineTuneSettings(Settings):
    """How one round teaches a VLM. An adapter that needs more derives its own. Defaults suit the packaged model."""

    learning_rate: float = Field(1e-3, gt=0, le=0.1)
    epochs: float = Field(4.0, gt=0, le=1000)
    """Passes over the round's items; with replay, steps are counted as if without it."""
    batch_size: int = Field(64, ge=1, le=65_536)
    """Items of an optimizer step."""
    accumulation_steps: int = Field(1, ge=1, le=65_536)
    """Parts that a batch is cut into, to save memory; their gradients are added. A loss that compares the items of a
    batch with each other (a contrastive one) then compares within a part alone: it has fewer negatives."""
    weight_decay: float = Field(0.02, ge=0, le=1e6)
    clip_norm: float = Field(1.0, gt=0, le=1e9)
    """Largest gradient norm."""
    warmup_steps: int = Field(10, ge=0, le=10**9)
    """Steps of linear warm-up at the start of each round."""
    loss_weights: dict[str, Annotated[float, Field(ge=0, le=1e6)]] = {}
    """Weights of the adapter's losses by their names; 1 where left out."""
    layer_decay: float = Field(1.0, gt=0, le=1)
    """The learning rate of a layer is multiplied by this once for each layer above it in its tower; 1: all alike."""
    ensemble_alpha: float = Field(1.0, gt=0, le=1)
    """Share of the taught weights in those that the VLM answers with; the rest is the original's (WiSE-FT, arXiv
    2109.01903). 1: the taught ones alone. Takes twice the memory of what trains."""
    replay: float = Field(0.5, ge=0, lt=1)
    """Share of each batch drawn from earlier rounds. The paper clears its batch: 0."""
    replay_capacity: int = Field(8192, ge=1, le=1_000_000)
    """Most recent trained items kept for replay."""
    train: tuple[str, ...] = ("*",)
    """Patterns (shell style) of the parameters that train; all others are frozen."""
    lora: LoraSettings | None = None
    """Adapters. With them, they alone train, whatever `train` names."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of the forward pass while training; weights, optimizer and scoring stay in fp32."""

    @model_validator(mode="after")
    def _parts_hold_something(self) -> FineTuneSettings:
        if self.accumulation_steps > self.batch_size:
            raise ValueError(f"accumulation_steps should be at most batch_size ({self.batch_size})")
        if self.lora is not None and self.layer_decay != 1.0:
            raise ValueError("layer_decay is about weights that train, and with lora none do; leave it at 1")
        return self
