"""Workers that are processes of this machine. Pictures come through shared memory."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from ctypes import c_uint8
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import ModuleType
from typing import Any, Literal

from rls3_gym.loop.lanes import LanePlan
from rls3_gym.loop.worker import Command, Pictures, run

StartMethod = Literal["spawn", "forkserver"]
END_SECONDS = 5.0
"""How long a worker may take to end before it is killed."""


class ProcessCrew:
    """See `rls3_gym.loop.worker_lanes.Crew`."""

    def __init__(self, plan: LanePlan, lanes: int, count: int, start_method: StartMethod) -> None:
        self.count = count
        self._context = multiprocessing.get_context(start_method)
        self._memory = self._context.RawArray(c_uint8, Pictures.bytes_for(lanes, plan.image_size))
        self.pictures = Pictures(self._memory, lanes, plan.image_size)
        self._plan, self._lanes = plan, lanes
        # The VLM scores while the workers work, and all wait for it: where cores are too few it goes first.
        self._give_way = count >= (os.cpu_count() or 1)

    def start(self, numbers: Sequence[int]) -> WorkerProcess:
        return WorkerProcess(self._context, (self._plan, numbers, self._memory, self._lanes, self._give_way))

    def dismiss(self) -> None:
        """Nothing is left to be given back."""


class WorkerProcess:
    """A process and the pipe to it; see `rls3_gym.loop.worker_lanes.Hand`."""

    def __init__(self, context: Any, arguments: tuple[Any, ...]) -> None:
        self.pipe: Connection
        self.pipe, other = context.Pipe()
        self.process: BaseProcess = context.Process(target=run, args=(other, *arguments), daemon=True)
        with _no_main_module():
            self.process.start()
        other.close()  # so that the pipe ends with the process

    @property
    def pid(self) -> int:
        return self.process.pid or 0

    def tell(self, command: Command) -> None:
        with suppress(OSError):  # it is dead; `answer` will find that out
            self.pipe.send(command)

    def answer(self, number: int) -> Any:
        """Earlier answers are passed over."""
        while True:
            try:
                found, answer = self.pipe.recv()
            except (EOFError, OSError):
                return None
            if found == number:
                return answer

    def death(self) -> str:
        """What became of a dead process."""
        self.pipe.close()
        self.process.join(END_SECONDS)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        code = self.process.exitcode
        return f"was ended by signal {-code}" if code is not None and code < 0 else f"ended with exit code {code}"

    def end(self) -> None:
        self.pipe.close()
        self.process.terminate()

    def wait(self) -> None:
        self.process.join(END_SECONDS)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.process.close()


@contextmanager
def _no_main_module() -> Iterator[None]:
    """Keep a new process from importing the script that is running: it would load what that does, torch at least, and
    without an `if __name__ == "__main__"` start it all over again."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
