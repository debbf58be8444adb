"""Whose word it takes to import a plugin's code.

What a user types or writes may name any class that Python finds, as `module:Class`. A run directory or a model folder
may come from somebody else: what its files name is imported only where it is registered or installed, or where the user
has named the same class on the command line (`--trust module:Class`). So it is with what a plugin's settings have
started or fetched: the program of a Unity player, a model of a hub. The current folder may be somebody else's, too:
code is looked for in it only where the user names a class in this way.
"""

from __future__ import annotations

import importlib.machinery
import os
import re
import shlex
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from rls3_registry.errors import UserError

CLASS = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
"""`module:Class`."""
_allowed: ContextVar[frozenset[str]] = ContextVar("allowed", default=frozenset())
_file: ContextVar[str | None] = ContextVar("file", default=None)
_places: list[str] = []


@contextmanager
def allowing(names: Iterable[str]) -> Iterator[None]:
    """Inside, these plugins may be imported and these programs and models had, whatever names them.

    Args:
        names: Each `module:Class`, which is then looked for in the folders of `look_in` as well; or what the settings
            of a plugin reach for, as they name it.

    Raises:
        UserError: One of them looks like a module, but not like `module:Class`.
    """
    named = frozenset(names)
    classes = {name for name in named if CLASS.fullmatch(name)}
    for name in sorted(named - classes):
        if name.endswith(".py") or (":" in name and not os.path.isfile(name)):
            raise UserError(f"--trust {name}: a class must look like module:Class")
    if classes:
        sys.path.extend(place for place in _places if place not in sys.path)
    token = _allowed.set(_allowed.get() | named)
    try:
        yield
    finally:
        _allowed.reset(token)


@contextmanager
def reading(file: Path | str) -> Iterator[None]:
    """Inside, plugins are named by `file` of a run directory: only known ones are imported."""
    token = _file.set(str(file))
    try:
        yield
    finally:
        _file.reset(token)


def is_restricted() -> bool:
    """Whether it is a run directory that names plugins now."""
    return _file.get() is not None


def check_may_import(plugin: str, what: str, known: Iterable[str]) -> None:
    """Raise `UserError` if a run directory names `plugin`, which is not `known`, and the user does not.

    Args:
        plugin: As `module:Class`, or the name of an installed plugin, which may always be imported.
        what: What people call such a plugin.
        known: The registered and installed classes, as `module:Class`.
    """
    file = _file.get()
    if file is None or ":" not in plugin or plugin in _allowed.get() or plugin in set(known):
        return
    raise UserError(
        f"{file}: its {what} is {plugin!r}, code that is neither registered nor installed, and that a run directory "
        f"can't make run; if you trust it, add: --trust {plugin}"
    )


def check_may_reach(names: Iterable[str], what: str, known: Iterable[str]) -> None:
    """Raise `UserError` if the settings of a plugin that a run directory names reach for something that is not `known`
    and that the user has not named.

    Args:
        names: What they reach for: programs to start, models to fetch, files to write.
        what: What people call such a plugin.
        known: What settings in the registry reach for.
    """
    file = _file.get()
    if file is None:
        return
    for name in names:
        if name not in _allowed.get() and name not in set(known):
            raise UserError(
                f"{file}: the settings of its {what} name {name!r}, which would be started, fetched or written to, and "
                f"a run directory can't have that done; if you trust it, add: --trust {shlex.quote(name)}"
            )


def is_allowed(name: str) -> bool:
    """Whether the user has named this with `--trust`."""
    return name in _allowed.get()


def look_in(folder: str | os.PathLike[str]) -> None:
    """Let the plugins that `allowing` names be found in `folder`, after everything that is installed.

    The folder joins `sys.path` when a plugin is named, and not before: a command that is run inside somebody else's
    folder must not find modules there that it did not ask for.
    """
    _places.append(os.fspath(folder))


def lies_unlooked(module: str) -> bool:
    """Whether a module that Python does not find lies in one of these folders, where nobody has asked to look."""
    places = [place for place in _places if place not in sys.path]
    return importlib.machinery.PathFinder.find_spec(module.split(".")[0], places) is not None
