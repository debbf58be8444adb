"""The runs of a study on the machines of a Ray cluster.

Each run is a process on some machine, started by an actor there; what it writes is followed in its run directory here.
So nothing but this machine has to be left for the study to go on: a machine that is gone costs what its runs did since
their last checkpoint.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import yaml

import rls3_registry
from rls3_gym.cluster import Actor, Answer, Died, join
from rls3_gym.runs.directory import check_plain, open_to_append, writing
from rls3_gym.study.executor import THREADS, Ending
from rls3_gym.study.jobs import Job
from rls3_gym.study.run_mirror import Changes, RunSource, check_tree, follow, read_tree, write_tree
from rls3_registry.trust import is_restricted

RUN, EXPERIMENT, THEIRS = Path("run-directory"), Path("experiment.yaml"), Path("config.yaml")
"""In the folder of a run on its machine: its run directory, and the experiment. One that comes from a run directory has
that name there, too, and so makes nothing run there either (`rls3_gym.runs.taught.reading_config`)."""


class RayExecutor:
    """Each run takes a CPU of the cluster, and the GPUs that are asked for."""

    def __init__(self, gpus: float) -> None:
        """Join the cluster. Raises `UserError` where that can't be done."""
        self._cluster = join("--on ray")
        self._gpus = gpus

    @property
    def slots(self) -> int:
        return self._cluster.cpus

    def start(self, job: Job) -> RayExecution:
        """Raises `UserError` for a link in the run directory, which may come from somebody else: what it leads to would
        be sent to the cluster, overwritten or removed."""
        check_tree(job.directory)
        check_plain(job.log)
        experiment = THEIRS if is_restricted() else EXPERIMENT
        files = {experiment.as_posix(): yaml.safe_dump(job.config, allow_unicode=True).encode()}
        if job.begun:
            files |= {(RUN / name).as_posix(): content for name, content in read_tree(job.directory).items()}
        environment = {"RAY_ADDRESS": self._cluster.address}
        if folders := os.environ.get(rls3_registry.VARIABLE):
            environment[rls3_registry.VARIABLE] = folders
        arguments = job.arguments(RUN, experiment)
        actor = self._cluster.actor(RunActor, files, arguments, environment, os.getcwd(), cpus=1, gpus=self._gpus)
        return RayExecution(actor, job)

    def close(self) -> None:
        self._cluster.leave()


class RayExecution:
    """A run on a machine of the cluster, followed from here."""

    def __init__(self, actor: Actor, job: Job) -> None:
        self._actor, self._job = actor, job
        self._asked: Answer | None = None
        self._ended: Ending | None = None

    def poll(self) -> Ending | None:
        if self._ended is not None:
            return self._ended
        try:
            if self._asked is None:
                self._asked = self._actor.tell("news")
            if not self._asked.here:  # it waits for a machine, or there is much to bring
                return None
            code, changes, log = self._asked.wait()
        except Died as death:
            self._actor.kill()  # it may only be out of reach
            self._ended = Ending(f"its process or its machine is gone ({death})", lost=True)
            return self._ended
        self._asked = None
        follow(self._job.directory, changes)
        with open_to_append(self._job.log) as file, writing(self._job.log):
            rest = memoryview(log)
            while rest:  # it is unbuffered: a write may take less
                rest = rest[file.write(rest) :]
        if code is not None:
            self._ended = Ending.of(code)
            with suppress(Died):
                self._actor.tell("clear").wait()
            self._actor.kill()
        return self._ended

    def ask_to_save(self) -> None:
        self._actor.tell_last("stop")

    def kill(self) -> None:
        self._actor.kill()


class RunActor:
    """The process of a run, and the folder that it is made in."""

    def __init__(
        self, files: Mapping[str, bytes], arguments: Sequence[str], environment: Mapping[str, str], where: str
    ) -> None:
        """Start the run. `where` is the folder that the study is carried out in: paths that an experiment names are
        relative to it, where this machine has it too."""
        self._folder = Path(tempfile.mkdtemp(prefix="rls3-study-"))
        write_tree(self._folder, files)
        if (self._folder / RUN).is_dir():
            for part in ("samples", "checkpoints"):
                (self._folder / RUN / part).mkdir(exist_ok=True)
        self._source = RunSource(self._folder / RUN)
        self._log = (self._folder / "log").open("w+b")
        command = [sys.executable, "-P", "-m", "rls3_gym.study.tethered", str(self._folder)]
        command += [str(self._folder / word) if Path(word) in (RUN, EXPERIMENT, THEIRS) else word for word in arguments]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=self._log, stderr=subprocess.STDOUT,
            cwd=where if Path(where).is_dir() else self._folder, env={**THREADS, **os.environ, **environment},
        )  # fmt: skip
        self._read = 0

    def news(self) -> tuple[int | None, Changes, bytes]:
        """The code that the process ended with, what has changed in the run directory, what was printed since."""
        code = self._process.poll()  # first: when it has ended, nothing changes any more
        changes = self._source.changes()
        with (self._folder / "log").open("rb") as file:
            file.seek(self._read)
            log = file.read()
        self._read += len(log)
        return code, changes, log

    def stop(self) -> None:
        """Ask the run to save and stop."""
        self._process.send_signal(signal.SIGTERM)

    def clear(self) -> None:
        """Remove all that was written here."""
        self._log.close()
        shutil.rmtree(self._folder, ignore_errors=True)
