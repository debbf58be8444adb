"""Finding a backend by name or path: registry YAML -> class -> backend."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

import rls3_registry
from rls3_gym.backends.base import SceneBackend
from rls3_registry.plugins import make, plugin_class
from rls3_registry.validation import check

GROUP = "rls3_gym.backends"
"""Entry-point group in which packages announce their backends: `name = "module:Class"`."""


class BackendSpec(BaseModel):
    """One YAML of `registry/backends`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    plugin: str
    """Name in the entry-point group, or `module:Class`."""
    description: str = ""
    settings: dict[str, Any] = {}
    """Handed to the class by name, beside `image_size`."""


def load_backend(name: str, image_size: int) -> SceneBackend:
    """A new backend that takes square pictures of `image_size` pixels: a registry name, or a YAML file.

    Raises `UserError` for a name or key nobody knows, and for a library that is not installed.
    """
    if name.endswith((".yaml", ".yml")):
        where, content = name, rls3_registry.load_file(name)
    else:
        where, content = f"backends/{name}.yaml", rls3_registry.load("backends", name)
    spec = check(BackendSpec, content, where)
    backend = plugin_class(GROUP, "backend", spec.plugin, ("reset", "apply", "capture", "close"))
    made: SceneBackend = make(backend, f"{where}: settings", image_size=image_size, **spec.settings)
    return made
