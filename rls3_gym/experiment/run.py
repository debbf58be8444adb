"""One run: from an experiment's configuration to a run directory with metrics, samples, checkpoints and a report."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import gymnasium
import torch

from rls3_agents.base import SamplerAgent, check_lanes, check_observation, choose_view, make_agent
from rls3_gym.experiment.callbacks import RunCallback
from rls3_gym.experiment.config import ExperimentConfig, ExperimentSource, VLMConfig, with_new_keys
from rls3_gym.experiment.doors import make_door, watch
from rls3_gym.experiment.evaluator import Measurer
from rls3_gym.experiment.interrupt import graceful_stop
from rls3_gym.experiment.monitor import RunMonitor
from rls3_gym.experiment.provenance import command_line, describe_environment
from rls3_gym.experiment.same import check_continued
from rls3_gym.runs.checkpoints import has_checkpoint, is_final, load_checkpoint, reopen, set_aside, taking_up
from rls3_gym.runs.directory import LOCK, RunDirectory, WriteError, read_text, write_text
from rls3_gym.runs.locking import locked
from rls3_gym.runs.run_data import has_results
from rls3_gym.runs.taught import find_vlm
from rls3_gym.scene.arrangement import SLOTS
from rls3_gym.suites.catalog import OpenSuite
from rls3_gym.vlm.base import VLM, ClosingVLM
from rls3_registry.errors import SettingError, UserError
from rls3_registry.trust import is_restricted, reading

if TYPE_CHECKING:
    from rls3_gym.experiment.doors import SceneDoor


@dataclass(frozen=True)
class RunResult:
    """How a run ended."""

    directory: Path
    report: Path | None
    """The report page; None when the run was stopped early."""

    @property
    def stopped(self) -> bool:
        return self.report is None


def start(
    config: ExperimentConfig,
    arguments: Sequence[str],
    out: Path | None = None,
    callbacks: Sequence[RunCallback] = (),
) -> RunResult:
    """Carry out an experiment in a new run directory (`out`, or the next free one under the experiment's output).

    `arguments` of the command line are written down; `callbacks` are told what happens. Raises `UserError` for an
    unknown name or a wrong value, before anything is written; a `SettingError` without a place is of the experiment.
    """
    if out is not None:
        RunDirectory(out).check_free()
    config = config.resolved()
    parts = _build(config)
    if out is not None:
        directory = RunDirectory.create(out)
    else:
        if is_restricted() and (Path(config.output).is_absolute() or ".." in Path(config.output).parts):
            raise UserError(f"output: {config.output}: a run's file can't say so; name a folder with --out")
        agent = config.agent.name.rsplit(":")[-1].replace("/", "-").removesuffix(".yaml")
        directory = RunDirectory.create_next(Path(config.output), f"{config.name}-{agent}-seed{config.seed}")
    with locked(directory.path, LOCK):
        directory.check_free()
        directory.begin(config.to_yaml(), command_line(arguments), describe_environment())
        return _carry_out(config, directory, parts, None, callbacks)


def resume(
    config: ExperimentConfig, path: Path, arguments: Sequence[str], callbacks: Sequence[RunCallback] = ()
) -> RunResult:
    """Continue the run in `path` from its newest checkpoint that is not damaged; rows written after it are dropped and
    come again. A run that has no checkpoint yet begins again.

    A larger budget in `config` extends the run, a complete one too. What it leaves is what a run with that budget from
    the start would have left: at a checkpoint nothing depends on how far the run will go.

    Raises `UserError` when there is nothing to continue, when another process is at it, when `config` is not the one
    the run began with, or when it names a class that is neither registered nor installed and that the user has not
    named (`rls3_registry.trust`).
    """
    directory = RunDirectory.open(path)
    with locked(path, LOCK):
        return _resume(config.resolved(), directory, arguments, callbacks)


def _resume(
    config: ExperimentConfig, directory: RunDirectory, arguments: Sequence[str], callbacks: Sequence[RunCallback]
) -> RunResult:
    path, written = directory.path, config_of(directory.path).resolved()
    check_continued(written.model_dump(mode="json"), config.model_dump(mode="json"), path)
    if not has_checkpoint(directory.checkpoints):
        if has_results(directory.metrics):
            raise UserError(f"{path}: its checkpoints are gone, but not what it has measured; start it again elsewhere")
        with reading(directory.config):
            parts = _build(config)
        _note(callbacks, f"{path}: the run was cut off before its first checkpoint; it begins again")
        directory.sweep()
        directory.clear()
        directory.begin(config.to_yaml(), command_line(arguments), describe_environment())
        return _carry_out(config, directory, parts, None, callbacks)
    checkpoint = load_checkpoint(directory.checkpoints)
    with taking_up(checkpoint.path):
        check_continued(with_new_keys(checkpoint.state["config"]), config.model_dump(mode="json"), path)
    if is_final(directory.checkpoints) and config.budget == written.budget:
        raise UserError(
            f"{path}: the run is complete; there is nothing to continue (`rls3 report` writes its page, and a larger "
            "budget extends it: --set budget.rounds=...)"
        )
    with reading(directory.config):
        parts = _build(config)
    with taking_up(checkpoint.path):
        parts.env.load_state(checkpoint.state["environment"])
        parts.agent.load(checkpoint.agent)
        RunMonitor.check(directory, checkpoint.state["monitor"])
    directory.sweep()
    for damaged, fault in checkpoint.damaged:
        set_aside(damaged)
        goes_on = f"the run goes on from {checkpoint.path.name} and does the rest again"
        _note(callbacks, f"warning: {damaged} is damaged ({fault}); {goes_on}")
    if config.budget != written.budget:
        reopen(directory)
        write_text(directory.config, config.to_yaml())
    write_text(directory.command, read_text(directory.command) + command_line(arguments))
    return _carry_out(config, directory, parts, checkpoint.state["monitor"], callbacks)


def config_of(path: Path) -> ExperimentConfig:
    """The configuration a run began with."""
    return source_of(path).config()


def source_of(path: Path, changes: Sequence[str] = (), seed: int | None = None) -> ExperimentSource:
    """The file that a run's configuration was written to, and changes to it."""
    return ExperimentSource(str(RunDirectory.open(path).config), changes, seed)


@dataclass(frozen=True)
class _Parts:
    """What a run is made of, built and checked before anything is written."""

    agent: SamplerAgent
    env: SceneDoor
    measurer: Measurer


def _build(config: ExperimentConfig) -> _Parts:
    torch.set_num_threads(config.threads)
    measured = config.evaluation
    suites = [OpenSuite(suite.name, Path(suite.data), measured.items) for suite in measured.suites]
    with _section("agent"):
        agent = make_agent(config.agent.name, config.seed, config.agent.settings)
    with _section("vlm"):
        vlm = _find_vlm(config.vlm)
    view = choose_view(agent, config.environment.action_view, config.agent.name)
    check_observation(agent, config.environment.observation, config.agent.name)
    if config.environment.door == "parallel":
        check_lanes(agent, SLOTS, config.agent.name, "environment.door")
    else:
        check_lanes(agent, config.environment.num_envs, config.agent.name)
    env = make_door(config.environment, vlm, view)
    measurer = Measurer(measured.sets, env.loop.backend, measured.items, suites, measured.forgetting)
    measurer.load()
    return _Parts(agent, env, measurer)


def _find_vlm(config: VLMConfig) -> VLM:
    if config.actor is None:
        return find_vlm(config.name, config.finetune, settings=config.settings)
    from rls3_gym.runs.shared_vlm import SharedVLM

    return SharedVLM(config.name, config.finetune, config.settings)


@contextmanager
def _section(name: str) -> Iterator[None]:
    """Inside, a wrong setting that was not read from a file of its own is one of this section of the experiment."""
    try:
        yield
    except SettingError as error:
        if error.where:
            raise
        raise error.under(name) from error


def _carry_out(
    config: ExperimentConfig,
    directory: RunDirectory,
    parts: _Parts,
    saved: Mapping[str, Any] | None,
    callbacks: Sequence[RunCallback],
) -> RunResult:
    """Let the agent learn; `saved` is the monitor's state in the checkpoint that the parts were loaded from."""
    env, agent = parts.env, parts.agent
    for callback in callbacks:
        callback.run_begun(directory.path, resumed=saved is not None)
    monitor = RunMonitor(config, directory, env, parts.measurer, callbacks, saved)
    for callback in callbacks:
        callback.life_begun(monitor.life)
    watched = watch(env, monitor, under_way=saved is not None)

    def ask() -> None:
        _note(callbacks, "stopping: saving at the next safe point (Ctrl-C again: end now, keep the last checkpoint)")
        monitor.ask_to_stop()

    try:
        with graceful_stop(ask):
            agent.learn(cast("gymnasium.Env[Any, Any]", watched), monitor)  # `check_lanes` has seen to the rest
        monitor.finish()
    except WriteError as error:
        raise WriteError(f"{error}; {_remedy(directory, monitor.saved_steps)}") from error
    finally:
        monitor.close()
        watched.close()
        if isinstance(vlm := env.loop.scheduler.vlm, ClosingVLM):
            vlm.close()
    if not monitor.complete:
        if not monitor.stopped:
            raise UserError(f"agent {config.agent.name!r} ended its training before the budget was spent")
        return RunResult(directory.path, None)
    from rls3_gym.report.page import write_report  # draws: only a run that is complete needs it

    _note(callbacks, "writing the report")
    try:
        return RunResult(directory.path, write_report(directory.path))
    except KeyboardInterrupt:
        _note(callbacks, f"the run is complete, its report is not: rls3 report {directory.path}")
        raise


def _note(callbacks: Sequence[RunCallback], line: str) -> None:
    for callback in callbacks:
        callback.note(line)


def _remedy(directory: RunDirectory, saved_steps: int | None) -> str:
    """What is left of a run whose files could not be written, and how it goes on."""
    saved = "nothing is saved yet" if saved_steps is None else f"the run is saved up to step {saved_steps:,}"
    return f"{saved}; once that is put right, go on with: rls3 run --resume {shlex.quote(str(directory.path))}"
