"""An experiment as YAML: every key is checked; an unknown one is an error that names the nearest."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

import rls3_registry
from rls3_agents.base import AGENTS
from rls3_gym.backends.base import BACKENDS
from rls3_gym.envs.settings import ActionViewName, EnvironmentSettings
from rls3_gym.loop.rewards.base import REWARDS
from rls3_gym.loop.worker_processes import StartMethod
from rls3_gym.runs.taught import TaughtVLM, describe
from rls3_gym.vlm.base import VLMS
from rls3_registry.errors import UserError
from rls3_registry.validation import check
from rls3_registry.yaml_text import parse_yaml

_STRICT = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)
_EXPONENT = re.compile(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+")

Positive = Annotated[int, Field(ge=1, le=10**12)]
Names = Annotated[tuple[str, ...], Field(min_length=1, strict=False)]


class EnvironmentConfig(EnvironmentSettings):
    """Arguments of `RLS3SceneEnv`; the VLM has a section of its own."""

    action_view: ActionViewName | None = None  # type: ignore[assignment]  # here it may be left out
    """How actions describe edits; the agent's best view when left out."""
    door: Literal["gymnasium", "parallel"] = "gymnasium"
    """`parallel`: an agent for each active object (`RLS3SceneParallelEnv`), which learn for themselves and share one
    policy; for the agents that take several lanes."""
    pay: Literal["per_agent", "shared"] = "per_agent"
    """Through the `parallel` door: what an agent is paid for."""
    num_envs: Annotated[int, Field(ge=1, le=1024)] = 1
    """Lanes, each with a stage of its own, that teach the one VLM; more than one is `RLS3SceneVectorEnv`."""
    workers: Annotated[int, Field(ge=0, le=1024)] | Literal["ray"] = 0
    """Processes that the stages run in, with several lanes; 0 for the run's own; `ray`: an actor for each lane in a Ray
    cluster. What comes out is the same."""
    worker_start: StartMethod = "spawn"
    """How Python starts them."""

    @model_validator(mode="after")
    def _lanes(self) -> EnvironmentConfig:
        if self.workers and self.num_envs == 1:
            raise ValueError("workers go with several lanes: give num_envs as well")
        if self.door == "parallel" and self.num_envs > 1:
            raise ValueError("the parallel door has one lane: leave num_envs out")
        return self

    def settings(self, action_view: str) -> dict[str, Any]:
        """The arguments that every environment takes, with the action view that was chosen."""
        own = {name: getattr(self, name) for name in EnvironmentSettings.model_fields}
        return own | {"action_view": action_view}


class VLMConfig(BaseModel):
    """The VLM."""

    model_config = _STRICT

    name: str = "tiny"
    """Registered name, the path of a VLM's YAML file or model folder, or `RUN` or `RUN@round` of a run directory."""
    settings: dict[str, Any] = {}
    """Settings that differ from those of the VLM's own file, such as `pretrained`."""
    finetune: dict[str, Any] = {}
    """Fine-tune settings that differ from those of the VLM's own file."""
    actor: Literal["ray"] | None = None
    """`ray`: an actor in a Ray cluster, which all share that ask for the same VLM; with `finetune: false` alone."""


class AgentConfig(BaseModel):
    """The sampler. `agent: sb3/sac` is short for `agent: {name: sb3/sac}`."""

    model_config = _STRICT

    name: str
    """Registered name, or `module:Class` of a plugin."""
    settings: dict[str, Any] = {}
    """Settings that differ from those of the agent's own file."""


class BudgetConfig(BaseModel):
    """When the run ends: at the first limit that is reached."""

    model_config = _STRICT

    n_generated: Positive | None = None
    """Valid samples generated."""
    rounds: Positive | None = None
    """Fine-tunings done."""

    @model_validator(mode="after")
    def _limited(self) -> BudgetConfig:
        if self.n_generated is None and self.rounds is None:
            raise ValueError("needs n_generated (valid samples), rounds (fine-tunings), or both")
        return self


class CheckpointConfig(BaseModel):
    """When a run saves itself: before its first step, after each round, and in between at the first point where the
    agent can be saved and one of these is reached. Changes nothing that the run does."""

    model_config = _STRICT

    every_minutes: Annotated[float, Field(gt=0, le=1440)] = 5.0
    """Minutes since the checkpoint before."""
    every_steps: Annotated[int, Field(ge=1, le=10**9)] = 2000
    """Steps of the environment since the checkpoint before."""


class SuiteConfig(BaseModel):
    """A suite of other people's pictures that the VLM is measured on."""

    model_config = _STRICT

    name: str
    """As `rls3 list suites` has it."""
    data: str
    """Folder of the suite's files, relative to where the command is run."""


