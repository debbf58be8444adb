"""Finding a VLM by name or path: registry YAML -> adapter -> VLM."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, ValidationError

import rls3_registry
from rls3_gym.vlm.base import VLM
from rls3_gym.vlm.settings import finetune_settings
from rls3_registry.errors import UserError

PACKAGED = Path(__file__).resolve().parent / "packaged"


class VlmSpec(BaseModel):
    """One YAML of `registry/vlms`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    adapter: Literal["open_clip"]
    description: str = ""
    model: str
    """`packaged:NAME`, an open_clip model name, or the path of an open_clip model folder."""
    pretrained: str | None = None
    """For open_clip names: a checkpoint file, or a tag that open_clip can fetch."""
    quick_gelu: bool = False
    finetune: dict[str, Any] = {}


def load_vlm(name: str, finetune: Mapping[str, Any] | None = None, seed: int = 0) -> VLM:
    """The VLM of a registry name, a YAML file, or an open_clip model folder.

    `finetune` overrides the YAML's settings. `seed` matters only to models without weights. Raises `UserError`.
    """
    where, spec = _spec(name)
    settings = finetune_settings(spec.finetune, finetune, where)
    from rls3_gym.vlm.clip_model import load_folder, load_named
    from rls3_gym.vlm.open_clip import OpenClipVLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if spec.model.startswith("packaged:"):
            clip = load_folder(PACKAGED / spec.model.removeprefix("packaged:"))
        elif Path(spec.model).is_dir():
            clip = load_folder(Path(spec.model))
        else:
            clip = load_named(spec.model, spec.pretrained, spec.quick_gelu)
        return OpenClipVLM(name, clip, settings)


def _spec(name: str) -> tuple[str, VlmSpec]:
    """Where the VLM is described (for messages), and how."""
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
    try:
        return where, VlmSpec(**content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(p) for p in first["loc"])
        raise UserError(f"{where}: {key}: {first['msg']}; keys are {', '.join(VlmSpec.model_fields)}") from error
