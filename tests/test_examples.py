"""The examples run as they are, each in a fresh interpreter."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = {"ppo": "--samples 1100", "skrl_ppo": "--timesteps 1400", "torchrl_ppo": "--timesteps 1400"}
"""Name -> arguments with which a round of fine-tuning is reached."""


def run(name: str, arguments: str, folder: Path) -> str:
    command = [sys.executable, str(ROOT / "examples" / f"{name}.py"), *arguments.split()]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_example_is_run() -> None:
    elsewhere = {"parallel_sb3", "parallel_tianshou"}  # tests/test_parallel_env.py
    assert {path.stem for path in (ROOT / "examples").glob("*.py")} - elsewhere == EXAMPLES.keys()


def test_every_example_is_in_the_documents() -> None:
    page = (ROOT / "docs" / "libraries.md").read_text(encoding="utf-8")
    assert set(re.findall(r"`examples/(\w+)\.py`", page)) >= EXAMPLES.keys()


@pytest.mark.slow
@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_teaches_the_vlm(name: str, tmp_path: Path) -> None:
    last = run(name, EXAMPLES[name], tmp_path).splitlines()[-1]
    (accuracy,) = re.findall(r"([\d.]+)%", last)
    assert float(accuracy) > 65, last  # 48 before
    assert list(tmp_path.iterdir()) == []
