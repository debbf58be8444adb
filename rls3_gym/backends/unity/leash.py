"""Runs a player and ends it, with all that it started, as soon as whoever wanted it is gone.

    python -I leash.py PLAYER ARGUMENTS...

A script of its own, which imports nothing of the package. Its standard input is a pipe whose other end only the
process that wanted the player holds: when that process ends, whatever the cause, the pipe does. SIGTERM does the same.
It has to be started as the leader of a process group, which is then that of the player. It ends with the player's exit
code; with 128 + n where signal n ended it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from typing import Any

GRACE_SECONDS = 2.0
"""For the player to end by itself."""


class Leash:
    """A running player."""

    def __init__(self, command: list[str]) -> None:
        self._player = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        self._ending = threading.Lock()
        # In a thread: the main one may hold the lock of `Popen.wait` when the signal comes.
        signal.signal(signal.SIGTERM, lambda *_: self._in_a_thread(self._end))
        self._in_a_thread(self._watch)

    def wait(self) -> int:
        """The player's exit code. What it has started and left behind is asked to end."""
        code = self._player.wait()
        if os.name == "posix":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            os.killpg(0, signal.SIGTERM)
        return 128 - code if code < 0 else code

    def _in_a_thread(self, work: Any) -> None:
        threading.Thread(target=work, daemon=True).start()

    def _watch(self) -> None:
        # Not `sys.stdin`: its lock would be in the way when this program ends first.
        while os.read(0, 1024):
            pass
        self._end()

    def _end(self) -> None:
        if not self._ending.acquire(blocking=False):
            return
        if os.name != "posix":
            self._player.kill()
            return
        os.killpg(0, signal.SIGTERM)
        try:
            self._player.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    if os.name == "posix" and os.getpgid(0) != os.getpid():
        os.setpgid(0, 0)
    try:
        leash = Leash(sys.argv[1:])
    except OSError as error:
        print(f"{sys.argv[1]}: {error.strerror}", flush=True)
        sys.exit(127)
    sys.exit(leash.wait())
