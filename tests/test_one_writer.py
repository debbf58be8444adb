"""One process writes a run; what it has written is safe, and what is damaged or missing is named."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from experiment_tools import TINY, go_on, metrics, run, sample_rows, tiny

from rls3_gym.cli.app import main
from rls3_gym.experiment.callbacks import RunCallback
from rls3_gym.experiment.config import ExperimentConfig
from rls3_gym.experiment.monitor import RunMonitor
from rls3_gym.experiment.run import resume, start
from rls3_gym.loop.learning_loop import LaneStep
from rls3_gym.runs.checkpoints import load_checkpoint
from rls3_gym.runs.directory import RunDirectory
from rls3_gym.runs.locking import locked
from rls3_gym.runs.rows import EpisodeRow, EvaluationRow
from rls3_gym.runs.samples import pictured, read_columns
from rls3_gym.study.carry_out import LOCK as STUDY_LOCK
from rls3_registry.errors import UserError

CONFIG = tiny(budget={"rounds": 2}, agent="stratified")
HOLD = """
import sys, time
from pathlib import Path
from rls3_gym.runs.locking import locked
with locked(Path(sys.argv[1]), sys.argv[2]):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def plain() -> Iterator[pytest.MonkeyPatch]:
    """Runs without a report: its plots take longer than the run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rls3_gym.report.page.write_report", lambda path: path)
        yield patch


@pytest.fixture(scope="module")
def whole(plain: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was never interrupted."""
    return run(CONFIG, tmp_path_factory.mktemp("whole") / "run").directory


class Notes(RunCallback):
    """Collects what a person would read; may end the run at a step."""

    def __init__(self, die_at: int | None = None) -> None:
        self.lines: list[str] = []
        self._left = die_at

    def note(self, line: str) -> None:
        self.lines.append(line)

    def stepped(self, step: LaneStep, round_: int) -> None:
        if self._left is not None:
            self._left -= 1
            if self._left == 0:
                raise InterruptedError


def cut_off(out: Path, step: int, config: ExperimentConfig = CONFIG) -> Path:
    """A run that died at a step."""
    with pytest.raises(InterruptedError):
        start(config, ["run"], out, [Notes(step)])
    return out


def steps_saved(out: Path) -> list[int]:
    return sorted(int(path.name) for path in (out / "checkpoints").iterdir() if path.name.isdigit())


def equal(one: Path, other: Path) -> bool:
    return metrics(one) == metrics(other) and sample_rows(one) == sample_rows(other)


@pytest.fixture
def held(tmp_path: Path) -> Iterator[tuple[Path, str, subprocess.Popen[str]]]:
    folder = tmp_path / "held"
    folder.mkdir()
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder), "run.lock"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    yield folder, "run.lock", process
    process.kill()
    process.communicate()


def test_the_second_process_is_told_who_holds_the_lock_and_a_dead_one_holds_none(
    held: tuple[Path, str, subprocess.Popen[str]],
) -> None:
    folder, name, process = held
    with (
        pytest.raises(UserError, match=rf"in use by process {process.pid} on \S+ since 20\d\d-\d\d-\d\d"),
        locked(folder, name),
    ):
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (folder / f"{name}.json").exists()  # it had no chance to tidy up
    with locked(folder, name):
        assert json.loads((folder / f"{name}.json").read_text())["pid"] != process.pid


def test_a_run_holds_its_directory_from_its_beginning_to_its_end(whole: Path, tmp_path: Path) -> None:
    class Intruder(RunCallback):
        refused = False

        def evaluated(self, row: EvaluationRow) -> None:
            with pytest.raises(UserError, match="is in use by process"):
                go_on(CONFIG, tmp_path / "run")
            self.refused = True

    intruder = Intruder()
    assert equal(start(CONFIG, ["run"], tmp_path / "run", [intruder]).directory, whole)
    assert intruder.refused
    with locked(tmp_path / "run", "run.lock"), pytest.raises(UserError, match="is in use by process"):
        go_on(CONFIG, tmp_path / "run")


def test_a_run_saves_itself_before_its_first_step_and_loses_nothing_when_it_dies_in_its_first_round(
    whole: Path, tmp_path: Path
) -> None:
    out = cut_off(tmp_path / "run", 5)
    assert steps_saved(out) == [0]
    go_on(CONFIG, out)
    assert equal(out, whole)


def test_checkpoints_between_rounds_come_after_so_many_steps_and_change_nothing(whole: Path, tmp_path: Path) -> None:
    often = CONFIG.model_copy(update={"checkpoints": CONFIG.checkpoints.model_copy(update={"every_steps": 4})})
    out = cut_off(tmp_path / "run", 11, often)
    assert steps_saved(out) == [4, 8]  # the last two
    go_on(often, out)
    assert equal(out, whole)


