"""torchvision can be imported whichever torch stands beside it, and the shim is idle where nothing is wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rls3_gym._compat import torchvision as compat


def run(code: str) -> str:
    """Standard output of `code` in a fresh interpreter, where no import has happened yet."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_open_clip_and_timm_import_after_install() -> None:
    out = run(
        "from rls3_gym._compat import torchvision as compat; first = compat.install(); import open_clip, timm;"
        "from torchvision.transforms.v2 import Resize; print(first == compat.install(), open_clip.__name__)"
    )
    assert out == "True open_clip"


def test_install_is_needed_exactly_when_the_plain_import_fails() -> None:
    plain = subprocess.run([sys.executable, "-c", "import torchvision"], capture_output=True, check=False)
    installed = run("from rls3_gym._compat import torchvision as compat; print(compat.install())")
    assert installed == str(plain.returncode != 0)


def test_does_nothing_once_torchvision_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", sys.modules[__name__])
    monkeypatch.setattr(compat, "_declared", [])
    assert compat.install() is False
    assert compat._declared == []


def test_does_nothing_where_the_library_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    (tmp_path / "_C.so").touch()
    loaded: list[str] = []
    monkeypatch.setattr(torch.ops, "load_library", loaded.append)
    assert compat._library_loads(tmp_path)
    assert loaded == [str(tmp_path / "_C.so")]


def test_a_library_that_cannot_be_loaded_counts_as_missing(tmp_path: Path) -> None:
    assert not compat._library_loads(tmp_path)
    (tmp_path / "_C.so").write_text("not a library")
    assert not compat._library_loads(tmp_path)
