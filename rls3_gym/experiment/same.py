"""Whether two configurations are of the same experiment: a continued run's, a study's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rls3_gym.experiment.config import BudgetConfig, with_new_keys
from rls3_registry.errors import UserError

_MAY_CHANGE = ("checkpoints", "no_progress_steps")
"""Sections of a configuration that a continued run may change."""
_IMMATERIAL = ("name", "description", "output", "images_per_round", *_MAY_CHANGE)
"""Those that change no number."""
_LIMITS = tuple(f"budget.{name}" for name in BudgetConfig.model_fields)


def check_continued(begun: Mapping[str, Any], now: Mapping[str, Any], path: Path) -> None:
    """Raise `UserError` unless the settings are those the run in `path` began with, but for a larger budget."""
    was, is_ = _flat(begun, _MAY_CHANGE), _flat(now, _MAY_CHANGE)
    for key in [*was, *is_]:
        before, after = was.get(key), is_.get(key)
        if before == after:
            continue
        said = f"{path}: {key} was {before!r} when the run began and is {after!r} now; "
        if key not in _LIMITS:
            raise UserError(
                said + "a run can only be continued with the settings it began with, or with a larger budget"
            )
        if now["lives"] > 1:
            raise UserError(said + "every life has the whole budget, so a run of several lives can't be extended")
        if before is None or (after is not None and after < before):
            raise UserError(said + "a run can be extended, but not shortened")


def check_wanted(run: Mapping[str, Any], wanted: Mapping[str, Any], where: Path, remedy: str) -> None:
    """Raise `UserError` unless a run was made with the configuration that a study wants now."""
    was, is_ = settings_of(run), _flat(wanted, _IMMATERIAL)
    for key in [*was, *is_]:
        if was.get(key) != is_.get(key):
            raise UserError(
                f"{where}: {key} was {was.get(key)!r} when the run was made and is {is_.get(key)!r} in the study now; "
                f"{remedy}"
            )


def settings_of(run: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of a run as dotted keys, without what changes no number. A key that there was not yet had the
    value that is its default now."""
    return _flat(with_new_keys(run), _IMMATERIAL)


def _flat(tree: Mapping[str, Any], without: tuple[str, ...] = (), prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if key in without:
            continue
        flat |= _flat(value, prefix=f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat
