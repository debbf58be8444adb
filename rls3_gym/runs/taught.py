"""VLMs by name, those that a run has taught included: every door of the package finds a VLM here.

`RUN` is the VLM of a run directory as the run left it, or, of a run that is still going, at its newest checkpoint.
`RUN@3` is the VLM after round 3, `RUN@0` before the first; the weights of a round are there as long as a checkpoint has
them. Any other name is one of `rls3_gym.vlm.loading.load_vlm`. What comes is ready for a new experiment: the weights,
without optimizer moments or replayed samples.

What the files of a run name is found, but never makes code run: see `rls3_registry.trust`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, field_validator

import rls3_registry
from rls3_gym.backends.base import SceneBackend, load_backend
from rls3_gym.runs.directory import RunDirectory
from rls3_gym.vlm.base import VLM, VLMS, VlmSpec, WeightsVLM
from rls3_gym.vlm.loading import load_vlm
from rls3_registry.errors import UserError
from rls3_registry.trust import reading
from rls3_registry.validation import check

_ROUND = re.compile(r"(?P<run>.+)@(?P<round>\d+)")


class _WrittenVlm(BaseModel):
    name: str
    settings: dict[str, Any] = {}
    finetune: dict[str, Any] = {}


class _WrittenAgent(BaseModel):
    name: str = "unknown"


class _WrittenEnvironment(BaseModel):
    backend: str = "embedded"
    image_size: int = Field(64, ge=16, le=512)


class WrittenConfig(BaseModel):
    """What is needed here of the `config.yaml` of a run; other keys are ignored."""

    name: str = "unnamed"
    seed: int = 0
    agent: _WrittenAgent = _WrittenAgent()
    vlm: _WrittenVlm
    environment: _WrittenEnvironment = _WrittenEnvironment()

    @field_validator("agent", "vlm", mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


@dataclass(frozen=True)
class TaughtVLM:
    """A run directory, taken as the name of the VLM it has taught."""

    run: RunDirectory
    round: int | None
    """After which round; None: the newest weights there are."""

    @classmethod
    def named(cls, name: str) -> TaughtVLM | None:
        """What `RUN` or `RUN@round` means; None for any other name. Raises `UserError` for `X@1` of no run."""
        if name in rls3_registry.names(VLMS.section):
            return None
        if is_run(Path(name)):
            return cls(RunDirectory(Path(name)), None)
        match = _ROUND.fullmatch(name)
        if match is None or os.path.exists(name):
            return None
        path = Path(match["run"])
        if not is_run(path):
            raise UserError(f"{name}: {path} is not a run directory of rls3; RUN@round names one")
        return cls(RunDirectory(path), int(match["round"]))


def is_run(path: Path) -> bool:
    """Whether there is a run directory."""
    return os.path.isfile(path / "config.yaml") and os.path.isdir(path / "checkpoints")


def reading_config(path: Path) -> AbstractContextManager[None]:
    """`rls3_registry.trust.reading`, where an experiment is a file of a run, which may be somebody else's: one in a run
    directory, or any `config.yaml`, as a copy without its directory is called."""
    return reading(path) if path.name == "config.yaml" or is_run(path.parent) else nullcontext()


def find_vlm(
    name: str,
    finetune: Mapping[str, Any] | None = None,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
) -> VLM:
    """A new VLM: registered, from a file or a folder, or one that a run has taught.

    Args:
        name: See `rls3_gym.vlm.loading.load_vlm`; or `RUN` or `RUN@round`, for a run directory.
        finetune: Put over the fine-tune settings of the VLM's file, or of the run.
        seed: Fixes the first weights of a model without pre-trained ones; unused otherwise.
        settings: Put over the settings of the VLM's file, or of the run.

    Raises:
        UserError: An unknown name, key or round, weights that don't load, or a run that names a class as its VLM which
            is neither registered nor installed, and which the user has not named either.
    """
    return _find(name, finetune or {}, seed, settings or {}, ())


def _find(
    name: str, finetune: Mapping[str, Any], seed: int, settings: Mapping[str, Any], within: tuple[Path, ...]
) -> VLM:
    taught = TaughtVLM.named(name)
    if taught is None:
        return load_vlm(name, finetune, seed, settings)
    from rls3_gym.runs.checkpoints import load_vlm_state, taking_up  # torch
    from rls3_gym.vlm.weights_check import check_finite

    base, chain = _base(taught, within)
    with reading(taught.run.config):
        vlm = _find(base.name, {**base.finetune, **finetune}, seed, {**base.settings, **settings}, chain)
    if taught.round != 0:
        with taking_up(taught.run.checkpoints):
            state = load_vlm_state(taught.run, taught.round)
            check_finite(state.get("weights", {}), str(taught.run.checkpoints))
            vlm.load_state(state)
        if isinstance(vlm, WeightsVLM):
            vlm.load_state(vlm.weights())
    return vlm


def describe(name: str) -> VlmSpec:
    """How a VLM is described: its class, its settings, and how it is taught. Builds nothing; raises `UserError`."""
    return _describe(name, ())


def _describe(name: str, within: tuple[Path, ...]) -> VlmSpec:
    taught = TaughtVLM.named(name)
    if taught is None:
        return VLMS.find(name)[1]
    base, chain = _base(taught, within)
    spec = _describe(base.name, chain)
    settings, finetune = {**spec.settings, **base.settings}, {**spec.finetune, **base.finetune}
    return spec.model_copy(update={"settings": settings, "finetune": finetune})


def _base(taught: TaughtVLM, within: tuple[Path, ...]) -> tuple[_WrittenVlm, tuple[Path, ...]]:
    """The VLM that a run began with, which may be one that another run has taught; and the runs gone through so far."""
    here = taught.run.path.resolve()
    if here in within:
        raise UserError(f"{taught.run.config}: the VLM of this run is the one that it teaches itself")
    return written_config(taught.run).vlm, (*within, here)


def find_backend(name: str, vlm: VLM, other: str | None = None) -> SceneBackend:
    """What shows the sets to a VLM: the backend of the run that taught it, where `name` is a run's; else the default
    one, in the size that the VLM likes best. `other` names another backend, which shows them in the same size.

    Raises `UserError`.
    """
    taught = TaughtVLM.named(name)
    if taught is None:
        return load_backend(other or "embedded", vlm.image_size)
    if other is not None:
        return load_backend(other, written_config(taught.run).environment.image_size)
    return backend_of(taught.run)


def backend_of(run: RunDirectory) -> SceneBackend:
    """The backend that made the pictures of a run. Raises `UserError`."""
    environment = written_config(run).environment
    with reading(run.config):
        return load_backend(environment.backend, environment.image_size)


def written_config(run: RunDirectory) -> WrittenConfig:
    """Raises `UserError` when the run's configuration can't be read, or when a part of the run is a link."""
    run.check_has(run.config)
    return check(WrittenConfig, rls3_registry.load_file(run.config), str(run.config))
