"""The operating system's side of a player: its process, its log, and its end."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from rls3_registry.errors import UserError

QUIT_SECONDS = 5.0
"""For a player that was told to quit; then it is ended."""
_LEASH = Path(__file__).with_name("leash.py")


class PlayerProcess:
    """A started player, on a leash: it ends with this process, whatever ends that."""

    def __init__(self, program: str, port: int, extra_args: tuple[str, ...], log_folder: str | None) -> None:
        """Start the program. Raises `UserError` when its log can't be written."""
        self._keep_log = log_folder is not None
        self._owner = os.getpid()
        arguments = [program, "--mlagents-port", str(port), "-logFile", "-", *extra_args]
        try:
            # Without a folder of the user's: a new one, in which nobody else can have put a link.
            folder = Path(tempfile.mkdtemp(prefix="rls3_gym_player-") if log_folder is None else log_folder)
            folder.mkdir(parents=True, exist_ok=True)
            self.log = folder / f"player-{os.getpid()}-{port}.log"
            with open(self.log, "wb") as log:
                # Not in the terminal's process group: Ctrl-C is for this process, which then closes the player.
                self._process = subprocess.Popen(
                    [sys.executable, "-I", str(_LEASH), *arguments],
                    stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
                )  # fmt: skip
        except OSError as error:
            raise UserError(f"settings.log_folder: {error.filename}: {error.strerror}") from error

    @property
    def pid(self) -> int:
        """Of the leash."""
        return self._process.pid

    def death(self) -> str | None:
        """How it ended; None while it runs."""
        code = self._process.poll()
        if code is None:
            return None
        number = -code if code < 0 else code - 128
        with suppress(ValueError):
            return f"it was ended by {signal.Signals(number).name}"
        return f"it ended with exit code {code}"

    def last_words(self) -> str:
        """The last line of the log; empty when there is none."""
        with suppress(OSError):
            lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            return lines[-1].strip()[:200] if lines else ""
        return ""

    def close(self, wait: float, failed: bool) -> None:
        """End it.

        Args:
            wait: Seconds for it to quit by itself, which it has been told to.
            failed: Its log is kept in any case.
        """
        if os.getpid() != self._owner:  # a fork of the process that owns it
            return
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(wait)
        pipe = self._process.stdin
        assert pipe is not None
        with suppress(OSError):
            pipe.close()
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(QUIT_SECONDS)
            except subprocess.TimeoutExpired:
                self._kill()
        if not (self._keep_log or failed):
            shutil.rmtree(self.log.parent, ignore_errors=True)

    def _kill(self) -> None:
        if os.name == "posix":
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        else:
            self._process.kill()
        self._process.wait()


def find_program(file_name: str) -> str:
    """The file to run for a player's name. Raises `UserError` when there is none."""
    from mlagents_envs.env_utils import validate_environment_path

    if os.path.isfile(file_name) and os.access(file_name, os.X_OK):
        return os.path.abspath(file_name)
    found: str | None = validate_environment_path(file_name)
    if found is None:
        raise UserError(f"Unity player {file_name}: there is no such player; docs/unity.md says how to build one")
    if not os.access(found, os.X_OK):
        raise UserError(f"Unity player {found}: it may not be executed; chmod +x {found}")
    return os.path.abspath(found)
