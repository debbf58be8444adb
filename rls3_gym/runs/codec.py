"""Nested state on disk without pickle: JSON for the tree, npz for its arrays, safetensors for its tensors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save

from rls3_registry.errors import UserError
from rls3_registry.reading import check_stored, read_text

TREE, ARRAYS, TENSORS = "state.json", "arrays.npz", "tensors.safetensors"
MOST_TREE = 2**29
"""Bytes of `TREE`; a run of 17,000 samples has four million."""
_MARKS = ("$array", "$tensor", "$items")
T = TypeVar("T")


def save_tree(tree: Any, directory: Path) -> None:
    """Write a tree of dicts, lists, tuples, JSON scalars, numpy arrays and scalars, and tensors.

    Tuples come back as lists and numpy scalars as Python ones. Raises `TypeError` naming the place of a
    value of any other type, `OSError` when a file can't be written.
    """
    arrays: dict[str, NDArray[Any]] = {}
    tensors: dict[str, torch.Tensor] = {}
    encoded = _encode(tree, "state", arrays, tensors)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / TREE).write_text(json.dumps(encoded), encoding="utf-8")
    with (directory / ARRAYS).open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
    # Through memory: safetensors reports a full disk as an error of its own.
    (directory / TENSORS).write_bytes(save(tensors))


def load_tree(directory: Path) -> Any:
    """The inverse of `save_tree`. Raises `OSError`, `ValueError` or `KeyError` for damaged files."""
    try:
        encoded = json.loads(read_text(directory / TREE, MOST_TREE, follow=False))
        check_stored(directory / ARRAYS)
        with np.load(directory / ARRAYS, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        return _decode(encoded, arrays, load_file(directory / TENSORS))
    except UserError as error:  # of `read_text`: for who loads, the file is damaged
        raise ValueError(str(error)) from error
    except (RecursionError, MemoryError) as error:
        raise ValueError(f"not a tree that was saved here: {type(error).__name__}") from error


def _encode(value: Any, place: str, arrays: dict[str, NDArray[Any]], tensors: dict[str, torch.Tensor]) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        # An enum or a numpy float is a subclass of these; what is written is the plain value.
        return json.loads(json.dumps(value))
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        if value.dtype.hasobject:
            raise TypeError(f"{place}: an array of Python objects can't be saved")
        return {"$array": _keep(value, place, arrays)}
    if isinstance(value, torch.Tensor):
        # A copy of its own: safetensors refuses tensors that share memory.
        return {"$tensor": _keep(value.detach().cpu().contiguous().clone(), place, tensors)}
    if isinstance(value, Mapping):
        items = {key: _encode(item, f"{place}.{key}", arrays, tensors) for key, item in value.items()}
        if all(isinstance(key, str) and key not in _MARKS for key in items):
            return {str(key): item for key, item in items.items()}
        if all(isinstance(key, int | str) for key in items):  # optimizer states are keyed by numbers
            return {"$items": [[key, item] for key, item in items.items()]}
        raise TypeError(f"{place}: keys must be text or whole numbers")
    if isinstance(value, list | tuple):
        return [_encode(item, f"{place}.{i}", arrays, tensors) for i, item in enumerate(value)]
    raise TypeError(f"{place}: a {type(value).__name__} can't be saved")


def _keep(value: T, place: str, kept: dict[str, T]) -> str:
    """The name under which a value is kept: its place, or like it where the place is that of another value too."""
    while place in kept:
        place += "'"
    kept[place] = value
    return place


def _decode(value: Any, arrays: Mapping[str, NDArray[Any]], tensors: Mapping[str, torch.Tensor]) -> Any:
    if isinstance(value, list):
        return [_decode(item, arrays, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"$array"}:
        return arrays[value["$array"]]
    if value.keys() == {"$tensor"}:
        return tensors[value["$tensor"]]
    if value.keys() == {"$items"}:
        return {key: _decode(item, arrays, tensors) for key, item in value["$items"]}
    return {key: _decode(item, arrays, tensors) for key, item in value.items()}
