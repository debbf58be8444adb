"""Small files of others that stand for very much, or that try to steer what shows them: each is refused or shown
plainly."""

from __future__ import annotations

import gzip
import io
import json
import os
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from rich.table import Table
from rich.text import Text
from suite_files import WRITERS, blink_row, write_blink

from rls3_gym.cli.options import plain_console
from rls3_gym.export.model_card import _fenced, printable
from rls3_gym.runs import checkpoints, codec, samples
from rls3_gym.runs.checkpoints import load_checkpoint, save_checkpoint
from rls3_gym.runs.directory import RunDirectory
from rls3_gym.runs.parquet import SAMPLE_SCHEMA
from rls3_gym.study.archive import FORMAT, read_archive
from rls3_gym.study.results import _no_formula
from rls3_gym.suites import blink, files
from rls3_gym.suites.base import Picture
from rls3_gym.suites.catalog import OpenSuite
from rls3_gym.suites.left_right import is_about_sides
from rls3_registry.errors import UserError


@pytest.mark.parametrize("key", ["evaluations", "rounds", "suites"])
def test_a_results_file_of_wrong_entries_is_refused_at_the_first(key: str, tmp_path: Path) -> None:
    content = {
        "format": FORMAT, "config": {}, "command": "", "environment": "", "evaluations": [], "rounds": [],
        "n_generated": 0, "complete": True, key: [{}] * 20_000,
    }  # fmt: skip
    path = tmp_path / "random-seed0.json.gz"
    path.write_bytes(gzip.compress(json.dumps(content).encode()))
    with pytest.raises(UserError, match=r"\(and \d\d? more\)$"):  # each problem told takes kilobytes
        read_archive(path)


def _png(width: int, height: int) -> bytes:
    sink = io.BytesIO()
    Image.new("1", (width, height)).save(sink, "PNG")
    return sink.getvalue()


@pytest.mark.parametrize("size", [(8000, 1), (1, 8000), (201, 2)])
def test_a_picture_far_longer_than_wide_is_refused(size: tuple[int, int], tmp_path: Path) -> None:
    path = tmp_path / "strip.png"
    path.write_bytes(_png(*size))
    with pytest.raises(UserError, match=r"strip\.png: shows .* 100 times as long"):
        Picture("strip", path).show(32)
    assert Picture("strip", _png(200, 2)).show(32).shape == (32, 32, 3)


def test_so_is_a_part_that_is(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"whole: shows 2,000 x 1 pixels"):
        Picture("whole", _png(2000, 100), (0, 0, 2000, 1)).show(32)


def test_a_picture_of_too_many_pixels_is_refused() -> None:
    with pytest.raises(UserError, match=r"vast: has 9,000 x 9,000 pixels; at most 80,000,000"):
        Picture("vast", _png(9000, 9000)).show(32)


def test_a_list_of_items_too_large_is_refused(tmp_path: Path) -> None:
    WRITERS["folder"](tmp_path)
    os.truncate(tmp_path / "items.jsonl", files.MOST_BYTES + 1)  # sparse: takes no room on the disk
    with pytest.raises(UserError, match=r"items\.jsonl: is larger than 268,435,456 bytes"):
        OpenSuite("folder", tmp_path)


def test_a_list_of_items_that_is_a_link_is_refused(tmp_path: Path) -> None:
    WRITERS["folder"](tmp_path)
    (tmp_path / "items.jsonl").rename(tmp_path / "elsewhere")
    (tmp_path / "items.jsonl").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"items\.jsonl: is a link"):
        OpenSuite("folder", tmp_path)


def test_a_caption_of_very_many_characters_is_refused(tmp_path: Path) -> None:
    WRITERS["folder"](tmp_path)
    path = tmp_path / "items.jsonl"
    first = json.loads(path.read_text().splitlines()[0])
    path.write_text(json.dumps(first | {"caption": "a" * 10_001}))
    with pytest.raises(UserError, match=r"line 1: caption: .*at most 10000 characters"):
        OpenSuite("folder", tmp_path)


def test_so_is_a_question(tmp_path: Path) -> None:
    write_blink(tmp_path, [blink_row(1, "Is it " + "a" * 10_000 + "?", "(A)", "on")])
    with pytest.raises(UserError, match=r"row 0: idx and question should have at most 10,000 characters"):
        OpenSuite("blink_spatial", tmp_path)


