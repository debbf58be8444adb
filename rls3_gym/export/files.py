"""Samples as files: a plain folder of pictures with one JSON line each, or WebDataset's tar shards."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import IO

from rls3_gym.export.records import Record

SHARD = 1000
"""Samples in a tar file."""
LINES = "items.jsonl"
IMAGES = "images"


def _json(record: Record) -> str:
    return json.dumps(record, ensure_ascii=False, allow_nan=False)


class FolderWriter:
    """`images/KEY.png`, and a line of `items.jsonl` for each that names it under `image`."""

    def __init__(self, folder: Path, total: int) -> None:
        (folder / IMAGES).mkdir()
        self._folder = folder
        self._lines: IO[str] = (folder / LINES).open("w", encoding="utf-8", newline="\n")

    def add(self, record: Record, png: bytes) -> None:
        name = f"{IMAGES}/{record['key']}.png"
        (self._folder / name).write_bytes(png)
        self._lines.write(_json({"image": name, **record}) + "\n")

    def close(self) -> None:
        self._lines.close()


class WebDatasetWriter:
    """`00000.tar`, `00001.tar`, ...: `KEY.png` and `KEY.json` for each sample. Owners and times are left out."""

    def __init__(self, folder: Path, total: int) -> None:
        self._folder = folder
        self._n = 0
        self._tar: tarfile.TarFile | None = None

    def add(self, record: Record, png: bytes) -> None:
        if self._n % SHARD == 0:
            self.close()
            path = self._folder / f"{self._n // SHARD:05d}.tar"
            self._tar = tarfile.open(path, "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115  closed below
        assert self._tar is not None
        for suffix, content in (("png", png), ("json", _json(record).encode())):
            member = tarfile.TarInfo(f"{record['key']}.{suffix}")
            member.size = len(content)
            self._tar.addfile(member, io.BytesIO(content))
        self._n += 1

    def close(self) -> None:
        if self._tar is not None:
            self._tar.close()
            self._tar = None
