"""An SB3 model's state without pickle: weights and optimizers as tensors, the replay buffer and the last
observation as arrays, counters as plain values. `BaseAlgorithm.save` would pickle most of these.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sb3_contrib import RecurrentPPO
from sb3_contrib.common.recurrent.type_aliases import RNNStates
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
Memory = tuple[NDArray[Any], ...]
"""What a recurrent policy remembers of an episode: hidden and cell states of its actor."""


def save_model(model: BaseAlgorithm, directory: Path, acting: Memory | None = None) -> dict[str, Any]:
    """Write the model's tensors and arrays, and what it remembers while it acts; returns its counters, JSON-ready."""
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
    if isinstance(model, RecurrentPPO):
        held: Any = model._last_lstm_states  # None to mypy
        states = [*held.pi, *held.vf]
        arrays |= {f"learning/{place}": part.numpy() for place, part in enumerate(states)}
    arrays |= {f"acting/{place}": part for place, part in enumerate(acting or ())}
    saving.write_arrays(directory / "arrays.npz", arrays)
    return counters


def load_model(model: BaseAlgorithm, directory: Path, counters: Mapping[str, Any]) -> Memory | None:
    """Put what `save_model` wrote into a newly built model of the same settings and spaces; returns what it remembers
    while it acts."""
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
    if isinstance(model, RecurrentPPO):
        parts = [torch.from_numpy(arrays[f"learning/{place}"]) for place in range(4)]
        held: Any = RNNStates((parts[0], parts[1]), (parts[2], parts[3]))
        model._last_lstm_states = held
    return (arrays["acting/0"], arrays["acting/1"]) if "acting/0" in arrays else None


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
