"""Writing a generative model as a folder that transformers loads by itself, and this package too."""

from __future__ import annotations

from pathlib import Path

import torch

from rls3_gym.vlm.lora import merged_weights
from rls3_gym.vlm.transformers.generative_model import GenerativeModel


def save_model(model: GenerativeModel, folder: Path, half: bool = False) -> None:
    """Configuration, weights (safetensors), tokenizer and processor, into a folder that is there.

    Args:
        model: LoRA adapters are merged into the weights that are written.
        folder: Gets the files.
        half: Whether to write the weights in half precision.
    """
    weights = merged_weights(model.module)
    if half:
        halves = {tensor.data_ptr(): tensor.to(torch.float16) for tensor in weights.values()}
        weights = {name: halves[tensor.data_ptr()] for name, tensor in weights.items()}  # tied weights stay tied
    model.module.save_pretrained(folder, state_dict=weights)
    model.processor.save_pretrained(folder)
