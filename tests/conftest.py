"""What holds for every test: no display, no network, few threads. Set before anything heavy is imported."""

from __future__ import annotations

import os

os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from gymnasium.utils import seeding

with suppress(ImportError):  # the environment of RLlib's tests is without it
    from hypothesis import settings

    # The same examples in every run, as far as hypothesis can, and no verdict that hangs on how busy a machine is.
    settings.register_profile("rls3", deadline=None, derandomize=True, database=None)
    settings.load_profile("rls3")


@pytest.fixture(scope="session")
def taught_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete run of the tiny experiment, three rounds; not to be changed."""
    from experiment_tools import run, tiny

    return run(tiny(), tmp_path_factory.mktemp("taught") / "run").directory


@pytest.fixture(autouse=True)
def seeded_spaces(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spaces that no test seeded draw the same actions in every run: what a test finds does not depend on luck."""
    entropy = [zlib.crc32(request.node.nodeid.encode()), 0]

    def np_random(seed: int | None = None) -> tuple[np.random.Generator, int]:
        if seed is None:
            entropy[1] += 1
            generator = np.random.Generator(np.random.PCG64(entropy))
            return generator, -1
        return original(seed)

    original = seeding.np_random
    monkeypatch.setattr(seeding, "np_random", np_random)
