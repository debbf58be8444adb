"""An agent that meets the VLM several times: it keeps what it has learned, and the VLM begins anew."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from experiment_tools import SAC, metrics, run, tiny

from rls3_gym.experiment.callbacks import RunCallback
from rls3_gym.experiment.run import resume, start
from rls3_gym.report.page import write_report
from rls3_gym.runs.checkpoints import load_checkpoint
from rls3_gym.runs.rows import FinetuneRow, LifeRow

TWO_LIVES = tiny(agent=SAC, lives=2, budget={"rounds": 2})


class Dies(RunCallback):
    """Ends the run without warning when a round of a life is over."""

    def __init__(self, life: int, round_: int) -> None:
        self.life, self.deadline = 1, (life, round_)

    def life_ended(self, row: LifeRow) -> None:
        self.life = row.life + 1

    def round_ended(self, row: FinetuneRow) -> None:
        if (self.life, row.round) == self.deadline:
            raise InterruptedError


@pytest.fixture(scope="module")
def two_lives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(TWO_LIVES, tmp_path_factory.mktemp("lives") / "two").directory


@pytest.fixture(scope="module")
def one_life(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(tiny(agent=SAC, budget={"rounds": 2}), tmp_path_factory.mktemp("lives") / "one").directory


def test_the_vlm_begins_anew_and_the_last_life_is_recorded_like_any_run(two_lives: Path, one_life: Path) -> None:
    life, *rest = metrics(two_lives)
    assert life["row"] == "life" and life["life"] == 1 and life["round"] == 2 and life["n_trained"] > 0
    of_the_vlm = [[row["row"] for row in some if row["row"] != "agent"] for some in (rest, metrics(one_life))]
    assert of_the_vlm[0] == of_the_vlm[1]  # the agent has more to say in its second life
    assert rest[0] == metrics(one_life)[0]  # the same VLM before anything was taught, and all counts zero
    assert rest[-1]["round"] == 2


def test_the_agent_keeps_what_it_has_learned(two_lives: Path, one_life: Path) -> None:
    buffers = []
    for path in (one_life, two_lives):
        with np.load(load_checkpoint(path / "checkpoints").agent / "arrays.npz") as arrays:
            buffers.append(len(arrays["rewards"]))
    assert buffers == [18, 36 + 18]  # the newest checkpoint is from before the last round
    assert metrics(two_lives, "episode") != metrics(one_life, "episode")


def test_a_run_that_dies_in_any_life_continues_as_if_nothing_had_happened(two_lives: Path, tmp_path: Path) -> None:
    path = tmp_path / "run"
    with pytest.raises(InterruptedError):
        start(TWO_LIVES, ["run"], path, [Dies(life=1, round_=2)])
    with pytest.raises(InterruptedError):
        resume(TWO_LIVES, path, ["run"], [Dies(life=2, round_=2)])
    lives: list[int] = []

    class Listener(RunCallback):
        def life_begun(self, life: int) -> None:
            lives.append(life)

    resume(TWO_LIVES, path, ["run"], [Listener()])
    assert metrics(path) == metrics(two_lives) and lives == [2]


def test_the_report_tells_how_the_other_lives_ended(two_lives: Path) -> None:
    assert "life 1" in write_report(two_lives).read_text(encoding="utf-8")