class EvaluationConfig(BaseModel):
    """How the VLM is measured during the run."""

    model_config = _STRICT

    sets: Names = ("test", "test_natural")
    """Held-out sets; the first one is shown while the run is going."""
    items: Positive | None = None
    """Largest number of items of each set, for a quick, coarse measurement; all when left out."""
    every: Positive | Literal["doubling"] = 1
    """Rounds from one evaluation to the next, or `doubling`: after rounds 1, 2, 4, 8 and so on. Before the first and
    after the last round always."""
    suites: Annotated[tuple[SuiteConfig, ...], Field(strict=False)] = ()
    """Suites that are scored whenever the sets are; `items` limits each of their parts."""
    forgetting: bool = False
    """Whether to ask each time as well which object kinds the VLM sees (`rls3_gym.suites.forgetting`)."""

    @field_validator("every", mode="before")
    @classmethod
    def _rounds_or_doubling(cls, every: Any) -> Any:
        if isinstance(every, str) and every != "doubling":
            raise ValueError("should be a number of rounds, or doubling")
        return every

    @field_validator("sets")
    @classmethod
    def _distinct(cls, sets: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(sets)) < len(sets):
            raise ValueError("should name each set once")
        if "guide" in sets:
            raise ValueError("guide teaches the look-ahead of a reward; it measures nothing")
        return sets

    @field_validator("suites")
    @classmethod
    def _suites_distinct(cls, suites: tuple[SuiteConfig, ...]) -> tuple[SuiteConfig, ...]:
        if len({suite.name for suite in suites}) < len(suites):
            raise ValueError("should name each suite once")
        return suites


