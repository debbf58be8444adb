"""The tensors that a round may have to be taken back to: in memory while they are few, else in a temporary file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import IO

import torch
from torch import Tensor

IN_MEMORY = 2**28
"""Bytes up to which a snapshot is kept in memory: a large model's would double what a round needs."""


@dataclass(frozen=True)
class _Place:
    start: int
    shape: torch.Size
    dtype: torch.dtype
    nbytes: int


class Snapshot(Mapping[tuple[str, ...], Tensor]):
    """Copies of tensors by name, as they are now, in main memory or on the way to it."""

    def __init__(self, tensors: Mapping[tuple[str, ...], Tensor]) -> None:
        """`tensors` may change afterwards."""
        self._tensors: dict[tuple[str, ...], Tensor] = {}
        self._places: dict[tuple[str, ...], _Place] = {}
        self._file: IO[bytes] | None = None
        if sum(tensor.nbytes for tensor in tensors.values()) <= IN_MEMORY:
            self._tensors = {name: tensor.detach().clone().cpu() for name, tensor in tensors.items()}
            return
        self._file = tempfile.TemporaryFile(prefix="rls3-round-")  # noqa: SIM115 - `close` is there for it
        for name, tensor in tensors.items():
            self._places[name] = _Place(self._file.tell(), tensor.shape, tensor.dtype, tensor.nbytes)
            flat = tensor.detach().cpu().contiguous().reshape(-1)
            self._file.write(flat.view(torch.uint8).numpy().data)

    def close(self) -> None:
        """Give the memory, or the file, back."""
        self._tensors = {}
        if self._file is not None:
            self._file.close()

    def __len__(self) -> int:
        return len(self._tensors or self._places)

    def __iter__(self) -> Iterator[tuple[str, ...]]:
        return iter(self._tensors or self._places)

    def __getitem__(self, name: tuple[str, ...]) -> Tensor:
        if self._file is None:
            return self._tensors[name]
        place = self._places[name]
        self._file.seek(place.start)
        content = bytearray(self._file.read(place.nbytes))
        return torch.frombuffer(content, dtype=place.dtype).reshape(place.shape)
