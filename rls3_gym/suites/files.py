"""Reading the files of a suite: safely, and with one line that says what was expected where."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from rls3_registry.errors import UserError, first_line
from rls3_registry.reading import read_bytes
from rls3_registry.validation import check

MOST_BYTES = 2**28
"""Of a file with the items of a suite."""
MOST_TEXT = 10_000
"""Characters of a caption or a question; the patterns that look at them take long for very long ones."""
Text = Annotated[str, Field(min_length=1, max_length=MOST_TEXT)]


class FileRow(BaseModel):
    """Base of the rows of authors' files: they may have more keys than are read here."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)


R = TypeVar("R", bound=FileRow)


class SuiteFolder:
    """The folder that `--data` names, as one suite reads it."""

    def __init__(self, suite: str, path: Path, layout: str) -> None:
        """`layout` says in a few words what the folder should hold. Raises `UserError` when there is no such folder."""
        self._suite = suite
        self._path = path
        self._layout = layout
        if not path.is_dir():
            raise UserError(f"{path}: there is no such folder; suite {suite} expects {layout} in it")

    def file(self, name: str) -> Path:
        """A file that has to be there."""
        if not (self._path / name).is_file():
            raise self._missing(name, "file")
        return self._path / name

    def folder(self, name: str) -> Path:
        """A folder that has to be there."""
        if not (self._path / name).is_dir():
            raise self._missing(name, "folder")
        return self._path / name

    def _missing(self, name: str, what: str) -> UserError:
        return UserError(f"{self._path}: has no {what} {name}; suite {self._suite} expects {self._layout} in it")

    def json(self, name: str) -> Any:
        """The content of a JSON file."""
        path = self.file(name)
        return _parsed(_text(path), str(path))

    def json_list(self, name: str, model: type[R]) -> list[tuple[str, R]]:
        """Where each entry of a JSON list is, and its content."""
        content = self.json(name)
        if not isinstance(content, list) or not content:
            raise UserError(f"{self._path / name}: should be a list with at least one entry")
        return [self._row(model, entry, f"{self._path / name}: entry {i}") for i, entry in enumerate(content)]

    def json_mapping(self, name: str, model: type[R]) -> list[tuple[str, R]]:
        """Where each entry of a JSON mapping is, and its content."""
        content = self.json(name)
        if not isinstance(content, dict) or not content:
            raise UserError(f"{self._path / name}: should be a mapping with at least one entry")
        return [self._row(model, entry, f"{self._path / name}: entry {key!r}") for key, entry in content.items()]

    def json_lines(self, name: str, model: type[R]) -> list[tuple[str, R]]:
        """Where each line of a file of JSON lines is, and its content; empty lines are left out."""
        path = self.file(name)
        rows = [self._row(model, _parsed(line, where), where) for where, line in _lines(path)]
        if not rows:
            raise UserError(f"{path}: should have at least one line")
        return rows

    @staticmethod
    def _row(model: type[R], content: Any, where: str) -> tuple[str, R]:
        if not isinstance(content, Mapping):
            raise UserError(f"{where}: should be a mapping of keys to values")
        return where, check(model, content, where)

    def picture(self, where: str, reference: str, folder: str) -> Path:
        """The file of a picture.

        Args:
            where: The entry that names it.
            reference: Its path within `folder`, as the entry has it.
            folder: Within the suite's folder.

        Raises:
            UserError: The path leads out of the folder, or there is no such file.
        """
        if _leads_out(reference):
            raise UserError(f"{where}: the picture {reference!r} should be a relative path without '..'")
        path = self._path / folder / reference
        if not path.is_file():
            raise UserError(f"{where}: the picture {reference!r} is not in {self._path / folder}")
        return path


def _leads_out(reference: str) -> bool:
    parts = re.split(r"[\\/]", reference)
    windows = PureWindowsPath(reference)
    absolute = PurePosixPath(reference).is_absolute() or bool(windows.drive or windows.root)
    return absolute or ".." in parts or "\0" in reference or not reference.strip()


def _text(path: Path) -> str:
    try:
        return read_bytes(path, MOST_BYTES, follow=False).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: cannot be read ({first_line(error)})") from error


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if line.strip():
            yield f"{path}: line {number}", line


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: is not JSON ({first_line(error)})") from error
