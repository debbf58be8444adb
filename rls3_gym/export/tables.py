"""Samples as Parquet: one table, or shards that `datasets.load_dataset` reads with its pictures decoded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rls3_gym.export.records import Record

TABLE = "samples.parquet"
SHARD = 5000
"""Samples in a file of the `hf` format."""
_GROUP = 500
"""Samples in a row group, and held in memory at once."""

_TEXTS, _FLOATS, _INTS = pa.list_(pa.string()), pa.list_(pa.float64()), pa.list_(pa.int64())


def _struct(kind: pa.DataType, *names: str) -> list[tuple[str, pa.DataType]]:
    return [(name, kind) for name in names]


_NEGATIVE = pa.struct(_struct(pa.string(), "caption", "change", "term"))
_OBJECT = pa.struct([("kind", pa.string()), *_struct(pa.float64(), "x", "y", "z", "yaw")])
_CAMERA = pa.struct(_struct(pa.float64(), "x", "y", "z", "heading", "pitch", "fov_deg"))
COLUMNS: dict[str, pa.DataType] = {
    "key": pa.string(), "caption": pa.string(), "false": _TEXTS, "negatives": pa.list_(_NEGATIVE),
    "relation": pa.string(), "terms": _TEXTS, "cell": pa.int64(), "kind_a": pa.string(), "kind_b": pa.string(),
    "slot_a": pa.int64(), "slot_b": pa.int64(), "offset": _FLOATS, "objects": pa.list_(_OBJECT), "visible": _FLOATS,
    "pixels": _INTS, "camera": _CAMERA, "family": pa.string(), "layout": pa.int64(), "split": pa.string(),
    "scene_key": pa.string(), "correct": pa.bool_(), "margin": pa.float64(), "hardest_negative": pa.string(),
    "vlm_digest": pa.string(), "round": pa.int64(), "n_generated": pa.int64(), "seed": pa.int64(),
    "world": pa.string(), "package": pa.string(), "command": pa.string(), "license": pa.string(),
}  # fmt: skip
"""Columns beside the picture: the keys of a record, in their order."""


class TableWriter:
    """`samples.parquet`: the bytes of the PNG file in the column `image`, then the columns of a record."""

    def __init__(self, folder: Path, total: int) -> None:
        schema = pa.schema([("image", pa.binary()), *COLUMNS.items()])
        self._sink = _Sink(folder / TABLE, schema)

    def add(self, record: Record, png: bytes) -> None:
        self._sink.add({"image": png, **record})

    def close(self) -> None:
        self._sink.close()


class HubWriter:
    """`data/train-00000-of-00002.parquet` and so on, in which `datasets` finds the feature `Image` for the pictures."""

    def __init__(self, folder: Path, total: int) -> None:
        image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        # `datasets` takes the rest from the columns' own types.
        features = {"info": {"features": {"image": {"_type": "Image"}}}}
        metadata = {"huggingface": json.dumps(features)}
        self._schema = pa.schema([("image", image), *COLUMNS.items()], metadata=metadata)
        (folder / "data").mkdir()
        self._folder = folder / "data"
        self._shards = max(1, -(-total // SHARD))
        self._n = 0
        self._sink = self._next()

    def add(self, record: Record, png: bytes) -> None:
        if self._n and self._n % SHARD == 0:
            self._sink.close()
            self._sink = self._next()
        self._sink.add({"image": {"bytes": png, "path": f"{record['key']}.png"}, **record})
        self._n += 1

    def close(self) -> None:
        self._sink.close()

    def _next(self) -> _Sink:
        name = f"train-{self._n // SHARD:05d}-of-{self._shards:05d}.parquet"
        return _Sink(self._folder / name, self._schema)


class _Sink:
    """One Parquet file, written by row groups."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._schema = schema
        self._writer = pq.ParquetWriter(path, schema)
        self._rows: list[dict[str, Any]] = []

    def add(self, row: dict[str, Any]) -> None:
        self._rows.append(row)
        if len(self._rows) == _GROUP:
            self._flush()

    def close(self) -> None:
        """Write what is left; without any rows an empty table, with its columns. Closing twice is fine."""
        if self._writer.is_open:
            self._flush()
            self._writer.close()

    def _flush(self) -> None:
        self._writer.write_table(pa.Table.from_pylist(self._rows, self._schema))
        self._rows = []
