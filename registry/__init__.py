"""The YAML registry: what exists by name. The lowest floor; it imports nothing of the project.

Sections are folders beside this file (`objects`, `rooms`, `vlms`, `backends`, `rewards`, `agents`, `experiments`,
`studies`); a name is the file's path inside its section without `.yaml`, e.g. `sb3/sac`. Names match exactly; an
unknown one is an error that says which were near.

Others add to it without touching it: folders with the same sections are found where an installed package announces one
(entry-point group `rls3_gym.registry`, `name = "package:folder"`), and where the environment variable `RLS3_REGISTRY`
lists them. What lies there is registered like our own.
"""

from __future__ import annotations

import importlib.util
import os
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from rls3_registry.errors import UserError, unknown
from rls3_registry.reading import read_text
from rls3_registry.yaml_text import MOST_BYTES, parse_yaml

__all__ = ["ROOT", "UserError", "folders", "load", "load_file", "names", "path_of"]

ROOT = Path(__file__).resolve().parent
GROUP = "rls3_gym.registry"
"""Entry-point group in which packages announce their folders."""
VARIABLE = "RLS3_REGISTRY"
"""Environment variable: folders of the user's own, separated as those of `PATH` are."""


@cache
def folders() -> tuple[Path, ...]:
    """All folders of the registry: this one, those of installed packages, the user's own.

    Raises:
        UserError: A folder that is announced or listed isn't there.
    """
    announced = [_announced(point) for point in sorted(entry_points(group=GROUP), key=lambda point: point.name)]
    own = [Path(text).resolve() for text in os.environ.get(VARIABLE, "").split(os.pathsep) if text]
    for folder in own:
        if not folder.is_dir():
            raise UserError(f"{VARIABLE}: {folder}: there is no such folder")
    return (ROOT, *dict.fromkeys([*announced, *own]))


def _announced(point: EntryPoint) -> Path:
    """The folder of an installed package. The package is found, and not imported."""
    package, _, inside = point.value.partition(":")
    found = importlib.util.find_spec(package)
    places = list(found.submodule_search_locations or []) if found else []
    folder = Path(places[0], inside) if places else None
    if folder is None or not folder.is_dir():
        raise UserError(f"{point.name} = {point.value!r} of the entry points {GROUP}: there is no such folder")
    return folder


@cache
def _files(section: str) -> dict[str, Path]:
    """Name -> file, sorted. Raises `UserError` for an unknown section, and for a name that two files have."""
    if not (ROOT / section).is_dir():
        sections = [p.name for p in ROOT.iterdir() if p.is_dir() and not p.name.startswith("_")]
        raise unknown("registry section", section, sections)
    found: dict[str, Path] = {}
    for folder in (root / section for root in folders()):
        for path in folder.rglob("*.yaml"):
            name = path.relative_to(folder).with_suffix("").as_posix()
            if name in found:
                raise UserError(f"{path}: the name {name!r} of {section} is taken by {found[name]}; rename the file")
            found[name] = path
    return dict(sorted(found.items()))


def names(section: str) -> tuple[str, ...]:
    """All names of a section, sorted. Raises `UserError` for an unknown section."""
    return tuple(_files(section))


def path_of(section: str, name: str) -> Path:
    """The YAML file that a name stands for. Raises `UserError` for an unknown name."""
    if name not in _files(section):
        raise unknown(section.rstrip("s"), name, names(section))
    return _files(section)[name]


def load(section: str, name: str) -> dict[str, Any]:
    """The content of one registered YAML file, as a mapping."""
    return load_file(path_of(section, name))


def load_file(path: Path | str) -> dict[str, Any]:
    """Read one YAML mapping, as `rls3_registry.yaml_text` does. Raises `UserError` naming the file (and line)."""
    content = parse_yaml(read_text(path, MOST_BYTES), str(path))
    if not isinstance(content, dict):
        raise UserError(f"{path}: must hold a mapping of keys to values")
    for key in content:
        if not isinstance(key, str):
            raise UserError(f"{path}: keys must be text, not {key!r}")
    return content
