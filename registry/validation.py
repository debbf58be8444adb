"""Checking what people wrote against a pydantic model, with answers for people: the one place that words them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from rls3_registry.errors import UserError, nearest

RENAMED = {
    "T": "steps_per_episode",
    "E": "episodes_per_round",
    "eta": "train_fraction",
    "colour": "color",
    "adapter": "plugin",
    "target_entropy": "target_entropy_per_dim",
}
"""Keys of earlier releases and what they are called now."""
M = TypeVar("M", bound=BaseModel)


class Settings(BaseModel):
    """Base of all settings: unknown keys are errors, and nothing changes after the check."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


_TYPE_TAG = re.compile(r"(constrained-)?(float|int|str|bool|none)|(dict|list|tuple|literal|function-\w+)\[.*\]")
"""What pydantic adds to the path of a key whose value may be of several types."""


def check(model: type[M], content: Mapping[str, Any], where: str = "", section: str = "") -> M:
    """The content as a `model`.

    `where` is the file or argument it comes from, `section` the key under which it stands there. Raises `UserError`,
    one line: where, the key's path, what it should be, and for an unknown key the nearest ones.
    """
    try:
        return model.model_validate(dict(content))
    except ValidationError as error:
        place = f"{where}: " if where else ""
        raise UserError(place + _describe(model, error, section)) from error


def _describe(model: type[BaseModel], error: ValidationError, section: str) -> str:
    """The first problem in one line, unknown keys first: they are often the cause of the rest."""
    problems = sorted(error.errors(), key=lambda p: p["type"] != "extra_forbidden")
    problem, more = problems[0], len(problems) - 1
    steps = [section] if section else []
    steps += [str(step) for step in problem["loc"] if not _TYPE_TAG.fullmatch(str(step))]
    key = ".".join(steps)
    if problem["type"] == "extra_forbidden":
        name = str(problem["loc"][-1])
        if name in RENAMED:
            return f"{key!r} is now called {RENAMED[name]!r}"
        message = f"unknown key {key!r}{_near_keys(model, problem['loc'])}"
    elif problem["type"] == "missing":
        message = f"{key}: is missing"
    else:
        said = problem["msg"].removeprefix("Value error, ").replace("Input should", "should")
        if problem["type"] in ("model_type", "dict_type"):
            said = "should be a mapping of keys to values"
        elif problem["type"] in ("tuple_type", "list_type") or problem.get("ctx", {}).get("min_length") == 1:
            said = "should be a list with at least one entry"
        got = problem["input"]
        given = f", not {got!r}" if isinstance(got, int | float | str | None) else ""
        if problem["type"] == "literal_error" and isinstance(got, str):
            near = nearest(got, re.findall(r"'([^']*)'", said))
            given += f"; did you mean {near[0]!r}?" if near else ""
        message = f"{key}: {said}{given}" if key else f"{said}{given}"
    return message + (f" (and {more} more)" if more else "")


def _near_keys(model: type[BaseModel], location: tuple[int | str, ...]) -> str:
    """`; did you mean ...? (keys here: ...)` for a key that its section does not know."""
    here = {model}
    for step in location[:-1]:
        fields = [m.model_fields[step] for m in here if isinstance(step, str) and step in m.model_fields]
        deeper = {m for field in fields for m in _models(field.annotation)}
        tagged = {m for m in here if any(step in get_args(field.annotation) for field in m.model_fields.values())}
        here = deeper or tagged or here
    known = list(dict.fromkeys(name for m in sorted(here, key=str) for name in m.model_fields))
    near = nearest(str(location[-1]), known)
    hint = f"; did you mean {' or '.join(repr(name) for name in near)}?" if near else ";"
    return f"{hint} (keys here: {', '.join(known)})"


def _models(annotation: Any) -> set[type[BaseModel]]:
    """The models that a field's type mentions, however deep."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {annotation}
    return {model for part in get_args(annotation) for model in _models(part)}
