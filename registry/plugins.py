"""Plugins: agents, VLMs, backends and rewards are found, checked and built in one way.

A plugin is one class and one YAML file:

    plugin: NAME or module:Class      # NAME is announced by an installed package as an entry point
    description: one line for `rls3 list`
    settings: {...}                   # handed to the class, which checks them

The class is called as `Class(settings, **given)`: the settings first, then, by name, what its caller provides (an
agent's seed, a backend's picture size, ...).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

import rls3_registry
from rls3_registry.errors import SettingError, UserError, first_line, unknown
from rls3_registry.trust import CLASS, check_may_import, check_may_reach, is_restricted, lies_unlooked
from rls3_registry.validation import check

T = TypeVar("T")


class PluginSpec(BaseModel):
    """One plugin YAML."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    plugin: str
    """Name of an entry point in the section's group, or `module:Class`."""
    description: str = ""
    """One line for `rls3 list`."""
    settings: dict[str, Any] = {}
    """Handed to the class, which checks them."""


S = TypeVar("S", bound=PluginSpec)


@dataclass(frozen=True)
class PluginSection(Generic[S]):
    """All plugins of one type: a folder of YAML files in the registry and an entry-point group of the same name."""

    section: str
    """Folder of the registry, e.g. `agents`; the entry-point group is `rls3_gym.agents`."""
    what: str
    """What people call such a plugin."""
    needs: tuple[str, ...]
    """Attributes that a class must have."""
    spec: type[S]
    extras: Mapping[str, str] = field(default_factory=dict)
    """Libraries that the built-in plugins need, and the extra that brings each."""

    @property
    def group(self) -> str:
        """Entry-point group in which packages announce their plugins: `name = "module:Class"`."""
        return f"rls3_gym.{self.section}"

    def names(self) -> tuple[str, ...]:
        """All names: of registry files, and of installed plugins that no registry file uses."""
        registered = rls3_registry.names(self.section)
        used = {self.find(name)[1].plugin for name in registered}
        return (*registered, *sorted(set(installed(self.group)) - used - set(registered)))

    def find(self, name: str) -> tuple[str, S]:
        """Where `name` is described (for messages), and how.

        Args:
            name: A registry name, a path ending in .yaml, an installed plugin's name, or `module:Class`.

        Raises:
            UserError: The name is unknown (the nearest are listed), or its file has a wrong key.
        """
        if name.endswith((".yaml", ".yml")):
            return name, check(self.spec, rls3_registry.load_file(name), where=name)
        if name in rls3_registry.names(self.section):
            where = f"{self.section}/{name}.yaml"
            return where, check(self.spec, rls3_registry.load(self.section, name), where=where)
        if ":" in name or name in installed(self.group):
            return name, self.spec(plugin=name, description="installed plugin")
        raise unknown(self.what, name, {*rls3_registry.names(self.section), *installed(self.group)})

    def known(self) -> set[str]:
        """The classes that are registered or installed, as `module:Class`."""
        registered = {self.find(name)[1].plugin for name in rls3_registry.names(self.section)}
        return registered | {point.value for point in installed(self.group).values()}

    def own(self, spec: PluginSpec, settings: Mapping[str, Any]) -> list[str]:
        """What a run directory may name only where the user does too: the class of a plugin, as `module:Class`, that is
        neither registered nor installed; what `settings` reach for that those of no registered plugin do."""
        if ":" in spec.plugin and spec.plugin not in self.known():
            return [spec.plugin]
        known = self._reached_by_known(spec.plugin)
        return [name for name in self._reached(spec.plugin, settings) if name not in known]

    def check_trusted(self, spec: PluginSpec, settings: Mapping[str, Any]) -> None:
        """Raise `UserError` where it is a run directory that names the plugin and its settings, and it may not."""
        if is_restricted():
            check_may_import(spec.plugin, self.what, self.known())
            check_may_reach(self._reached(spec.plugin, settings), self.what, self._reached_by_known(spec.plugin))

    def _reached(self, plugin: str, settings: Mapping[str, Any]) -> list[str]:
        """What a plugin has started, fetched or written to that its settings name. Its class says so by a static method
        `reaches_for(settings)`; one without it reaches for nothing."""
        found = plugin_class(self.group, self.what, plugin, self.needs, self.extras)
        reaches_for: Callable[[Mapping[str, Any]], Sequence[str]] | None = getattr(found, "reaches_for", None)
        return [] if reaches_for is None else list(reaches_for(settings))

    def _reached_by_known(self, plugin: str) -> set[str]:
        """What the registered settings of a plugin reach for."""
        registered = (self.find(name)[1] for name in rls3_registry.names(self.section))
        return {name for spec in registered if spec.plugin == plugin for name in self._reached(plugin, spec.settings)}

    def create(self, name: str, overrides: Mapping[str, Any] | None = None, **given: Any) -> Any:
        """Build the plugin `name` stands for, with `overrides` put over its file's settings.

        Raises `UserError` for an unknown name, key or value, and for a library that is not installed.
        """
        where, spec = self.find(name)
        return self.build(where, spec, {**spec.settings, **(overrides or {})}, **given)

    def build(self, where: str, spec: S, settings: Mapping[str, Any], **given: Any) -> Any:
        """Call the class of `spec`, which was read from `where`; errors name that place, but for those in a setting
        that the caller put over the file's.

        Where it is a run directory that names the plugin, it has to be a known one, or one that the user has named too,
        and so has what its settings reach for: see `rls3_registry.trust`.
        """
        self.check_trusted(spec, settings)
        try:
            found = plugin_class(self.group, self.what, spec.plugin, self.needs, self.extras)
        except UserError as error:
            raise UserError(str(error) if where == spec.plugin else f"{where}: {error}") from error
        try:
            return make(found, f"{self.what} {where}", settings, **given)
        except SettingError as error:
            if error.where or _value(dict(spec), error.keys) != _value({"settings": settings, **given}, error.keys):
                raise
            raise error.at(where) from error


def _value(content: Any, keys: Sequence[str]) -> Any:
    """What stands under the first two of `keys`, as in `settings.gamma`; None where nothing does."""
    for key in keys[:2]:
        content = content.get(key) if isinstance(content, Mapping) else None
    return content


def installed(group: str) -> dict[str, EntryPoint]:
    """What packages announce in an entry-point group (`name = "module:Class"`), by name."""
    return {point.name: point for point in entry_points(group=group)}


def plugin_class(
    group: str, what: str, plugin: str, needs: Sequence[str], extras: Mapping[str, str] | None = None
) -> type[Any]:
    """The class that `plugin` names: a name announced in `group`, or `module:Class` of anything Python can import.

    `what` is what people call such a plugin, `needs` the attributes one must have, `extras` the libraries that ours
    need and the extra that brings each. Raises `UserError` when there is no such class, or when it cannot be imported.
    """
    known = installed(group)
    if ":" in plugin and not CLASS.fullmatch(plugin):
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
        if error.name == point.module.split(".")[0] and lies_unlooked(point.module):
            raise UserError(
                f"{what} {plugin!r} lies in the current folder, where no code is looked for unless you say so; "
                f"if you trust it, add: --trust {plugin}"
            ) from error
        raise UserError(f"{what} {plugin!r} cannot be imported: {error}") from error
    except UserError:
        raise
    except Exception as error:  # a plugin's module may raise anything; the message has to name the plugin
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
    """Call a plugin's class. Raises `UserError` when it does not accept these arguments."""
    try:
        return build(*arguments, **settings)
    except TypeError as error:
        raise UserError(f"{what}: {first_line(error)}") from error
