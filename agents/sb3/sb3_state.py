"""An SB3 model's state without pickle: weights and optimizers as tensors, the replay buffer and the last
observation as arrays, counters as plain values. `BaseAlgorithm.save` would pickle most of these.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from rls3_agents import saving

COUNTERS = (
    "num_timesteps",
    "_episode_num",
    "_n_updates",
    "_n_calls",
    "_current_progress_remaining",
    "exploration_rate",
)
"""Every counter that steers learning; only DQN has `_n_calls` and `exploration_rate`."""
COLUMNS = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")

Arrays = dict[str, NDArray[Any]]


def save_model(model: BaseAlgorithm, directory: Path) -> dict[str, Any]:
    """Write the model's tensors and arrays; returns its counters, JSON-ready."""
    tensors = {"parameters": model.get_parameters(), "log_ent_coef": getattr(model, "log_ent_coef", None)}
    saving.write_tensors(directory / "model.pt", tensors)
    arrays: Arrays = _spread("last_observation", model._last_obs)
    arrays["last_episode_starts"] = np.asarray(model._last_episode_starts)
    counters: dict[str, Any] = {name: getattr(model, name) for name in COUNTERS if hasattr(model, name)}
    if isinstance(model, OffPolicyAlgorithm):
        buffer = model.replay_buffer
        assert buffer is not None
        counters |= {"buffer_position": buffer.pos, "buffer_full": buffer.full}
        for column in COLUMNS:
            arrays |= {name: rows[: buffer.size()] for name, rows in _spread(column, getattr(buffer, column)).items()}
    saving.write_arrays(directory / "arrays.npz", arrays)
    return counters


def load_model(model: BaseAlgorithm, directory: Path, counters: Mapping[str, Any]) -> None:
    """Put what `save_model` wrote into a newly built model of the same settings and spaces."""
    tensors = saving.read_tensors(directory / "model.pt")
    arrays = saving.read_arrays(directory / "arrays.npz")
    model.set_parameters(tensors["parameters"], exact_match=True, device="cpu")
    if tensors["log_ent_coef"] is not None:
        model.log_ent_coef.data.copy_(tensors["log_ent_coef"])  # type: ignore[attr-defined]
    model._last_obs = _gather("last_observation", arrays)
    model._last_episode_starts = arrays["last_episode_starts"]
    for name in COUNTERS:
        if hasattr(model, name):
            setattr(model, name, counters[name])
    if isinstance(model, OffPolicyAlgorithm):
        _fill(model, arrays, counters)


def _fill(model: OffPolicyAlgorithm, arrays: Arrays, counters: Mapping[str, Any]) -> None:
    buffer = model.replay_buffer
    assert buffer is not None
    for column in COLUMNS:
        for name, rows in _spread(column, getattr(buffer, column)).items():
            rows[: len(arrays[name])] = arrays[name]
    buffer.pos, buffer.full = counters["buffer_position"], counters["buffer_full"]
    if len(arrays["rewards"]) != buffer.size():
        raise ValueError(f"replay buffer of {len(arrays['rewards'])} rows, where {buffer.size()} were expected")


def _spread(name: str, value: Any) -> Arrays:
    """An array by its name, or the arrays of a dict by `name/key`. They are views, not copies."""
    if isinstance(value, dict):
        return {f"{name}/{key}": part for key, part in value.items()}
    return {name: value}


def _gather(name: str, arrays: Arrays) -> Any:
    """The opposite of `_spread`."""
    if name in arrays:
        return arrays[name]
    return {key.removeprefix(f"{name}/"): rows for key, rows in arrays.items() if key.startswith(f"{name}/")}
