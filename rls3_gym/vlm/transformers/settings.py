"""What a YAML with the plugin `transformers` can say. No torch here."""

from __future__ import annotations

import string
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from rls3_gym.vlm.base import Reading
from rls3_gym.vlm.finetune_settings import Device, FineTuneSettings
from rls3_registry.validation import Settings

LOSSES = ("language",)


def _question(text: str) -> str:
    fields = [(name, form, turned) for _, name, form, turned in string.Formatter().parse(text) if name is not None]
    # A format such as {a:>999999999} would fill the memory.
    if {name for name, _, _ in fields} != {"a", "b"} or any(form or turned for _, form, turned in fields):
        raise ValueError("should hold {a} and {b}, the two objects, and no other braces")
    return text


class TransformersSettings(Settings):
    """`settings` of a VLM's YAML with the plugin `transformers`: which model, where it computes, how it is asked."""

    model: str
    """`packaged:NAME`, the path of a model folder, or a name on the Hugging Face hub."""
    device: Device = "auto"
    """`cpu`, `cuda`, `cuda:1`, `mps`, or `auto`: the first of cuda, mps and cpu that is there."""
    dtype: Literal["fp32", "bf16"] = "fp32"
    """Of the weights. With bf16 train LoRA adapters, which stay in fp32."""
    quantize: Literal["4bit", "8bit"] | None = None
    """Load the weights in fewer bits, through bitsandbytes; what trains are LoRA adapters then."""
    reading: Reading = "likelihood"
    """Which performance feedback is about, and with it the agent's pay: see `GenerativeVLM`."""
    question: Annotated[str, AfterValidator(_question)] = "answer en where is the {a} relative to the {b}?"
    """How the VLM is asked for a caption about two objects, {a} and {b}; it is the caption's prompt in both readings,
    and in teaching."""
    prompt: str = "caption en"
    """The prompt of any other caption."""
    scale: float = Field(10.0, gt=0, le=10_000)
    """Logits are this times the mean log-likelihood of a caption's tokens, or times an answer's agreement with it."""
    max_new_tokens: int = Field(32, ge=1, le=4096)
    """Where an answer ends that does not end by itself."""
    image_size: int | None = Field(None, ge=16, le=2048)
    """Side of the pictures that are rendered for it, pixels; what its own configuration says when left out."""
    image_processor: dict[str, Any] = {}
    """Settings of its image processor that differ from the model's own, e.g. do_image_splitting: false."""


class TransformersFineTuneSettings(FineTuneSettings):
    """How one round teaches a generative VLM: by the loss of the true caption alone, as in the paper."""

    batch_size: int = Field(32, ge=1, le=4096)
