"""Writing a generative model as a folder that transformers loads by itself, and this package too."""

from __future__ import annotations

from pathlib import Path

import torch
import yaml

from rls3_gym.vlm.base import SETTINGS_FILE
from rls3_gym.vlm.digest import digest_of
from rls3_gym.vlm.lora import merged_weights
from rls3_gym.vlm.transformers.generative_model import GenerativeModel
from rls3_gym.vlm.transformers.settings import TransformersSettings

_OF_THE_MACHINE = {"model", "device", "dtype", "quantize"}
"""Settings that say where a model lies and computes, and not how it is asked."""


def save_folder(model: GenerativeModel, source: TransformersSettings, folder: Path) -> str:
    """A model folder, with how the model is asked beside it.

    Args:
        model: Its weights may have changed since it was loaded; LoRA adapters are merged.
        source: What it was loaded with.
        folder: Is there; gets the files.

    Returns:
        The digest of a VLM that is loaded from it: another one than before where adapters were merged.
    """
    save_model(model, folder)
    asked = source.model_dump(mode="json", exclude=_OF_THE_MACHINE, exclude_defaults=True)
    if asked:
        (folder / SETTINGS_FILE).write_text(yaml.safe_dump(asked, sort_keys=False, allow_unicode=True), "utf-8")
    # A folder is loaded in single precision.
    return digest_of({name: tensor.float() for name, tensor in merged_weights(model.module).items()})


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
