"""Runs of a study wherever they are made: followed from here byte by byte, and begun again when they are lost."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep

import pytest
from rich.console import Console
from test_study_run import FOLDERS, command, jobs, pretend, study

from rls3_gym.study.carry_out import run_study
from rls3_gym.study.executor import Ending, Execution
from rls3_gym.study.jobs import Job
from rls3_gym.study.run_mirror import RunSource, follow, read_tree, write_tree
from rls3_gym.study.runner import TRIES, StudyRunner
from rls3_gym.study.study_config import StudyConfig
from rls3_gym.study.study_progress import StudyProgress
from rls3_registry.errors import UserError

__all__ = ["study"]  # a fixture


def log(folder: Path, *numbers: int, end: str = "") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rows = "".join(json.dumps({"n": number, "text": "x" * 40}) + "\n" for number in numbers)
    (folder / "metrics.jsonl").write_text(rows + end, encoding="utf-8")


def checkpoint(folder: Path, name: str, content: bytes = b"weights") -> None:
    write_tree(folder / "checkpoints" / name, {"tensors": content, "agent/agent.json": b"{}"})


def test_what_a_run_writes_elsewhere_appears_here_and_only_what_is_new_is_sent(tmp_path: Path) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    source = RunSource(there)
    log(there, 1, end='{"n": ')
    write_tree(there, {"config.yaml": b"a: 1\n", "samples/a.png": b"png", "samples/.b.png.partial": b"half"})
    checkpoint(there, "000000018")
    checkpoint(there, ".000000036.partial")
    follow(here, source.changes())
    whole = read_tree(there)
    assert (
        read_tree(here) == whole and "samples/.b.png.partial" not in whole and "checkpoints/000000018/tensors" in whole
    )
    log(there, 1, 2, 3)
    changes = source.changes()
    assert set(changes.files) == {"metrics.jsonl"} and not changes.checkpoints
    assert len(changes.files["metrics.jsonl"].content) < (there / "metrics.jsonl").stat().st_size
    follow(here, changes)
    for name in ("000000036", "000000054"):
        checkpoint(there, name)
    shutil.rmtree(there / "checkpoints" / "000000018")
    checkpoint(there, "final")
    follow(here, source.changes())
    assert read_tree(here) == read_tree(there)
    assert not any(source.changes().files) and not source.changes().checkpoints


def test_a_log_that_was_cut_and_has_grown_past_its_former_end_is_sent_whole(tmp_path: Path) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    source = RunSource(there)
    log(there, 1, 2, 3)
    follow(here, source.changes())
    log(there, 1, 7, 8, 9)
    follow(here, source.changes())
    assert read_tree(here) == read_tree(there)


def test_a_run_that_goes_on_elsewhere_does_not_send_back_its_checkpoint(tmp_path: Path) -> None:
    there = tmp_path / "there"
    log(there, 1)
    checkpoint(there, "000000018")
    write_tree(there, {"samples/a.png": b"png"})
    changes = RunSource(there).changes()
    assert not changes.checkpoints and set(changes.files) == {"metrics.jsonl"} and changes.kept == {"000000018"}


def wait_until(holds: Callable[[], bool], seconds: float = 20) -> None:
    end = monotonic() + seconds
    while not holds():
        assert monotonic() < end
        sleep(0.02)


class Fragile:
    """An executor whose runs are lost so many times before they are made."""

    slots = 1

    def __init__(self, losses: int, leaves_checkpoint: bool) -> None:
        self.losses, self.leaves_checkpoint = losses, leaves_checkpoint
        self.went_on: list[bool] = []

    def start(self, job: Job) -> Execution:
        return FragileExecution(self, job)

    def close(self) -> None:
        pass


class FragileExecution:
    def __init__(self, executor: Fragile, job: Job) -> None:
        executor.went_on.append(job.checkpoint)
        self.executor, self.job = executor, job

    def poll(self) -> Ending:
        executor = self.executor
        executor.losses -= 1
        if executor.losses >= 0:
            if executor.leaves_checkpoint:
                (self.job.directory / "checkpoints" / "000000018").mkdir(parents=True, exist_ok=True)
            return Ending("its machine is gone", lost=True)
        shutil.rmtree(self.job.directory, ignore_errors=True)
        pretend(self.job)
        return Ending("ended with code 0")

    def ask_to_save(self) -> None:
        pass

    kill = ask_to_save


def carry_out(job: Job, executor: Fragile) -> str:
    said = io.StringIO()
    with StudyProgress(Console(file=said, width=200), 1, 0) as progress:
        assert StudyRunner([job], executor, 1, progress).run()
    return said.getvalue()


@pytest.mark.parametrize("saved", [True, False])
def test_a_run_whose_machine_is_gone_goes_on_from_its_last_checkpoint(study: StudyConfig, saved: bool) -> None:
    (job, *_), executor = jobs(study), Fragile(TRIES - 1, saved)
    said = carry_out(job, executor)
    assert executor.went_on == [False, saved, saved]
    remedy = "it goes on from its last checkpoint" if saved else "it begins again"
    assert said.count(f"random seed 5: its machine is gone; {remedy}") == 2 and "1 of 1" in said
    assert job.archive.is_file() and job.archive.is_relative_to(FOLDERS.results)


def test_a_run_that_is_lost_again_and_again_fails(study: StudyConfig) -> None:
    with pytest.raises(UserError, match="random seed 5 failed: its machine is gone"):
        carry_out(jobs(study)[0], Fragile(TRIES, leaves_checkpoint=True))


class Damaging(Fragile):
    """An executor that makes all runs but the first, whose log holds no rows while it goes on, or after its end."""

    def __init__(self, ends: bool) -> None:
        super().__init__(0, leaves_checkpoint=False)
        self.ends = ends
        self.killed: list[str] = []

    def start(self, job: Job) -> Execution:
        return DamagedExecution(self, job) if job.name == "random seed 5" else FragileExecution(self, job)


class DamagedExecution:
    def __init__(self, executor: Damaging, job: Job) -> None:
        self.executor, self.job = executor, job

    def poll(self) -> Ending | None:
        if not self.job.directory.exists():
            pretend(self.job, complete=self.executor.ends)
            rows = [{"row": word, "round": 0, "n_generated": 0} for word in ("episode", "end")]
            log = "".join(json.dumps(row) + "\n" for row in rows) if self.executor.ends else "[]\n"
            (self.job.directory / "metrics.jsonl").write_text(log, encoding="utf-8")
        return Ending("ended with code 0") if self.executor.ends else None

    def ask_to_save(self) -> None:
        pass

    def kill(self) -> None:
        self.executor.killed.append(self.job.name)


@pytest.mark.parametrize("ends", [True, False])
def test_a_run_whose_files_are_damaged_does_not_end_the_others(study: StudyConfig, ends: bool) -> None:
    executor, console = Damaging(ends), Console(file=io.StringIO(), width=200)
    outcome = run_study(study, FOLDERS, console, "rls3 study mini.yaml", processes=5, executor=executor)
    said = "random seed 5 failed: out/random-seed5/metrics.jsonl: " + ("line 1" if ends else "is not the log of a run")
    assert outcome.failure is not None and str(outcome.failure).startswith(said)
    assert executor.killed == ["random seed 5"]
    assert [job.name for job in jobs(study) if not job.archive.is_file()] == ["random seed 5"]
    assert outcome.comparison is not None and outcome.comparison.missing == 1
    again = run_study(study, FOLDERS, console, "rls3 study mini.yaml", executor=executor)
    assert again.failure is not None and str(again.failure).startswith(said)


def test_a_signal_is_told_from_an_end_of_the_run_s_own() -> None:
    assert Ending.of(-9) == Ending("was ended by signal 9", lost=True)
    assert Ending.of(2) == Ending("ended with code 2")


def test_a_run_ends_and_its_folder_is_removed_when_what_started_it_is_gone(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    write_tree(scratch, {"run/file": b"x"})
    command = [sys.executable, "-m", "rls3_gym.study.tethered", str(scratch), "list", "agents"]
    reading, writing = os.pipe()
    done = subprocess.run(command, stdin=reading, capture_output=True, text=True, check=False)
    os.close(reading)
    assert done.returncode == 0 and "stratified" in done.stdout and scratch.exists()
    os.close(writing)
    wait_until(lambda: not scratch.exists())
    write_tree(scratch, {"run/file": b"x"})
    stays = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)  # gone from the start
    wait_until(lambda: not scratch.exists())
    assert stays.returncode == -9 or b"stratified" in stays.stdout


def test_where_runs_are_made_is_one_of_the_places_there_are() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "rls3_gym", "study", "quickstart", "--on", "moon"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2 and "moon" in done.stderr and "ray" in done.stderr


def test_gpus_are_for_runs_on_a_cluster(study: StudyConfig, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("study", "mini.yaml", "--gpus", "1") == 2
    assert capsys.readouterr().err == "rls3: --gpus goes with --on ray\n"
