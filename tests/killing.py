"""Runs in forked processes that are killed, and how what they leave is gone on with.

A fork of a process that has made such a run before has all that is slow at first: libraries, rooms, evaluation sets.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from experiment_tools import metrics, sample_rows, tiny

from rls3_gym.experiment.config import ExperimentConfig
from rls3_gym.experiment.run import resume, start
from rls3_gym.runs.json_lines import JsonLines
from rls3_registry.errors import UserError

SMALL = {"learning_starts": 4, "batch_size": 4, "buffer_size": 32}
AGENTS: dict[str, Any] = {
    "random": "random",
    "sb3": {"name": "sb3/sac", "settings": {**SMALL, "net_arch": [8]}},
    "tianshou": {"name": "tianshou/sac", "settings": {**SMALL, "hidden_sizes": [8]}},
}
PATIENCE = 120.0
"""Seconds after which a process counts as hanging."""
CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink"}
"""Audit events of Python before the file system is changed; `open` is one where a file is opened to be written."""


def short(agent: str) -> ExperimentConfig:
    """Eight steps, one round."""
    loop = {"steps_per_episode": 4, "episodes_per_round": 2, "train_fraction": 1.0}
    return tiny(
        agent=AGENTS[agent], environment=loop, budget={"rounds": 1}, images_per_round=1,
        vlm={"name": "tiny", "finetune": {"batch_size": 4, "epochs": 1.0}},
        evaluation={"sets": ["validation"], "items": 6},
    )  # fmt: skip


class Forked:
    """A forked process that does some work."""

    def __init__(self, work: Callable[[], object]) -> None:
        self._said = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115
        self.process = os.fork()
        if self.process == 0:
            code = 1
            try:
                sys.stdout = sys.stderr = self._said
                work()
                code = 0
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 0
            except BaseException:
                traceback.print_exc()
            finally:
                self._said.flush()
                os._exit(code)

    def wait(self, kill_after: float | None = None) -> int:
        """The exit code, or minus the number of the signal that ended it; killed after so many seconds, if any."""
        began = time.monotonic()
        while True:
            found, status = os.waitpid(self.process, os.WNOHANG)
            if found:
                return os.waitstatus_to_exitcode(status)
            if time.monotonic() - began > (PATIENCE if kill_after is None else kill_after):
                os.kill(self.process, signal.SIGKILL)
                assert kill_after is not None, "it hangs: " + self.said
            time.sleep(0.002)

    @property
    def said(self) -> str:
        """What it has written to standard output and standard error."""
        self._said.seek(0)
        return self._said.read()


def forked(work: Callable[[], object], kill_after: float | None = None) -> bool:
    """Do the work in a forked process; says whether it was killed. Anything but success is an error."""
    child = Forked(work)
    code = child.wait(kill_after)
    assert code in (0, -signal.SIGKILL), child.said
    return code != 0


def begin(config: ExperimentConfig, out: Path) -> None:
    start(config, ["run"], out)


def go_on(config: ExperimentConfig, out: Path) -> None:
    """What a person does after a crash: `--resume`, and where there is no run yet, the same command again."""
    if not (out / "config.yaml").is_file():
        begin(config, out)
        return
    try:
        resume(config, out, ["run", "--resume", str(out)])
    except UserError as error:
        if "the run is complete" not in str(error):
            raise


def before_every_change(folder: Path, act: Callable[[int], None]) -> None:
    """From now on in this process, call `act` with 1, 2, ... before each change to the files of a folder."""
    count = [0]
    inside, busy = str(folder), [False]

    def change() -> None:
        count[0] += 1
        act(count[0])

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if busy[0]:
            return
        if event == "open":
            path, mode, flags = arguments
            if not str(path).startswith(inside) or not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                return
        elif event not in CHANGES or not any(str(path).startswith(inside) for path in arguments[:2]):
            return
        busy[0] = True
        change()
        busy[0] = False

    append = JsonLines.append

    def appending(log: JsonLines, row: Any) -> None:
        change()
        log._file.write(b'{"row": "cut')  # a row that is half written
        change()
        log._file.truncate(log.position)
        append(log, row)

    JsonLines.append = appending  # type: ignore[method-assign]
    sys.addaudithook(hook)


def kill_at(number: int) -> Callable[[int], None]:
    def act(count: int) -> None:
        if count == number:
            os.kill(os.getpid(), signal.SIGKILL)

    return act


def outcome(out: Path) -> dict[str, Any]:
    """All that two equal runs have in common: rows, samples, pictures, and the weights at the end."""
    return {
        "metrics": metrics(out),
        "samples": sample_rows(out),
        "pictures": {path.name: path.read_bytes() for path in (out / "samples").glob("*.png")},
        "weights": (out / "checkpoints" / "final" / "tensors.safetensors").read_bytes(),
        "left over": [str(path) for path in out.rglob("*.partial")],
    }
