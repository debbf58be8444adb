"""The samples of a run on disk: a folder of Parquet files, one a round, which Parquet readers take for one table.

`pandas.read_parquet(run / "samples" / "samples.parquet")` opens them at any time. Runs of earlier versions have JSON
lines instead; both are read here, row by row or by column, with one part in memory at a time.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import json as json_rows

from rls3_gym.runs.directory import RunDirectory, WriteError, replacing, writing
from rls3_gym.runs.json_lines import json_lines
from rls3_gym.runs.parquet import SAMPLE_SCHEMA, flat
from rls3_gym.runs.rows import SampleRow
from rls3_registry.errors import UserError, first_line
from rls3_registry.reading import read_bytes
from rls3_registry.validation import check

MOST_BYTES, MOST_UNPACKED, MOST_ROWS = 2**28, 2**30, 2**22
"""Of one part; a round of 4,096 samples has about a megabyte."""
MOST_DECODED = 2**29
"""Bytes of the columns of one part as they are in memory: a sample has about 460, and a round at most a million."""
_BATCH = 256
"""Rows that are decoded at once."""
_READABLE = (OSError, pa.ArrowException, ValueError, KeyError)
Columns = dict[str, list[Any]]


class SampleParts:
    """The parts of a run that is going on. Its `state` is how many there are, and their bytes together."""

    def __init__(self, folder: Path, state: Mapping[str, Any] | None = None) -> None:
        """Go on after the parts of a `state`; later ones are dropped. Raises `UserError` like `check`."""
        self._folder = folder
        self._sizes = [] if state is None else self._kept(folder, state)
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            for path in _parts(folder)[len(self._sizes) :]:
                path.unlink()

    @classmethod
    def check(cls, folder: Path, state: Mapping[str, Any]) -> None:
        """Raise `UserError` unless the parts of a `state` are there. Changes nothing."""
        cls._kept(folder, state)

    @staticmethod
    def _kept(folder: Path, state: Mapping[str, Any]) -> list[int]:
        n = max(0, int(state["parts"]))
        kept = _parts(folder)[:n]
        sizes = [path.stat().st_size for path in kept]
        there = kept == [_part(folder, number) for number in range(len(kept))]
        if len(kept) < n or not there or sum(sizes) != int(state["bytes"]):
            raise UserError(f"{folder}: is not what its checkpoint says; it was changed after the run")
        return sizes

    def state(self) -> dict[str, int]:
        """What is there to go on from."""
        return {"parts": len(self._sizes), "bytes": sum(self._sizes)}

    def append(self, rows: Sequence[SampleRow]) -> None:
        """Write one more part, whole or not at all; of no rows, nothing. Raises `UserError` when it can't be written,
        or when a part was deleted or replaced since it was written."""
        if not rows:
            return
        there = [path.stat().st_size for path in _parts(self._folder)]
        if there != self._sizes:
            raise WriteError(f"{self._folder}: its files were deleted or replaced while the run was writing to it")
        content = parquet_bytes([flat(row) for row in rows], SAMPLE_SCHEMA)
        with replacing(_part(self._folder, len(self._sizes))) as temporary:
            temporary.write_bytes(content)
        self._sizes.append(len(content))


def parquet_bytes(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> bytes:
    """Rows as a Parquet file: through memory, for Arrow has errors of its own for a full disk."""
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema), sink, compression="zstd")
    return sink.getvalue()


def has_samples(run: RunDirectory) -> bool:
    """Whether a run has written samples, in either form."""
    return run.sample_table.is_dir() or run.sample_lines.is_file()


def read_samples(run: RunDirectory) -> Iterator[SampleRow]:
    """The samples of a run, one at a time: a long run has many. Raises `UserError` for a row that is not one, or when a
    file can't be read."""
    if not run.sample_table.is_dir():
        for where, content in json_lines(run.sample_lines) if run.sample_lines.is_file() else ():
            yield check(SampleRow, content, where)
        return
    for path in _parts(run.sample_table):
        for number, content in enumerate(_read(path, None).to_pylist(), start=1):
            yield _row(path, number, content)


def read_columns(run: RunDirectory, names: Sequence[str]) -> Iterator[Columns]:
    """Some columns of the samples, as lists, a part at a time. Raises `UserError` when a file can't be read or lacks a
    column."""
    if run.sample_table.is_dir():
        for path in _parts(run.sample_table):
            yield _read(path, names).to_pydict()
    elif run.sample_lines.is_file() and run.sample_lines.stat().st_size:
        yield _read_lines(run.sample_lines, names).to_pydict()