def test_the_time_for_a_caption_grows_with_its_length_alone() -> None:
    begun = time.process_time()
    assert is_about_sides("to the left " * 20_000)
    assert time.process_time() - begun < 5


@pytest.mark.parametrize(("name", "most"), [(codec.TREE, "MOST_TREE"), (checkpoints.SUMS, "MOST_SUMS")])
def test_a_checkpoint_with_a_file_too_large_is_damaged(
    name: str, most: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(tmp_path, 1, {"text": "x" * 100}, lambda folder: None)
    assert load_checkpoint(tmp_path).state["text"] == "x" * 100
    monkeypatch.setattr(codec if name == codec.TREE else checkpoints, most, 50)
    with pytest.raises(UserError, match=f"is not a readable checkpoint .*{name}: is larger than 50 bytes"):
        load_checkpoint(tmp_path)


def test_nothing_printed_steers_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("na\x1bme")
    table.add_row("a\x1b]0;title\x07b")
    table.add_row(Text("c\x9b2Jd"))
    console = plain_console()
    console.print("e\x1b[2Jf\tg", Text("h\x1b[31mi"))
    console.print(table)
    said = capsys.readouterr().out
    assert not [c for c in said if not c.isprintable() and c not in "\n\t"]
    for shown in ("na?me", "a?]0;title", "c?2Jd", "e?[2Jf", "h?[31mi"):
        assert shown in said, shown


def test_the_console_still_has_its_own_styles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    console = plain_console()
    with console.capture() as captured:
        console.print("name", style="bold")
    assert captured.get() == "\x1b[1mname\x1b[0m\n"


def test_a_name_is_no_formula_in_the_table_of_results() -> None:
    assert [_no_formula(name) for name in ("=1+1", "+1", "-1", "@A1", "\t=1", "sac")] == [
        "'=1+1", "'+1", "'-1", "'@A1", "'\t=1", "sac",
    ]  # fmt: skip


def test_a_text_in_a_card_does_not_end_its_block() -> None:
    assert _fenced("a\n````\n# b", "yaml") == ["`````yaml", "a\n````\n# b", "`````"]
    assert _fenced("a") == ["```", "a", "```"]
    assert printable("rls3\x1b[2J\u202e run") == "rls3[2J run"


def _part(folder: Path, **changes: object) -> RunDirectory:
    run = RunDirectory(folder)
    run.sample_table.mkdir(parents=True)
    row = {
        "file": None, "round": 0, "n_generated": 1, "caption": "c", "cell": 0, "scene_key": "s", "family": "f",
        "layout": 0, "split": "train", "objects": [{"kind": "k", "x": 0.0, "y": 0.0, "z": 0.0, "yaw": 0.0}],
        "slot_a": 0, "slot_b": 0, "offset": [0.0, 0.0, 1.0], "visible": [1.0], "pixels": [9], **changes,
    }  # fmt: skip
    table = pa.Table.from_pylist([row] * 800, SAMPLE_SCHEMA)
    pq.write_table(table, run.sample_table / "part-000000.parquet", compression="zstd")
    return run


_LONG = "x" * 1_000_000


@pytest.mark.parametrize(
    "changes", [{"caption": _LONG}, {"objects": [{"kind": _LONG, "x": 0.0, "y": 0.0, "z": 0.0, "yaw": 0.0}]}]
)
def test_a_text_that_stands_in_every_row_is_not_copied_for_each(changes: dict[str, object], tmp_path: Path) -> None:
    run = _part(tmp_path, **changes)
    assert (run.sample_table / "part-000000.parquet").stat().st_size < 50_000
    before = pa.total_allocated_bytes()
    for read in (lambda: list(samples.read_samples(run)), lambda: list(samples.read_columns(run, list(changes)))):
        with pytest.raises(UserError, match=r"part-000000\.parquet: is not a file of samples \(its columns come to"):
            read()
    assert pa.total_allocated_bytes() - before < 2**26


def test_a_part_as_runs_write_it_is_read_row_by_row(tmp_path: Path) -> None:
    assert len(list(samples.read_samples(_part(tmp_path)))) == 800


def test_a_picture_that_stands_in_every_row_of_blink_is_not_copied_for_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    WRITERS["blink_spatial"](tmp_path)
    monkeypatch.setattr(blink, "MOST_BYTES", 100)
    with pytest.raises(UserError, match=r"\.parquet: its columns come to more than 100 bytes"):
        OpenSuite("blink_spatial", tmp_path)
