"""Makes a file that a Unity backend can start: the stand-in player with given options."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from unity_player.look import Look

_TESTS = Path(__file__).resolve().parent.parent


def stand_in(folder: Path, name: str = "stand_in", look: Look = Look(), **options: str | int) -> Path:  # noqa: B008
    """A player's file. `options` are those of `unity_player.player`."""
    words = [sys.executable, "-m", "unity_player.player", "--look", look.to_json()]
    for option, value in options.items():
        words += [f"--{option}", str(value)]
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.x86_64"
    script = f'#!/bin/sh\nPYTHONPATH={shlex.quote(str(_TESTS))} OMP_NUM_THREADS=1 exec {shlex.join(words)} "$@"\n'
    file.write_text(script, encoding="utf-8")
    file.chmod(0o755)
    return file
