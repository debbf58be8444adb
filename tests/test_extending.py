"""A run is given a larger budget, and leaves what a run that had it from the start would have left."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from experiment_tools import SAC, go_on, metrics, run, sample_rows, tiny

from rls3_gym.cli.app import main
from rls3_gym.experiment.callbacks import RunCallback
from rls3_gym.experiment.run import config_of, resume
from rls3_gym.runs.checkpoints import is_final
from rls3_gym.runs.rows import FinetuneRow
from rls3_gym.runs.taught import find_vlm
from rls3_registry.errors import UserError

AGENTS: dict[str, Any] = {
    "random": "random",
    "sb3_sac": SAC,
    "tianshou_sac": {
        "name": "tianshou/sac",
        "settings": {"learning_starts": 6, "batch_size": 8, "buffer_size": 64, "hidden_sizes": [8]},
    },
    "sb3_recurrent_ppo": {
        "name": "sb3/recurrent_ppo",
        "settings": {"n_steps": 8, "batch_size": 4, "net_arch": [8], "lstm_hidden_size": 8},
    },
    "tianshou_ppo": {
        "name": "tianshou/ppo",
        "settings": {"rollout_steps": 8, "batch_size": 4, "hidden_sizes": [8]},
    },
    "bandit": "bandit",
    "cem": "cem",
}
QUICK = ("random",)


def assert_same(one: Path, other: Path) -> None:
    assert metrics(one) == metrics(other)
    assert sample_rows(one) == sample_rows(other)
    assert find_vlm(str(one)).digest() == find_vlm(str(other)).digest()
    assert config_of(one) == config_of(other)


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in AGENTS])
def test_an_extended_run_equals_one_that_had_the_larger_budget_from_the_start(name: str, tmp_path: Path) -> None:
    short, long = (tiny(agent=AGENTS[name], budget={"rounds": rounds}) for rounds in (2, 3))
    run(short, tmp_path / "extended")
    run(long, tmp_path / "long")
    assert not go_on(long, tmp_path / "extended").stopped
    assert_same(tmp_path / "extended", tmp_path / "long")
    assert (tmp_path / "extended" / "metrics.parquet").is_file()
    assert (tmp_path / "extended" / "report.html").is_file()


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete run of one round, whose SB3 agent has left no checkpoint but the one before its first step."""
    return run(tiny(agent=SAC, budget={"rounds": 1}), tmp_path_factory.mktemp("short") / "run").directory


@pytest.fixture
def copy(short: Path, tmp_path: Path) -> Path:
    shutil.copytree(short, tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.slow
def test_a_run_that_was_complete_before_its_second_checkpoint_is_extended_too(copy: Path, tmp_path: Path) -> None:
    assert {path.name for path in (copy / "checkpoints").iterdir()} == {"000000000", "final"}
    with pytest.raises(SystemExit) as ended:
        main(["run", "--resume", str(copy), "--set", "budget.rounds=2", "--json"])
    assert ended.value.code == 0
    run(tiny(agent=SAC, budget={"rounds": 2}), tmp_path / "long")
    assert_same(copy, tmp_path / "long")
    assert (copy / "command.txt").read_text(encoding="utf-8").count("\n") == 2


class Dies(RunCallback):
    """Ends the run without warning after its second round."""

    def round_ended(self, row: FinetuneRow) -> None:
        if row.round == 2:
            raise InterruptedError


@pytest.mark.slow
def test_an_extended_run_that_dies_goes_on_to_its_new_end(tmp_path: Path) -> None:
    directory, longer = run(tiny(budget={"rounds": 1}), tmp_path / "run").directory, tiny(budget={"rounds": 3})
    with pytest.raises(InterruptedError):
        resume(longer, directory, [], [Dies()])
    assert not is_final(directory / "checkpoints") and not (directory / "report.html").exists()
    go_on(config_of(directory), directory)
    run(longer, tmp_path / "long")
    assert_same(directory, tmp_path / "long")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ([], "the run is complete; there is nothing to continue .*a larger budget extends it"),
        (["budget.rounds=0"], "budget.rounds: should be greater than or equal to 1"),
        (["budget.n_generated=5"], "budget.n_generated was None when the run began and is 5 now; .*not shortened"),
        (["budget.rounds=2", "environment.train_fraction=0.5"], "train_fraction was 1.0 .*, or with a larger budget"),
        (["budget.rounds=2", "seed=1"], "seed was 0 when the run began and is 1 now"),
    ],
)
def test_nothing_but_a_larger_budget_is_taken(
    copy: Path, changes: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (copy / "metrics.jsonl").read_bytes()
    with pytest.raises(SystemExit) as ended:
        main(["run", "--resume", str(copy), *(word for change in changes for word in ("--set", change))])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(said, line), line
    assert (copy / "metrics.jsonl").read_bytes() == before and is_final(copy / "checkpoints")


def test_a_run_is_not_shortened_and_lives_are_not_extended(copy: Path) -> None:
    config = yaml.safe_load((copy / "config.yaml").read_text(encoding="utf-8"))
    config["budget"]["rounds"] = 2
    (copy / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    with pytest.raises(UserError, match=r"budget\.rounds was 2 when the run began and is 1 now; .*not shortened"):
        go_on(tiny(agent=SAC, budget={"rounds": 1}), copy)
    config["lives"] = 2
    (copy / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    with pytest.raises(UserError, match="a run of several lives can't be extended"):
        go_on(tiny(agent=SAC, budget={"rounds": 3}, lives=2), copy)
