"""Tables of algorithms: what a row says, and how an agent's YAML picks one.

An RL library has one plugin and one table (`sb3/sb3_algorithms.py`, `tianshou/tianshou_algorithms.py`). Another
algorithm of it is one row of that table and one YAML in `registry/agents/`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from pydantic import Field

from rls3_registry.errors import SettingError, unknown
from rls3_registry.validation import Settings, check

VIEWS_BY_SPACE: dict[type[gymnasium.Space[Any]], tuple[str, ...]] = {
    Box: ("preference", "box"),
    MultiDiscrete: ("multi_discrete",),
    Discrete: ("select", "relation"),
}
"""Action views by the type of their space, best first. A new view is one more name here."""

Fraction = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0, le=1000)]
PositiveWeight = Annotated[float, Field(gt=0, le=1000)]
Norm = Annotated[float, Field(gt=0, le=1e9)]
"""What gradients are clipped to."""
LogStd = Annotated[float, Field(ge=-20, le=5)]
"""Log of the standard deviation that actions in a Box start with."""
Steps = Annotated[int, Field(ge=1, le=10**9)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
"""What memory or time is in proportion to."""
Rate = Annotated[float, Field(gt=0, le=1)]
"""A learning rate."""
Layers = Annotated[list[Annotated[int, Field(ge=1, le=16_384)]], Field(min_length=1, max_length=64)]
BufferSize = Annotated[int, Field(ge=1, le=10_000_000)]
EntropyPerDim = Annotated[float, Field(ge=-20, lt=0.6931)]
"""Nats per dimension of a Box action. A uniform policy over -1..1 has ln 2 = 0.6931 and can't be exceeded."""


class AlgorithmSettings(Settings):
    """Base of every algorithm's settings."""

    algorithm: str  # key of the library's table


S = TypeVar("S", bound=AlgorithmSettings)


@dataclass(frozen=True)
class Algorithm(Generic[S]):
    """One row of a library's table."""

    build: Callable[..., Any]
    """The library's class, or a function that makes an instance; called by the library's agent."""
    settings: type[S]
    spaces: tuple[type[gymnasium.Space[Any]], ...]
    """Types of action space that the algorithm can act in, best first."""
    policy: Any = None
    """The policy class; the library's choice for the observations when None."""
    views: tuple[str, ...] | None = None
    """The action views it takes; all those with its types of space when None."""

    takes_lanes: bool = False
    """Whether it learns from several lanes at once: the on-policy ones do."""

    @property
    def action_views(self) -> tuple[str, ...]:
        return views_of(*self.spaces) if self.views is None else self.views


def views_of(*space_types: type[gymnasium.Space[Any]]) -> tuple[str, ...]:
    """The action views whose spaces are of these types, in this order."""
    return tuple(view for space_type in space_types for view in VIEWS_BY_SPACE[space_type])


def steps_per_lane(rollout: int, lanes: int) -> int:
    """Steps of each lane in a rollout of `rollout` steps over all of them, rounded up."""
    return -(-rollout // lanes)


def parse_algorithm(table: Mapping[str, Algorithm[S]], values: Mapping[str, Any]) -> S:
    """The settings of the algorithm that `values["algorithm"]` names.

    Raises:
        UserError: There is no such algorithm in the table, or a setting is wrong. The message names the key.
    """
    name = values.get("algorithm")
    if name is None:
        raise SettingError("", ("settings", "algorithm"), f": is missing; one of {', '.join(table)}")
    if not isinstance(name, str) or name not in table:
        raise SettingError("", ("settings", "algorithm"), f": {unknown('algorithm', str(name), table)}")
    return check(table[name].settings, values, section="settings")


def target_entropy(per_dim: float, actions: Box) -> float:
    """The entropy in nats at which a learned entropy weight keeps the policy, for actions of this space."""
    return per_dim * int(np.prod(actions.shape))
