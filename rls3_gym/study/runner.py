"""Making the runs of a study that are missing, several at a time, wherever an executor carries them out."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from rls3_gym.experiment.interrupt import graceful_stop
from rls3_gym.runs.json_lines import MOST_LINE
from rls3_gym.study.executor import Ending, Execution, Executor
from rls3_gym.study.jobs import Job
from rls3_gym.study.run_rows import RunRows
from rls3_gym.study.study_progress import StudyProgress
from rls3_registry.errors import UserError, first_line
from rls3_registry.reading import open_file

POLL_SECONDS = 0.5
PATIENCE_SECONDS = 10.0
"""How long a run may take to end when it is told to end at once."""
MOST_OF_LOG = 2**20
"""Bytes of the end of a log that its last line is looked for in."""
TRIES = 3
"""Times that a run may be ended from outside before it is given up."""


@dataclass
class Tail:
    """How far a run is, from the rows that it appends to metrics.jsonl."""

    path: Path
    n_generated: int = 0
    round: int = 0
    lives: int = 0
    """Lives that have ended."""
    accuracy: float | None = None
    """Of the last evaluation on the set that came first."""
    _offset: int = 0
    _set: str | None = None

    def read(self) -> None:
        """Take up the rows that were written since the last call.

        Raises `UserError` for what is no log of a run: the run directory may come from somebody else, and a link, a
        pipe or a device in it might never end.
        """
        try:
            with os.fdopen(open_file(self.path, follow=False), "rb") as file:
                file.seek(max(self._offset - 1, 0))
                if self._offset and file.read(1) != b"\n":
                    # A continued run drops what lies behind its checkpoint, and writes on from there.
                    self._offset = self.lives = 0
                    file.seek(0)
                while line := file.readline(MOST_LINE + 1):
                    if len(line) > MOST_LINE:
                        raise UserError(f"{self.path}: has a line of more than {MOST_LINE:,} bytes, which no row has")
                    if not line.endswith(b"\n"):
                        break  # it is still being written
                    self._offset += len(line)
                    self._take(json.loads(line))
        except FileNotFoundError:
            return
        except OSError as error:
            raise UserError(f"{self.path}: cannot be read ({error.strerror or error})") from error
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise UserError(f"{self.path}: is not the log of a run ({first_line(error)})") from error

    def _take(self, row: Mapping[str, Any]) -> None:
        if row["row"] == "life":
            self.n_generated = self.round = 0
            self.lives = int(row["life"])
            return
        self.n_generated, self.round = int(row["n_generated"]), int(row["round"])
        if "pairwise_accuracy" in row:
            self._set = self._set or str(row["set"])
            if row["set"] == self._set:
                self.accuracy = row["pairwise_accuracy"]

    def share(self, config: Mapping[str, Any]) -> float:
        """How much of the budget of a run of this configuration is spent, 0..1; every life has the whole budget."""
        counts = {"n_generated": self.n_generated, "rounds": self.round}
        budget: Mapping[str, int | None] = config["budget"]
        lives: int = config["lives"]
        spent = min(1.0, max(counts[key] / end for key, end in budget.items() if end))
        return min(1.0, (self.lives + spent) / lives)


@dataclass
class _Running:
    """A run under way."""

    job: Job
    execution: Execution
    tail: Tail
    began: float = field(default_factory=monotonic)
    asked: bool = False
    """Whether it was asked to save and stop."""


class StudyRunner:
    """Makes runs until all are made or a stop is asked for."""

    def __init__(self, jobs: Sequence[Job], executor: Executor, at_a_time: int, progress: StudyProgress) -> None:
        self._waiting = list(jobs)
        self._executor = executor
        self._at_a_time = at_a_time
        self._progress = progress
        self._running: list[_Running] = []
        self._failed: list[str] = []
        self._lost: dict[str, int] = {}
        """By the run's name: how often it was ended from outside."""
        self._stopping = False
        """Set by the first Ctrl-C: nothing new is started, what is under way saves itself."""

    def run(self) -> bool:
        """Make all runs. Returns False when Ctrl-C (or SIGTERM) stopped it: the runs under way have been saved then.

        Raises `UserError` at the end when runs failed; the others have been made all the same.
        """
        try:
            with graceful_stop(self._ask):
                while self._running or (self._waiting and not self._stopping):
                    self._step()
                    sleep(POLL_SECONDS if self._running else 0.0)
        finally:
            self._end()
        if self._failed:
            more = f" (and {len(self._failed) - 1} more runs failed)" if len(self._failed) > 1 else ""
            raise UserError(self._failed[0] + more)
        return not self._stopping

    def _step(self) -> None:
        """Start what can be started, take in what has ended, show how far the rest is."""
        while not self._stopping and self._waiting and len(self._running) < self._at_a_time:
            self._start(self._waiting.pop(0))
        if self._stopping:
            self._ask_to_save()
        for running in list(self._running):
            try:
                self._look_at(running)
            except UserError as error:
                running.execution.kill()
                if running in self._running:
                    self._running.remove(running)
                self._fail(running.job, str(error))
        self._progress.refresh()

    def _start(self, job: Job) -> None:
        tail = Tail(job.directory / "metrics.jsonl")
        try:
            tail.read()
            running = _Running(job, self._executor.start(job), tail)
        except UserError as error:
            self._progress.began(job.name, 0.0)
            self._fail(job, str(error))
            return
        self._running.append(running)
        self._progress.began(job.name, tail.share(job.config))

    def _look_at(self, running: _Running) -> None:
        job, tail = running.job, running.tail
        ending = running.execution.poll()
        tail.read()
        if ending is None:
            self._progress.running(job.name, tail.share(job.config), tail.n_generated, tail.accuracy)
        else:
            self._running.remove(running)
            self._ended(running, ending)

    def _ended(self, running: _Running, ending: Ending) -> None:
        job = running.job
        if run := job.keep():
            self._progress.finished(job.name, monotonic() - running.began, run.evaluations[-1].n_trained, _final(run))
        elif self._stopping:
            self._progress.stopped(job.name, job.checkpoint)
        elif ending.lost and self._lost.get(job.name, 0) + 1 < TRIES:
            self._lost[job.name] = self._lost.get(job.name, 0) + 1
            self._progress.lost(job.name, ending.said, job.checkpoint)
            self._waiting.insert(0, job)
        else:
            said = ending.said if ending.lost else _last_line(job.log) or ending.said
            self._fail(job, f"{said}; its log is {job.log}")

    def _fail(self, job: Job, said: str) -> None:
        self._failed.append(f"{job.name} failed: {said}")
        self._progress.failed(job.name, said)

    def _ask(self) -> None:
        self._stopping = True

    def _ask_to_save(self) -> None:
        """Once, what is under way is asked to save itself and stop."""
        if not all(running.asked for running in self._running):
            self._progress.note("stopping: runs under way save at their next safe point (Ctrl-C again: end now)")
        for running in self._running:
            if not running.asked:
                running.asked = True
                running.execution.ask_to_save()

    def _end(self) -> None:
        """After a second Ctrl-C, or an error: leave no process behind. Runs keep their last checkpoints."""
        for end in ("ask_to_save", "kill"):
            alive = [running.execution for running in self._running if running.execution.poll() is None]
            for execution in alive:
                getattr(execution, end)()
            until = monotonic() + PATIENCE_SECONDS
            while any(execution.poll() is None for execution in alive) and monotonic() < until:
                sleep(0.05)


def _final(run: RunRows) -> dict[str, float | None]:
    return {name: run.curve(name)[-1].pairwise for name in run.sets}


def _last_line(log: Path) -> str:
    """What a run said last; "" when it said nothing. Raises `UserError` for a log that is no plain file."""
    try:
        with os.fdopen(open_file(log, follow=False), "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - MOST_OF_LOG))
            text = file.read(MOST_OF_LOG).decode(errors="replace")
    except OSError:
        return ""
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].removeprefix("rls3: ") if lines else ""
