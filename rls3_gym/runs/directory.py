"""The run directory: where its parts are, and writing that leaves it intact when the disk is full."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rls3_registry.errors import UserError, first_line

LOCK = "run.lock"
"""Held by the process that writes: see `rls3_gym.runs.locking`."""


class WriteError(UserError):
    """Something can't be written: the disk is full, or it is not allowed."""


@contextmanager
def writing(what: Path) -> Iterator[None]:
    """Turn an `OSError` of the writes inside into one line for the user."""
    try:
        yield
    except OSError as error:
        raise WriteError(f"{what}: cannot be written ({error.strerror or error})") from error


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk itself."""
    if os.name == "nt" and path.is_dir():
        return  # can't be opened there, and needs no such call
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a temporary path to write to; at the end it takes the place of `path`, whole, or is removed.

    Raises `UserError` when it can't be written.
    """
    temporary = path.with_name(f".{path.name}.partial")
    with writing(path):
        try:
            yield temporary
            sync(temporary)
            os.replace(temporary, path)
            sync(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Gives an empty temporary folder to fill; at the end it takes the place of `path`, whole, or is removed.

    Raises `UserError` when it can't be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    with writing(path):
        remove_tree(partial)
        try:
            partial.mkdir(parents=True)
            yield partial
            remove_tree(path)
            os.replace(partial, path)
            sync(path.parent)
        except BaseException:
            remove_tree(partial)
            raise


def write_text(path: Path, text: str) -> None:
    """Write a whole file or nothing of it."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


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
        self.metrics_table = path / "metrics.parquet"
        self.samples = path / "samples"
        self.sample_table = self.samples / "samples.parquet"
        """A folder of parts, one a round: see `rls3_gym.runs.samples`."""
        self.sample_lines = self.samples / "samples.jsonl"
        """What runs of earlier versions have instead."""
        self.checkpoints = path / "checkpoints"
        self.report = path / "report.html"

    @classmethod
    def create(cls, path: Path) -> RunDirectory:
        """Make the folder of a new run. Raises `UserError` when there is something in it already."""
        run = cls(path)
        run.check_free()
        with writing(path):
            path.mkdir(parents=True, exist_ok=True)
        return run

    @classmethod
    def create_next(cls, folder: Path, name: str) -> RunDirectory:
        """Make `folder/name-1`, or the first number after it that is free."""
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            number = 1
            while True:
                try:
                    (folder / f"{name}-{number}").mkdir()
                    return cls(folder / f"{name}-{number}")
                except FileExistsError:
                    number += 1

    @classmethod
    def open(cls, path: Path) -> RunDirectory:
        """An existing run directory. Raises `UserError` saying what it lacks."""
        run = cls(path)
        run.check_has(run.config)
        return run

    def begin(self, config: str, command: str, environment: str) -> None:
        """Write what a run begins with; the configuration comes first: with it, the folder is a run directory."""
        write_text(self.config, config)
        write_text(self.command, command)
        write_text(self.environment, environment)
        with writing(self.path):
            self.samples.mkdir(exist_ok=True)
            self.checkpoints.mkdir(exist_ok=True)

    def clear(self) -> None:
        """Remove what a run has written before its first checkpoint."""
        for folder in (self.samples, self.checkpoints):
            remove_tree(folder)
        with writing(self.path):
            for path in (self.metrics, self.metrics_table, self.report):
                path.unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove what a process that was killed has left half written."""
        for folder in (self.path, self.samples, self.sample_table, self.checkpoints):
            for path in folder.glob(".*.partial"):
                if path.is_dir():
                    remove_tree(path)
                else:
                    path.unlink(missing_ok=True)

    def check_has(self, *parts: Path) -> None:
        """Raise `UserError` unless these parts of the run are there."""
        if not self.path.is_dir():
            raise UserError(f"{self.path}: there is no such run directory")
        missing = [part.name for part in parts if not part.exists()]
        if missing:
            raise UserError(f"{self.path}: is not a run directory of rls3 (it has no {', '.join(missing)})")

    def check_free(self) -> None:
        """Raise `UserError` when there is something at the path already."""
        with writing(self.path):
            taken = self.path.exists() and (not self.path.is_dir() or not self.is_bare())
        if taken:
            other = "continue it with --resume" if self.config.is_file() else "remove it"
            raise UserError(f"{self.path}: exists already; name another folder with --out, or {other}")

    def is_bare(self) -> bool:
        """Whether there is nothing in the folder, or only what a run leaves that was killed before its first file."""
        names = {path.name for path in self.path.iterdir() if path.suffix != ".partial"}
        return names <= {LOCK, f"{LOCK}.json"}

    def save_image(self, name: str, rgb: NDArray[np.uint8]) -> None:
        """Write one picture under samples/, unless it is there already."""
        path = self.samples / name
        if not path.exists():
            with replacing(path) as temporary:
                temporary.write_bytes(png_of(rgb))


def png_of(rgb: NDArray[np.uint8]) -> bytes:
    """A picture (height, width, 3) as the PNG file that a run keeps of it: the same bytes for the same pixels."""
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, format="PNG")
    return buffer.getvalue()


def remove_tree(path: Path) -> None:
    """Delete a folder that may be there."""
    with writing(path):
        shutil.rmtree(path, ignore_errors=not path.exists())
