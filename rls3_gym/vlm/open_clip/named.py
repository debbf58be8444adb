"""The model that settings name: a folder as it is, or one of open_clip's own table, with weights of a tag, a local file
or a folder, or random ones."""

from __future__ import annotations

import logging
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rls3_gym.vlm.device import find_device
from rls3_gym.vlm.open_clip.clip_model import ClipModel
from rls3_gym.vlm.open_clip.folder_config import CONFIG_FILE, MOST_BYTES, check_preprocess, refuse_coca
from rls3_gym.vlm.open_clip.weights import (
    LOCAL,
    OpenClipSettings,
    folder_of,
    load_folder,
    open_clip_module,
    preprocessing_of,
    said,
)
from rls3_gym.vlm.weights_check import check_finite
from rls3_registry.errors import SettingError, UserError, first_line, unknown
from rls3_registry.reading import check_stored, parse_json, read_bytes

_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
_LOCAL_FILE = "give a local file instead, pretrained: /path/to/weights.safetensors (or .pt, .bin), or local-dir:FOLDER"


def load_clip(source: OpenClipSettings) -> ClipModel:
    """The model that the settings name, on its device. Raises `UserError` for weights that don't load."""
    device, folder = find_device(source.device), folder_of(source)
    return load_named(source, device) if folder is None else load_folder(folder, device, source.dtype, source.from_hub)


def fetched_by(settings: Mapping[str, Any]) -> list[str]:
    """What loading a model with these settings, which may be wrong, would fetch from a hub."""
    model, pretrained = str(settings.get("model")), settings.get("pretrained")
    if settings.get("from_hub"):
        return [model]
    if model.startswith(("packaged:", LOCAL)) or os.path.isdir(model):
        return []
    weights = str(pretrained or "")
    is_tag = weights and not weights.startswith(LOCAL) and not os.path.exists(weights)
    text = (open_clip_module().get_model_config(model) or {}).get("text_cfg", {})
    towers = [] if settings.get("tokenizer") else [text.get("hf_tokenizer_name")]
    return [f"{model}/{weights}"] * bool(is_tag) + [str(name) for name in (*towers, text.get("hf_model_name")) if name]


def load_named(source: OpenClipSettings, device: torch.device) -> ClipModel:
    """The model, in `source.dtype` on its device.

    Raises:
        UserError: An unknown model or tag, weights that can't be fetched, are not there, or don't fit; a CoCa.
    """
    open_clip, name = open_clip_module(), source.model
    known = open_clip.list_models()
    if name not in known:
        raise unknown("open_clip model", name, known)
    config: dict[str, Any] = open_clip.get_model_config(name)
    refuse_coca(name, config)
    file, preprocessing = _local_weights(source.pretrained)
    if source.pretrained and file is None:
        tags = open_clip.list_pretrained_tags_by_model(name)
        if not open_clip.get_pretrained_cfg(name, source.pretrained):
            problem = unknown(f"tag of {name}", source.pretrained, tags)
            raise SettingError("", ("settings", "pretrained"), f": {problem}; or {_LOCAL_FILE}")
    tokenizer = _tokenizer(source, config)
    try:
        with _no_log():
            model = open_clip.create_model(
                name,
                pretrained=str(file) if file else source.pretrained,
                precision=source.dtype,
                device=device,
                force_quick_gelu=has_quick_gelu(source),
                force_preprocess_cfg=preprocessing,
            )
    except Exception as error:  # unpickling and hub failures come as many types; all mean "these weights do not load"
        if file is not None:
            raise UserError(f"{file}: cannot be loaded as weights of {name} ({said(error)})") from error
        if source.pretrained is None:
            raise UserError(f"open_clip model {name}: {said(error)}") from error
        reason = first_line(error).removeprefix(f"Failed to download weights for tag '{source.pretrained}': ")
        raise UserError(
            f"settings.pretrained: the weights {source.pretrained!r} of {name} can't be downloaded ({reason}); "
            f"{_LOCAL_FILE}"
        ) from error
    if file is not None:
        check_finite(model.state_dict(), str(file))
    return ClipModel(model, tokenizer, preprocessing_of(model))


