"""From a model folder to an open_clip model with its tokenizer and preprocessing; `named.py` has open_clip's names."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import model_validator
from safetensors import SafetensorError
from torch import Tensor

from rls3_gym._compat import torchvision as torchvision_compat
from rls3_gym.vlm.finetune_settings import Device
from rls3_gym.vlm.open_clip.clip_model import ClipModel
from rls3_gym.vlm.open_clip.preprocessing import Preprocessing
from rls3_gym.vlm.open_clip.tokenizer import CompactTokenizer
from rls3_registry.errors import UserError, first_line
from rls3_registry.validation import Settings

PACKAGED = Path(__file__).resolve().parent.parent / "packaged"
VOCABULARY_FILE = "vocabulary.json"
CONFIG_FILE = "open_clip_config.json"
WEIGHTS_FILE = "open_clip_model.safetensors"
_WEIGHTS_FILES = ("open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin")
"""Of folders that came from elsewhere, such as a snapshot of a hub's repository."""
LOCAL = "local-dir:"


class OpenClipSettings(Settings):
    """`settings` of a VLM's YAML with the plugin `open_clip`: which model, and where it computes."""

    model: str
    """`packaged:NAME`, an open_clip model name such as `ViT-B-32`, or a model folder: its path, or `local-dir:PATH`."""
    pretrained: str | None = None
    """For open_clip names: a tag that open_clip can fetch (`openai`), a checkpoint file (.safetensors, .pt, .pth,
    .bin), or `local-dir:FOLDER` with one in it. Random weights when left out."""
    quick_gelu: bool | None = None
    """For open_clip names: OpenAI's weights, and what was tuned from them (NegCLIP), need it. Left out, it is as the
    tag says, and off for a file, which does not say."""
    tokenizer: str | None = None
    """For open_clip names whose tokenizer is one of transformers (SigLIP): a folder with its files. It is fetched when
    left out."""
    device: Device = "auto"
    """`cpu`, `cuda`, `cuda:1`, `mps`, or `auto`: the first of cuda, mps and cpu that is there."""
    dtype: Literal["fp32", "bf16"] = "fp32"
    """Of weights that do not train, and of scoring. `finetune.precision` is about training."""

    @model_validator(mode="after")
    def _a_folder_says_it_all(self) -> OpenClipSettings:
        if folder_of(self) is not None and (self.pretrained or self.quick_gelu is not None or self.tokenizer):
            raise ValueError(
                f"pretrained, quick_gelu and tokenizer go with the names of open_clip's models; {self.model} has "
                "weights and settings of its own"
            )
        return self


def folder_of(source: OpenClipSettings) -> Path | None:
    """The model folder that the settings name; None where they name one of open_clip's own models."""
    if source.model.startswith("packaged:"):
        return PACKAGED / source.model.removeprefix("packaged:")
    path = Path(source.model.removeprefix(LOCAL))
    return path if source.model.startswith(LOCAL) or path.is_dir() else None


def open_clip_module() -> Any:
    """open_clip, imported late and with the torchvision shim in place."""
    torchvision_compat.install()
    import open_clip

    import rls3_gym.vlm.open_clip.scene_tower  # noqa: F401  registers the tower with timm

    return open_clip


def load_folder(folder: Path, device: torch.device, dtype: str = "fp32") -> ClipModel:
    """A model from a folder with open_clip's config and weights (its `local-dir` format).

    A `vocabulary.json` beside them means the compact tokenizer. Raises `UserError` for any other folder.
    """
    open_clip = open_clip_module()
    for needed in (CONFIG_FILE, WEIGHTS_FILE):
        if not any((folder / name).is_file() for name in {needed, *(_WEIGHTS_FILES if needed == WEIGHTS_FILE else ())}):
            raise UserError(f"{folder}: is not an open_clip model folder ({needed} is missing)")
    try:
        config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        text = config["model_cfg"]["text_cfg"]
        refuse_coca(str(folder), config["model_cfg"])
        if text.get("hf_model_name") and Path(text["hf_model_name"]).is_dir():
            raise ValueError("its text tower is another folder, which might bring code")
        model = open_clip.create_model(f"local-dir:{folder}", precision=dtype)
        tokenizer: Callable[[Sequence[str]], Tensor]
        if (folder / VOCABULARY_FILE).is_file():
            tokenizer = CompactTokenizer.load(folder / VOCABULARY_FILE, text["context_length"])
        else:
            tokenizer = _tokenizer_of(folder, text)
        clip = ClipModel(model.to(device), tokenizer, preprocessing_of(model))
        _try_out(clip)
        return clip
    except (OSError, ValueError, KeyError, IndexError, RuntimeError, TypeError, ImportError) as error:
        raise UserError(f"{folder}: cannot be loaded as an open_clip model ({said(error)})") from error
    except SafetensorError as error:
        raise UserError(f"{folder / WEIGHTS_FILE}: is not readable as safetensors ({first_line(error)})") from error


def preprocessing_of(model: Any) -> Preprocessing:
    """How a model of open_clip wants its pictures."""
    return Preprocessing.of(open_clip_module().get_model_preprocess_cfg(model))


def refuse_coca(name: str, config: Mapping[str, Any]) -> None:
    """Raises `UserError` for the configuration of a CoCa."""
    if "multimodal_cfg" in config:
        raise UserError(
            f"{name}: is a CoCa, whose caption decoder reads the same image tokens; a contrastive loss alone would "
            "teach the towers away from it. Name a CLIP or SigLIP model"
        )


def said(error: BaseException) -> str:
    """What a library's error says, in one line; of weights that do not fit, which ones."""
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    if len(lines) > 1 and "loading state_dict" in lines[0]:
        return f"the weights don't fit: {lines[1][:200]}"
    return first_line(error)


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
