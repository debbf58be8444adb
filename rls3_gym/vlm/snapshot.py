"""The tensors that a round may have to be taken back to: in main memory while there is room for them, else in a
temporary file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any

import torch
from torch import Tensor

IN_MEMORY = 2**28
"""Bytes up to which a snapshot of tensors in main memory is kept there too: a large model's would double what a round
needs. One of tensors on a GPU is always kept in main memory, where the model itself takes none."""
Key = tuple[str, ...]


@dataclass(frozen=True)
class _Place:
    start: int
    shape: torch.Size
    dtype: torch.dtype
    nbytes: int


class Snapshot(Mapping[Key, Tensor]):
    """Copies of tensors by name, as they were when they were taken: in main memory, or read back from a file."""

    def __init__(self) -> None:
        self._tensors: dict[Key, Tensor] = {}
        self._buffers: dict[Key, Tensor] = {}
        self._places: dict[Key, _Place] = {}
        self._file: IO[bytes] | None = None

    def take(self, tensors: Mapping[Key, Tensor]) -> None:
        """Copy these, and forget what was taken before; they may change afterwards."""
        self.clear()
        if any(tensor.is_cuda for tensor in tensors.values()):
            # Pinned memory is quick to copy to and slow to get: it is kept from round to round, like the file.
            for name, tensor in tensors.items():
                if name not in self._buffers or self._buffers[name].shape != tensor.shape:
                    self._buffers[name] = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
                self._tensors[name] = self._buffers[name].copy_(tensor.detach(), non_blocking=True)
            for device in {tensor.device for tensor in tensors.values() if tensor.is_cuda}:
                torch.cuda.synchronize(device)
            return
        if sum(tensor.nbytes for tensor in tensors.values()) <= IN_MEMORY:
            self._tensors = {name: tensor.detach().clone().cpu() for name, tensor in tensors.items()}
            return
        if self._file is None:
            # Kept from round to round: writing over a file costs a tenth of writing a new one.
            self._file = tempfile.TemporaryFile(prefix="rls3-round-", buffering=0)  # noqa: SIM115
        self._file.seek(0)
        for name, tensor in tensors.items():
            self._places[name] = _Place(self._file.tell(), tensor.shape, tensor.dtype, tensor.nbytes)
            content = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
            while content:
                content = content[self._file.write(content) :]

    def clear(self) -> None:
        """Forget all; a file stays, for the next time."""
        self._tensors, self._places = {}, {}

    def __len__(self) -> int:
        return len(self._tensors or self._places)

    def __iter__(self) -> Iterator[Key]:
        return iter(self._tensors or self._places)

    def __getitem__(self, name: Key) -> Tensor:
        if name in self._tensors:
            return self._tensors[name]
        place, file = self._places[name], self._file
        assert file is not None
        file.seek(place.start)
        content = bytearray(place.nbytes)
        view = memoryview(content)
        while view:
            view = view[file.readinto(view) :]  # type: ignore[attr-defined]
        return torch.frombuffer(content, dtype=place.dtype).reshape(place.shape)

    def __deepcopy__(self, memo: dict[int, Any]) -> Snapshot:
        """An empty one: a copied fine-tuner takes its own."""
        return Snapshot()
