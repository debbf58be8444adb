"""From a model folder to an open_clip model with its tokenizer and preprocessing; `named.py` has open_clip's names."""

from __future__ import annotations

import copy
import os
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
from rls3_gym.vlm.library_files import check_library_files
from rls3_gym.vlm.open_clip.clip_model import ClipModel
from rls3_gym.vlm.open_clip.folder_config import CONFIG_FILE, read_config
from rls3_gym.vlm.open_clip.preprocessing import Preprocessing
from rls3_gym.vlm.open_clip.tokenizer import CompactTokenizer
from rls3_gym.vlm.weights_check import check_finite, check_fits
from rls3_registry.errors import UserError, first_line
from rls3_registry.validation import Settings

PACKAGED = Path(__file__).resolve().parent.parent / "packaged"
VOCABULARY_FILE = "vocabulary.json"
WEIGHTS_FILE = "open_clip_model.safetensors"
_WEIGHTS_SUFFIXES = (".safetensors", ".bin", ".pth")
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
    from_hub: bool = False
    """Whether a model folder may have the description of its text tower fetched from the Hugging Face Hub, for those
    whose text tower is one of transformers. Code is never fetched."""
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
    return path if source.model.startswith(LOCAL) or os.path.isdir(path) else None


def open_clip_module() -> Any:
    """open_clip, imported late and with the torchvision shim in place."""
    torchvision_compat.install()
    import open_clip

    import rls3_gym.vlm.open_clip.scene_tower  # noqa: F401  registers the tower with timm

    return open_clip


def load_folder(folder: Path, device: torch.device, dtype: str = "fp32", from_hub: bool = False) -> ClipModel:
    """A model from a folder with open_clip's config and weights (its `local-dir` format).

    A `vocabulary.json` beside them means the compact tokenizer. Raises `UserError` for any other folder, and for one
    that would make code run, leads out of itself, describes a model that its weights are too few for, or holds weights
    that are not finite.
    """
    open_clip = open_clip_module()
    for needed in (CONFIG_FILE, WEIGHTS_FILE):
        if not any((folder / name).is_file() for name in {needed, *(_WEIGHTS_FILES if needed == WEIGHTS_FILE else ())}):
            raise UserError(f"{folder}: is not an open_clip model folder ({needed} is missing)")
    config = read_config(folder)
    check_library_files(folder)
    text = config["model_cfg"]["text_cfg"]
    if text.get("hf_model_name"):
        _check_text_tower(folder, text["hf_model_name"], from_hub)
    try:
        _check_size(folder, config["model_cfg"])
        model = open_clip.create_model(f"local-dir:{folder}", precision=dtype)
        check_finite(model.state_dict(), str(folder))
        tokenizer: Callable[[Sequence[str]], Tensor]
        if (folder / VOCABULARY_FILE).is_file():
            tokenizer = CompactTokenizer.load(folder / VOCABULARY_FILE, text["context_length"])
        else:
            tokenizer = _tokenizer_of(folder, text)
        clip = ClipModel(model.to(device), tokenizer, preprocessing_of(model))
        _try_out(clip)
        return clip
    except UserError:
        raise
    except SafetensorError as error:
        raise UserError(f"{folder / WEIGHTS_FILE}: is not readable as safetensors ({first_line(error)})") from error
    except Exception as error:  # parts that don't fit make open_clip, timm and transformers raise whatever comes of it
        raise UserError(f"{folder}: cannot be loaded as an open_clip model ({said(error)})") from error


def _check_text_tower(folder: Path, name: str, from_hub: bool) -> None:
    """A text tower of transformers is described on the Hub and not in the folder: only where the user says so."""
    if not from_hub:
        raise UserError(
            f"{folder}: its text tower is {name!r} of the Hugging Face Hub, and a folder can't have anything fetched; "
            "if you trust that, say so in a VLM's YAML: settings: {model: FOLDER, from_hub: true}"
        )
    try:
        import transformers

        transformers.AutoConfig.from_pretrained(name, trust_remote_code=False)
    except Exception as error:  # the library's own errors, the Hub's, and those of a missing library
        raise UserError(f"{folder}: its text tower {name!r} can't be had ({first_line(error)})") from error


def _check_size(folder: Path, config: Mapping[str, Any]) -> None:
    """See `check_fits`; of a text tower of transformers, which is as large as the user trusts it to be, not."""
    if config["text_cfg"].get("hf_model_name"):
        return
    model = copy.deepcopy(dict(config))
    build = open_clip_module().CustomTextCLIP if model.pop("custom_text", None) else open_clip_module().CLIP
    with torch.device("meta"):
        skeleton = build(**model)
    check_fits(skeleton, [path for path in folder.iterdir() if path.suffix in _WEIGHTS_SUFFIXES], str(folder))


def preprocessing_of(model: Any) -> Preprocessing:
    """How a model of open_clip wants its pictures."""
    return Preprocessing.of(open_clip_module().get_model_preprocess_cfg(model))


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
