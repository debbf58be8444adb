"""Errors for users, and the search for the name they may have meant."""

from __future__ import annotations

import difflib
import reprlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

LONGEST = 1_500
"""Characters of a message."""


class UserError(Exception):
    """A mistake the user can fix. Its message names what was wrong and what would be right.

    The command line prints it as one line and exits with code 2; no traceback. What comes from a file and does not end
    is cut short, and what would steer a terminal is not in it.
    """

    def __init__(self, message: str) -> None:
        line = " ".join(message.split()) if "\n" in message else message
        line = "".join(character if character.isprintable() else "\ufffd" for character in line[: 2 * LONGEST])
        super().__init__(line if len(line) <= LONGEST else f"{line[: LONGEST - 200]} [...]")


class SettingError(UserError):
    """A wrong key or value of a mapping: `where: before keys after`, the keys joined by dots.

    Code that is handed the mapping does not know where it was written. Code further up does, and raises the error
    again with `at` or `under`.
    """

    def __init__(self, before: str, keys: Sequence[str], after: str, where: str = "") -> None:
        self.before, self.keys, self.after, self.where = before, tuple(keys), after, where
        super().__init__((f"{where}: " if where else "") + before + ".".join(self.keys) + after)

    def __reduce__(self) -> tuple[type[SettingError], tuple[Any, ...]]:
        """So that it reaches the caller from another process, too."""
        return SettingError, (self.before, self.keys, self.after, self.where)

    def at(self, where: str) -> SettingError:
        """The same error with the file or argument that the mapping was written in."""
        return SettingError(self.before, self.keys, self.after, where)

    def under(self, section: str) -> SettingError:
        """The same error of the mapping that holds this one under the key `section`."""
        return SettingError(self.before, (section, *self.keys), self.after, self.where)


@contextmanager
def one_line_errors(program: str) -> Iterator[None]:
    """For a script: a mistake of its user ends it with one line on standard error and exit code 2, Ctrl-C with 130."""
    try:
        yield
    except UserError as error:
        print(f"{program}: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        sys.exit(130)


def first_line(error: BaseException) -> str:
    """What a library's error says, in one line and without its advice to open untrusted files unsafely."""
    text = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
    return "it is not a file of plain arrays" if "weights_only" in text or "allow_pickle" in text else text


_brief = reprlib.Repr()
_brief.maxstring = _brief.maxother = _brief.maxlong = 200
_brief.maxlist = _brief.maxtuple = _brief.maxdict = _brief.maxset = 12


def shown(value: object) -> str:
    """A value as a message can hold it: in one line, cut short, whatever it is."""
    try:
        return " ".join(_brief.repr(value).split())
    except Exception:  # a number of thousands of digits, or an object that can't say what it is
        return f"a value of the type {type(value).__name__}"


def nearest(name: str, options: Iterable[str], limit: int = 3) -> list[str]:
    """The options most like `name`, best first; empty when none is close."""
    return difflib.get_close_matches(name, sorted(options), n=limit, cutoff=0.4)


def unknown(what: str, name: str, options: Iterable[str], where: str = "") -> UserError:
    """The error for a name that is not among `options`: says what was near, or lists all."""
    options = sorted(options)
    near = nearest(name, options)
    hint = f"; did you mean {' or '.join(repr(n) for n in near)}?" if near else ""
    place = f"{where}: " if where else ""
    listing = f" (all: {', '.join(options)})" if len(options) <= 12 or not near else ""
    return UserError(f"{place}unknown {what} {name!r}{hint}{listing}")
