"""`python -m rls3_gym.study.tethered FOLDER run ...`: `rls3 run ...`, which ends when its parent is gone.

A run on a machine of a cluster is a process of an actor's. Whatever ends the actor closes the pipe that is this
process's standard input: then the folder that the run was made in is of no use to anyone, and is removed.
"""

from __future__ import annotations

import os
import runpy
import shutil
import signal
import sys
import threading


def _watch(folder: str) -> None:
    os.read(0, 1)  # nothing is ever written: it returns when the other end is closed
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])  # Ray blocks it in its processes
    threading.Thread(target=_watch, args=(sys.argv.pop(1),), daemon=True).start()
    runpy.run_module("rls3_gym", run_name="__main__")
