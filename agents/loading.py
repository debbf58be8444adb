"""From a name to an agent: registry YAML, a YAML file of one's own, an installed plugin, or `module:Class`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

import rls3_registry
from rls3_agents.base import SamplerAgent
from rls3_agents.settings import Settings
from rls3_registry.errors import unknown
from rls3_registry.plugins import installed, make, plugin_class
from rls3_registry.validation import check

GROUP = "rls3_gym.agents"
"""Entry-point group in which packages announce their agents: `name = "module:Class"`."""

EXTRAS = {"stable_baselines3": "sb3", "sb3_contrib": "sb3", "tianshou": "tianshou"}
"""Libraries that the built-in plugins need, and the extra that brings them."""


class AgentSpec(Settings):
    """One agent YAML."""

    plugin: str  # name in the entry-point group, or module:Class
    description: str = ""  # one line for `rls3 list`
    settings: dict[str, Any] = Field(default_factory=dict)  # handed to the class, which checks them


def load_spec(name: str) -> AgentSpec:
    """What `name` stands for: a registry name, a path ending in .yaml, a plugin's name, or `module:Class`.

    Raises `UserError` that lists the nearest names for one that is none of these.
    """
    if name.endswith((".yaml", ".yml")):
        return check(AgentSpec, rls3_registry.load_file(Path(name)), where=name)
    if name in rls3_registry.names("agents"):
        return check(AgentSpec, rls3_registry.load("agents", name), where=f"agents/{name}.yaml")
    if ":" in name or name in installed(GROUP):
        return AgentSpec(plugin=name)
    raise unknown("agent", name, {*rls3_registry.names("agents"), *installed(GROUP)})


def agent_class(plugin: str) -> type[SamplerAgent]:
    """The class behind a plugin's name or `module:Class`. Raises `UserError` when there is none, or no importing it."""
    return plugin_class(GROUP, "agent plugin", plugin, ("learn", "act", "save", "load", "action_views"), EXTRAS)


def make_agent(name: str, seed: int, overrides: Mapping[str, Any] | None = None) -> SamplerAgent:
    """The agent `name` stands for (see `load_spec`), with `overrides` put over its YAML's settings.

    Raises `UserError` for an unknown name, key or value, and for a library that is not installed.
    """
    spec = load_spec(name)
    settings = {**spec.settings, **(overrides or {})}
    agent: SamplerAgent = make(agent_class(spec.plugin), "agent plugin", settings, seed=seed)
    return agent
