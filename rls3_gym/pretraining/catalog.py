"""The models that `rls3 pretrain` can make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

from rls3_gym.pretraining.generative_settings import GenerativeSettings
from rls3_gym.pretraining.pretrain import Report, pretrain
from rls3_gym.pretraining.train import PretrainSettings
from rls3_registry.errors import UserError, unknown

NAMES = ("paligemma_tiny", "tiny")


def make_weights(name: str, out: Path, given: Mapping[str, int], report: Report) -> Path:
    """Pre-train one of `NAMES` with the settings that are given, and the defaults of its own.

    Raises `UserError` for an unknown name, a setting of another model, a library that is not installed, or a folder
    that can't be written.
    """
    if name not in NAMES:
        raise unknown("model", name, NAMES, "--vlm")
    if name == "tiny":
        _check(name, given, PretrainSettings)
        return pretrain(out, PretrainSettings(**given), report)
    try:
        from rls3_gym.pretraining import generative_pretrain
    except ModuleNotFoundError as error:
        library = (error.name or "transformers").split(".")[0]
        raise UserError(f'--vlm {name} needs {library}: pip install "rls3_gym[paligemma]"') from error
    _check(name, given, GenerativeSettings)
    return generative_pretrain.pretrain(out, GenerativeSettings(**given), report)


def _check(name: str, given: Mapping[str, int], settings: type[object]) -> None:
    known = {field.name for field in fields(settings)}  # type: ignore[arg-type]
    for key in given:
        if key not in known:
            raise UserError(f"--{key.replace('_', '-')}: goes with another --vlm, not with {name}")
