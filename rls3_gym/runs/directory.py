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

from rls3_gym.sample import MOST_PIXELS
from rls3_registry import reading
from rls3_registry.errors import UserError, first_line

MOST_TEXT = 2**20
"""Bytes of a text file of a run, such as `environment.txt`, that are read."""
MOST_PICTURE = 2**24
"""Bytes of a kept picture."""
PICTURE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}\.png")
"""What a picture under `samples/` can be called."""
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
        missing = [part.name for part in parts if not part.exists() and not part.is_symlink()]
        if missing and (self.path / LOCK).exists() and self.is_bare():
            raise UserError(
                f"{self.path}: a run was ended here before it had written anything; begin it again with the command "
                "that it began with"
            )
        if missing:
            raise UserError(f"{self.path}: is not a run directory of rls3 (it has no {', '.join(missing)})")
        self._check_own()

    def _check_own(self) -> None:
        """Raise `UserError` for a part of the run that is no file or folder of its own. Pictures are looked at when
        they are read: there may be many."""
        check_plain(self.samples, self.checkpoints, self.config, self.command, self.environment)
        check_plain(self.metrics, self.metrics_table, self.sample_lines, self.sample_table)
        check_plain(self.path / "tensorboard", *(self.path / "tensorboard").glob("*"), self.path / "wandb")
        check_plain(self.path / LOCK, self.path / f"{LOCK}.json", *self.sample_table.glob("*"))
        for folder, folders, files in os.walk(self.checkpoints):
            check_plain(*(Path(folder, name) for name in (*folders, *files)))

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


def check_plain(*paths: Path) -> None:
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
