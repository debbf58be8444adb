"""Every signal that asks a process to end lets a run save itself, and two processes never write one run."""

from __future__ import annotations

import os
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from killing import Forked, begin, forked, go_on, outcome, short

from rls3_gym.cli.app import main

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_report")]
CONFIG = short("random").model_copy(update={"budget": short("random").budget.model_copy(update={"rounds": 10})})


def command(file: Path, out: Path) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have started the tests with it ignored
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    main(["run", str(file), "--out", str(out)])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_saves_the_run_and_says_how_it_goes_on(
    number: signal.Signals, whole: dict[str, Any], tmp_path: Path
) -> None:
    file, out = tmp_path / "run.yaml", tmp_path / "run"
    file.write_text(yaml.safe_dump(CONFIG.model_dump(mode="json")), encoding="utf-8")
    forked(partial(begin, CONFIG, tmp_path / "whole"))
    child = Forked(partial(command, file, out))
    log, until = out / "metrics.jsonl", time.monotonic() + 100
    while not (log.is_file() and b'"finetune"' in log.read_bytes()) and time.monotonic() < until:
        time.sleep(0.005)
    os.kill(child.process, number)
    assert child.wait() == 0, child.said
    assert "stopping: saving at the next safe point" in child.said
    assert f"stopped and saved; continue with: rls3 run --resume {out}" in child.said
    assert not (out / "checkpoints" / "final").exists()
    forked(partial(go_on, CONFIG, out))
    assert outcome(out) == outcome(tmp_path / "whole")


def test_of_two_processes_that_resume_a_run_one_does_it(whole: dict[str, Any], tmp_path: Path) -> None:
    for attempt in range(4):
        out = tmp_path / str(attempt)
        forked(partial(begin, short("random"), out), kill_after=0.3 * (attempt + 1))
        both = [Forked(partial(go_on, short("random"), out)) for _ in range(2)]
        codes = [child.wait() for child in both]
        assert 0 in codes
        for child, code in zip(both, codes, strict=True):
            assert code == 0 or "is in use by" in child.said or "exists already" in child.said, child.said
        assert outcome(out) == whole["random"]
