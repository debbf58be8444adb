"""Settings of an agent: a frozen pydantic model without defaults, so that the YAML alone says what is used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict

from rls3_registry.validation import check


class Settings(BaseModel):
    """Base of all settings: unknown keys are errors, and nothing changes after the check."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


S = TypeVar("S", bound=Settings)


def parse(model: type[S], values: Mapping[str, Any]) -> S:
    """Check an agent's settings; raises `UserError` with the key's path and what would be right."""
    return check(model, values, section="settings")
