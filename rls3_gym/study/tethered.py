"""`python -m rls3_gym.study.tethered FOLDER run ...`: `rls3 run ...`, which ends when its parent is gone.

A run on a machine of a cluster is a process of an actor's. Whatever ends the actor closes the pipe that is this
process's standard input: then the run is of no use to anyone. A second process waits for that, ends the run, if Ray
has not, and removes the folder that it was made in.
"""

from __future__ import annotations

import os
import runpy
import shutil
import signal
import subprocess
import sys


def _wait(folder: str, run: int) -> None:
    """Until the parent of the run is gone, then leave nothing of it."""
    os.read(0, 1)  # nothing is ever written: it returns when the other end is closed
    if os.getppid() == run:
        os.kill(run, signal.SIGKILL)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    folder = sys.argv.pop(1)
    if sys.argv[1].isdigit():
        _wait(folder, int(sys.argv[1]))
    else:
        # In a session of its own: when an actor is ended Ray ends its children, and may do so before they notice.
        wait = [sys.executable, __file__, folder, str(os.getpid())]
        subprocess.Popen(wait, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])  # Ray blocks it in its processes
        runpy.run_module("rls3_gym", run_name="__main__")