@contextmanager
def _no_log() -> Iterator[None]:
    """Without the library's log, which would say what an error says once more."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)


def has_quick_gelu(source: OpenClipSettings) -> bool:
    """Whether the settings, or else the tag, ask for OpenAI's activation function in place of the usual one."""
    if source.quick_gelu is not None or not source.pretrained:
        return bool(source.quick_gelu)
    return bool(open_clip_module().get_pretrained_cfg(source.model, source.pretrained).get("quick_gelu", False))


def _local_weights(pretrained: str | None) -> tuple[Path | None, Mapping[str, Any] | None]:
    """The file that `pretrained` means, and the preprocessing that lies beside it in a model folder; None for a tag.

    Raises `UserError` when there is no such file.
    """
    if not pretrained:
        return None, None
    path = Path(pretrained.removeprefix(LOCAL))
    if os.path.isdir(path):
        # Safetensors first, and open_clip's own names before others.
        found = sorted(
            (file for file in path.iterdir() if file.suffix in _SUFFIXES),
            key=lambda file: (not file.name.startswith("open_clip"), _SUFFIXES.index(file.suffix), file.name),
        )
        if not found:
            raise UserError(f"settings.pretrained: {path} has no weights ({', '.join(_SUFFIXES)})")
        beside = path / CONFIG_FILE
        if not beside.is_file():
            return found[0], None
        config = parse_json(read_bytes(beside, MOST_BYTES), f"{beside}:")
        preprocess = config.get("preprocess_cfg") if isinstance(config, dict) else None
        check_preprocess(preprocess, str(beside))
        return found[0], preprocess
    if pretrained.startswith(LOCAL):
        raise UserError(f"settings.pretrained: there is no folder {path}")
    if os.path.isfile(path):
        if path.suffix != ".safetensors" and zipfile.is_zipfile(path):
            try:
                check_stored(path)
            except (OSError, ValueError, zipfile.BadZipFile) as error:
                raise UserError(f"checkpoint {path}: is not read ({first_line(error)})") from error
        return path, None
    if "/" in pretrained or path.suffix in _SUFFIXES:
        raise UserError(f"checkpoint {pretrained}: there is no such file")
    return None, None


def _tokenizer(source: OpenClipSettings, config: Mapping[str, Any]) -> Callable[[Sequence[str]], Tensor]:
    """open_clip's tokenizer for a model, which may be one of transformers: from a folder, or fetched."""
    open_clip, text = open_clip_module(), config["text_cfg"]
    of_transformers = text.get("hf_tokenizer_name")
    if source.tokenizer and not of_transformers:
        raise UserError(f"settings.tokenizer: {source.model} has open_clip's own tokenizer, which needs no files")
    if source.tokenizer and not os.path.isdir(source.tokenizer):
        raise UserError(f"settings.tokenizer: there is no folder {source.tokenizer}")
    safe: dict[str, Any] = {"trust_remote_code": False} if of_transformers else {}
    try:
        found: Callable[[Sequence[str]], Tensor]
        if source.tokenizer:
            found = open_clip.tokenizer.HFTokenizer(
                source.tokenizer,
                context_length=text.get("context_length", 77),
                tokenizer_mode=text.get("tokenizer_mode"),
                **{**text.get("tokenizer_kwargs", {}), **safe},
            )
        else:
            found = open_clip.get_tokenizer(source.model, **safe)
    except ModuleNotFoundError as error:
        raise UserError(
            f'{source.model}: its tokenizer needs {error.name}: pip install "rls3_gym[paligemma]"'
        ) from error
    except Exception as error:  # the hub's and the tokenizers' own errors come as many types
        where = source.tokenizer or of_transformers
        raise UserError(
            f"settings.tokenizer: {where} can't be loaded ({first_line(error)}); give a folder with the files of the "
            f"tokenizer {of_transformers}"
        ) from error
    return found
