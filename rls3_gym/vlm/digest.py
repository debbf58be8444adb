"""The name of a model's weights: a hash that costs what has changed, not what is loaded."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping

import torch
from torch import Tensor

LARGE = 2**22
"""Bytes from which a tensor stands in the hash by its own SHA-256, so that a frozen one is gone through once."""


def digest_of(tensors: Mapping[str, Tensor], kept: Mapping[str, bytes] | None = None) -> str:
    """12 hex digits of the SHA-256 over names and bytes, in the order of the names; of a tensor of more than `LARGE`
    bytes its SHA-256 takes the place of its bytes.

    Args:
        tensors: On any device.
        kept: The hashes of some large ones by their names, where they are known; see `large_hashes`.
    """
    kept = kept or {}
    sha = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        sha.update(name.encode())
        if tensor.nbytes <= LARGE:
            sha.update(_bytes(tensor))
        else:
            sha.update(kept[name] if name in kept else hashlib.sha256(_bytes(tensor)).digest())
    return sha.hexdigest()[:12]


def large_hashes(tensors: Mapping[str, Tensor], names: Collection[str]) -> dict[str, bytes]:
    """The SHA-256 of those of the named tensors that `digest_of` takes it of."""
    return {name: hashlib.sha256(_bytes(tensors[name])).digest() for name in names if tensors[name].nbytes > LARGE}


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
