"""What a person sees while a run goes on: how far it is, and how long it will take."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
from experiment_tools import tiny
from rich.console import Console
from test_rows import episode, finetune

from rls3_gym.cli.progress import RunProgress
from rls3_gym.runs.rows import EvaluationRow


def evaluation(**changes: Any) -> EvaluationRow:
    terms = ("left", "right", "front", "behind", "above", "below")
    content: dict[str, Any] = {
        "round": 1, "n_generated": 25, "n_trained": 12, "n_steps": 60, "vlm_digest": "d", "backend": "b",
        "set": "validation", "set_hash": "h", "pairwise_accuracy": 0.625, "strict_accuracy": 0.1,
        "mirrored_accuracy": 0.1, "by_term": dict.fromkeys(terms, 0.5), "by_complexity": dict.fromkeys("123", 0.5),
        "worst_term": "left", "n": 26, "n_by_term": dict.fromkeys(terms, 4), "evaluate_seconds": 1.0,
    }  # fmt: skip
    return EvaluationRow.model_validate(content | changes)


class Clock:
    """Seconds that pass when told to."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def watched(clock: Clock, terminal: bool = False, **changes: Any) -> tuple[RunProgress, io.StringIO]:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=80)
    return RunProgress(console, tiny(**changes), clock), out


@pytest.mark.parametrize(
    ("budget", "share"),
    [
        ({"n_generated": 100}, 0.25),
        ({"rounds": 10}, 2 / 30),  # the second of three episodes in the first of ten rounds
        ({"n_generated": 1000, "rounds": 10}, 2 / 30),
        ({"n_generated": 26, "rounds": 10}, 25 / 26),
    ],
)
def test_lasting_lines_say_how_much_time_is_left_where_there_is_no_terminal(
    budget: dict[str, int], share: float
) -> None:
    clock = Clock()
    progress, out = watched(clock, budget=budget)
    with progress:
        progress.run_begun(Path("runs/a"), resumed=False)
        progress.evaluated(evaluation(round=0, n_generated=0))
        clock.now += 60
        progress.episode_ended(episode(episode=2, n_generated=25))
        progress.evaluated(evaluation())
    begun, first, second = out.getvalue().splitlines()
    assert begun.endswith("in runs/a")
    assert "left" not in first, "nothing is known before the first episode has ended"
    minutes, seconds = divmod(round(60 * (1 - share) / share), 60)
    assert second.endswith(f"62.5% on validation  {minutes}:{seconds:02} left")


def test_the_estimate_of_a_continued_run_counts_from_where_it_went_on() -> None:
    clock = Clock()
    progress, _ = watched(clock, budget={"n_generated": 100})
    progress.run_begun(Path("runs/a"), resumed=True)
    clock.now += 1000  # taking up the checkpoint says nothing about the rate
    progress.episode_ended(episode(n_generated=50))
    assert progress.time_left() == ""
    clock.now += 10
    progress.episode_ended(episode(n_generated=60))
    assert progress.time_left() == "0:40 left"
    clock.now += 40
    progress.episode_ended(episode(n_generated=101))
    assert progress.time_left() == ""


def test_a_run_that_is_continued_in_its_second_life_has_the_first_one_behind_it() -> None:
    clock = Clock()
    progress, _ = watched(clock, budget={"n_generated": 100}, lives=2)
    progress.run_begun(Path("runs/a"), resumed=True)
    progress.life_begun(2)
    progress.episode_ended(episode(n_generated=50))
    clock.now += 10
    progress.episode_ended(episode(n_generated=60))
    assert progress.time_left() == "0:40 left"


def test_the_live_line_fits_into_eighty_columns_and_shows_the_time_left() -> None:
    clock = Clock()
    progress, out = watched(clock, terminal=True, budget={"n_generated": 100_000})
    with progress:
        progress.run_begun(Path("runs/a"), resumed=False)
        progress.evaluated(evaluation())
        clock.now += 3600
        progress.episode_ended(episode(round=99, n_generated=12_345))
        progress._progress.refresh()
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue())
    (line,) = {line for line in re.split(r"[\r\n]+", text) if " left" in line}
    assert line.rstrip().endswith("7:06:02 left") and len(line) <= 80
    assert "round 100" in line and "62.5%" in line


def test_a_round_that_was_undone_is_said() -> None:
    progress, out = watched(Clock())
    progress.round_ended(finetune(rolled_back="the loss became nan at step 3"))
    assert out.getvalue() == "round 1 was undone: the loss became nan at step 3\n"
