"""The name of a model's weights: a hash that costs what has changed, not what is loaded."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor, nn

from rls3_gym.vlm.lora import is_untaught, merged_weights

LARGE = 2**22
"""Bytes from which a tensor stands in the hash by its own SHA-256, so that a frozen one is gone through once."""
_THREADS = 8


def digest_of(tensors: Mapping[str, Tensor], kept: Mapping[str, bytes] | None = None) -> str:
    """12 hex digits of the SHA-256 over names and bytes, in the order of the names; of a tensor of more than `LARGE`
    bytes its SHA-256 takes the place of its bytes.

    Args:
        tensors: On any device.
        kept: The hashes of some large ones by their names, where they are known; see `large_hashes`.
    """
    kept = kept or {}
    kept = {**kept, **large_hashes(tensors, tensors.keys() - kept.keys())}
    sha = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        sha.update(name.encode())
        if tensor.nbytes <= LARGE:
            sha.update(_bytes(tensor))
        else:
            sha.update(kept[name])
    return sha.hexdigest()[:12]


def large_hashes(tensors: Mapping[str, Tensor], names: Collection[str]) -> dict[str, bytes]:
    """The SHA-256 of those of the named tensors that `digest_of` takes it of."""
    large = [name for name in names if tensors[name].nbytes > LARGE]
    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool:  # hashing leaves Python's lock alone
        hashes = pool.map(lambda name: hashlib.sha256(_bytes(tensors[name])).digest(), large)
        return dict(zip(large, hashes, strict=True))


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


class ModuleDigest:
    """The digests of a module that is taught, each computed again only after it was told that weights changed."""

    def __init__(self, module: nn.Module) -> None:
        """What of `module` trains has been settled."""
        self._module = module
        self._whole: str | None = None
        self._frozen: str | None = None
        self._hashes: dict[str, bytes] | None = None

    def is_now(self, digest: str | None) -> None:
        """The trained weights have changed: to those of a digest, or, with None, to nobody knows which."""
        self._whole = digest

    def whole(self) -> str:
        """See `digest_of`; of all weights. With adapters that add nothing yet it is that of the model without them."""
        if self._whole is None and is_untaught(self._module):
            self._whole = digest_of(merged_weights(self._module))
        if self._whole is None:
            self._whole = digest_of(self._module.state_dict(), self._frozen_hashes())
        return self._whole

    @property
    def frozen(self) -> str:
        """Of all that teaching never changes: frozen weights, and buffers such as batch-norm statistics."""
        if self._frozen is None:
            weights = self._module.state_dict()
            self._frozen = digest_of({name: weights[name] for name in self._frozen_names()}, self._frozen_hashes())
        return self._frozen

    def _frozen_names(self) -> set[str]:
        # A weight may go by two names (tied embeddings): what trains under one is not frozen under the other.
        named = self._module.named_parameters(remove_duplicate=False)
        return self._module.state_dict().keys() - {name for name, weight in named if weight.requires_grad}

    def _frozen_hashes(self) -> dict[str, bytes]:
        """Of the large tensors that teaching never changes; computed once."""
        if self._hashes is None:
            self._hashes = large_hashes(self._module.state_dict(), self._frozen_names())
        return self._hashes
