"""A run that is killed at any moment goes on, or begins again, and comes to the same rows and the same weights."""

from __future__ import annotations

import shutil
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from killing import AGENTS, before_every_change, begin, forked, go_on, kill_at, outcome, short

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_report")]
MOMENTS = 40
"""So many times each agent is killed at random."""


@pytest.mark.parametrize("agent", AGENTS)
def test_killed_before_any_change_to_its_files(agent: str, whole: dict[str, Any], tmp_path: Path) -> None:
    config, counted, out = short(agent), tmp_path / "counted", tmp_path / "run"

    def count() -> None:
        before_every_change(tmp_path / "whole", lambda number: counted.write_text(str(number)))
        begin(config, tmp_path / "whole")

    forked(count)
    changes = int(counted.read_text())
    assert changes > 40
    for number in range(1, changes + 1):

        def cut(number: int = number) -> None:
            before_every_change(out, kill_at(number))
            begin(config, out)

        assert forked(cut), f"change {number} of {changes} never came"
        forked(partial(go_on, config, out))
        assert outcome(out) == whole[agent], f"killed before change {number} of {changes}"
        shutil.rmtree(out)


@pytest.mark.parametrize("agent", AGENTS)
def test_killed_at_random_moments(agent: str, whole: dict[str, Any], tmp_path: Path) -> None:
    config, rng = short(agent), np.random.default_rng(0)
    began = time.monotonic()
    forked(partial(begin, config, tmp_path / "whole"))
    duration = time.monotonic() - began
    killed = tried = 0
    while killed < MOMENTS:
        share, out = rng.uniform(), tmp_path / str(tried)
        began = time.monotonic()
        if forked(partial(begin, config, out), kill_after=share * duration):
            killed += 1
        else:  # the machine was slower when the first run was timed
            duration = min(duration, time.monotonic() - began)
        forked(partial(go_on, config, out))
        assert outcome(out) == whole[agent], f"killed after {share:.0%} of the time"
        tried += 1
        assert tried < 10 * MOMENTS, f"{killed} of {tried} processes were killed before they had ended"
