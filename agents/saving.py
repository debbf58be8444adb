"""Files of a saved agent: JSON, arrays, tensors. Reading one never runs code; an unreadable one is a `UserError`."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from rls3_registry.errors import UserError, first_line

T = TypeVar("T")
HEADER = "agent.json"


def write_header(directory: Path, name: str, content: Mapping[str, Any]) -> None:
    """Write `agent.json`: the name of the agent, and all its state that is plain values."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / HEADER).write_text(json.dumps({"agent": name, **content}), encoding="utf-8")


def read_header(directory: Path, name: str) -> dict[str, Any]:
    """Read `agent.json`. Raises `UserError` when it is missing, broken, or of another agent."""
    path = directory / HEADER
    content = _read(path, lambda: json.loads(path.read_text(encoding="utf-8")))
    found = content.get("agent") if isinstance(content, dict) else None
    if found != name:
        raise UserError(f"{path}: holds the agent {found!r}, not {name!r}")
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
    """Read what `write_tensors` wrote; only tensors and plain values are accepted."""
    return _read(path, lambda: torch.load(path, weights_only=True, map_location="cpu"))


@contextmanager
def restoring(directory: Path) -> Iterator[None]:
    """Turn an error while an agent restores its state into one line for the user."""
    try:
        yield
    except (KeyError, TypeError, ValueError, RuntimeError, IndexError, AttributeError) as error:
        what = f"{type(error).__name__}: {first_line(error)}"
        raise UserError(f"{directory}: does not fit the agent's settings ({what})") from error


def _read(path: Path, reader: Callable[[], T]) -> T:
    try:
        return reader()
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; is this the folder of a saved agent?") from error
    except Exception as error:  # JSON, zip and unpickling errors have no narrower common base
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path}: cannot be read as part of a saved agent ({reason})") from error
