"""Write the .meta file of every asset and folder: `python unity_project/write_metas.py`.

A GUID is the MD5 of the asset's path, so that it is the same in every checkout. Unity adds its importer's settings to
the files when it opens the project; those need not be committed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).resolve().parent
MADE_BY_UNITY = {"Assets/Rls3/Scenes"}


def assets() -> Iterator[Path]:
    """Every file and folder below Assets that needs a .meta file."""
    for path in sorted((PROJECT / "Assets").rglob("*")):
        name = path.relative_to(PROJECT).as_posix()
        if path.suffix != ".meta" and not any(name == made or name.startswith(f"{made}/") for made in MADE_BY_UNITY):
            yield path


def guid(path: Path) -> str:
    """The GUID of an asset."""
    return hashlib.md5(path.relative_to(PROJECT).as_posix().encode(), usedforsecurity=False).hexdigest()


def meta_of(path: Path) -> Path:
    """The .meta file of an asset."""
    return path.with_name(f"{path.name}.meta")


def main() -> None:
    for path in assets():
        meta_of(path).write_text(f"fileFormatVersion: 2\nguid: {guid(path)}\n", encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
