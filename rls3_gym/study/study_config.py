"""A study as YAML: arms of one experiment, several seeds each, and where they are compared."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

import rls3_registry
from rls3_gym.experiment.config import ExperimentConfig, load_config
from rls3_registry.errors import UserError, unknown
from rls3_registry.validation import check

_STRICT = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)
_ARM_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+=-]*")
_OWN = {"seed": "seeds", "output": "--out", "evaluation.sets": "sets"}
"""Keys of an experiment that a study decides elsewhere."""

Positive = Annotated[int, Field(ge=1, le=10**12)]
Budgets = Annotated[tuple[Positive, ...], Field(strict=False)]
ArmNames = Annotated[tuple[str, ...], Field(strict=False)]


class SeedsConfig(BaseModel):
    """Seeds `first`, `first + 1`, ...: the same in all arms, so that runs pair up. Tuning has seeds of its own."""

    model_config = _STRICT

    first: Annotated[int, Field(ge=0, lt=2**31)] = 0
    count: Annotated[int, Field(ge=1, le=10_000)] = 5


class BudgetsConfig(BaseModel):
    """Where the runs are compared; accuracy between two evaluations is read off a straight line."""

    model_config = _STRICT

    n_trained: Budgets = ()
    """Samples that entered fine-tuning."""
    n_generated: Budgets = ()
    """Valid samples generated."""

    @model_validator(mode="after")
    def _somewhere(self) -> BudgetsConfig:
        if not self.n_trained and not self.n_generated:
            raise ValueError("needs n_trained (samples trained on), n_generated (valid samples), or both")
        return self


class ArmConfig(BaseModel):
    """What makes an arm from the experiment. In YAML `seeds` stands among the changes: `{agent: random, seeds: 10}`."""

    model_config = _STRICT

    changes: tuple[str, ...] = ()
    """`a.b=c`, carried out in this order."""
    seeds: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """Number of seeds of this arm; the study's when left out."""