@pytest.mark.slow
def test_checkpoints_between_rounds_come_after_so_many_minutes(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = iter(range(10**9))
    begin = RunMonitor.__init__

    def in_slow_motion(self: RunMonitor, *arguments: Any) -> None:
        begin(self, *arguments, clock=lambda: 30.0 * next(ticks))

    monkeypatch.setattr(RunMonitor, "__init__", in_slow_motion)
    out = cut_off(tmp_path / "run", 17)
    assert 0 < steps_saved(out)[-1] < 17
    monkeypatch.undo()
    monkeypatch.setattr("rls3_gym.report.page.write_report", lambda path: path)
    go_on(CONFIG, out)
    assert equal(out, whole)


@pytest.mark.parametrize(
    "name",
    [
        "state.json",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("agent/agent.json", "SHA256SUMS", "arrays.npz")),
    ],
)
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_is_used(whole: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    shutil.rmtree(out / "checkpoints" / "final")
    older, newest = steps_saved(out)
    path = out / "checkpoints" / f"{newest:09d}" / name
    content = path.read_bytes()
    path.write_bytes(content.replace(content[20:21], b"7", 1) if len(content) > 40 else b"")
    told = Notes()
    resume(CONFIG, out, ["run"], [told])
    warning = next(line for line in told.lines if "warning" in line)
    assert f"{newest:09d} is damaged" in warning and f"goes on from {older:09d}" in warning
    assert equal(out, whole)
    assert (out / "checkpoints" / f"{newest:09d}.damaged").is_dir()


def test_a_run_without_a_checkpoint_says_so_and_begins_again(whole: Path, tmp_path: Path) -> None:
    class DiesAtOnce(RunCallback):
        def run_begun(self, directory: Path, resumed: bool) -> None:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        start(CONFIG, ["run"], tmp_path / "run", [DiesAtOnce()])
    told = Notes()
    resume(CONFIG, tmp_path / "run", ["run"], [told])
    assert any("cut off before its first checkpoint; it begins again" in line for line in told.lines)
    assert equal(tmp_path / "run", whole)


def test_a_run_that_was_killed_before_its_configuration_was_written_says_how_to_begin_it_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / "run.lock").touch()
    (out / ".config.yaml.partial").touch()
    with pytest.raises(SystemExit, match="2"):
        main(["run", "--resume", str(out)])
    said = capsys.readouterr().err
    assert said.endswith("before it had written anything; begin it again with the command that it began with\n")
    start(CONFIG, ["run"], out)


