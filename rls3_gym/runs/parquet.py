"""Rows as Parquet tables: `pandas.read_parquet(run / "metrics.parquet")` opens the metrics of a complete run in a line.

One table row for each row. What a row holds by name becomes columns of its own (`terms.left`); a list stays a list. A
cell is null where its row has no such key or holds null.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import pyarrow as pa
import pyarrow.parquet as pq

from rls3_gym.runs.directory import RunDirectory, replacing
from rls3_gym.runs.rows import METRICS_ROWS, Row, SampleRow, read_metrics

BATCH = 10_000
"""Rows held in memory at once."""
_SIMPLE: dict[Any, pa.DataType] = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}


def write_metrics_table(run: RunDirectory) -> None:
    """Write `metrics.parquet`; raises `UserError` when it can't be written."""
    metrics = [flat(row) for row in read_metrics(run.metrics).rows]
    _write(run.metrics_table, _schema(list(METRICS_ROWS.values()), metrics), metrics)


def _write(path: Path, schema: pa.Schema, rows: Iterable[Mapping[str, Any]]) -> None:
    remaining = iter(rows)
    with replacing(path) as temporary, pq.ParquetWriter(temporary, schema) as sink:
        while batch := list(islice(remaining, BATCH)):
            sink.write_table(pa.Table.from_pylist(batch, schema))


def flat(row: Row) -> dict[str, Any]:
    """A row's values by column."""
    return dict(_cells(row))


def _cells(row: Row) -> Iterator[tuple[str, Any]]:
    for key, value in row:
        if isinstance(value, dict):
            yield from ((f"{key}.{name}", item) for name, item in value.items())
        elif isinstance(value, tuple) and value and hasattr(value[0], "_asdict"):
            yield key, [part._asdict() for part in value]
        else:
            yield key, value


def _schema(models: Sequence[type[Row]], flat: Sequence[Mapping[str, Any]]) -> pa.Schema:
    """Columns in the order of the models' fields; the names inside a mapping are those that occur in the rows."""
    columns: dict[str, pa.DataType] = {}
    names = list(dict.fromkeys(name for row in flat for name in row))
    for model in models:
        for key, field in model.model_fields.items():
            if get_origin(field.annotation) is dict:
                (_, value) = get_args(field.annotation)
                columns |= {name: _type(value) for name in names if name.startswith(f"{key}.")}
            else:
                columns[key] = _type(field.annotation)
    return pa.schema(list(columns.items()))


def _type(annotation: Any) -> pa.DataType:
    """The column type of a field's type."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(arguments[0])
    if origin in (Union, UnionType):
        (inner,) = (part for part in arguments if part is not NoneType)
        return _type(inner)
    if origin is Literal:
        return pa.string()
    if origin is tuple:
        return pa.list_(_type(arguments[0]))
    if hasattr(annotation, "_fields"):  # a NamedTuple
        return pa.struct([(key, _type(of)) for key, of in get_type_hints(annotation).items()])
    return _SIMPLE[annotation]


SAMPLE_SCHEMA = _schema([SampleRow], ())
"""Of the parts of `samples/samples.parquet`."""
