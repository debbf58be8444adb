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


@contextmanager
def writing(what: Path) -> Iterator[None]:
    """Turn an `OSError` of the writes inside into one line for the user."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{what}: cannot be written ({error.strerror or error}); nothing before it is lost") from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a temporary path to write to; at the end it takes the place of `path`, whole, or is removed.

    Raises `UserError` when it can't be written.
    """
    temporary = path.with_name(f".{path.name}.partial")
    with writing(path):
        try:
            yield temporary
            os.replace(temporary, path)
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
        self.sample_rows = self.samples / "samples.jsonl"
        self.sample_table = self.samples / "samples.parquet"
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
        """An existing run directory. Raises `UserError` saying what it lacks."""
        run = cls(path)
        run.check_has(run.config, run.metrics, run.samples, run.checkpoints)
        return run

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
            taken = self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir()))
        if taken:
            remedy = "name another folder with --out, or continue it with --resume"
            if not (self.checkpoints.is_dir() and any(self.checkpoints.iterdir())):
                remedy = "name another folder with --out, or remove it"
            raise UserError(f"{self.path}: exists already; {remedy}")

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
