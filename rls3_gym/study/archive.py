"""Finished runs in a results folder: one small file each, from which the whole comparison can be made again.

`results/NAME/runs/ARM-seedN.json.gz` holds a run's `RunRows`. A study that goes on where its run directories are not
takes these for done.
"""

from __future__ import annotations

import gzip
import io
import json
import zlib
from pathlib import Path

from rls3_gym.runs.directory import replacing, writing
from rls3_gym.study.run_rows import RunRows, read_run
from rls3_registry.errors import UserError, first_line
from rls3_registry.reading import parse_json, read_bytes
from rls3_registry.validation import check

FORMAT = "rls3_gym study run 1"
SUFFIX = ".json.gz"
MOST = 2**26
"""Bytes of such a file, and of what it holds."""


def write_archive(run: RunRows, path: Path) -> None:
    """Write a run's small file, whole or not at all; equal runs give equal bytes."""
    text = json.dumps({"format": FORMAT, **run.model_dump(mode="json")}, allow_nan=False)
    folder = path.parent
    with writing(path):
        folder.mkdir(parents=True, exist_ok=True)
    if folder.is_symlink():
        raise UserError(f"{folder}: is a link; the small files of a study lie in its results folder itself")
    with replacing(path) as temporary:
        temporary.write_bytes(gzip.compress(text.encode(), mtime=0))


def read_archive(path: Path) -> RunRows:
    """Read a run's small file. Raises `UserError` for one that is damaged or not ours."""
    try:
        with gzip.open(io.BytesIO(read_bytes(path, MOST))) as file:
            text = file.read(MOST + 1)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read ({first_line(error)})") from error
    if len(text) > MOST:
        raise UserError(f"{path}: holds more than {MOST:,} bytes, which no run comes to")
    content = parse_json(text, f"{path}:")
    if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
        raise UserError(f"{path}: is not the small file of a run ({FORMAT})")
    return check(RunRows, content, where=str(path))


def load_run(path: Path) -> RunRows:
    """A run by its directory, or by its small file in a results folder."""
    return read_archive(path) if path.name.endswith(SUFFIX) else read_run(path)
