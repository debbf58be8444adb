"""First weights that depend on a seed alone: torch's layers draw them from its global generator."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded_torch(seed: int) -> Iterator[None]:
    """Inside, torch's global CPU generator starts from `seed`; after, it is where it was before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
