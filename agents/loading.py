"""From a name to an agent: registry YAML, a YAML file of one's own, an installed plugin, or `module:Class`."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from pydantic import Field

import rls3_registry
from rls3_agents.base import SamplerAgent
from rls3_agents.settings import Settings, parse
from rls3_registry.errors import UserError, unknown

GROUP = "rls3_gym.agents"
"""Entry-point group in which packages announce their agents: `name = "module:Class"`."""

EXTRAS = {"stable_baselines3": "sb3", "tianshou": "tianshou"}
"""Libraries that the built-in plugins need, and the extra that brings them."""


class AgentSpec(Settings):
    """One agent YAML."""

    plugin: str  # name in the entry-point group, or module:Class
    description: str = ""  # one line for `rls3 list`
    settings: dict[str, Any] = Field(default_factory=dict)  # handed to the class, which checks them


def plugins() -> dict[str, EntryPoint]:
    """The installed plugins by name."""
    return {point.name: point for point in entry_points(group=GROUP)}


def load_spec(name: str) -> AgentSpec:
    """What `name` stands for: a registry name, a path ending in .yaml, a plugin's name, or `module:Class`.

    Raises `UserError` that lists the nearest names for one that is none of these.
    """
    if name.endswith((".yaml", ".yml")):
        return parse(AgentSpec, rls3_registry.load_file(Path(name)), where=name)
    if name in rls3_registry.names("agents"):
        return parse(AgentSpec, rls3_registry.load("agents", name), where=f"agents/{name}.yaml")
    if ":" in name or name in plugins():
        return AgentSpec(plugin=name)
    raise unknown("agent", name, {*rls3_registry.names("agents"), *plugins()})


def agent_class(plugin: str) -> type[SamplerAgent]:
    """The class behind a plugin's name or `module:Class`. Raises `UserError` when there is none, or no importing it."""
    point = EntryPoint(plugin, plugin, GROUP) if ":" in plugin else plugins().get(plugin)
    if point is None:
        raise unknown("agent plugin", plugin, plugins(), where="plugin")
    try:
        module = importlib.import_module(point.module)
    except ModuleNotFoundError as error:
        raise _missing(plugin, error) from error
    found = getattr(module, point.attr, None)
    if not isinstance(found, type):
        raise UserError(f"plugin: module {point.module!r} has no class {point.attr!r}")
    absent = [part for part in ("learn", "act", "save", "load", "action_views") if not hasattr(found, part)]
    if absent:
        raise UserError(f"plugin: {plugin!r} is no sampler agent; it lacks {', '.join(absent)} (see rls3_agents.base)")
    return found


def make_agent(name: str, seed: int, overrides: Mapping[str, Any] | None = None) -> SamplerAgent:
    """The agent `name` stands for (see `load_spec`), with `overrides` put over its YAML's settings.

    Raises `UserError` for an unknown name, key or value, and for a library that is not installed.
    """
    spec = load_spec(name)
    return agent_class(spec.plugin)({**spec.settings, **(overrides or {})}, seed)


def _missing(plugin: str, error: ModuleNotFoundError) -> UserError:
    library = (error.name or "").split(".")[0]
    if library in EXTRAS:
        return UserError(f'agent plugin {plugin!r} needs {library}: pip install "rls3_gym[{EXTRAS[library]}]"')
    return UserError(f"agent plugin {plugin!r} cannot be imported: {error}")
