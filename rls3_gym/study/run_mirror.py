"""A run directory on another machine, followed from here: only what has changed is sent, as bytes.

Checkpoints are looked at first and written last, so that at any time a checkpoint here finds the logs at least as long
as it says they were: a run that is cut off in the middle can be continued from what is here.

The run directory here may come from somebody else. Nothing is read, written or removed through a link in it: it could
lead to any file of the user's.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from rls3_gym.runs.checkpoints import KEPT
from rls3_gym.runs.directory import check_plain, remove_tree, replacing, replacing_folder, writing
from rls3_registry import reading
from rls3_registry.errors import UserError

TAIL = 64
"""Bytes before the end of a log that are compared to see whether it has only grown since."""


@dataclass(frozen=True)
class Change:
    """Bytes that take the place of all behind `offset` in a file."""

    offset: int
    content: bytes


@dataclass(frozen=True)
class Changes:
    """What has happened to a run directory. Paths are relative to it, with slashes."""

    files: Mapping[str, Change]
    """All but checkpoints."""
    checkpoints: Mapping[str, Mapping[str, bytes]]
    """New ones, whole, by name."""
    kept: frozenset[str]
    """Names of all checkpoints that are there; older ones were dropped."""


def check_tree(folder: Path) -> None:
    """Raise `UserError` for a link, a pipe or a device among a folder and all that is in it."""
    check_plain(folder)
    for root, folders, names in os.walk(folder):
        check_plain(*(Path(root, name) for name in (*folders, *names)))


def read_tree(folder: Path) -> dict[str, bytes]:
    """All files of a folder that are not half written, by their path in it. Raises `UserError` where there is a link, a
    pipe or a device."""
    check_tree(folder)
    return {path.relative_to(folder).as_posix(): _content(path) for path in _files(folder)}


def write_tree(folder: Path, files: Mapping[str, bytes]) -> None:
    """The inverse of `read_tree`. Raises `UserError` where a name leads out of the folder."""
    for name, content in files.items():
        path = _inside(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


class RunSource:
    """The run directory where it is made."""

    def __init__(self, folder: Path) -> None:
        """What is there already is known where it is followed, but for the logs: a continued run shortens them."""
        self._folder = folder
        self._checkpoints: dict[str, int] = {path.name: path.stat().st_mtime_ns for path in self._found()}
        self._sent: dict[str, tuple[int, int]] = {}
        self._tails: dict[str, bytes] = {}
        for path in self._others():
            if path.suffix != ".jsonl":
                self._sent[self._name(path)] = _stamp(path)

    def changes(self) -> Changes:
        """What has changed since the last call."""
        checkpoints: dict[str, dict[str, bytes]] = {}
        for path in self._found():
            try:
                if self._checkpoints.get(path.name) != (made := path.stat().st_mtime_ns):
                    content = read_tree(path)
                    # The run drops one when there are newer ones: this one was not half gone while it was read.
                    numbered = [other for other in self._found() if other.name.isdigit()]
                    if path not in numbered[:-KEPT] and path.stat().st_mtime_ns == made:
                        checkpoints[path.name], self._checkpoints[path.name] = content, made
            except FileNotFoundError:
                continue
        kept = {path.name for path in self._found()}
        files = {}
        for path in self._others():
            name = self._name(path)
            try:
                stamp = _stamp(path)
                if self._sent.get(name) != stamp:
                    files[name] = self._change(path, name, stamp[0])
                    self._sent[name] = stamp
            except FileNotFoundError:
                continue
        return Changes(files, checkpoints, frozenset(kept))

    def _change(self, path: Path, name: str, size: int) -> Change:
        if path.suffix != ".jsonl":
            return Change(0, _content(path))
        known, tail = self._sent.get(name, (0, 0))[0], self._tails.get(name, b"")
        with _open(path) as file:
            file.seek(known - len(tail))
            if size < known or file.read(len(tail)) != tail:
                known = 0
            file.seek(known)
            new = file.read(size - known)
        self._tails[name] = (tail + new if known else new)[-TAIL:]
        return Change(known, new)

    def _found(self) -> list[Path]:
        folder = self._folder / "checkpoints"
        check_plain(folder)
        found = (path for path in folder.glob("*") if not path.name.startswith("."))
        return sorted(path for path in found if path.is_dir() and not path.is_symlink())

    def _others(self) -> Iterator[Path]:
        return (path for path in _files(self._folder) if not self._name(path).startswith("checkpoints/"))

    def _name(self, path: Path) -> str:
        return path.relative_to(self._folder).as_posix()


def follow(folder: Path, changes: Changes) -> None:
    """Do to the run directory here what was done to the other one. Raises `UserError` where it can't be written, or
    where a link leads out of it."""
    checkpoints = folder / "checkpoints"
    check_plain(folder, folder / "samples", checkpoints)
    with writing(folder):
        for part in ("samples", "checkpoints"):
            (folder / part).mkdir(parents=True, exist_ok=True)
    for name, change in changes.files.items():
        path = _inside(folder, name)
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            if change.offset == 0:
                with replacing(path) as temporary:
                    temporary.write_bytes(change.content)
                continue
            descriptor = os.open(path, os.O_RDWR | reading.NO_FOLLOW | getattr(os, "O_BINARY", 0))
            with os.fdopen(descriptor, "r+b") as file:
                file.truncate(change.offset)
                file.seek(change.offset)
                file.write(change.content)
    for name, content in changes.checkpoints.items():
        with replacing_folder(_inside(folder, f"checkpoints/{name}")) as partial:
            write_tree(partial, content)
    check_plain(folder, checkpoints)  # right before: what is removed does not come back
    for path in checkpoints.glob("*"):
        if path.name not in changes.kept:
            remove_tree(path)


def _inside(folder: Path, name: str) -> Path:
    """The path that a name with slashes stands for. Raises `UserError` where it leads out of the folder: by the name,
    or by a link on the way."""
    parts = PurePosixPath(name).parts
    if not parts or ".." in parts or Path(name).is_absolute():
        raise UserError(f"{folder}: {name[:100]!r} is not the name of a file in there")
    check_plain(folder, *(folder.joinpath(*parts[: n + 1]) for n in range(len(parts))))
    return folder.joinpath(*parts)


def _open(path: Path) -> IO[bytes]:
    """A plain file to read; `FileNotFoundError` where it is gone by now."""
    return os.fdopen(reading.open_file(path, follow=False), "rb")


def _content(path: Path) -> bytes:
    with _open(path) as file:
        return file.read()


def _files(folder: Path) -> Iterator[Path]:
    """Plain files alone: what else a run may make is not sent."""
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        paths = (Path(root, name) for name in sorted(names) if not name.startswith("."))
        yield from (path for path in paths if path.is_file() and not path.is_symlink())


def _stamp(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_size, found.st_mtime_ns
