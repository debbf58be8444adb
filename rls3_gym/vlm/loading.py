"""Finding a VLM by name or path: registry YAML -> adapter -> VLM."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict

import rls3_registry
from rls3_gym.vlm.base import VLM
from rls3_registry.errors import UserError
from rls3_registry.plugins import make, plugin_class
from rls3_registry.validation import check

GROUP = "rls3_gym.vlms"
"""Entry-point group in which packages announce their adapters: `name = "module:Class"`."""
_NEEDS = ("from_yaml", "evaluate", "finetune", "state", "load_state", "digest")


class VlmSpec(BaseModel):
    """One YAML of `registry/vlms`. All other keys are the adapter's own."""

    model_config = ConfigDict(extra="allow", frozen=True)

    adapter: str
    """Name in the entry-point group, or `module:Class`."""
    description: str = ""
    finetune: dict[str, Any] = {}


def load_vlm(name: str, finetune: Mapping[str, Any] | None = None, seed: int = 0) -> VLM:
    """The VLM of a registry name, a YAML file, or an open_clip model folder.

    `finetune` overrides the YAML's settings. `seed` matters only to models without weights. Raises `UserError`.
    """
    where, spec = load_spec(name)
    adapter = plugin_class(GROUP, "VLM adapter", spec.adapter, _NEEDS)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vlm: VLM = make(
            adapter.from_yaml, "VLM adapter", name, spec.model_extra or {}, {**spec.finetune, **(finetune or {})}, where
        )
    return vlm


def load_spec(name: str) -> tuple[str, VlmSpec]:
    """Where the VLM of a name or path is described (for messages), and how. Raises `UserError`."""
    if name in rls3_registry.names("vlms"):
        where, content = f"vlms/{name}.yaml", rls3_registry.load("vlms", name)
    elif Path(name).is_dir():
        where, content = name, {"adapter": "open_clip", "model": name}
    elif name.endswith((".yaml", ".yml")):
        where, content = name, rls3_registry.load_file(name)
    elif Path(name).is_file():
        raise UserError(
            f"{name}: a bare checkpoint does not say which model it belongs to; "
            "write a YAML with adapter, model and pretrained, and give that"
        )
    else:
        rls3_registry.load("vlms", name)  # raises, naming the nearest ones
        raise AssertionError("unreachable")
    return where, check(VlmSpec, content, where)
