"""What a sampler agent is: any RL library, or none, that chooses edits until the budget of samples is spent.

A plugin is one file with one class and one YAML in `registry/agents/`. Libraries own their training loop, so an
agent is handed a way to make the environment and a monitor that says when to stop. `contract.py` is the test
suite that every plugin runs against itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import gymnasium

from rls3_registry.errors import UserError


class EnvFactory(Protocol):
    """Makes the environment of the experiment. Call it once: the one learning VLM lives inside."""

    def __call__(self) -> gymnasium.Env[Any, Any]:
        """The environment in the action view the experiment settled on, wrapped with the monitor, and seeded.

        A new agent begins with `reset()`, without a seed: a seed would start the VLM's experiment anew. An agent
        that was loaded does not reset: the environment stands where it stood at the save, in the same episode.
        """


class Monitor(Protocol):
    """The experiment's side of a running `learn`: counts samples, writes metrics, keeps checkpoints."""

    @property
    def done(self) -> bool:
        """True when the budget of valid samples is spent, or a stop was asked for and the last safe point is saved."""

    def safe_point(self, agent: SamplerAgent) -> None:
        """Say that `agent.save` would now hold everything `learn` needs to go on as if never interrupted.

        Call it between environment steps, as often as the library allows: an off-policy learner at every step, an
        on-policy one between rollouts. The monitor decides whether to save.
        """


class SamplerAgent(Protocol):
    """A source of edits. Constructed from its YAML's settings and a seed; `seed` fixes all it draws."""

    def __init__(self, settings: Mapping[str, Any], seed: int) -> None:
        """Check the settings; raises `UserError` naming the key for one that is unknown or out of range."""

    @property
    def action_views(self) -> tuple[str, ...]:
        """Action views the agent can take, best first: `box`, `multi_discrete`, `relation`."""

    def learn(self, make_env: EnvFactory, monitor: Monitor) -> None:
        """Act (and learn) until `monitor.done`, at most one episode longer. Continues after `load`."""

    def act(self, observation: Any, deterministic: bool = False) -> Any:
        """An action for one observation. Needs the spaces, so it follows `learn` or `load`."""

    def save(self, directory: Path) -> None:
        """Write everything `learn` needs to continue. No pickle: safetensors, npz, JSON, `weights_only` torch files."""

    def load(self, directory: Path) -> None:
        """Take up what `save` wrote, before `learn`. Raises `UserError` for files of another agent or none."""


def choose_view(agent: SamplerAgent, wanted: str | None = None, name: str = "") -> str:
    """The action view to make the environment with: the one `wanted`, or the agent's best when that is None.

    `name` is what the user calls the agent. Raises `UserError` for a view the agent can't take.
    """
    if not agent.action_views:
        raise UserError(f"agent {name or type(agent).__name__!r} names no action view that it can take")
    if wanted is None:
        return agent.action_views[0]
    if wanted not in agent.action_views:
        who, takes = name or type(agent).__name__, " or ".join(agent.action_views)
        raise UserError(f"action_view: agent {who!r} cannot take {wanted!r}; it takes {takes}")
    return wanted
