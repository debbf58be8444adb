"""The files that transformers reads in a model folder, gone through before it does: nothing there can ask for code, for
a file outside the folder or a model elsewhere, or for a model of a size that no one has."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rls3_registry.errors import UserError, first_line
from rls3_registry.reading import check_stored, parse_json, read_bytes

RUNS_CODE = {
    "auto_map": "classes of the folder's own Python files",
    "custom_pipelines": "classes of the folder's own Python files",
    "trust_remote_code": "code of others",
    "custom_generate": "code of others",
    "attn_implementation": "a kernel, which may be fetched and run",
    "_attn_implementation": "a kernel, which may be fetched and run",
    "experts_implementation": "a kernel, which may be fetched and run",
    "_experts_implementation": "a kernel, which may be fetched and run",
    "quantization_config": "a library that unpacks the weights; settings.quantize does that for plain ones",
}
"""Keys, and what they can make run. Refused unless they are null, or one of `_PLAIN`."""
_PLAIN = ("eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention", "grouped_mm", "batched_mm")
"""What ships with torch or transformers, or is installed by the user."""
LEADS_ELSEWHERE = (
    "audio_tokenizer", "audio_tokenizer_class", "audio_tokenizer_name_or_path", "checkpoint_path", "pretrained_cfg",
    "pretrained_cfg_overlay", "use_pretrained_backbone",
)  # fmt: skip
"""Keys with which a part of the model is fetched, or read from anywhere. Refused unless they are null or false."""
_TIMM = ("architecture", "backbone")
"""Keys that hold the name of a model of timm; `hf-hub:` and `local-dir:` in front of one lead elsewhere."""
_TIMM_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_MOST = {"tokenizer.json": 2**26, "vocab.json": 2**26, "added_tokens.json": 2**24, "tokenizer_config.json": 2**24}
_MOST_OTHER = 2**22
_INDEX = ".safetensors.index.json"
_PICKLED = (".bin", ".pt", ".pth", ".ckpt")
_DEEPEST = 24
_BOUNDS = (
    (re.compile(r"(n|num|.*_n|.*_num)_?.*layers?|.*depths?|.*num_experts.*|num_local_experts"), 1_024),
    (re.compile(r".*vocab_size"), 2**23),
    (re.compile(r".*max_position_embeddings|.*max_seq_len.*|n_positions|.*num_positions"), 2**25),
    (
        re.compile(r".*(hidden|intermediate|embed|proj|ffn|model|mlp|head).*(size|dim)|embed_dim|d_model|d_ff|dim"),
        2**18,
    ),
    (re.compile(r".*num_.*heads|.*n_heads?|.*head_count"), 4_096),
    (re.compile(r"height|width|crop_size|image_size|patch_size|.*_patch_size"), 8_192),
    (re.compile(r"(shortest|longest|max)_edge|(min|max)_pixels"), 2**25),  # of some models these are pixels
    (re.compile(r"image_seq_len(gth)?|num_image_tokens|.*max_image_tiles"), 2**16),
)
"""The largest number that a key of this form can have."""


def check_library_files(folder: Path) -> None:
    """Raise `UserError` naming file and key of what no model folder can say or hold. Tokens are not looked at."""
    _check_own(folder)
    for path in sorted(folder.glob("*.json")):
        content = parse_json(read_bytes(path, _MOST.get(path.name, _MOST_OTHER)), f"{path}:")
        if path.name.endswith(_INDEX):
            _check_index(content, path)
        elif path.name not in ("tokenizer.json", "vocab.json", "added_tokens.json"):
            check_values(content, path)


def check_values(content: Any, path: Path) -> None:
    """The same of some values, that are written in a file or under a key."""
    for keys, value in _values(content, path, ()):
        _check_value(keys, value, path)


def _check_own(folder: Path) -> None:
    """No link leads out of the folder: what is there would be read, and written into an exported model. In a snapshot
    that was fetched from a hub all files are links, to others of the same model."""
    root = (folder.parent.parent if folder.parent.name == "snapshots" else folder).resolve()
    for path in folder.rglob("*"):
        if path.is_symlink() and not path.resolve().is_relative_to(root):
            raise UserError(f"{path}: is a link that leads out of the model folder")
        if not path.is_dir() and not path.is_file():
            raise UserError(f"{path}: is no plain file; a model folder holds files and folders alone")
        if path.suffix in _PICKLED and path.is_file() and zipfile.is_zipfile(path):
            try:
                check_stored(path)
            except (OSError, ValueError, zipfile.BadZipFile) as error:
                raise UserError(f"{path}: is not read ({first_line(error)})") from error


def _check_index(content: Any, path: Path) -> None:
    """The files of weights in several parts lie beside their index."""
    parts = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(parts, dict):
        raise UserError(f"{path}: should hold weight_map, the file of each of the weights")
    for part in {str(name) for name in parts.values()}:
        if Path(part).name != part or not part.endswith(".safetensors") or not (path.parent / part).is_file():
            raise UserError(f"{path}: weight_map: {part[:200]!r} is no .safetensors file of the folder")


def _values(content: Any, path: Path, keys: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every value under a key, with the keys that lead there."""
    if len(keys) > _DEEPEST:
        raise UserError(f"{path}: {'.'.join(keys)[:200]}: values are nested more than {_DEEPEST} deep")
    if isinstance(content, Mapping):
        for key, value in content.items():
            yield (*keys, key), value
            yield from _values(value, path, (*keys, key))
    elif isinstance(content, list):
        for value in content:
            if isinstance(value, Mapping | list):
                yield from _values(value, path, (*keys, "-"))


def _check_value(keys: tuple[str, ...], value: Any, path: Path) -> None:
    key = keys[-1]
    where = f"{path}: {'.'.join(keys)[:200]}"
    if key in RUNS_CODE and value not in (None, False, *_PLAIN):
        raise UserError(f"{where}: names {RUNS_CODE[key]}; a model folder is data, and nothing in it is run")
    if key in LEADS_ELSEWHERE and value not in (None, False):
        raise UserError(f"{where}: names a part of the model that lies elsewhere; a model folder holds all of it")
    if key in _TIMM and isinstance(value, str) and not _TIMM_NAME.fullmatch(value):
        raise UserError(f"{where}: {value[:200]!r} is no name of a model of timm")
    if key == "model_args" and isinstance(value, Mapping) and any(isinstance(v, str) for v in value.values()):
        raise UserError(f"{where}: has text among its values, which could lead elsewhere")
    # A tokenizer's configuration may still name the folder that it was saved from, on another machine.
    if key.endswith("_file") and isinstance(value, str) and Path(value).name != value and os.path.exists(value):
        raise UserError(f"{where}: {value[:200]!r} is a file outside of the folder")
    for number in value if isinstance(value, list) else [value]:
        if isinstance(number, int) and not isinstance(number, bool):
            for form, most in _BOUNDS:
                if form.fullmatch(key) and number > most:
                    raise UserError(f"{where}: should be at most {most:,}, not {number:.3g}")
