"""A disk that fills up, at ten sizes: one line says so, and when there is room again the run goes on to the same end.

The disk is a tmpfs where one can be mounted, else no file may grow beyond a size (RLIMIT_FSIZE).
"""

from __future__ import annotations

import resource
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from killing import Forked, begin, forked, go_on, outcome, short

from rls3_gym.runs.directory import WriteError

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_report")]
CONFIG = short("random")
SIZES = 10


def mount(*words: str | Path) -> bool:
    try:
        return subprocess.run(["mount", *map(str, words)], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path | None]:
    """A small file system; None where none can be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if not mount("-t", "tmpfs", "-o", "size=1m", "tmpfs", folder):
        yield None
        return
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fails(out: Path, limit: int | None) -> None:
    """A run that must say that it can't write. The line says truly what is saved."""
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        begin(CONFIG, out)
    except WriteError as error:
        said = str(error)
    else:
        raise AssertionError("the disk was not full")
    assert "cannot be written" in said and len(said.splitlines()) == 1, said
    saved = sorted(path.name for path in (out / "checkpoints").glob("0*")) if out.is_dir() else []
    if saved:
        assert f"the run is saved up to step {int(saved[-1]):,}" in said, said
    assert not list(out.rglob("*.partial")), "left half written"
    print(said)


def test_a_full_disk(whole: dict[str, Any], disk: Path | None, tmp_path: Path) -> None:
    forked(partial(begin, CONFIG, tmp_path / "run"))
    sizes = [path.stat().st_size for path in (tmp_path / "run").rglob("*") if path.is_file()]
    needed = sum(-(-size // 4096) * 4096 for size in sizes) if disk else max(sizes)
    for number in range(SIZES):
        size = max(4096, needed * number // SIZES)
        out = (disk or tmp_path) / f"run{number}"
        if disk is not None:
            assert mount("-o", f"remount,size={size}", disk)
        child = Forked(partial(fails, out, None if disk else size))
        assert child.wait() == 0, f"{size} bytes: {child.said}"
        if disk is not None:
            assert mount("-o", "remount,size=512m", disk)
        forked(partial(go_on, CONFIG, out))
        assert outcome(out) == whole["random"], f"{size} bytes"
        subprocess.run(["rm", "-r", str(out)], check=True)
