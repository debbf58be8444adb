"""Settings of an agent: a frozen pydantic model without defaults, so that the YAML alone says what is used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from rls3_registry.errors import UserError, unknown


class Settings(BaseModel):
    """Base of all settings: unknown keys are errors, and nothing changes after the check."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


S = TypeVar("S", bound=Settings)


def parse(model: type[S], values: Mapping[str, Any], where: str = "settings") -> S:
    """Check `values`; raises `UserError` with the key's path and what would be right (the first mistake only)."""
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        raise _for_people(model, error, where) from error


def parse_algorithm(models: Mapping[str, type[S]], values: Mapping[str, Any], where: str = "settings") -> S:
    """Settings of the algorithm that `values["algorithm"]` names, for a plugin that serves several.

    Raises `UserError` naming the key.
    """
    algorithm = values.get("algorithm")
    if algorithm is None:
        raise UserError(f"{where}.algorithm: is missing; one of {', '.join(models)}")
    if not isinstance(algorithm, str) or algorithm not in models:
        raise unknown("algorithm", str(algorithm), models, where=f"{where}.algorithm")
    return parse(models[algorithm], values, where)


def _for_people(model: type[Settings], error: ValidationError, where: str) -> UserError:
    mistake = error.errors()[0]
    path = ".".join([where, *(str(part) for part in mistake["loc"])])
    if mistake["type"] == "extra_forbidden":
        return unknown("key", str(mistake["loc"][-1]), model.model_fields, where=where)
    if mistake["type"] == "missing":
        return UserError(f"{path}: is missing")
    text = mistake["msg"][0].lower() + mistake["msg"][1:]
    return UserError(f"{path}: {text}, not {mistake['input']!r}")
