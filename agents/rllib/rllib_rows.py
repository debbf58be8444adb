"""What an RLlib agent learns from: a rollout as RLlib's episodes, or a replay buffer as RLlib's batches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch

COLUMNS = ("obs", "actions", "rewards", "terminateds", "truncateds", "new_obs")


@dataclass(frozen=True, eq=False)
class Row:
    """One step on one lane."""

    obs: NDArray[Any]
    action: Any
    """As the network gave it."""
    reward: float
    terminated: bool
    truncated: bool
    following: NDArray[Any]
    """The observation after it; where the episode ended, its last."""
    chosen: Mapping[str, Any]
    """What the network said when it chose the action."""


class Rollout:
    """Steps of all lanes, until they are learned from."""

    def __init__(self, lanes: int) -> None:
        self._lanes: list[list[Row]] = [[] for _ in range(lanes)]

    def __len__(self) -> int:
        return sum(len(rows) for rows in self._lanes)

    def add(self, lane: int, row: Row) -> None:
        self._lanes[lane].append(row)

    def clear(self) -> None:
        for rows in self._lanes:
            rows.clear()

    def episodes(self) -> list[Any]:
        """Whole episodes and parts of them, lane by lane."""
        parts: list[list[Row]] = []
        for rows in self._lanes:
            before = True
            for row in rows:
                if before:
                    parts.append([])
                parts[-1].append(row)
                before = row.terminated or row.truncated
        return [_episode(str(number), part) for number, part in enumerate(parts)]


def _episode(name: str, rows: list[Row]) -> Any:
    last = rows[-1]
    episode = SingleAgentEpisode(
        id_=name,
        observations=[*(row.obs for row in rows), last.following],
        actions=[row.action for row in rows],
        rewards=[row.reward for row in rows],
        terminated=last.terminated,
        truncated=last.truncated,
        extra_model_outputs={key: [row.chosen[key] for row in rows] for key in last.chosen},
        len_lookback_buffer=0,
    )
    return episode.to_numpy()


class Replay:
    """The newest transitions, and batches of them drawn at random."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._rows: dict[str, NDArray[Any]] = {}
        self.length = self.next = 0
        """Transitions held, and where the next one goes."""

    def add(self, row: Row) -> None:
        values = (row.obs, row.action, row.reward, row.terminated, row.truncated, row.following)
        for column, value in zip(COLUMNS, values, strict=True):
            array = np.asarray(value, np.float32 if column == "rewards" else None)
            if column not in self._rows:
                self._rows[column] = np.zeros((self._size, *array.shape), array.dtype)
            self._rows[column][self.next] = array
        self.next = (self.next + 1) % self._size
        self.length = min(self.length + 1, self._size)

    def batch(self, places: NDArray[np.int64]) -> Any:
        """The transitions at some places."""
        columns = {column: torch.as_tensor(rows[places]) for column, rows in self._rows.items()}
        ones = torch.ones(len(places))
        rows = SampleBatch({**columns, "weights": ones, "n_step": ones.clone()})
        return MultiAgentBatch({DEFAULT_MODULE_ID: rows}, env_steps=len(places))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What is held, by column."""
        return {column: rows[: self.length] for column, rows in self._rows.items()}

    def fill(self, arrays: Mapping[str, NDArray[Any]], following: int) -> None:
        """The inverse of `arrays`; `following` is where the next one goes. Raises `KeyError` for a missing column."""
        columns = {column: arrays[column] for column in COLUMNS} if "obs" in arrays else {}
        self._rows = {}
        for column, held in columns.items():
            self._rows[column] = np.zeros((self._size, *held.shape[1:]), held.dtype)
            self._rows[column][: len(held)] = held
        self.length, self.next = len(columns["obs"]) if columns else 0, following
