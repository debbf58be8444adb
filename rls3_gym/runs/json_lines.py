"""Logs of JSON lines: rows are appended, each whole or not at all, and read line by line."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from rls3_gym.runs.directory import WriteError, open_to_append, writing
from rls3_registry.errors import UserError, first_line
from rls3_registry.reading import open_file, parse_json

MOST_LINE = 2**20
"""Bytes of a row."""


class JsonLines:
    """An append-only file of rows that knows its length, so that later rows can be dropped on resume."""

    def __init__(self, path: Path, keep: int = 0) -> None:
        """Open for appending after the first `keep` bytes; what follows is dropped."""
        self.path = path
        self.check(path, keep)
        with writing(path):
            self._file = open_to_append(path)
            self._file.truncate(keep)
        self.position = keep

    @staticmethod
    def check(path: Path, keep: int) -> None:
        """Raise `UserError` unless there are `keep` bytes to continue from. Changes nothing."""
        length = path.stat().st_size if path.is_file() else 0
        if not 0 <= keep <= length:
            raise UserError(f"{path}: is shorter than its checkpoint says; it was changed after the run")

    def append(self, row: BaseModel) -> None:
        """Add one row, whole or not at all. Raises `UserError` when it can't be written, or when the file was deleted
        or replaced since it was opened."""
        line = (json.dumps(row.model_dump(), allow_nan=False) + "\n").encode()
        self._check_in_place()
        with writing(self.path):
            try:
                rest = memoryview(line)
                while rest:
                    rest = rest[self._file.write(rest) :]
            except OSError:
                self._file.truncate(self.position)  # a row cut short must not spoil the file
                raise
        self.position += len(line)

    def sync(self) -> None:
        """Wait until what was appended is on the disk itself."""
        with writing(self.path):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()

    def _check_in_place(self) -> None:
        mine = os.fstat(self._file.fileno())
        try:
            there = os.stat(self.path)
        except FileNotFoundError:
            raise WriteError(f"{self.path}: was deleted while the run was writing to it") from None
        if not os.path.samestat(mine, there) or there.st_size != self.position:
            raise WriteError(f"{self.path}: was replaced or changed while the run was writing to it")


def json_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Place and content of each line. A last line without its end is of a run that is still writing: left for later."""
    try:
        with os.fdopen(open_file(path, follow=False), "rb") as file:
            number = 0
            while line := file.readline(MOST_LINE + 1):
                number += 1
                where = f"{path}: line {number}"
                if len(line) > MOST_LINE:
                    raise UserError(f"{where} is longer than {MOST_LINE:,} bytes, which no row is")
                try:
                    text = line.decode()
                except UnicodeDecodeError as error:
                    raise UserError(f"{path}: cannot be read (line {number} is not UTF-8 text)") from error
                if not text.endswith("\n"):
                    return
                content = parse_json(text, where)
                if not isinstance(content, dict):
                    raise UserError(f"{where} is not a JSON object")
                yield where, content
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({first_line(error)})") from error
