"""Checking the environment's arguments: one clear line for each that is wrong."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from rls3_gym.scene.layouts import family_names
from rls3_gym.stage import FeasibilityRules
from rls3_gym.vlm.base import VLM
from rls3_gym.vlm.loading import load_vlm
from rls3_registry.errors import UserError, unknown

RENDER_MODES = ("rgb_array", "human")
_VLM_METHODS = ("evaluate", "finetune", "state", "load_state", "digest")


def check_image_size(image_size: int) -> int:
    """Raises `UserError` for anything but a whole number from 16 to 512."""
    if isinstance(image_size, bool) or not isinstance(image_size, int | np.integer) or not 16 <= image_size <= 512:
        raise UserError(f"image_size must be a whole number of pixels from 16 to 512, not {image_size!r}")
    return int(image_size)


def check_name(argument: str, value: str) -> str:
    """Raises `UserError` for what is no text."""
    if not isinstance(value, str):
        raise UserError(f"{argument} must be a name, not {value!r}")
    return value


def check_rules(rules: FeasibilityRules | None) -> FeasibilityRules:
    """The rules that were given, or the defaults. Raises `UserError` for anything else."""
    if rules is None:
        return FeasibilityRules()
    if not isinstance(rules, FeasibilityRules):
        raise UserError(f"rules must be FeasibilityRules, not {type(rules).__name__}")
    return rules


def check_held_out(keys: Collection[str]) -> frozenset[str]:
    """The scene keys that must not train. Raises `UserError` for anything but a collection of them."""
    if isinstance(keys, str) or not isinstance(keys, Collection) or not all(isinstance(key, str) for key in keys):
        raise UserError(f"held_out must be a collection of scene keys, not {keys!r}")
    return frozenset(keys)


def check_render_mode(render_mode: str | None) -> str | None:
    """Raises `UserError` for an unknown mode."""
    if render_mode is not None and render_mode not in RENDER_MODES:
        raise unknown("render mode", str(render_mode), RENDER_MODES, "render_mode")
    return render_mode


def find_families(families: Sequence[str] | None) -> tuple[str, ...]:
    """The room families to cycle over; all when None. Raises `UserError` for an unknown one, or none."""
    if families is None:
        return family_names()
    if isinstance(families, str) or not isinstance(families, Sequence) or not families:
        raise UserError(f"families must be a list of room families ({', '.join(family_names())}), not {families!r}")
    for family in families:
        if family not in family_names():
            raise unknown("room family", str(family), family_names(), "families")
    return tuple(families)


def find_vlm(vlm: str | VLM, finetune_settings: Mapping[str, Any] | None) -> VLM:
    """The VLM that was named or given. Raises `UserError` for anything else, or for a wrong setting."""
    if finetune_settings is not None and not isinstance(finetune_settings, Mapping):
        raise UserError(f"finetune_settings must be a mapping of settings, not {finetune_settings!r}")
    if isinstance(vlm, str):
        return load_vlm(vlm, finetune_settings)
    if not all(callable(getattr(vlm, method, None)) for method in _VLM_METHODS):
        raise UserError(f"vlm must be a registered name, a path or a VLM, not {type(vlm).__name__}")
    if finetune_settings is not None:
        raise UserError("finetune_settings go with a VLM's name; a VLM object has its settings already")
    return vlm
