"""From a folder or a hub name to a generative model with its processor. What a folder holds is data: no code of its
own runs, and weights are safetensors."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from rls3_gym.vlm.device import find_device
from rls3_gym.vlm.library_files import check_library_files, check_values
from rls3_gym.vlm.transformers.library import transformers
from rls3_gym.vlm.transformers.settings import TransformersSettings
from rls3_gym.vlm.weights_check import check_finite, check_fits
from rls3_registry.errors import UserError, first_line, unknown

PACKAGED = Path(__file__).resolve().parent.parent / "packaged"
_SAFE: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
_FETCHED = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]
_NOT_FETCHED = ["*/*", "consolidated*"]
"""Weights that are there a second time, in other formats."""
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def load_pretrained(source: TransformersSettings) -> tuple[Any, Any]:
    """The model that the settings name, on its device, and its processor. Raises `UserError` for one that doesn't
    load."""
    device, folder = find_device(source.device), folder_of(source.model) or _fetched(source.model)
    _check_folder(folder)
    check_library_files(folder)
    given = _quantization(source, device) if source.quantize else {}
    try:
        _check_size(folder)
        processor = transformers.AutoProcessor.from_pretrained(folder, **_SAFE)
        model, found = transformers.AutoModelForImageTextToText.from_pretrained(
            folder, use_safetensors=True, dtype=_DTYPES[source.dtype], output_loading_info=True, **_SAFE, **given
        )
    except UserError:
        raise
    except Exception as error:  # missing files, damaged weights and unknown families come as many types
        raise UserError(f"{folder}: cannot be loaded as a model of transformers ({first_line(error)})") from error
    _adjust(processor.image_processor, source.image_processor)
    if found["missing_keys"]:
        lacking = sorted(found["missing_keys"])
        raise UserError(f"{folder}: the weights lack {len(lacking)} of the model's parameters, e.g. {lacking[0]}")
    check_finite(model.state_dict(), str(folder))
    return (model if source.quantize else model.to(device)), processor


def folder_of(model: str) -> Path | None:
    """The folder that `settings.model` names; None for a hub name."""
    if model.startswith("packaged:"):
        return PACKAGED / model.removeprefix("packaged:")
    return Path(model) if os.path.isdir(model) else None


def _fetched(name: str) -> Path:
    """The folder of a model that was fetched from the hub, now or before: data, as any other, and read as such."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(snapshot_download(name, allow_patterns=_FETCHED, ignore_patterns=_NOT_FETCHED))
    except (OSError, HFValidationError) as error:  # the hub's own errors and those of the network are OSErrors
        raise UserError(
            f"settings.model: {name} is no folder here and cannot be fetched from the hub ({first_line(error)}); "
            "give the path of a folder that holds its config.json, *.safetensors and tokenizer files"
        ) from error


def _check_folder(folder: Path) -> None:
    """Refuse a folder in which the library would look for its weights elsewhere."""
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder}: is not a model folder of transformers (config.json is missing)")
    if not any(folder.glob("*.safetensors")):
        reason = "it has no *.safetensors, and pickled weights are not read"
        raise UserError(f"{folder}: cannot be loaded as a model of transformers ({reason})")
    if (folder / "adapter_config.json").is_file():
        raise UserError(f"{folder}: holds LoRA adapters; merge them into the model's weights and give that folder")


def _check_size(folder: Path) -> None:
    """See `check_fits`."""
    config = transformers.AutoConfig.from_pretrained(folder, **_SAFE)
    with torch.device("meta"):
        skeleton = transformers.AutoModelForImageTextToText.from_config(config, trust_remote_code=False)
    check_fits(skeleton, folder.glob("*.safetensors"), str(folder))


def _adjust(image_processor: Any, settings: Mapping[str, Any]) -> None:
    check_values(settings, Path("settings.image_processor"))
    for key, value in settings.items():
        if key not in image_processor.to_dict():
            raise unknown("key", key, image_processor.to_dict(), "settings.image_processor")
        setattr(image_processor, key, value)


def _quantization(source: TransformersSettings, device: torch.device) -> dict[str, Any]:
    if importlib.util.find_spec("bitsandbytes") is None:
        raise UserError(f"settings.quantize: {source.quantize} needs bitsandbytes: pip install bitsandbytes")
    bits: dict[str, Any] = {f"load_in_{source.quantize}": True}
    if source.quantize == "4bit":
        bits["bnb_4bit_compute_dtype"] = _DTYPES[source.dtype]
    return {"quantization_config": transformers.BitsAndBytesConfig(**bits), "device_map": {"": device}}
