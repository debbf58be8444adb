"""Reading a file that somebody else may have written: an ordinary file, and no larger than it can sensibly be."""

from __future__ import annotations

import json
import os
import stat
import zipfile
from pathlib import Path
from typing import Any

from rls3_registry.errors import UserError, first_line

NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
"""For `os.open`: the file itself, and not what a link points to. Windows has no such flag."""
_NO_WAIT = getattr(os, "O_NONBLOCK", 0)
"""For `os.open`: a pipe is opened without waiting for who writes into it."""


def open_file(path: Path | str, follow: bool = True) -> int:
    """A descriptor to read from. A pipe or a device is refused, which might never end.

    Args:
        path: The file.
        follow: Whether it may be a link to one.

    Raises:
        OSError: There is no such file, or it can't be read.
        UserError: It is no ordinary file.
    """
    if not follow and Path(path).is_symlink():
        raise UserError(f"{path}: is a link; a file of its own is expected here")
    descriptor = os.open(path, os.O_RDONLY | _NO_WAIT | getattr(os, "O_BINARY", 0) | (0 if follow else NO_FOLLOW))
    try:
        found = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(found):
            raise UserError(f"{path}: is {'a folder' if stat.S_ISDIR(found) else 'a pipe or a device'}, not a file")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def read_bytes(path: Path | str, most: int, follow: bool = True) -> bytes:
    """The content of a file of at most `most` bytes. Raises `UserError` naming the file."""
    try:
        with os.fdopen(open_file(path, follow), "rb") as file:
            content = file.read(most + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise UserError(f"{path}: cannot be read ({reason})".replace("\0", "\\0")) from error
    if len(content) > most:
        raise UserError(f"{path}: is larger than {most:,} bytes, the most that is read of such a file")
    return content


def read_text(path: Path | str, most: int, follow: bool = True) -> str:
    """The same as text. Raises `UserError` naming the file."""
    try:
        return read_bytes(path, most, follow).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not a UTF-8 text file") from error


def check_stored(path: Path) -> None:
    """Raise `ValueError` for a zip archive, such as an npz, that unpacks to more than it is: none is written here."""
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > path.stat().st_size:
        raise ValueError(f"{path.name} is compressed, which nothing that is saved here is")


def parse_json(text: str | bytes, where: str) -> Any:
    """The value that a JSON text stands for. Raises `UserError`, which begins with `where`."""
    try:
        return json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        reason = "nested too deep" if isinstance(error, RecursionError) else first_line(error)
        raise UserError(f"{where} is not JSON ({reason})") from error


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")
