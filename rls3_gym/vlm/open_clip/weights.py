"""From a name, a folder or a checkpoint file to an open_clip model with its tokenizer and normalization."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor

from rls3_gym._compat import torchvision as torchvision_compat
from rls3_gym.vlm.device import find_device
from rls3_gym.vlm.finetune_settings import Device
from rls3_gym.vlm.open_clip.clip_model import ClipModel
from rls3_gym.vlm.open_clip.tokenizer import CompactTokenizer
from rls3_registry.errors import UserError, first_line, unknown
from rls3_registry.validation import Settings

PACKAGED = Path(__file__).resolve().parent.parent / "packaged"
VOCABULARY_FILE = "vocabulary.json"
CONFIG_FILE = "open_clip_config.json"
WEIGHTS_FILE = "open_clip_model.safetensors"


class OpenClipSettings(Settings):
    """`settings` of a VLM's YAML with the plugin `open_clip`: which model, and where it computes."""

    model: str
    """`packaged:NAME`, an open_clip model name, or the path of an open_clip model folder."""
    pretrained: str | None = None
    """For open_clip names: a checkpoint file, or a tag that open_clip can fetch; random weights when left out."""
    quick_gelu: bool = False
    """For open_clip names: OpenAI's weights, and what was tuned from them, need it."""
    device: Device = "auto"
    """`cpu`, `cuda`, `cuda:1`, `mps`, or `auto`: the first of cuda, mps and cpu that is there."""


def load_clip(source: OpenClipSettings) -> ClipModel:
    """The model that the settings name, on its device. Raises `UserError` for weights that don't load."""
    device = find_device(source.device)
    folder = folder_of(source)
    if folder is not None and (source.pretrained or source.quick_gelu):
        raise UserError(
            f"settings: pretrained and quick_gelu go with the names of open_clip's models; {source.model} has weights "
            "and settings of its own"
        )
    if folder is not None:
        return load_folder(folder, device)
    return load_named(source.model, source.pretrained, source.quick_gelu, device)


def folder_of(source: OpenClipSettings) -> Path | None:
    """The model folder that the settings name; None where they name one of open_clip's own models."""
    if source.model.startswith("packaged:"):
        return PACKAGED / source.model.removeprefix("packaged:")
    return Path(source.model) if Path(source.model).is_dir() else None


def open_clip_module() -> Any:
    """open_clip, imported late and with the torchvision shim in place."""
    torchvision_compat.install()
    import open_clip

    import rls3_gym.vlm.open_clip.scene_tower  # noqa: F401  registers the tower with timm

    return open_clip


def load_folder(folder: Path, device: torch.device) -> ClipModel:
    """A model from a folder with open_clip's config and safetensors weights (its `local-dir` format).

    A `vocabulary.json` beside them means the compact tokenizer. Raises `UserError` for any other folder.
    """
    open_clip = open_clip_module()
    for needed in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / needed).is_file():
            raise UserError(f"{folder}: is not an open_clip model folder ({needed} is missing)")
    try:
        config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        text = config["model_cfg"]["text_cfg"]
        if text.get("hf_model_name") and Path(text["hf_model_name"]).is_dir():
            raise ValueError("its text tower is another folder, which might bring code")
        model = open_clip.create_model(f"local-dir:{folder}")
        tokenizer: Callable[[Sequence[str]], Tensor]
        if (folder / VOCABULARY_FILE).is_file():
            tokenizer = CompactTokenizer.load(folder / VOCABULARY_FILE, text["context_length"])
        else:
            tokenizer = _tokenizer_of(folder, text)
        preprocess = config["preprocess_cfg"]
        size = int(config["model_cfg"]["vision_cfg"]["image_size"])
        clip = ClipModel(model.to(device), tokenizer, size, preprocess["mean"], preprocess["std"])
        _try_out(clip)
        return clip
    except (OSError, ValueError, KeyError, IndexError, RuntimeError, TypeError) as error:
        raise UserError(f"{folder}: cannot be loaded as an open_clip model ({first_line(error)})") from error
    except SafetensorError as error:
        raise UserError(f"{folder / WEIGHTS_FILE}: is not readable as safetensors ({first_line(error)})") from error


def _tokenizer_of(folder: Path, text: Mapping[str, Any]) -> Callable[[Sequence[str]], Tensor]:
    """open_clip's tokenizer for a folder. A tokenizer of transformers may bring Python code in its folder, and the
    folder's own configuration could ask for it to be run; it is told not to."""
    safe: dict[str, Any] = {"trust_remote_code": False} if text.get("hf_tokenizer_name") else {}
    found: Callable[[Sequence[str]], Tensor] = open_clip_module().get_tokenizer(f"local-dir:{folder}", **safe)
    return found


def _try_out(clip: ClipModel) -> None:
    """Show it one picture and one caption: parts of a folder that don't belong together fail here, not in a run."""
    clip.model.eval()
    with torch.inference_mode():
        blank = np.zeros((clip.image_size, clip.image_size, 3), np.uint8)
        clip.embed_features(clip.pixels([blank]))
        clip.embed_texts(["The red bowl is above the blue cup."])


def load_named(model_name: str, pretrained: str | None, quick_gelu: bool, device: torch.device) -> ClipModel:
    """A model of open_clip's own table, e.g. `ViT-B-32`, with weights from a local file or a tag it can fetch."""
    open_clip = open_clip_module()
    known = open_clip.list_models()
    if model_name not in known:
        raise unknown("open_clip model", model_name, known)
    is_path = pretrained and ("/" in pretrained or pretrained.endswith((".pt", ".pth", ".bin", ".safetensors")))
    if pretrained and is_path and not Path(pretrained).is_file():
        raise UserError(f"checkpoint {pretrained}: there is no such file")
    try:
        model = open_clip.create_model(model_name, pretrained=pretrained, force_quick_gelu=quick_gelu)
    except Exception as error:  # unpickling and hub failures come as many types; all mean "these weights do not load"
        raise UserError(f"open_clip model {model_name} with weights {pretrained!r}: {first_line(error)}") from error
    visual = model.visual
    size = visual.image_size[0] if isinstance(visual.image_size, tuple) else visual.image_size
    mean = getattr(visual, "image_mean", None) or open_clip.OPENAI_DATASET_MEAN
    std = getattr(visual, "image_std", None) or open_clip.OPENAI_DATASET_STD
    return ClipModel(model.to(device), open_clip.get_tokenizer(model_name), int(size), mean, std)
