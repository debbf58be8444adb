"""Checks what users wrote against a pydantic model; the one place where messages about it are worded."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from rls3_registry.errors import SettingError, nearest, shown

RENAMED = {
    "T": "steps_per_episode",
    "E": "episodes_per_round",
    "eta": "train_fraction",
    "colour": "color",
    "colours": "colors",
    "adapter": "plugin",
    "target_entropy": "target_entropy_per_dim",
    "contrastive_weight": "loss_weights.contrastive",
    "hard_negative_weight": "loss_weights.hard_negative",
}
"""Keys of earlier versions and what they are called now."""
M = TypeVar("M", bound=BaseModel)


class Settings(BaseModel):
    """Base of all settings: unknown keys are errors, and nothing changes after the check."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


_TYPE_TAG = re.compile(r"(constrained-)?(float|int|str|bool|none)|(dict|list|tuple|literal|function-\w+)\[.*\]")
"""What pydantic adds to the path of a key whose value may be of several types."""


def check(
    model: type[M], content: Mapping[str, Any], where: str | Callable[[tuple[str, ...]], str] = "", section: str = ""
) -> M:
    """The content as a `model`.

    Args:
        model: Says which keys there are, and what each may be.
        content: What was written.
        where: The file or argument it was written in; or a function that says so for the path of a key.
        section: The key that holds the content there.

    Raises:
        SettingError: One line: where, the key's path, what it should be, and for an unknown key the nearest ones.
    """
    try:
        return model.model_validate(dict(content))
    except RecursionError as error:
        deep = SettingError("", [section] if section else [], " values are nested too deep")
        raise deep.at(_at(where, deep.keys)) from error
    except ValidationError as error:
        problem = _describe(model, error, section)
        raise problem.at(_at(where, problem.keys)) from error


def _at(where: str | Callable[[tuple[str, ...]], str], keys: tuple[str, ...]) -> str:
    return where if isinstance(where, str) else where(keys)


def _describe(model: type[BaseModel], error: ValidationError, section: str) -> SettingError:
    """The first problem in one line, unknown keys first: they are often the cause of the rest."""
    problems = sorted(error.errors(), key=lambda p: p["type"] != "extra_forbidden")
    problem, more = problems[0], len(problems) - 1
    unknown_key = problem["type"] == "extra_forbidden"
    keys, known = _follow(model, problem["loc"], unknown_key)
    keys = [section, *keys] if section else keys
    also = f" (and {more} more)" if more else ""
    if unknown_key:
        name = str(problem["loc"][-1])
        new_name = RENAMED.get(name, "")
        if new_name.split(".")[0] in known:
            return SettingError("'", keys, f"' is now called {new_name!r}")
        near = nearest(name, known)
        hint = f"; did you mean {' or '.join(repr(key) for key in near)}?" if near else ""
        return SettingError("unknown key '", keys, f"'{hint} (keys here: {', '.join(known)}){also}")
    if problem["type"] == "missing":
        said, given = "is missing", ""
    else:
        said = problem["msg"].removeprefix("Value error, ").replace("Input should", "should")
        if problem["type"] in ("model_type", "dict_type"):
            said = "should be a mapping of keys to values"
        elif problem["type"] in ("tuple_type", "list_type") or problem.get("ctx", {}).get("min_length") == 1:
            said = "should be a list with at least one entry"
        got = problem["input"]
        given = f", not {shown(got)}" if isinstance(got, int | float | str | None) else ""
        if problem["type"] == "literal_error" and isinstance(got, str):
            near = nearest(got, re.findall(r"'([^']*)'", said))
            given += f"; did you mean {near[0]!r}?" if near else ""
    return SettingError("", keys, f"{': ' if keys else ''}{said}{given}{also}")


def _follow(model: type[BaseModel], location: tuple[int | str, ...], unknown_key: bool) -> tuple[list[str], list[str]]:
    """The path of a problem without what pydantic adds to it, and all keys that there are beside its last one, which
    may be an `unknown_key`."""
    keys: list[str] = []
    here = {model}
    for i, step in enumerate(location):
        last = i == len(location) - 1
        if _TYPE_TAG.fullmatch(str(step)) and not (last and unknown_key):
            continue
        tagged = {m for m in here if any(step in get_args(field.annotation) for field in m.model_fields.values())}
        if i and isinstance(location[i - 1], int) and tagged and not last:
            here = tagged  # the value of the key that says which model an entry of a list is
            continue
        keys.append(str(step))
        if not last:
            fields = [m.model_fields[step] for m in here if isinstance(step, str) and step in m.model_fields]
            here = {m for field in fields for m in _models(field.annotation)} or here
    return keys, list(dict.fromkeys(name for m in sorted(here, key=str) for name in m.model_fields))


def _models(annotation: Any) -> set[type[BaseModel]]:
    """The models that a field's type mentions, however deep."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {annotation}
    return {model for part in get_args(annotation) for model in _models(part)}
