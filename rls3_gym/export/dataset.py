"""Exporting the samples of a run: in one of four formats, whole or not at all, the same bytes for the same run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from rls3_gym.export.dataset_card import Tally, dataset_card
from rls3_gym.export.files import FolderWriter, WebDatasetWriter
from rls3_gym.export.pictures import Pictures
from rls3_gym.export.records import Record, RunFacts, Selection
from rls3_gym.export.tables import HubWriter, TableWriter
from rls3_gym.runs.directory import replacing_folder, writing
from rls3_gym.runs.rows import SampleRow
from rls3_gym.scene.arrangement import Arrangement
from rls3_registry.errors import UserError, first_line, unknown

CARD = "README.md"


class Writer(Protocol):
    """Writes samples in one format into an empty folder; made with that folder and the number of samples."""

    def add(self, record: Record, png: bytes) -> None:
        """The next sample: what is known about it, and its picture as a PNG file."""

    def close(self) -> None:
        """Finish what is open. Closing twice is fine."""


FORMATS: dict[str, Callable[[Path, int], Writer]] = {
    "hf": HubWriter,
    "webdataset": WebDatasetWriter,
    "parquet": TableWriter,
    "folder": FolderWriter,
}


def check_empty(out: Path) -> Path:
    """The folder to write, as an absolute path. Raises `UserError` unless it is new or empty."""
    with writing(out):
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise UserError(f"{out}: is there already and not empty; name another folder with --out")
    return out.resolve()


def check_format(name: str) -> str:
    """Raises `UserError` for an unknown format."""
    if name not in FORMATS:
        raise unknown("format", name, FORMATS, "--format")
    return name


def export_samples(
    run: Path,
    out: Path,
    format_: str,
    selection: Selection = Selection(),  # noqa: B008  frozen
    show: Callable[[int, int], None] = lambda done, total: None,
) -> Tally:
    """Write the valid samples of a run, with a card that describes them.

    Args:
        run: The run directory.
        out: A folder that is new or empty.
        format_: One of `FORMATS`.
        selection: Which samples; all when left out.
        show: Is told how many are written, and of how many.

    Returns:
        What was written, in numbers.

    Raises:
        UserError: Not a run, a full folder, no samples, rows that do not hold together, a picture that was changed, or
            a backend that is not what the pictures were taken with, or not to be trusted (`rls3_registry.trust`).
    """
    write, folder = FORMATS[check_format(format_)], check_empty(out)
    facts = RunFacts.read(run)
    total = sum(1 for _ in selection.rows(facts.directory))
    if not total:
        raise UserError(f"{run}: has no samples" + (" of these rounds" if selection != Selection() else " yet"))
    pictures, tally = Pictures(facts.directory, facts.world), Tally()
    try:
        with replacing_folder(folder) as partial:
            writer = write(partial, total)
            try:
                for row in selection.rows(facts.directory):
                    if tally.n == total:  # the run is still going
                        break
                    arrangement = _arrangement(facts, row)
                    record = facts.record(row, arrangement)
                    writer.add(record, pictures.png(row, arrangement))
                    tally.add(record)
                    show(tally.n, total)
            finally:
                writer.close()
            card = dataset_card(facts, format_, tally, pictures.rendered, pictures.differing)
            (partial / CARD).write_text(card, encoding="utf-8")
    finally:
        pictures.close()
    return tally


def _arrangement(facts: RunFacts, row: SampleRow) -> Arrangement:
    """The scene of a sample. Raises `UserError` when there is no such scene."""
    try:
        arrangement = Arrangement.decode({"family": row.family, "layout": row.layout, "objects": row.objects})
        for slot in (row.slot_a, row.slot_b):
            if not 0 <= slot < len(arrangement.objects):
                raise ValueError(f"no slot {slot}")
    except (UserError, KeyError, TypeError, ValueError) as error:
        where = f"{facts.directory.samples}: sample {row.n_generated}"
        raise UserError(f"{where}: does not describe a scene ({first_line(error)})") from error
    return arrangement
