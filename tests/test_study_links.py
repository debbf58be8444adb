"""A study whose --out folder somebody else has made: no link in it is followed, and nothing in it hangs the study."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from test_study_run import jobs, pretend, study

from rls3_gym.study import ray_executor, runner
from rls3_gym.study.jobs import Job
from rls3_gym.study.ray_executor import RayExecution, RayExecutor
from rls3_gym.study.run_mirror import Change, Changes, RunSource, follow, read_tree, write_tree
from rls3_gym.study.study_config import StudyConfig
from rls3_registry.errors import UserError

__all__ = ["study"]  # a fixture

PATIENCE = 60
"""Seconds after which a test counts as hanging."""
NOTHING = Changes({}, {}, frozenset())


@pytest.fixture(autouse=True)
def in_time() -> Iterator[None]:
    """Opening a pipe that nobody writes into waits for ever: better a failure."""

    def give_up(*_: object) -> None:
        raise TimeoutError("it hangs")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(PATIENCE)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


class FakeCluster:
    """Notes what is sent to it; the runs say one line and go on."""

    cpus, address = 1, "nowhere"

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def actor(self, *arguments: Any, cpus: int, gpus: float) -> Any:
        self.sent.append(arguments)
        answer = SimpleNamespace(here=True, wait=lambda: (None, NOTHING, b"rls3: it said this\n"))
        return SimpleNamespace(tell=lambda method: answer, kill=lambda: None)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    cluster = FakeCluster()
    monkeypatch.setattr(ray_executor, "join", lambda what: cluster)
    return cluster


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A folder of the user's that links lead to."""
    folder = tmp_path / "mine"
    write_tree(folder, {"thesis/chapter.txt": b"years", "id_rsa": b"secret", "bashrc": b"alias"})
    return folder


def linked_checkpoints(job: Job, mine: Path) -> Path:
    (job.directory / "checkpoints").rmdir()
    (job.directory / "checkpoints").symlink_to(mine)
    return job.directory / "checkpoints"


def linked_file(job: Job, mine: Path) -> Path:
    (job.directory / "notes.jsonl").symlink_to(mine / "id_rsa")
    return job.directory / "notes.jsonl"


def linked_hidden_file(job: Job, mine: Path) -> Path:
    (job.directory / "samples" / ".a.png.partial").symlink_to(mine / "id_rsa")
    return job.directory / "samples" / ".a.png.partial"


def linked_log(job: Job, mine: Path) -> Path:
    job.log.symlink_to(mine / "bashrc")
    return job.log


def linked_directory(job: Job, mine: Path) -> Path:
    job.directory.rename(mine / "run")
    job.directory.symlink_to(mine / "run")
    return job.directory


def pipe(job: Job, mine: Path) -> Path:
    os.mkfifo(job.directory / "checkpoints" / "pipe")
    return job.directory / "checkpoints" / "pipe"


PLANTED = [linked_checkpoints, linked_file, linked_hidden_file, linked_log, linked_directory, pipe]


@pytest.mark.parametrize("plant", PLANTED)
def test_no_run_with_a_link_is_sent_to_a_cluster(
    study: StudyConfig, cluster: FakeCluster, mine: Path, plant: Callable[[Job, Path], Path]
) -> None:
    job = jobs(study)[0]
    pretend(job, complete=False)
    path = plant(job, mine)
    with pytest.raises(UserError, match=f"^{path}: is a (link|pipe)"):
        RayExecutor(0).start(job)
    assert not cluster.sent


def test_a_run_without_links_is_sent_and_what_it_says_is_logged(study: StudyConfig, cluster: FakeCluster) -> None:
    job = jobs(study)[0]
    pretend(job, complete=False)
    execution = RayExecutor(0).start(job)
    assert "run-directory/config.yaml" in cluster.sent[0][1]
    assert execution.poll() is None and execution.poll() is None
    assert job.log.read_text().splitlines() == ["rls3: it said this"] * 2


