"""Settings of an environment: one checked model, from which keyword arguments, YAML keys and tables come."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal, Self, get_args, get_origin

import numpy as np
from pydantic import BaseModel, ConfigDict, model_validator

from rls3_gym.loop.learning_loop import LoopSettings
from rls3_gym.scene.arrangement import Arrangement
from rls3_gym.vlm.base import VLM
from rls3_registry.errors import UserError, unknown
from rls3_registry.validation import check

ActionViewName = Literal["select", "preference", "box", "multi_discrete", "relation"]
ObservationName = Literal["state", "pixels", "dict"]
RENDER_MODES = ("rgb_array", "human")
_VLM_METHODS = ("evaluate", "finetune", "state", "load_state", "digest")


class EnvironmentSettings(LoopSettings):
    """Settings of an environment; everything but its VLM."""

    model_config = ConfigDict(strict=True, use_attribute_docstrings=True)

    action_view: ActionViewName = "select"
    """How actions describe edits."""
    snap: bool = False
    """In the `box` view: an infeasible place means the nearest free one."""
    choose_reference: bool = False
    """In the `box` view: a sixth number of the action chooses the object that the caption relates the edited one to."""
    observation: ObservationName = "state"
    """What the agent sees."""

    @model_validator(mode="after")
    def _of_the_box(self) -> Self:
        if (self.snap or self.choose_reference) and self.action_view not in ("box", None):
            raise ValueError(f"snap and choose_reference go with action_view 'box', not {self.action_view!r}")
        return self


def environment_settings(arguments: Mapping[str, Any]) -> EnvironmentSettings:
    """Keyword arguments as checked settings; numpy's numbers are fine. Raises `UserError` naming the argument."""
    return check(EnvironmentSettings, {name: _plain(value) for name, value in arguments.items()})


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return tuple(value) if isinstance(value, list) else value


def settings_table(model: type[BaseModel]) -> str:
    """The fields of a model as rows of a Markdown table: name, default, meaning with the values there are."""
    rows = []
    for name, field in model.model_fields.items():
        about = " ".join((field.description or "").split())
        if get_origin(field.annotation) is Literal:
            about += f" One of {', '.join(f'`{value}`' for value in get_args(field.annotation))}."
        default = field.default if isinstance(field.default, str | int | float | None) else None
        shown = f"{type(field.default).__name__}()" if default is None and field.default is not None else repr(default)
        rows.append(f"| `{name}` | `{shown}` | {about} |")
    return "\n".join(rows)


def check_held_out(keys: Collection[str] | None) -> frozenset[str] | None:
    """The scene keys that must not train. Raises `UserError` for anything but a collection of them."""
    if keys is None:
        return None
    if isinstance(keys, str) or not isinstance(keys, Collection) or not all(isinstance(key, str) for key in keys):
        raise UserError(f"held_out must be a collection of scene keys, not {keys!r}")
    return frozenset(keys)


def check_render_mode(render_mode: str | None) -> str | None:
    """Raises `UserError` for an unknown mode."""
    if render_mode is not None and render_mode not in RENDER_MODES:
        raise unknown("render mode", str(render_mode), RENDER_MODES, "render_mode")
    return render_mode


def find_vlm(vlm: str | VLM, finetune_settings: Mapping[str, Any] | None) -> VLM:
    """The VLM that was named or given. Raises `UserError` for anything else, or for a wrong setting."""
    if finetune_settings is not None and not isinstance(finetune_settings, Mapping):
        raise UserError(f"finetune_settings must be a mapping of settings, not {finetune_settings!r}")
    if isinstance(vlm, str):
        from rls3_gym.runs import taught

        return taught.find_vlm(vlm, finetune_settings)
    if not all(callable(getattr(vlm, method, None)) for method in _VLM_METHODS):
        raise UserError(f"vlm must be a registered name, a path or a VLM, not {type(vlm).__name__}")
    if finetune_settings is not None:
        raise UserError("finetune_settings go with a VLM's name; a VLM object has its settings already")
    return vlm


def arrangement_option(options: Mapping[str, Any]) -> Arrangement | None:
    """The arrangement that the options of a reset ask for, if any. Raises `UserError` for any other option."""
    for name in options:
        if name != "arrangement":
            raise unknown("option", str(name), ["arrangement"], "reset")
    given = options.get("arrangement")
    if given is None or isinstance(given, Arrangement):
        return given
    try:
        return Arrangement.decode(given)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            "reset: options['arrangement'] must be an Arrangement, or family, layout and objects as its encode() "
            f"gives them ({type(error).__name__}: {error})"
        ) from error
