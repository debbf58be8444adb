"""Two hundred run directories in which a file was changed, cut, linked or removed, through every reader and command."""

from __future__ import annotations

import os
import shutil
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from limits import TookTooLong, processor_seconds
from mutations import mutated
from numpy.random import Generator

from rls3_gym.cli.app import main
from rls3_gym.export.records import RunFacts, Selection
from rls3_gym.report.gallery import shots_by_round
from rls3_gym.report.references import beside
from rls3_gym.runs.run_data import read_run, summarize
from rls3_gym.runs.taught import find_backend, find_vlm
from rls3_gym.study import run_rows
from rls3_registry.errors import UserError, shown

SECONDS = 60.0
"""Of processor time, for one reader or command; writing a report takes some."""
READERS: tuple[Callable[[Path], object], ...] = (
    lambda path: shots_by_round(read_run(path)),
    summarize,
    beside,
    run_rows.read_run,
    run_rows.is_complete,
    lambda path: (facts := RunFacts.read(path), list(Selection(limit=20).rows(facts.directory))),
    lambda path: find_backend(str(path), find_vlm(str(path))),
    lambda path: find_vlm(f"{path}@1"),
)
COMMANDS = (
    "report RUN",
    "export RUN --format folder --out OUT --limit 4",
    "export-vlm RUN --out OUT",
    "compare RUN RUN --out OUT",
    "run --resume RUN",
)


@pytest.fixture
def unfinished(taught_run: Path, tmp_path: Path) -> Path:
    """A run of three rounds with the last of them to go, so that there is something to continue."""
    directory = tmp_path / "unfinished"
    shutil.copytree(taught_run, directory)
    shutil.rmtree(directory / "checkpoints" / "final")
    shutil.rmtree(sorted((directory / "checkpoints").iterdir())[-1])
    return directory


def put_wrong(folder: Path, rng: Generator) -> str:
    """Change one of a run's files; says which, and how."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    path = files[int(rng.integers(len(files)))]
    if path.suffix == ".png" and rng.random() < 0.8:  # there are more of them than of all others
        path = folder / "metrics.jsonl"
    name = path.relative_to(folder).as_posix()
    way = rng.random()
    if way < 0.7:
        path.write_bytes(mutated(path.read_bytes(), rng))
        return f"{name} changed"
    content = path.read_bytes()
    path.unlink()
    match int(rng.integers(6)):
        case 0:
            path.write_bytes(b"")
            return f"{name} emptied"
        case 1:
            path.symlink_to("/etc/passwd")
            return f"{name} linked"
        case 2:
            os.mkfifo(path)
            return f"{name} a pipe"
        case 3:
            path.mkdir()
            return f"{name} a folder"
        case 4:
            path.write_bytes(content[: len(content) // 2])
            return f"{name} cut"
    return f"{name} removed"


def told(error: BaseException) -> str:
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{shown(error)} in {place.filename}:{place.lineno}"


def problems(folder: Path, work: Path, commands: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What the readers and some commands do with a run, apart from reading it and refusing it in a line."""
    found = []
    for number, read in enumerate(READERS):
        try:
            with processor_seconds(SECONDS):
                read(folder)
        except UserError:
            pass
        except (Exception, TookTooLong) as error:
            found.append(f"reader {number}: {told(error)}")
    for command in commands:
        shutil.rmtree(work / "out", ignore_errors=True)
        words = command.replace("RUN", str(folder)).replace("OUT", str(work / "out")).split()
        try:
            with processor_seconds(SECONDS), pytest.raises(SystemExit) as end:
                main(words)
            said = capsys.readouterr().err
            if end.value.code not in (0, 2) or "Traceback" in said or (end.value.code and "rls3: " not in said):
                found.append(f"{command}: ended with {end.value.code}: {said[-300:]}")
        except (Exception, TookTooLong) as error:
            found.append(f"{command}: {told(error)}")
    return found


def try_out(unfinished: Path, work: Path, n: int, seed: int, capsys: pytest.CaptureFixture[str], every: int) -> None:
    """`n` runs, each with one file put wrong; a command, in turn, to every so many of them."""
    failures = []
    for number in range(n):
        folder = work / "run"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(unfinished, folder)
        how = put_wrong(folder, np.random.default_rng([seed, number]))  # lengths of files differ with the clock
        commands = (COMMANDS[number // every % len(COMMANDS)],) if number % every == 0 else ()
        failures += [f"{number}, {how}: {problem}" for problem in problems(folder, work, commands, capsys)]
    assert not failures, "\n".join(failures)


@pytest.mark.slow
def test_two_hundred_runs_with_a_wrong_file_are_read_or_refused(
    unfinished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try_out(unfinished, tmp_path, 200, 0, capsys, every=4)