def pictured(run: RunDirectory, rounds: Sequence[int] | None = None) -> Iterator[SampleRow]:
    """The samples whose picture is kept; of some rounds alone, or of all. Raises `UserError` like `read_samples`."""
    wanted = None if rounds is None else set(rounds)
    if not run.sample_table.is_dir():
        yield from (r for r in read_samples(run) if r.file is not None and (wanted is None or r.round in wanted))
        return
    for path in _parts(run.sample_table):
        seen = _read(path, ["file", "round"]).to_pydict()
        kept = [
            number
            for number, (file, round_) in enumerate(zip(seen["file"], seen["round"], strict=True))
            if file is not None and (wanted is None or round_ in wanted)
        ]
        rows = _read(path, None).take(kept).to_pylist() if kept else []
        for number, content in zip(kept, rows, strict=True):
            yield _row(path, number + 1, content)


def pictured_rounds(run: RunDirectory) -> list[int]:
    """The rounds that have a sample whose picture is kept, ascending."""
    found: set[int] = set()
    for part in read_columns(run, ["file", "round"]):
        found |= {n for file, n in zip(part["file"], part["round"], strict=True) if file is not None}
    return sorted(found)


def _part(folder: Path, number: int) -> Path:
    return folder / f"part-{number:06d}.parquet"


def _parts(folder: Path) -> list[Path]:
    """The parts there are, in order."""
    return sorted(folder.glob("part-*.parquet"))


def _row(path: Path, number: int, content: Mapping[str, Any]) -> SampleRow:
    placed = [list(thing.values()) for thing in content["objects"] or ()]
    return check(SampleRow, {**content, "objects": placed}, f"{path}: row {number}")


def _read(path: Path, names: Sequence[str] | None) -> pa.Table:
    try:
        content = read_bytes(path, MOST_BYTES, follow=False)
        wanted = SAMPLE_SCHEMA if names is None else pa.schema([SAMPLE_SCHEMA.field(name) for name in names])
        # Texts stay dictionaries until all sizes are known: a text that is there once may stand in every row.
        with pq.ParquetFile(pa.BufferReader(content), read_dictionary=_TEXTS) as file:
            _check_size(file.metadata)
            batches, decoded = [], 0
            # Without threads: they cost more than they save on parts of some thousand rows.
            for batch in file.iter_batches(_BATCH, columns=wanted.names, use_threads=False):
                decoded += sum(_decoded_bytes(column) for column in batch.columns)
                if decoded > MOST_DECODED:
                    raise ValueError(f"its columns come to more than {MOST_DECODED:,} bytes: more than a round has")
                batches.append(batch)
        table = pa.Table.from_batches(batches) if batches else wanted.empty_table()
        return table.select(wanted.names).cast(wanted)
    except _READABLE as error:
        raise UserError(f"{path}: is not a file of samples ({first_line(error)})") from error


def _check_size(metadata: pq.FileMetaData) -> None:
    """Raise `ValueError` for a file that unpacks to more than any round is: few bytes may stand for very many."""
    unpacked = sum(metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups))
    if metadata.num_rows > MOST_ROWS or unpacked > MOST_UNPACKED:
        raise ValueError(f"{metadata.num_rows:,} rows, {unpacked:,} bytes: more than a round has")


def _text_columns(kind: pa.DataType, path: str) -> list[str]:
    """The paths of the texts in a column, as Parquet writes them."""
    if pa.types.is_list(kind):
        return _text_columns(kind.value_type, f"{path}.list.element")
    if pa.types.is_struct(kind):
        fields = [kind.field(number) for number in range(kind.num_fields)]
        return [found for field in fields for found in _text_columns(field.type, f"{path}.{field.name}")]
    return [path] if pa.types.is_string(kind) else []


_TEXTS = [path for field in SAMPLE_SCHEMA for path in _text_columns(field.type, field.name)]


def _decoded_bytes(column: pa.Array) -> int:
    """What a column comes to when each row has its own copy of its texts."""
    if pa.types.is_dictionary(column.type):
        lengths = pc.take(pc.binary_length(column.dictionary), column.indices)
        return int(column.indices.nbytes) + int(pc.sum(lengths).as_py() or 0)
    if pa.types.is_list(column.type):
        return 4 * len(column) + _decoded_bytes(column.flatten())
    if pa.types.is_struct(column.type):
        return sum(_decoded_bytes(part) for part in column.flatten())
    return int(column.nbytes)


def _read_lines(path: Path, names: Sequence[str]) -> pa.Table:
    needed = pa.schema([SAMPLE_SCHEMA.field(name) for name in names])
    options = json_rows.ParseOptions(explicit_schema=needed, unexpected_field_behavior="ignore")
    try:
        return json_rows.read_json(path, parse_options=options).select(needed.names)
    except _READABLE as error:
        raise UserError(f"{path}: is not a file of samples ({first_line(error)})") from error
