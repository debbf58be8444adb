"""How long a run has taken, when several commands have carried it out."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

import pytest
from experiment_tools import go_on, rows, tiny

from rls3_gym.experiment.callbacks import RunCallback
from rls3_gym.experiment.monitor import RunMonitor
from rls3_gym.experiment.run import start
from rls3_gym.runs.rows import FinetuneRow


class Dies(RunCallback):
    """Ends the run without warning after a round."""

    def __init__(self, round_: int) -> None:
        self.round = round_

    def round_ended(self, row: FinetuneRow) -> None:
        if row.round == self.round:
            raise InterruptedError


def test_the_time_of_a_continued_run_goes_on_where_its_checkpoint_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def watched(first: int) -> type[RunMonitor]:
        class Watched(RunMonitor):
            """Its clock gives the number of times it was asked, from some number on."""

            def __init__(self, *arguments: Any) -> None:
                super().__init__(*arguments, clock=count(first).__next__)

        return Watched

    monkeypatch.setattr("rls3_gym.experiment.run.RunMonitor", watched(1000))
    with pytest.raises(InterruptedError):
        start(tiny(), ["run"], tmp_path / "run", [Dies(2)])
    monkeypatch.setattr("rls3_gym.experiment.run.RunMonitor", watched(0))
    go_on(tiny(), tmp_path / "run")
    written = rows(tmp_path / "run" / "metrics.jsonl")
    seconds = [row["since_start_seconds"] for row in written if row["row"] == "episode"]
    assert len(seconds) == 9
    steps = [after - before for before, after in zip(seconds, seconds[1:], strict=False)]
    assert min(steps) > 0 and max(steps) < 3 * min(steps)
