"""Writing an open_clip model as a folder that open_clip loads by itself (`local-dir:FOLDER`), and this package too."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from safetensors.torch import save

from rls3_gym.vlm.open_clip.clip_model import ClipModel
from rls3_gym.vlm.open_clip.weights import (
    CONFIG_FILE,
    VOCABULARY_FILE,
    WEIGHTS_FILE,
    OpenClipSettings,
    folder_of,
    open_clip_module,
)


def save_folder(clip: ClipModel, source: OpenClipSettings, folder: Path) -> None:
    """Configuration, weights and what the tokenizer needs, into a folder that is there.

    Args:
        clip: The model, whose weights may have changed since it was loaded.
        source: What it was loaded from: the architecture is that one's.
        folder: `rls3_gym.vlm.open_clip.weights.load_folder` reads it.
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
    # Copies: safetensors refuses tensors that share memory.
    weights = {name: w.detach().cpu().contiguous().clone() for name, w in clip.model.state_dict().items()}
    (folder / WEIGHTS_FILE).write_bytes(save(weights))


def _config(clip: ClipModel, source: OpenClipSettings) -> dict[str, Any]:
    """The configuration of an architecture that open_clip knows by name."""
    model = open_clip_module().get_model_config(source.model)
    if source.quick_gelu:
        model["quick_gelu"] = True
    return {"model_cfg": model, "preprocess_cfg": {"mean": list(clip.mean), "std": list(clip.std)}}
