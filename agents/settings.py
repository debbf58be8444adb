"""Settings of an agent: a frozen pydantic model without defaults, so that the YAML alone says what is used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict

from rls3_registry.errors import UserError, unknown
from rls3_registry.validation import check


class Settings(BaseModel):
    """Base of all settings: unknown keys are errors, and nothing changes after the check."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


S = TypeVar("S", bound=Settings)


def parse(model: type[S], values: Mapping[str, Any]) -> S:
    """Check an agent's settings; raises `UserError` with the key's path and what would be right."""
    return check(model, values, section="settings")


def parse_algorithm(models: Mapping[str, type[S]], values: Mapping[str, Any]) -> S:
    """Settings of the algorithm that `values["algorithm"]` names, for a plugin that serves several.

    Raises `UserError` naming the key.
    """
    algorithm = values.get("algorithm")
    if algorithm is None:
        raise UserError(f"settings.algorithm: is missing; one of {', '.join(models)}")
    if not isinstance(algorithm, str) or algorithm not in models:
        raise unknown("algorithm", str(algorithm), models, where="settings.algorithm")
    return parse(models[algorithm], values)