class StudyConfig(BaseModel):
    """All that decides what a study runs and compares."""

    model_config = _STRICT

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    """Name of the study and of its folders. A file's own name when left out."""
    description: str = ""
    """One line for `rls3 list`."""
    experiment: str = "default"
    """Registered experiment, or a YAML file."""
    set: tuple[str, ...] = ()
    """Changes of the experiment in all arms, as `a.b: c` or as a list of `a.b=c`; an arm's own come after them."""
    arms: dict[str, ArmConfig]
    """Name of an arm -> the changes that make it."""
    seeds: SeedsConfig = SeedsConfig()
    at: BudgetsConfig
    sets: Annotated[tuple[str, ...], Field(min_length=1, strict=False)] = ("test", "test_natural")
    """Held-out sets on which the VLM is measured."""
    baselines: ArmNames = ()
    """Arms that every other arm is compared with, seed by seed."""
    headline: ArmNames = ()
    """Arms of a small figure, `headline.png`: their accuracy on the first set over what they trained on."""
    processes: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Runs at a time; one for each CPU core when left out."""
    noise_floor: Annotated[float, Field(ge=0, le=1)] | None = None
    """Standard deviation of accuracy over shuffles of the same data, 0..1: how much a difference must be to mean
    anything. Measured elsewhere; printed beside the differences."""

    @field_validator("set", mode="before")
    @classmethod
    def _set(cls, value: Any) -> Any:
        return _changes(value)

    @field_validator("arms", mode="before")
    @classmethod
    def _arms(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        if not value:
            raise ValueError("needs at least one arm, e.g. random: {agent: random}")
        for name in value:
            if not isinstance(name, str) or not _ARM_NAME.fullmatch(name):
                raise ValueError(f"an arm's name should be text of letters, digits and . _ + = -, not {name!r}")
        return {name: _arm(name, arm) for name, arm in value.items()}

    @field_validator("sets")
    @classmethod
    def _distinct(cls, sets: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(sets)) < len(sets):
            raise ValueError("should name each set once")
        return sets

    @model_validator(mode="after")
    def _known_arms(self) -> StudyConfig:
        for key, names in (("baselines", self.baselines), ("headline", self.headline)):
            for name in names:
                if name not in self.arms:
                    raise ValueError(f"{key}: there is no arm {name!r}; arms are {', '.join(self.arms)}")
        return self

    def seeds_of(self, arm: str, count: int | None = None) -> range:
        """The seeds of an arm; `count` goes before what the file says."""
        return range(self.seeds.first, self.seeds.first + (count or self.arms[arm].seeds or self.seeds.count))

    def changes_of(self, arm: str) -> tuple[str, ...]:
        """All changes that make an arm of the experiment, in the order in which they are carried out."""
        return ("threads=1", *self.set, *self.arms[arm].changes, f"evaluation.sets=[{', '.join(self.sets)}]")

    def experiment_of(self, arm: str, seed: int) -> ExperimentConfig:
        """The experiment of one run. Raises `UserError` naming the arm for a change that does not fit."""
        try:
            return load_config(self.experiment, self.changes_of(arm), seed)
        except UserError as error:
            raise UserError(f"study {self.name}: arm {arm}: {error}") from error

    def check_arms(self) -> None:
        """Raise `UserError` for an arm that is no valid experiment, or that ends before it is compared."""
        for arm in self.arms:
            config = self.experiment_of(arm, self.seeds.first)
            per_round = config.environment.samples_per_round
            by_rounds = config.budget.rounds * per_round if config.budget.rounds and per_round else None
            ends = (
                ("budget.n_generated", config.budget.n_generated, (*self.at.n_trained, *self.at.n_generated)),
                ("budget.rounds times samples_per_round", by_rounds, self.at.n_trained),
            )
            for key, end, wanted in ends:
                if end is not None and max(wanted, default=0) > end:
                    raise UserError(
                        f"study {self.name}: arm {arm}: at: {max(wanted):,} samples are beyond the end of its runs, "
                        f"{key} {end:,}"
                    )


def load_study(source: str) -> StudyConfig:
    """Read a study by registered name or by file. Raises `UserError`: one line that names file, key and remedy."""
    path = study_path(source)
    return check(StudyConfig, {"name": path.stem, **rls3_registry.load_file(path)}, where=str(path))


def study_path(source: str) -> Path:
    """The YAML file of a registered study, or the file that was named."""
    registered = rls3_registry.names("studies")
    if source in registered:
        return rls3_registry.path_of("studies", source)
    if source.endswith((".yaml", ".yml")) or os.path.isfile(source):
        return Path(source)
    raise unknown("study", source, registered)


def _arm(name: Any, value: Any) -> Any:
    """An arm as YAML has it, with `seeds` taken out of its changes."""
    if not isinstance(value, Mapping):
        raise ValueError(f"arm {name!r} should be a mapping of keys to values, e.g. {{agent: random}}")
    changes = {key: item for key, item in value.items() if key != "seeds"}
    return {"changes": _changes(changes), **({"seeds": value["seeds"]} if "seeds" in value else {})}


def _changes(value: Any) -> Any:
    """Changes as `a.b=c`, from a mapping of dotted keys or a list of such texts."""
    if isinstance(value, Mapping):
        found: Sequence[Any] = [f"{key}={_one_line(item)}" for key, item in value.items()]
    elif isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        found = value
    else:
        raise ValueError("should be a mapping of dotted keys to values, or a list of a.b=c")
    for change in found:
        if (key := change.split("=")[0].strip()) in _OWN:
            raise ValueError(f"{key} is not set here but by the study's {_OWN[key]}")
    return tuple(found)


def _one_line(value: Any) -> str:
    """YAML of a value as `--set` takes it."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True).strip()
    return text.removesuffix("...").strip()
