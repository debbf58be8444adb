"""Gymnasium spaces as JSON, so that a saved agent knows its spaces without an environment."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from rls3_registry.errors import UserError


def describe(space: gymnasium.Space[Any]) -> dict[str, Any]:
    """A space as JSON-ready values. Raises `UserError` for a type that no view of the environment has."""
    if isinstance(space, spaces.Box):
        low, high = _bound(space.low), _bound(space.high)
        return {"type": "box", "low": low, "high": high, "shape": list(space.shape), "dtype": space.dtype.name}
    if isinstance(space, spaces.Discrete):
        return {"type": "discrete", "n": int(space.n), "start": int(space.start)}
    if isinstance(space, spaces.MultiDiscrete):
        return {"type": "multi_discrete", "nvec": space.nvec.tolist()}
    if isinstance(space, spaces.Dict):
        return {"type": "dict", "spaces": {key: describe(part) for key, part in space.items()}}
    raise UserError(f"agents cannot save a {type(space).__name__} space; use Box, Discrete, MultiDiscrete or Dict")


def restore(description: dict[str, Any]) -> gymnasium.Space[Any]:
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
            return spaces.Dict({key: restore(part) for key, part in description["spaces"].items()})
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
