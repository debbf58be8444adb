"""What holds for every test: no display, no network, few threads. Set before anything heavy is imported."""

from __future__ import annotations

import os

os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def taught_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete run of the tiny experiment, three rounds; not to be changed."""
    from experiment_tools import run, tiny

    return run(tiny(), tmp_path_factory.mktemp("taught") / "run").directory