class ExperimentConfig(BaseModel):
    """Everything that decides what a run does."""

    model_config = _STRICT

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    """Name of the experiment: part of its run directory's name. A file's own name when left out."""
    description: str = ""
    """One line for `rls3 list`."""
    environment: EnvironmentConfig = EnvironmentConfig()
    vlm: VLMConfig = VLMConfig()
    agent: AgentConfig
    budget: BudgetConfig
    evaluation: EvaluationConfig = EvaluationConfig()
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Fixes everything that is drawn: scenes, agent, the share that trains, the order of training."""
    lives: Annotated[int, Field(ge=1, le=10_000)] = 1
    """How often the agent meets the VLM as it was at first, keeping what it has learned, with the whole budget each
    time. The last life is the one that counts; of the others the end alone is recorded."""
    output: str = "runs"
    """Folder that holds the run directories, relative to where the command is run."""
    images_per_round: Annotated[int, Field(ge=0, le=10_000)] = 24
    """Sample pictures kept per round. Captions and verdicts are kept of all samples."""
    threads: Annotated[int, Field(ge=1, le=1024)] = 1
    """CPU threads that torch uses. Another number may change the last digits."""
    checkpoints: CheckpointConfig = CheckpointConfig()
    no_progress_steps: Annotated[int, Field(ge=1, le=10**9)] = 20_000
    """Steps, and at least a round's worth, without a valid sample, or without one that is chosen to train, after which
    the run ends with an error. It warns after a round's worth of them."""

    @model_validator(mode="after")
    def _ends(self) -> ExperimentConfig:
        if not self.environment.finetune and self.budget.n_generated is None:
            raise ValueError("without fine-tuning there are no rounds: give budget.n_generated")
        if self.environment.finetune and self.vlm.actor is not None:
            raise ValueError("vlm.actor is for a VLM that others share: set environment.finetune to false")
        return self

    @field_validator("threads", mode="before")
    @classmethod
    def _one_thread(cls, value: Any) -> Any:
        """Earlier versions wrote down null, and a study gave each of its runs one thread."""
        return 1 if value is None else value

    @field_validator("vlm", "agent", mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    def resolved(self) -> ExperimentConfig:
        """The same experiment with the settings of the agent's and the VLM's own files written out, so that a run
        records all its settings, and continues with them when those files change. Raises `UserError` for an unknown
        name."""
        agent = self.agent.model_copy(
            update={"settings": {**AGENTS.find(self.agent.name)[1].settings, **self.agent.settings}}
        )
        vlm = self.vlm.model_copy(update={"finetune": {**describe(self.vlm.name).finetune, **self.vlm.finetune}})
        return self.model_copy(update={"agent": agent, "vlm": vlm})

    def own(self, of_runs: bool = True) -> list[str]:
        """What it names that a run directory can't have on its own word, such as a class that is neither registered nor
        installed: continuing the run takes a `--trust` for each. Raises `UserError` for an unknown name.

        Args:
            of_runs: Also what the run names whose VLM it takes up, if it does; else only what it names itself.
        """
        agent, backend = AGENTS.find(self.agent.name)[1], BACKENDS.find(self.environment.backend)[1]
        vlm, reward = describe(self.vlm.name), REWARDS.find(self.environment.extrinsic)[1]
        taught = TaughtVLM.named(self.vlm.name) is not None
        names = [
            *AGENTS.own(agent, {**agent.settings, **self.agent.settings}),
            *(VLMS.own(vlm, {**vlm.settings, **self.vlm.settings}) if of_runs or not taught else ()),
            *BACKENDS.own(backend, backend.settings),
            *REWARDS.own(reward, reward.settings),
            *(["ray"] if "ray" in (self.environment.workers, self.vlm.actor) else ()),
        ]
        return list(dict.fromkeys(names))

    def to_yaml(self) -> str:
        """The experiment as YAML; loading it gives an equal one."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def load_config(source: str, changes: Sequence[str] = (), seed: int | None = None) -> ExperimentConfig:
    """Read an experiment by registered name or by file, with `--set` changes (`a.b=c`) and seed applied.

    Raises `UserError`: one line that names the file or the change, the key and what would be right.
    """
    return ExperimentSource(source, changes, seed).config()


class ExperimentSource:
    """What an experiment is read from: a file, and the changes that the command line makes to it."""

    def __init__(self, source: str, changes: Sequence[str] = (), seed: int | None = None) -> None:
        """Raises `UserError` for an unknown name, an unreadable file, or a change that is not `a.b=c`."""
        self.path = experiment_path(source)
        self._written = {"name": self.path.stem, **rls3_registry.load_file(self.path)}
        self._changes = [_Change.parse(change) for change in changes]
        if seed is not None:
            self._changes.append(_Change(f"--seed {seed}", ("seed",), seed))

    def config(self) -> ExperimentConfig:
        """The experiment. Raises `UserError`."""
        content = dict(self._written)
        for change in self._changes:
            change.apply(content)
        return check(ExperimentConfig, _numbers(content), self.origin)

    def origin(self, keys: Sequence[str]) -> str:
        """Where the value under the path `keys` was written, for messages: the file, changes, or both."""
        touching = [c for c in self._changes if all(a == b for a, b in zip(c.keys, keys, strict=False))]
        if not touching:
            return str(self.path)
        if len(touching[-1].keys) <= len(keys):
            return touching[-1].words
        words = " ".join(change.words for change in touching)
        node: Any = self._written
        for key in keys:
            node = node.get(key) if isinstance(node, Mapping) else None
        return words if node is None else f"{self.path} with {words}"


def experiment_path(source: str) -> Path:
    """The YAML file of a registered experiment, or the file that was named."""
    registered = source in rls3_registry.names("experiments")
    if not registered and (source.endswith((".yaml", ".yml")) or os.path.isfile(source)):
        return Path(source)
    return rls3_registry.path_of("experiments", source)


def parse_config(content: Mapping[str, Any], where: str) -> ExperimentConfig:
    """Check a mapping; `where` names its origin in errors. Raises `UserError` for the first thing wrong."""
    _check_text(content, where)
    return check(ExperimentConfig, _numbers(content), where)


def with_new_keys(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a run wrote down as its configuration, with the keys that there were not yet: they had the value that is
    their default now."""
    try:
        return parse_config(config, "").model_dump(mode="json")
    except UserError:
        return config  # it has a key that is no more: whoever compares it with another one will name that


def _check_text(content: Any, where: str) -> None:
    """Raises `UserError` for what YAML can hold but JSON and UTF-8 cannot."""
    try:
        json.dumps(content, ensure_ascii=False, default=str, skipkeys=True).encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{where}: holds an invalid character ({error.object[error.start :][:1]!r})") from error
    except (RecursionError, ValueError) as error:
        raise UserError(f"{where}: a value refers to itself") from error


def _numbers(value: Any) -> Any:
    """Turn `1e-3` into a number: YAML 1.1 takes an exponent without a decimal point for text."""
    if isinstance(value, Mapping):
        return {key: _numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    if isinstance(value, str) and _EXPONENT.fullmatch(value) and math.isfinite(float(value)):
        return float(value)
    return value


@dataclass(frozen=True)
class _Change:
    """One value that the command line puts over the file's."""

    words: str
    """As it was typed."""
    keys: tuple[str, ...]
    value: Any

    @classmethod
    def parse(cls, text: str) -> _Change:
        """Read `a.b=c`."""
        words = f"--set {text}"
        path, separator, written = text.partition("=")
        keys = tuple(path.strip().split("."))
        if not separator or not all(keys):
            raise UserError(f"{words}: must look like key=value or section.key=value")
        return cls(words, keys, parse_yaml(written, words))

    def apply(self, content: dict[str, Any]) -> None:
        """Put the value into `content`, whose sections are replaced and not changed."""
        node = content
        for i, key in enumerate(self.keys[:-1]):
            child = node.get(key)
            if i == 0 and key in ("agent", "vlm") and isinstance(child, str):
                child = {"name": child}
            if child is None:
                child = {}
            if not isinstance(child, dict):
                raise UserError(f"{self.words}: {'.'.join(self.keys[: i + 1])} is a value, it has no keys of its own")
            node[key] = child = dict(child)
            node = child
        node[self.keys[-1]] = self.value