def test_what_a_run_says_is_not_appended_to_what_its_log_links_to(
    study: StudyConfig, cluster: FakeCluster, mine: Path
) -> None:
    job = jobs(study)[0]
    execution: RayExecution = RayExecutor(0).start(job)
    job.directory.parent.mkdir()
    linked_log(job, mine)
    with pytest.raises(UserError, match=r"random-seed5\.log: is a link"):
        execution.poll()
    assert (mine / "bashrc").read_bytes() == b"alias"


@pytest.mark.parametrize("part", ["samples", "checkpoints"])
def test_nothing_is_removed_or_written_behind_a_linked_part_of_a_run(tmp_path: Path, mine: Path, part: str) -> None:
    run, before = tmp_path / "run", read_tree(mine)
    run.mkdir()
    (run / part).symlink_to(mine)
    changes = Changes({"samples/a.png": Change(0, b"png")}, {"thesis": {"chapter.txt": b""}}, frozenset(["thesis"]))
    for change in (NOTHING, changes):
        with pytest.raises(UserError, match=f"{part}: is a link"):
            follow(run, change)
        assert read_tree(mine) == before


def test_a_run_directory_that_is_a_link_is_not_written_into(tmp_path: Path, mine: Path) -> None:
    before = read_tree(mine)
    (tmp_path / "run").symlink_to(mine)
    with pytest.raises(UserError, match="run: is a link"):
        follow(tmp_path / "run", NOTHING)
    assert read_tree(mine) == before and not (mine / "checkpoints").exists()


@pytest.mark.parametrize("name", ["id_rsa", "folder/id_rsa", "../mine/id_rsa", "{mine}/id_rsa"])
@pytest.mark.parametrize("offset", [0, 2])
def test_no_file_is_written_behind_a_link_or_outside(tmp_path: Path, mine: Path, name: str, offset: int) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "id_rsa").symlink_to(mine / "id_rsa")
    (run / "folder").symlink_to(mine)
    with pytest.raises(UserError, match="is a link|is not the name of a file in there"):
        follow(run, Changes({name.format(mine=mine): Change(offset, b"theirs")}, {}, frozenset()))
    assert (mine / "id_rsa").read_bytes() == b"secret"


def test_a_run_s_files_are_not_read_through_links(tmp_path: Path, mine: Path) -> None:
    run = tmp_path / "run"
    write_tree(run, {"config.yaml": b"a: 1\n"})
    source = RunSource(run)
    (run / "notes.jsonl").symlink_to(mine / "id_rsa")
    (run / "notes.txt").symlink_to(mine / "id_rsa")
    (run / "folder").symlink_to(mine)
    os.mkfifo(run / "pipe")
    with pytest.raises(UserError, match="is a link|is a pipe"):
        read_tree(run)
    assert not source.changes().files
    (run / "checkpoints").symlink_to(mine)
    with pytest.raises(UserError, match="checkpoints: is a link"):
        source.changes()


READ_ALL = """
import resource, sys
from pathlib import Path
from rls3_gym.study.runner import Tail, _last_line
from rls3_registry.errors import UserError

taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + 2**29,) * 2)
for path in map(Path, sys.argv[1:]):
    for read in (Tail(path).read, lambda: _last_line(path)):
        try:
            read()
        except UserError as error:
            print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory in use is read from /proc")
def test_a_log_that_never_ends_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/zero")
    done = subprocess.run(
        [sys.executable, "-c", READ_ALL, "/dev/zero", str(tmp_path / "pipe"), str(tmp_path / "link")],
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert [("is a pipe or a device" in line, "is a link" in line) for line in said] == [
        *[(True, False)] * 4, *[(False, True)] * 2,
    ]  # fmt: skip


def test_a_log_of_one_endless_line_is_read_no_further_than_a_row_can_be(tmp_path: Path) -> None:
    log = tmp_path / "metrics.jsonl"
    with log.open("wb") as file:
        file.truncate(2**28)  # takes no room on the disk
    with pytest.raises(UserError, match="has a line of more than 1,048,576 bytes"):
        runner.Tail(log).read()
    with log.open("ab") as file:
        file.write(b"\nrls3: the disk is full\n\n")
    assert runner._last_line(log) == "the disk is full"
