"""What a sampler agent is: any RL library, or none, that chooses edits until the budget of samples is spent.

A plugin is one file with one class and one YAML in `registry/agents/`. Libraries own their training loop, so an
agent is handed a way to make the environment and a monitor that says when to stop.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol

import gymnasium


class EnvFactory(Protocol):
    """Makes the environment of the experiment. Call it once: the one learning VLM lives inside."""

    def __call__(self) -> gymnasium.Env[Any, Any]:
        """The environment, in the action view the experiment settled on, already wrapped with the monitor."""


class Monitor(Protocol):
    """The experiment's side of a running `learn`: counts samples, writes metrics, keeps checkpoints."""

    @property
    def done(self) -> bool:
        """True when the budget of valid samples is spent or a stop was asked for; leave `learn` soon then."""

    def safe_point(self, agent: SamplerAgent) -> None:
        """Say that `agent.save` would now hold everything `learn` needs to go on as if never interrupted.

        Call it between environment steps, as often as the library allows; the monitor decides whether to save.
        """


class SamplerAgent(Protocol):
    """A source of edits. Constructed from its YAML's settings and a seed; `seed` fixes all it draws."""

    action_views: ClassVar[tuple[str, ...]]
    """Action views the plugin can take, best first: `box`, `multi_discrete`, `relation`."""

    def __init__(self, settings: Mapping[str, Any], seed: int) -> None:
        """Check the settings; raises `UserError` naming the key for one that is unknown or out of range."""

    def learn(self, make_env: EnvFactory, monitor: Monitor) -> None:
        """Act (and learn) until `monitor.done`, at most one episode longer. Continues after `load`."""

    def act(self, observation: Any, deterministic: bool = False) -> Any:
        """An action for one observation."""

    def save(self, directory: Path) -> None:
        """Write everything `learn` needs to continue. No pickle: safetensors, npz, JSON, `weights_only` torch files."""

    def load(self, directory: Path) -> None:
        """Take up what `save` wrote, before `learn`."""
