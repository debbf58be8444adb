"""Writing an open_clip model as a folder that open_clip loads by itself (`local-dir:FOLDER`), and this package too."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from rls3_gym.vlm.digest import digest_of
from rls3_gym.vlm.lora import merged_weights
from rls3_gym.vlm.open_clip.clip_model import ClipModel
from rls3_gym.vlm.open_clip.folder_config import CONFIG_FILE
from rls3_gym.vlm.open_clip.named import has_quick_gelu
from rls3_gym.vlm.open_clip.weights import (
    VOCABULARY_FILE,
    WEIGHTS_FILE,
    OpenClipSettings,
    folder_of,
    open_clip_module,
)


def save_folder(clip: ClipModel, source: OpenClipSettings, folder: Path) -> str:
    """Configuration, weights and what the tokenizer needs, into a folder that is there.

    Args:
        clip: The model, whose weights may have changed since it was loaded.
        source: What it was loaded from: the architecture is that one's.
        folder: `rls3_gym.vlm.open_clip.weights.load_folder` reads it.

    Returns:
        The digest of a VLM that is loaded from it: another one than before where adapters were merged.
    """
    came_from = folder_of(source)
    if came_from is None:
        (folder / CONFIG_FILE).write_text(json.dumps(_config(clip, source), indent=2) + "\n", encoding="utf-8")
    else:
        shutil.copyfile(came_from / CONFIG_FILE, folder / CONFIG_FILE)
        if (came_from / VOCABULARY_FILE).is_file():
            shutil.copyfile(came_from / VOCABULARY_FILE, folder / VOCABULARY_FILE)
    if hasattr(clip.tokenizer, "save_pretrained"):  # a tokenizer of transformers has files of its own
        clip.tokenizer.save_pretrained(str(folder))
    # Copies: safetensors refuses tensors that share memory. In single precision, which a folder is loaded in.
    weights = {name: _written(tensor) for name, tensor in merged_weights(clip.model).items()}
    (folder / WEIGHTS_FILE).write_bytes(save(weights))
    return digest_of(weights)


def _written(tensor: Tensor) -> Tensor:
    whole = tensor.detach().float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor.detach()
    return whole.cpu().contiguous().clone()


def _config(clip: ClipModel, source: OpenClipSettings) -> dict[str, Any]:
    """The configuration of an architecture that open_clip knows by name."""
    model = open_clip_module().get_model_config(source.model)
    if has_quick_gelu(source):
        model["quick_gelu"] = True
    return {"model_cfg": model, "preprocess_cfg": clip.preprocessing.as_config()}
