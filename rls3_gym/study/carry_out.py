"""Carrying out a study: the runs that are missing are made, then all that are there are compared."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from rls3_gym.runs.locking import locked
from rls3_gym.study.analysis import Comparison
from rls3_gym.study.compare import compare_study
from rls3_gym.study.executor import Executor, LocalExecutor
from rls3_gym.study.jobs import Job, check_agents, finished, plan
from rls3_gym.study.results import write_results
from rls3_gym.study.runner import StudyRunner
from rls3_gym.study.study_config import StudyConfig
from rls3_gym.study.study_progress import StudyProgress
from rls3_registry.errors import UserError

LOCK = "study.lock"
"""Held in both folders by the process that carries the study out."""


@dataclass(frozen=True)
class StudyFolders:
    """Where a study keeps its run directories, and where its results."""

    out: Path
    results: Path


@dataclass(frozen=True)
class StudyOutcome:
    """What a call of a study came to."""

    stopped: bool
    """Whether Ctrl-C ended it before all runs were made."""
    comparison: Comparison | None
    page: Path | None
    """None as long as no run is finished."""
    failure: UserError | None
    """What went wrong with runs; the others were made all the same."""


def missing_runs(
    study: StudyConfig, folders: StudyFolders, arms: Sequence[str] = (), seeds: int | None = None
) -> tuple[list[Job], int]:
    """The runs that are still to be made, and how many there are in all. Changes nothing.

    Args:
        study: The study.
        folders: Where to look.
        arms: Only these; all when empty.
        seeds: Another number of seeds, for every arm.

    Raises:
        UserError: For an unknown arm, an arm that is no valid experiment, or a finished run of another configuration.
    """
    jobs = plan(study, folders.out, folders.results, arms, seeds)
    return [job for job in jobs if not job.done()], len(jobs)


def run_study(
    study: StudyConfig,
    folders: StudyFolders,
    console: Console,
    command: str,
    *,
    arms: Sequence[str] = (),
    seeds: int | None = None,
    processes: int | None = None,
    executor: Executor | None = None,
) -> StudyOutcome:
    """Make the missing runs and write the results of all that are there, with the `command` that makes them again;
    `executor` carries out the runs, `LocalExecutor` when left out.

    Raises `UserError` as `missing_runs` does, before any run for an agent's setting that is wrong, and when another
    process is carrying out a study in one of the folders.
    """
    check_agents(missing_runs(study, folders, arms, seeds)[0])
    with ExitStack() as locks:
        # Another call of the study would write the same small files, and make the same runs.
        locks.enter_context(locked(folders.results, LOCK))
        missing, total = missing_runs(study, folders, arms, seeds)
        if missing and folders.out.resolve() != folders.results.resolve():
            locks.enter_context(locked(folders.out, LOCK))
        return _carry_out(study, folders, console, command, missing, total, processes, executor or LocalExecutor())


def _carry_out(
    study: StudyConfig,
    folders: StudyFolders,
    console: Console,
    command: str,
    missing: list[Job],
    total: int,
    processes: int | None,
    executor: Executor,
) -> StudyOutcome:
    at_a_time = processes or study.processes or executor.slots
    stopped, failure = False, None
    with StudyProgress(console, total, total - len(missing)) as progress:
        if missing:
            progress.note(f"study {study.name}: {len(missing)} of {total} runs to make, {at_a_time} at a time")
        try:
            stopped = not StudyRunner(missing, executor, at_a_time, progress).run()
        except UserError as error:
            failure = error
    everything = plan(study, folders.out, folders.results)
    for job in everything:
        try:
            job.keep()
        except UserError as error:
            failure = failure or UserError(f"{job.name} failed: {error}")
    made = finished(study, folders.results)
    if not made:
        return StudyOutcome(stopped, None, None, failure)
    lacking = sum(not job.archive.is_file() for job in everything)
    comparison = compare_study(study, made, lacking, command)
    return StudyOutcome(stopped, comparison, write_results(comparison, folders.results), failure)
