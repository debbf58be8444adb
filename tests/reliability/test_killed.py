"""A run that is killed at any moment goes on, or begins again, and comes to the same rows and the same weights."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from killing import AGENTS, before_every_change, begin, forked, go_on, kill_at, outcome, short, without_report

pytestmark = pytest.mark.slow
MOMENTS = 14
"""Random ones for each agent."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, dict[str, Any]]]:
    """What an uninterrupted run of each agent comes to."""
    with pytest.MonkeyPatch.context() as patch:
        without_report(patch)
        found = {}
        for agent in AGENTS:
            out = tmp_path_factory.mktemp("whole") / agent
            begin(short(agent), out)
            found[agent] = outcome(out)
        yield found


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

        assert os.WIFSIGNALED(forked(cut)), f"change {number} of {changes} never came"
        forked(lambda: go_on(config, out))
        assert outcome(out) == whole[agent], f"killed before change {number} of {changes}"
        shutil.rmtree(out)


@pytest.mark.parametrize("agent", AGENTS)
def test_killed_at_random_moments(agent: str, whole: dict[str, Any], tmp_path: Path) -> None:
    config, rng = short(agent), np.random.default_rng(0)
    began = time.monotonic()
    forked(lambda: begin(config, tmp_path / "whole"))
    duration = time.monotonic() - began
    killed = 0
    for number, share in enumerate(rng.uniform(0, 1, MOMENTS)):
        out = tmp_path / str(number)
        killed += os.WIFSIGNALED(forked(lambda out=out: begin(config, out), kill_after=share * duration))  # type: ignore[misc]
        forked(lambda out=out: go_on(config, out))  # type: ignore[misc]
        assert outcome(out) == whole[agent], f"killed after {share:.0%} of the time"
    assert killed >= MOMENTS // 2
