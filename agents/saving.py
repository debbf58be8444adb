"""Files of a saved agent: JSON, arrays, tensors. Reading one never runs code; an unreadable one is a `UserError`."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray

from rls3_registry.errors import UserError, first_line
from rls3_registry.reading import check_stored

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
        check_stored(path)
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

    def read() -> Any:
        check_stored(path)
        return torch.load(path, weights_only=True, map_location="cpu")

    return _read(path, read)


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


def describe_space(space: gymnasium.Space[Any]) -> dict[str, Any]:
    """A space as JSON-ready values. Raises `UserError` for a type that no view of the environment has."""
    if isinstance(space, spaces.Box):
        low, high = _bound(space.low), _bound(space.high)
        return {"type": "box", "low": low, "high": high, "shape": list(space.shape), "dtype": space.dtype.name}
    if isinstance(space, spaces.Discrete):
        return {"type": "discrete", "n": int(space.n), "start": int(space.start)}
    if isinstance(space, spaces.MultiDiscrete):
        return {"type": "multi_discrete", "nvec": space.nvec.tolist()}
    if isinstance(space, spaces.Dict):
        return {"type": "dict", "spaces": {key: describe_space(part) for key, part in space.items()}}
    raise UserError(f"agents cannot save a {type(space).__name__} space; use Box, Discrete, MultiDiscrete or Dict")


def restore_space(description: dict[str, Any]) -> gymnasium.Space[Any]:
    """The space that `describe` described; its generator is fresh."""
    match description["type"]:
        case "box":
            dtype = np.dtype(description["dtype"])
            shape = tuple(description["shape"])
            low, high = (np.broadcast_to(np.asarray(description[end], dtype), shape) for end in ("low", "high"))
            return spaces.Box(low, high, shape, dtype=dtype.type)
        case "discrete":
            return spaces.Discrete(description["n"], start=description["start"])
        case "multi_discrete":
            return spaces.MultiDiscrete(description["nvec"])
        case "dict":
            return spaces.Dict({key: restore_space(part) for key, part in description["spaces"].items()})
        case other:
            raise UserError(f"unknown type of space {other!r} in a saved agent")


def generator_state(space: gymnasium.Space[Any]) -> dict[str, Any]:
    """The state of the space's own generator (what `space.sample()` draws from), JSON-ready."""
    return dict(space.np_random.bit_generator.state)


def load_generator_state(space: gymnasium.Space[Any], state: dict[str, Any]) -> None:
    """Put the space's own generator where `generator_state` found it."""
    space.np_random.bit_generator.state = state


def _bound(values: NDArray[Any]) -> Any:
    """A bound as one number when it is the same everywhere (an image's), else as nested lists."""
    return values.flat[0].item() if values.size and (values == values.flat[0]).all() else values.tolist()