def test_a_run_whose_checkpoints_were_deleted_is_not_begun_again_over_its_rows(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    shutil.rmtree(out / "checkpoints")
    with pytest.raises(UserError, match="its checkpoints are gone, but not what it has measured"):
        go_on(CONFIG, out)
    assert equal(out, whole)


@pytest.mark.parametrize(
    ("log", "replaced"),
    [
        ("metrics.jsonl", False),
        ("samples/samples.parquet/part-000000.parquet", True),
        pytest.param("metrics.jsonl", True, marks=pytest.mark.slow),
        pytest.param("samples/samples.parquet/part-000000.parquet", False, marks=pytest.mark.slow),
    ],
)
def test_a_log_that_is_deleted_or_replaced_is_noticed_at_the_next_write(
    whole: Path, tmp_path: Path, log: str, replaced: bool
) -> None:
    class Tampers(RunCallback):
        episodes = 0

        def episode_ended(self, row: EpisodeRow) -> None:
            self.episodes += 1
            if row.round == 1 and (tmp_path / "run" / log).exists():
                (tmp_path / "run" / log).unlink()
                if replaced:
                    (tmp_path / "run" / log).write_bytes(b"{}\n")

    tampers = Tampers()
    with pytest.raises(UserError, match=r"deleted|replaced") as caught:
        start(CONFIG, ["run"], tmp_path / "run", [tampers])
    assert "while the run was writing" in str(caught.value)
    assert tampers.episodes <= 6  # of the round in which it happened
    assert "the run is saved up to step 18" in str(caught.value) and "--resume" in str(caught.value)


def test_the_samples_are_a_table_while_the_run_goes_on(whole: Path, tmp_path: Path) -> None:
    out = cut_off(tmp_path / "run", 20)
    frame = pd.read_parquet(out / "samples" / "samples.parquet")
    assert set(frame["round"]) == {0} and list(frame["n_generated"]) == list(range(1, len(frame) + 1))


@pytest.mark.slow
def test_two_studies_do_not_write_the_same_results(tmp_path: Path) -> None:
    from rich.console import Console

    from rls3_gym.study.carry_out import StudyFolders, run_study
    from rls3_gym.study.study_config import load_study

    folders = StudyFolders(tmp_path / "out", tmp_path / "results")
    with locked(folders.results, STUDY_LOCK), pytest.raises(UserError, match="results: is in use by process"):
        run_study(load_study("quickstart"), folders, Console(quiet=True), "rls3 study quickstart")


class Stuck(RunCallback):
    """Collects warnings."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def warned(self, row: Any) -> None:
        self.texts.append(row.text)


def test_a_run_that_trains_nothing_says_so_and_then_gives_up(whole: Path, tmp_path: Path) -> None:
    loop = {**TINY["environment"], "train_fraction": 1e-9}
    config, told = tiny(agent="stratified", environment=loop, no_progress_steps=60), Stuck()
    with pytest.raises(UserError, match=r"no progress: nothing to train on in 60 steps; .*\(train_fraction is 1e-09\)"):
        start(config, ["run"], tmp_path / "run", [told])
    assert told.texts == ["nothing to train on in 18 steps; no sample was chosen (train_fraction is 1e-09)"]
    assert [row["text"] for row in metrics(tmp_path / "run", "warning")] == told.texts


def test_a_run_without_valid_samples_says_so_in_its_report(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plain: pytest.MonkeyPatch
) -> None:
    from rls3_gym.report import page
    from rls3_gym.runs.run_data import read_run
    from rls3_gym.stage import Outcome, Reason, Stage

    monkeypatch.setattr(Stage, "try_edit", lambda *_: Outcome(None, Reason.NO_PLACE, None))
    told = Stuck()
    with pytest.raises(UserError, match="no progress: no valid sample in 40 steps; no edit of agent random was"):
        start(tiny(no_progress_steps=40), ["run"], tmp_path / "run", [told])
    assert told.texts == ["no valid sample in 18 steps; no edit of agent random was feasible"]
    assert any("no valid sample in 18 steps" in note for note in page._notes(read_run(tmp_path / "run")))


def test_a_run_uses_one_thread_unless_told_otherwise_and_writes_it_down(whole: Path) -> None:
    assert TINY["threads"] == 1 and ExperimentConfig.model_fields["threads"].default == 1
    assert "threads: 1\n" in (whole / "config.yaml").read_text(encoding="utf-8")


def test_a_checkpoint_is_checked_as_sha256sum_does(whole: Path) -> None:
    checkpoint = load_checkpoint(whole / "checkpoints").path
    done = subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=checkpoint, check=False)
    assert done.returncode == 0


@pytest.mark.slow
def test_paths_with_brackets_and_umlauts_work_without_utf_8_and_without_a_home(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "r\u00fcn [bold]x[/bold]"
    shutil.copytree(whole, out)
    (out / "report.html").unlink(missing_ok=True)
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("LC_", "LANG", "PYTHON"))}
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "HOME": "/proc/nowhere"}
    for words, end in (
        (["report", str(out)], f"{out}/report.html\n"),
        (["report", f"{out} no"], "no such run directory\n"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "rls3_gym", *words],
            env=kept | plain,
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        said = done.stdout or done.stderr  # matplotlib says on the second that there is no home
        assert said.endswith(end) and str(out) in said and "Traceback" not in done.stderr, done.stderr


def test_samples_of_earlier_versions_are_read(whole: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    shutil.copytree(whole, old)
    shutil.rmtree(old / "samples" / "samples.parquet")
    lines = "".join(json.dumps(row) + "\n" for row in sample_rows(whole))
    (old / "samples" / "samples.jsonl").write_text(lines, encoding="utf-8")
    assert sample_rows(old) == sample_rows(whole)
    assert [row.file for row in pictured(RunDirectory(old), [1])] == [
        row.file for row in pictured(RunDirectory(whole), [1])
    ]
    (part,) = read_columns(RunDirectory(old), ["round", "caption"])
    assert part["caption"] == [row["caption"] for row in sample_rows(whole)]


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ("vlm.finetune.batch_size=1000000000", "vlm.finetune.batch_size"),
        ("vlm.finetune.learning_rate=1.0", "vlm.finetune.learning_rate"),
        ("vlm.finetune.replay_capacity=1000000000", "vlm.finetune.replay_capacity"),
        ("environment.steps_per_episode=1000000000", "environment.steps_per_episode"),
        ("environment.num_envs=1000000", "environment.num_envs"),
        ("images_per_round=1000000000", "images_per_round"),
        ("agent.settings.n_steps=1000000000", "agent.settings.n_steps"),
        ("agent.settings.net_arch=[1000000000]", "agent.settings.net_arch"),
        ("checkpoints.every_minutes=0", "checkpoints.every_minutes"),
    ],
)
def test_a_slip_in_a_setting_does_not_eat_the_machine(
    change: str, key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["run", "quickstart", "--set", change, "--out", str(tmp_path / "run")])
    assert f"{key}" in capsys.readouterr().err and not (tmp_path / "run").exists()
