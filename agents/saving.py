"""Files of a saved agent: JSON, arrays, tensors. None can run code when read; an unreadable one is a `UserError`."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from rls3_registry.errors import UserError

T = TypeVar("T")
HEADER = "agent.json"


def write_header(directory: Path, kind: str, content: Mapping[str, Any]) -> None:
    """Write `agent.json`: what kind of agent this is, and all its state that is plain values."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / HEADER).write_text(json.dumps({"agent": kind, **content}), encoding="utf-8")


def read_header(directory: Path, kind: str) -> dict[str, Any]:
    """Read `agent.json`. Raises `UserError` when it is missing, broken, or of another kind of agent."""
    path = directory / HEADER
    content = _read(path, lambda: json.loads(path.read_text(encoding="utf-8")))
    found = content.get("agent") if isinstance(content, dict) else None
    if found != kind:
        raise UserError(f"{path}: holds an agent of kind {found!r}, not {kind!r}")
    return dict(content)


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write named arrays of plain numbers (npz)."""
    np.savez(path, allow_pickle=False, **dict(arrays))


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read what `write_arrays` wrote."""

    def read() -> dict[str, NDArray[Any]]:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}

    return _read(path, read)


def write_tensors(path: Path, content: Any) -> None:
    """Write nested dicts and lists of tensors and plain values, such as an optimizer's state."""
    buffer = io.BytesIO()  # through memory: torch reports a full disk as a RuntimeError about its own file format
    torch.save(content, buffer)
    path.write_bytes(buffer.getvalue())


def read_tensors(path: Path) -> Any:
    """Read what `write_tensors` wrote; nothing but tensors and plain values is let in."""
    return _read(path, lambda: torch.load(path, weights_only=True, map_location="cpu"))


def _read(path: Path, reader: Callable[[], T]) -> T:
    try:
        return reader()
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; is this the folder of a saved agent?") from error
    except Exception as error:  # json, zip and unpickling errors have no common base below this
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path}: cannot be read as part of a saved agent ({reason})") from error
