"""Where the runs of a study are carried out, and how they are watched: as processes of this machine.

`ray_executor.py` carries them out on the machines of a Ray cluster. For the study both are the same: what a run writes
appears in its directory here, and all else is read from there.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import Protocol

from rls3_gym.runs.directory import open_to_append, writing
from rls3_gym.study.jobs import Job

THREADS = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
"""Of the environment of a run, unless the user says otherwise: runs side by side must not wait for each other."""


@dataclass(frozen=True)
class Ending:
    """How a run ended, whether or not it is complete."""

    said: str
    lost: bool = False
    """Whether it was ended from outside: its process was killed, or its machine is gone."""

    @classmethod
    def of(cls, code: int) -> Ending:
        """Of a process that ended with this code; negative: the signal that ended it."""
        return cls(f"was ended by signal {-code}", lost=True) if code < 0 else cls(f"ended with code {code}")


class Execution(Protocol):
    """A run under way."""

    def poll(self) -> Ending | None:
        """How it ended; None while it goes on. Brings the run directory up to date: when it has ended, all is there."""

    def ask_to_save(self) -> None:
        """Have the run save and stop at its next safe point; the second time, at once."""

    def kill(self) -> None:
        """End what is left of it."""


class Executor(Protocol):
    """Carries out runs."""

    @property
    def slots(self) -> int:
        """Runs at a time that there is room for."""

    def start(self, job: Job) -> Execution:
        """Begin a run, or continue it from the checkpoint that is in its directory."""

    def close(self) -> None:
        """Give back what it holds, once nothing is under way."""


class LocalExecutor:
    """Each run in a process of its own."""

    @property
    def slots(self) -> int:
        return os.cpu_count() or 1

    def start(self, job: Job) -> LocalExecution:
        with writing(job.log):
            job.directory.parent.mkdir(parents=True, exist_ok=True)
        with open_to_append(job.log) as log:
            # A process group of its own: Ctrl-C reaches the study alone, which asks each run once to save and stop.
            command = [sys.executable, "-P", "-m", "rls3_gym", *job.arguments()]
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, process_group=0,
                env={**THREADS, **os.environ},
            )  # fmt: skip
        return LocalExecution(process)

    def close(self) -> None:
        """It holds nothing."""


class LocalExecution:
    """A process that makes a run."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def poll(self) -> Ending | None:
        code = self._process.poll()
        return None if code is None else Ending.of(code)

    def ask_to_save(self) -> None:
        self._send(signal.SIGINT)

    def kill(self) -> None:
        self._send(signal.SIGKILL)
        self._process.wait()

    def _send(self, number: signal.Signals) -> None:
        if self._process.poll() is None:
            self._process.send_signal(number)
