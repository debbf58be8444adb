"""Plugins: from the `plugin: NAME` of a YAML file to the class behind it."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

from rls3_registry.errors import UserError, first_line, unknown

T = TypeVar("T")
_CLASS = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def installed(group: str) -> dict[str, EntryPoint]:
    """What packages announce in an entry-point group (`name = "module:Class"`), by name."""
    return {point.name: point for point in entry_points(group=group)}


def plugin_class(
    group: str, what: str, plugin: str, needs: Sequence[str], extras: Mapping[str, str] | None = None
) -> type[Any]:
    """The class that `plugin` names: a name announced in `group`, or `module:Class` of anything Python can import.

    `what` is what people call such a plugin, `needs` the attributes one must have, `extras` the libraries that ours
    need and the extra that brings each. Raises `UserError` when there is no such class, or no importing it.
    """
    known = installed(group)
    if ":" in plugin and not _CLASS.fullmatch(plugin):
        raise UserError(f"plugin: {plugin!r} must look like module:Class, or be one of {', '.join(sorted(known))}")
    point = EntryPoint(plugin, plugin, group) if ":" in plugin else known.get(plugin)
    if point is None:
        raise unknown(what, plugin, known, where="plugin")
    try:
        module = importlib.import_module(point.module)
    except ModuleNotFoundError as error:
        library = (error.name or "").split(".")[0]
        if extras and library in extras:
            install = f'pip install "rls3_gym[{extras[library]}]"'
            raise UserError(f"{what} {plugin!r} needs {library}: {install}") from error
        raise UserError(f"{what} {plugin!r} cannot be imported: {error}") from error
    except UserError:
        raise
    except Exception as error:  # whatever somebody else's module raises, the user has to hear which one it was
        said = f"{type(error).__name__}: {first_line(error)}"
        raise UserError(f"{what} {plugin!r} cannot be imported: {said}") from error
    found = getattr(module, point.attr, None)
    if not isinstance(found, type):
        raise UserError(f"plugin: module {point.module!r} has no class {point.attr!r}")
    absent = [part for part in needs if not hasattr(found, part)]
    if absent:
        raise UserError(f"plugin: {plugin!r} is no {what}; it lacks {', '.join(absent)}")
    return found


def make(build: Callable[..., T], what: str, /, *arguments: Any, **settings: Any) -> T:
    """Call a plugin's class. Raises `UserError` when it does not take what it is handed."""
    try:
        return build(*arguments, **settings)
    except TypeError as error:
        raise UserError(f"{what}: {first_line(error)}") from error
