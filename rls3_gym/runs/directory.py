"""The run directory: where its parts are, and writing that leaves it intact when the disk is full.

A run directory may come from somebody else. What is read or written in it are plain files with plain names inside it,
opened without following links: a link in it could make a report show, or a run overwrite, any file of the user's.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rls3_registry import reading
from rls3_registry.errors import UserError, first_line

MOST_TEXT = 2**20
"""Bytes of a text file of a run, such as `environment.txt`, that are read."""
MOST_PICTURE = 2**24
"""Bytes of a kept picture."""
MOST_PIXELS = 2**24
"""Of a kept picture: a small file may claim to be a picture that fills all memory."""
PICTURE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}\.png")
"""What a picture under `samples/` can be called."""


@contextmanager
def writing(what: Path) -> Iterator[None]:
    """Turn an `OSError` of the writes inside into one line for the user."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{what}: cannot be written ({error.strerror or error}); nothing before it is lost") from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives the path of an empty temporary file to write to; at the end it takes the place of `path`, whole, or is
    removed. The file is newly made: what a killed process left under its name, or a link, is removed, not followed.

    Raises `UserError` when it can't be written.
    """
    temporary = path.with_name(f".{path.name}.partial")
    with writing(path):
        temporary.unlink(missing_ok=True)
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | reading.NO_FOLLOW, 0o666))
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


def open_to_append(path: Path) -> IO[bytes]:
    """A file to append to, made if it is not there; unbuffered. Raises `UserError` for anything but a plain file."""
    with writing(path):
        if path.is_symlink():
            raise UserError(f"{path}: is a link; nothing is written where it points to")
        wait = getattr(os, "O_NONBLOCK", 0)  # a pipe is not waited for
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | reading.NO_FOLLOW | wait | getattr(os, "O_BINARY", 0)
        descriptor = os.open(path, flags, 0o666)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise UserError(f"{path}: is no plain file; nothing is written into it")
        return os.fdopen(descriptor, "ab", buffering=0)


def write_text(path: Path, text: str) -> None:
    """Write a whole file or nothing of it."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_text(path: Path) -> str:
    """A text file of a run; "" when there is none. Raises `UserError` when it can't be read, or is a link."""
    return reading.read_text(path, MOST_TEXT, follow=False) if path.exists() or path.is_symlink() else ""


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
        missing = [part.name for part in parts if not part.exists() and not part.is_symlink()]
        if missing:
            raise UserError(f"{self.path}: is not a run directory of rls3 (it has no {', '.join(missing)})")
        self._check_own()

    def _check_own(self) -> None:
        """Raise `UserError` for a part of the run that is no file or folder of its own. Pictures are looked at when
        they are read: there may be many."""
        _check_plain(self.samples, self.checkpoints, self.config, self.command, self.environment)
        _check_plain(self.metrics, self.metrics_table, self.sample_rows, self.sample_table)
        for folder, folders, files in os.walk(self.checkpoints):
            _check_plain(*(Path(folder, name) for name in (*folders, *files)))

    def check_free(self) -> None:
        """Raise `UserError` when there is something at the path already."""
        with writing(self.path):
            taken = self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir()))
        if taken:
            remedy = "name another folder with --out, or continue it with --resume"
            if not (self.checkpoints.is_dir() and any(self.checkpoints.iterdir())):
                remedy = "name another folder with --out, or remove it"
            raise UserError(f"{self.path}: exists already; {remedy}")

    def read_picture(self, name: str) -> bytes | None:
        """The PNG file of a kept picture; None when it is gone.

        Raises `UserError` for a name that leads elsewhere, for a link, and for what is no picture of a sensible size.
        """
        path = self.samples / name
        if not PICTURE_NAME.fullmatch(name):
            raise UserError(f"{self.samples}: {name[:100]!r} is not the name of a picture in there")
        if not path.exists() and not path.is_symlink():
            return None
        png = reading.read_bytes(path, MOST_PICTURE, follow=False)
        try:
            with Image.open(io.BytesIO(png), formats=["PNG"]) as image:  # reads its head alone
                width, height = image.size
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise UserError(f"{path}: is not a readable picture ({first_line(error)})") from error
        if width * height > MOST_PIXELS:
            raise UserError(f"{path}: has {width:,} x {height:,} pixels, more than any picture of a run")
        return png

    def save_image(self, name: str, rgb: NDArray[np.uint8]) -> None:
        """Write one picture under samples/, unless it is there already."""
        path = self.samples / name
        if not path.exists():
            with replacing(path) as temporary:
                temporary.write_bytes(png_of(rgb))


def _check_plain(*paths: Path) -> None:
    """Raise `UserError` for a link, a pipe or a device; what isn't there is fine."""
    for path in paths:
        try:
            mode = path.lstat().st_mode
        except FileNotFoundError:
            continue
        if stat.S_ISLNK(mode):
            raise UserError(f"{path}: is a link; a run directory holds files and folders of its own")
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise UserError(f"{path}: is a pipe or a device; a run directory holds plain files")


def png_of(rgb: NDArray[np.uint8]) -> bytes:
    """A picture (height, width, 3) as the PNG file that a run keeps of it: the same bytes for the same pixels."""
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, format="PNG")
    return buffer.getvalue()


def remove_tree(path: Path) -> None:
    """Delete a folder that may be there. Of a link, the link."""
    with writing(path):
        if path.is_symlink():
            path.unlink()
        else:
            shutil.rmtree(path, ignore_errors=not path.exists())
