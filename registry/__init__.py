"""The YAML registry: what exists by name. The lowest floor; it imports nothing of the project.

Sections are folders beside this file (`objects`, `rooms`, `vlms`, `backends`, `rewards`, `agents`, `experiments`,
`studies`); a name is the file's path inside its section without `.yaml`, e.g. `sb3/sac`. Names match exactly; an
unknown one is an error that says which were near.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml

from rls3_registry.errors import UserError, first_line, unknown

__all__ = ["ROOT", "UserError", "load", "load_file", "names", "path_of"]

ROOT = Path(__file__).resolve().parent


@cache
def names(section: str) -> tuple[str, ...]:
    """All names of a section, sorted. Raises `UserError` for an unknown section."""
    folder = ROOT / section
    if not folder.is_dir():
        sections = [p.name for p in ROOT.iterdir() if p.is_dir() and not p.name.startswith("_")]
        raise unknown("registry section", section, sections)
    files = folder.rglob("*.yaml")
    return tuple(sorted(p.relative_to(folder).with_suffix("").as_posix() for p in files))


def path_of(section: str, name: str) -> Path:
    """The YAML file that a name stands for. Raises `UserError` for an unknown name."""
    if name not in names(section):
        raise unknown(section.rstrip("s"), name, names(section))
    return ROOT / section / f"{name}.yaml"


def load(section: str, name: str) -> dict[str, Any]:
    """The content of one registered YAML file, as a mapping."""
    return load_file(path_of(section, name))


def load_file(path: Path | str) -> dict[str, Any]:
    """Read one YAML mapping with `yaml.safe_load`. Raises `UserError` naming the file (and line)."""
    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not a UTF-8 text file") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{str(path)!r}: cannot be read ({first_line(error)})") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}," if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise UserError(f"{path}:{line} not valid YAML: {problem}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: must hold a mapping of keys to values")
    for key in content:
        if not isinstance(key, str):
            raise UserError(f"{path}: keys must be text, not {key!r}")
    return content
