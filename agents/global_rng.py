"""The one place where global random generators are touched.

Stable-Baselines3 and Tianshou draw from numpy's and torch's global generators and offer no way to hand them others.
`LibraryGenerators` is an agent's own pair of streams: swapped in while its library runs, swapped out after, so
that agents neither disturb nor depend on other draws, and saved with the agent, so that it can continue.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch


class LibraryGenerators:
    """A context manager around every call into a library that draws from the global generators. Not reentrant."""

    def __init__(self, seed: int) -> None:
        self._numpy: Any = np.random.RandomState(seed).get_state(legacy=False)
        self._torch = torch.Generator().manual_seed(seed).get_state()
        self._inside = False

    def _swap(self) -> None:
        theirs = np.random.get_state(legacy=False), torch.get_rng_state()
        np.random.set_state(self._numpy)
        torch.set_rng_state(self._torch)
        self._numpy, self._torch = theirs

    def __enter__(self) -> None:
        if self._inside:
            raise RuntimeError("the library's generators are in place already")
        self._swap()
        self._inside = True

    def __exit__(self, *raised: object) -> None:
        self._swap()
        self._inside = False

    def state(self) -> dict[str, Any]:
        """Both streams as JSON-ready values, inside or outside of the context."""
        numpy_state = np.random.get_state(legacy=False) if self._inside else self._numpy
        torch_state = torch.get_rng_state() if self._inside else self._torch
        stream = numpy_state["state"]
        return {
            "numpy": {**numpy_state, "state": {"key": stream["key"].tolist(), "pos": int(stream["pos"])}},
            "torch": torch_state.numpy().tobytes().hex(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned. Not while inside the context."""
        stream = state["numpy"]["state"]
        key = np.array(stream["key"], dtype=np.uint32)
        self._numpy = {**state["numpy"], "state": {"key": key, "pos": stream["pos"]}}
        self._torch = torch.frombuffer(bytearray.fromhex(state["torch"]), dtype=torch.uint8).clone()


def fingerprint() -> str:
    """A hash of where both global generators are: equal before and after code that does not draw from them."""
    stream = np.random.get_state(legacy=False)["state"]
    parts = stream["key"].tobytes(), str(stream["pos"]).encode(), torch.get_rng_state().numpy().tobytes()
    return hashlib.sha256(b"".join(parts)).hexdigest()
