"""A reward that always says the same moves the agents of the views that are made for it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]


def pay_and_cells(row: dict[str, Any], after: str) -> tuple[float, float]:
    """Pay of a step, and effective cells, in a row of `steer.py`."""
    found = row["after"][after]
    return found["pay"], found["effective_cells"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "pair", ["sb3/ppo_relation:relation", "sb3/ppo_select:select+proposals=8", "sb3/sac:preference+proposals=8"]
)
def test_within_2000_steps_an_agent_makes_what_pays_and_keeps_many_cells_in_use(pair: str, tmp_path: Path) -> None:
    rows_file = tmp_path / "rows.json"
    words = [sys.executable, str(ROOT / "benchmarks" / "steer.py"), "--pairs", pair, "--oracles", "inverse_frequency"]
    words += ["--seeds", "1", "--processes", "1", "--json", str(rows_file)]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr

    uniform, best, agent = json.loads(rows_file.read_text(encoding="utf-8"))
    chance, _ = pay_and_cells(uniform, "any")
    most, _ = pay_and_cells(best, "any")
    pay, cells = pay_and_cells(agent, "2000")
    assert chance < 0.4 * most
    # docs/results.md has six seeds; the window of 500 steps of a single one may have a little less.
    assert pay > 0.75 * most
    assert cells > 14.5
