"""The same run comes out whatever the hash seed, the folder, the locale, and how processes are started."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from experiment_tools import TINY, tiny, tiny_file
from killing import begin, forked, outcome

pytestmark = pytest.mark.slow
CHANGES: dict[str, Any] = {
    "agent": {"name": "sb3/ppo", "settings": {"n_steps": 8, "batch_size": 4, "n_epochs": 1}},
    "environment": {**TINY["environment"], "num_envs": 2, "workers": 2},
    "budget": {"rounds": 1},
    "evaluation": {"sets": ["validation"], "items": 6},
}


def made(folder: Path, start: str, **variables: str) -> dict[str, Any]:
    folder.mkdir(parents=True)
    file = tiny_file(folder, **{**CHANGES, "environment": {**CHANGES["environment"], "worker_start": start}})
    command = [sys.executable, "-m", "rls3_gym", "run", file.name, "--out", "run"]
    kept = {key: value for key, value in os.environ.items() if not key.startswith("LC_") and key != "LANG"}
    done = subprocess.run(command, cwd=folder, env=kept | variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return outcome(folder / "run")


def test_the_same_bytes_come_out_everywhere(tmp_path: Path) -> None:
    plain = made(tmp_path / "plain", "spawn", PYTHONHASHSEED="0", LC_ALL="C.UTF-8")
    odd = made(
        tmp_path / "o [d] d" / "\u00fc", "forkserver",
        PYTHONHASHSEED="12345", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0", HOME="/proc/nowhere",
    )  # fmt: skip
    assert odd == plain
    here = tiny(**{**CHANGES, "environment": {**CHANGES["environment"], "workers": 0}})
    forked(partial(begin, here, tmp_path / "here"))  # all in one forked process
    assert outcome(tmp_path / "here") == plain
