"""The run directory: where its parts are, and writing that leaves it intact when the disk gives up."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rls3_registry.errors import UserError, first_line


@contextmanager
def writing(what: Path) -> Iterator[None]:
    """Turn an `OSError` of the writes inside into one line for the user."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{what}: cannot be written ({error.strerror or error}); nothing before it is lost") from error


def write_text(path: Path, text: str) -> None:
    """Write a whole file or nothing of it."""
    temporary = path.with_name(f".{path.name}.partial")
    with writing(path):
        try:
            temporary.write_text(text, encoding="utf-8")
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def read_text(path: Path) -> str:
    """A text file; "" when there is none. Raises `UserError` when it can't be read."""
    try:
        return path.read_text(encoding="utf-8") if path.exists() else ""
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({first_line(error)})") from error


class RunDirectory:
    """One run on disk; the attributes are its parts."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.command = path / "command.txt"
        self.environment = path / "environment.txt"
        self.metrics = path / "metrics.jsonl"
        self.samples = path / "samples"
        self.sample_rows = self.samples / "samples.jsonl"
        self.checkpoints = path / "checkpoints"
        self.report = path / "report.html"

    @classmethod
    def create(cls, path: Path) -> RunDirectory:
        """Make an empty run directory. Raises `UserError` when there is something at `path` already."""
        run = cls(path)
        run.check_free()
        with writing(path):
            run.samples.mkdir(parents=True)
            run.checkpoints.mkdir()
        return run

    @classmethod
    def create_next(cls, folder: Path, name: str) -> RunDirectory:
        """Make `folder/name-1`, or the first number after it that is free."""
        number = 1
        while (folder / f"{name}-{number}").exists():
            number += 1
        return cls.create(folder / f"{name}-{number}")

    @classmethod
    def open(cls, path: Path) -> RunDirectory:
        """An existing run directory. Raises `UserError` saying why it is none."""
        run = cls(path)
        if not path.is_dir():
            raise UserError(f"{path}: there is no such run directory")
        missing = [part.name for part in (run.config, run.metrics) if not part.is_file()]
        missing += [part.name for part in (run.samples, run.checkpoints) if not part.is_dir()]
        if missing:
            raise UserError(f"{path}: is not a run directory of rls3 (it has no {', '.join(missing)})")
        return run

    def check_free(self) -> None:
        """Raise `UserError` when there is something at the path already."""
        with writing(self.path):
            taken = self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir()))
        if taken:
            remedy = "name another folder with --out, or continue it with --resume"
            if not (self.checkpoints.is_dir() and any(self.checkpoints.iterdir())):
                remedy = "name another folder with --out, or remove it"
            raise UserError(f"{self.path}: exists already; {remedy}")

    def save_image(self, name: str, rgb: NDArray[np.uint8]) -> None:
        """Write one picture under samples/, unless it is there already."""
        path = self.samples / name
        if path.exists():
            return
        temporary = self.samples / f".{name}.partial"
        with writing(path):
            try:
                Image.fromarray(rgb).save(temporary, format="PNG")
                os.replace(temporary, path)
            finally:
                temporary.unlink(missing_ok=True)


class JsonLines:
    """An append-only file of JSON rows that knows its length, so that later rows can be dropped on resume."""

    def __init__(self, path: Path, keep: int = 0) -> None:
        """Open for appending after the first `keep` bytes; what stands behind them is dropped."""
        self.path = path
        self.check(path, keep)
        with writing(path):
            self._file = path.open("ab", buffering=0)
            self._file.truncate(keep)
        self.position = keep

    @staticmethod
    def check(path: Path, keep: int) -> None:
        """Raise `UserError` unless there are `keep` bytes to go on from. Changes nothing."""
        length = path.stat().st_size if path.is_file() else 0
        if not 0 <= keep <= length:
            raise UserError(f"{path}: is shorter than its checkpoint says; it was changed after the run")

    def append(self, row: Mapping[str, Any]) -> None:
        """Add one row, whole or not at all. Raises `UserError` when it can't be written."""
        line = (json.dumps(_plain(row), allow_nan=False) + "\n").encode()
        with writing(self.path):
            try:
                rest = memoryview(line)
                while rest:
                    rest = rest[self._file.write(rest) :]
            except OSError:
                self._file.truncate(self.position)  # a row cut short must not spoil the file
                raise
        self.position += len(line)

    def close(self) -> None:
        self._file.close()


def read_rows(path: Path) -> list[dict[str, Any]]:
    """All rows of a JSON-lines file."""
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except ValueError as error:
        raise UserError(f"{path}: is not a file of JSON lines") from error


def remove_tree(path: Path) -> None:
    """Delete a folder that may be there."""
    with writing(path):
        shutil.rmtree(path, ignore_errors=not path.exists())


def _plain(value: Any) -> Any:
    """JSON's own types; a number that is none (no sample to average) is written as null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
