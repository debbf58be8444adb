"""What lies in somebody else's run directory is neither followed out of it nor believed."""

from __future__ import annotations

import base64
import gzip
import json
import os
import re
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from experiment_tools import rows, sample_rows
from test_cli import rls3

from rls3_gym.report.gallery import shots_by_round
from rls3_gym.report.page import write_report
from rls3_gym.runs.checkpoints import seal
from rls3_gym.runs.codec import load_tree
from rls3_gym.runs.directory import RunDirectory, open_to_append, remove_tree, replacing, replacing_folder, write_text
from rls3_gym.runs.row_values import TERM_NAMES
from rls3_gym.runs.rows import read_metrics
from rls3_gym.runs.run_data import read_run as read_data
from rls3_gym.runs.samples import read_samples
from rls3_gym.runs.taught import find_vlm
from rls3_gym.study.archive import read_archive
from rls3_gym.study.run_rows import read_run
from rls3_registry.errors import UserError

SECRET = b"SECRET" * 50


@pytest.fixture
def theirs(taught_run: Path, tmp_path: Path) -> Path:
    """A copy of a complete run, and a file of the user's beside it."""
    shutil.copytree(taught_run, tmp_path / "run")
    (tmp_path / "secret.txt").write_bytes(SECRET)
    return tmp_path / "run"


def picture(run: Path) -> Path:
    return next((run / "samples").glob("*.png"))


def change(log: Path, **values: Any) -> None:
    """Put values into every row that has such keys."""
    changed = [row | {key: value for key, value in values.items() if key in row} for row in rows(log)]
    log.write_text("".join(json.dumps(row) + "\n" for row in changed), encoding="utf-8")


def as_lines(run: Path) -> Path:
    """Put the samples in the form of earlier versions, JSON lines; returns their file."""
    log = run / "samples" / "samples.jsonl"
    lines = [json.dumps(row) + "\n" for row in sample_rows(run)]
    shutil.rmtree(run / "samples" / "samples.parquet")
    log.write_text("".join(lines), encoding="utf-8")
    return log


def png(width: int, height: int) -> bytes:
    """A picture of one color, of any size, in few bytes."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    body = zlib.compress(b"\0" * min(height * (1 + 3 * width), 10**6), 9)
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


# Pictures


@pytest.mark.parametrize(
    "name", ["../../secret.txt", "/etc/passwd", "../secret.png", ".hidden.png", "a/b.png", "a\0.png"]
)
def test_a_report_shows_no_file_from_elsewhere(theirs: Path, name: str) -> None:
    part = theirs / "samples" / "samples.parquet" / "part-000000.parquet"
    table = pq.read_table(part)
    at = table.column_names.index("file")
    pq.write_table(table.set_column(at, "file", pa.array([name] * len(table), pa.string())), part)
    with pytest.raises(UserError, match="is not the name of a picture in there"):
        shots_by_round(read_data(theirs))


@pytest.mark.parametrize(
    ("put", "said"),
    [
        (lambda path: path.symlink_to(path.parents[2] / "secret.txt"), "is a link"),
        (lambda path: path.symlink_to("/dev/zero"), "is a link"),
        (lambda path: os.mkfifo(path), "is a pipe or a device, not a file"),
        (lambda path: path.mkdir(), "is a folder, not a file"),
        (lambda path: path.write_bytes(SECRET), "is not a readable picture"),
        (lambda path: path.write_bytes(png(30_000, 30_000)), "could be decompression bomb"),
        (lambda path: path.write_bytes(png(9_000, 9_000)), "has 9,000 x 9,000 pixels, more than any picture"),
        (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(2**24)), "is larger than 16,777,216 bytes"),
    ],
)
def test_a_report_shows_pictures_alone(theirs: Path, put: Callable[[Path], None], said: str) -> None:
    path = picture(theirs)
    path.unlink()
    put(path)
    with pytest.raises(UserError, match=said) as caught:
        shots_by_round(read_data(theirs))
    assert str(path) in str(caught.value)


def test_a_picture_that_is_gone_is_left_out(theirs: Path) -> None:
    picture(theirs).unlink()
    shots = [shot for group in shots_by_round(read_data(theirs)) for shot in group.shots]
    assert sum(shot.image is None for shot in shots) == 1 < len(shots)


# Links and pipes in place of files


@pytest.mark.parametrize(
    "part",
    ["config.yaml", "command.txt", "environment.txt", "metrics.jsonl", "samples", "samples/samples.parquet",
     "samples/samples.parquet/part-000000.parquet", "run.lock", "checkpoints", "checkpoints/final",
     "checkpoints/final/state.json"],
)  # fmt: skip
def test_a_part_that_is_a_link_is_refused_by_every_reader(theirs: Path, part: str) -> None:
    path, elsewhere = theirs / part, theirs.parent / "elsewhere"
    path.touch()  # the lock, where it is gone
    shutil.move(path, elsewhere)
    path.symlink_to(elsewhere)
    for read in (write_report, read_run, lambda run: find_vlm(str(run))):
        with pytest.raises(UserError, match=re.escape(f"{path}: is a link")):
            read(theirs)


@pytest.mark.parametrize(
    "part", ["config.yaml", "environment.txt", "metrics.jsonl", "samples/samples.parquet/part-000000.parquet"]
)
def test_a_part_that_is_a_pipe_is_not_waited_for(theirs: Path, part: str) -> None:
    (theirs / part).unlink()
    os.mkfifo(theirs / part)
    with pytest.raises(UserError, match=re.escape(f"{theirs / part}: is a pipe or a device")):
        write_report(theirs)


def test_samples_that_unpack_to_more_than_a_round_are_not_read(theirs: Path) -> None:
    part = theirs / "samples" / "samples.parquet" / "part-000000.parquet"
    row = pq.read_table(part).slice(0, 1)
    with pq.ParquetWriter(part, row.schema, compression="zstd") as file:
        for _ in range(70):
            file.write_table(row.take([0] * 2**16))
    assert part.stat().st_size < 2**22
    with pytest.raises(UserError, match=r"part-000000.parquet: is not a file of samples \(4,587,520 rows"):
        write_report(theirs)


def test_a_continued_run_writes_through_no_link(theirs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(theirs / "checkpoints" / "final")
    victim = theirs.parent / "victim.jsonl"
    shutil.move(theirs / "metrics.jsonl", victim)
    (theirs / "metrics.jsonl").symlink_to(victim)
    before = victim.read_bytes()
    assert rls3("run", "--resume", str(theirs)) == 2
    assert "metrics.jsonl: is a link" in capsys.readouterr().err and victim.read_bytes() == before


# Writing


@pytest.mark.parametrize("name", [".report.html.partial", "report.html"])
def test_a_report_is_not_written_through_a_link(theirs: Path, name: str) -> None:
    (theirs / name).unlink(missing_ok=True)
    (theirs / name).symlink_to(theirs.parent / "secret.txt")
    page = write_report(theirs)
    assert (theirs.parent / "secret.txt").read_bytes() == SECRET
    assert not page.is_symlink() and page.stat().st_size > 10_000
    assert not (theirs / ".report.html.partial").exists()


def test_what_a_killed_process_left_is_replaced(tmp_path: Path) -> None:
    (tmp_path / ".page.html.partial").write_text("half a pa")
    write_text(tmp_path / "page.html", "whole")
    assert (tmp_path / "page.html").read_text() == "whole"
    (tmp_path / ".folder.partial").mkdir()
    (tmp_path / ".folder.partial" / "old").write_text("old")
    with replacing_folder(tmp_path / "folder") as partial:
        (partial / "new").write_text("new")
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["new"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "page.html"]


def test_a_temporary_file_is_a_new_one(tmp_path: Path) -> None:
    (tmp_path / "mine").write_bytes(SECRET)
    (tmp_path / ".page.html.partial").symlink_to(tmp_path / "mine")
    with replacing(tmp_path / "page.html") as temporary:
        assert not temporary.is_symlink() and temporary.read_bytes() == b""
        temporary.write_text("whole")
    assert (tmp_path / "mine").read_bytes() == SECRET and (tmp_path / "page.html").read_text() == "whole"


def test_a_temporary_folder_is_a_new_one(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "kept").write_text("kept")
    (tmp_path / ".folder.partial").symlink_to(tmp_path / "mine")
    (tmp_path / "folder").symlink_to(tmp_path / "mine")
    with replacing_folder(tmp_path / "folder") as partial:
        (partial / "new").write_text("new")
    assert not (tmp_path / "folder").is_symlink() and (tmp_path / "folder" / "new").is_file()
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["kept"]
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    remove_tree(tmp_path / "link")
    assert (tmp_path / "mine" / "kept").is_file() and not (tmp_path / "link").is_symlink()


def test_nothing_is_appended_to_a_link_or_a_pipe(tmp_path: Path) -> None:
    (tmp_path / "mine").write_bytes(SECRET)
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    os.mkfifo(tmp_path / "pipe")
    for name, said in (("link", "is a link"), ("pipe", "cannot be written|is no plain file")):
        with pytest.raises(UserError, match=said):
            open_to_append(tmp_path / name)
    with open_to_append(tmp_path / "log") as log:
        log.write(b"row")
    assert (tmp_path / "log").read_bytes() == b"row" and (tmp_path / "mine").read_bytes() == SECRET


@pytest.mark.slow
def test_comparing_writes_through_no_link(theirs: Path) -> None:
    out = theirs.parent / "compared"
    out.mkdir()
    for name in ("curves.png", "results.csv", "study.html", ".curves.png.partial"):
        (out / name).symlink_to(theirs.parent / "secret.txt")
    other = theirs.parent / "other"
    shutil.copytree(theirs, other)
    (other / "config.yaml").write_text((other / "config.yaml").read_text().replace("seed: 0", "seed: 1"))
    assert rls3("compare", str(theirs), str(other), "--out", str(out)) == 0
    assert (theirs.parent / "secret.txt").read_bytes() == SECRET and (out / "curves.png").read_bytes()[1:4] == b"PNG"


# Rows


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("by_term", {}, "by_term: should have the keys left, right, front, behind, above, below"),
        (
            "n_by_term",
            dict.fromkeys(TERM_NAMES, -5),
            "n_by_term.left: should",
        ),
        ("by_complexity", {"1": 0.5}, "by_complexity: should have the keys 1, 2, 3"),
        ("n_by_term", dict.fromkeys(TERM_NAMES, 0), "by_term.left is "),
        ("pairwise_accuracy", None, "pairwise_accuracy: should be a valid number, not None"),
        ("pairwise_accuracy", 7.5, "pairwise_accuracy: should be less than or equal to 1, not 7.5"),
        ("set", "", "set: "),
        ("set", "x" * 300, "set: "),
        ("set", "a\x1b[31mb", "set: should have printable characters alone"),
        ("cells", [1, 2], "cells: "),
        ("cells", [10**400] * 26, "cells.0: should be less than or equal to 9007199254740992, not "),
        ("n_steps", 10**4000, "n_steps: should be less than or equal to"),
        ("n_generated", -1, "n_generated: should be greater than or equal to 0, not -1"),
        ("reasons", {f"r{i}": 1 for i in range(100)}, "reasons: "),
        ("losses", {"total": "much"}, "losses.total: should be a valid number, not 'much'"),
        ("seconds", None, "seconds: "),
        ("terms", None, "terms: should be a mapping"),
    ],
)
def test_a_row_that_can_not_be_is_named_by_file_line_and_key(theirs: Path, key: str, value: Any, said: str) -> None:
    change(theirs / "metrics.jsonl", **{key: value})
    with pytest.raises(UserError) as caught:
        read_metrics(theirs / "metrics.jsonl")
    message = str(caught.value)
    assert re.match(rf"{re.escape(str(theirs))}/metrics.jsonl: line \d+: {re.escape(said)}", message), message
    assert "\n" not in message and len(message) < 1600


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("[" * 100_000, "line 1 is not JSON (nested too deep)"),
        ('{"row": "end", "round": ' + "[" * 900 + "]" * 900 + "}", "line 1: "),
        ('{"row": "end", "round": NaN}', "line 1 is not JSON (NaN is no number of JSON)"),
        ('{"row": "end", "round": ' + "9" * 5000 + "}", "line 1 is not JSON"),
        ('{"row": ' + "[" * 500 + "]" * 500 + "}", "line 1: row: should be one of"),
        ('{"row": "end", "x": "' + "x" * 2**20 + '"}', "line 1 is longer than 1,048,576 bytes"),
        ("7", "line 1 is not a JSON object"),
    ],
)
def test_a_line_that_is_no_row_is_named(tmp_path: Path, line: str, said: str) -> None:
    run = RunDirectory(tmp_path)
    run.samples.mkdir()
    for log, read in (run.metrics, read_metrics), (run.sample_lines, lambda _: list(read_samples(run))):
        log.write_text(line + "\n", encoding="utf-8")
        with pytest.raises(UserError) as caught:
            read(log)
        message = str(caught.value)
        assert message.startswith(f"{log}: line 1") and "\n" not in message and len(message) < 1600
        if log == run.metrics:
            assert message.startswith(f"{log}: {said}")


def test_two_thousand_sets_are_too_many_and_it_is_said_at_once(theirs: Path) -> None:
    log = theirs / "metrics.jsonl"
    one = next(row for row in rows(log) if row["row"] == "evaluation")
    log.write_text("".join(json.dumps(one | {"set": f"s{i}"}) + "\n" for i in range(2000)), encoding="utf-8")
    with pytest.raises(UserError, match=r"metrics.jsonl: line 65: set: is one of more than 64 names in this file"):
        write_report(theirs)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("offset", None), ("offset", [1.0]), ("cell", 26), ("objects", [["a", 1, 2]]), ("slot_a", -1),
        ("margin", "big"), ("visible", [2.0]), ("pixels", [-1]), ("caption", 7), ("layout", 0.5), ("file", 3),
        ("round", None),
    ],
)  # fmt: skip
def test_a_sample_that_can_not_be_is_named(theirs: Path, key: str, value: Any) -> None:
    change(as_lines(theirs), **{key: value})
    with pytest.raises(UserError, match=rf"samples.jsonl: line 1: {key}"):
        list(read_samples(RunDirectory(theirs)))


# Checkpoints and small files of a study


def test_arrays_that_unpack_to_more_than_they_are_are_not_read(theirs: Path) -> None:
    final = theirs / "checkpoints" / "final"
    np.savez_compressed(final / "arrays.npz", **{"state.x": np.zeros(10**7)})
    with pytest.raises(ValueError, match="arrays.npz is compressed"):
        load_tree(final)
    with pytest.raises(UserError, match="is not a readable checkpoint"):
        find_vlm(str(theirs))


def test_a_tree_that_is_nested_too_deep_is_one_line(theirs: Path) -> None:
    (theirs / "checkpoints" / "final" / "state.json").write_text("[" * 100_000 + "]" * 100_000)
    with pytest.raises(UserError, match="is not a readable checkpoint"):
        find_vlm(str(theirs))


def test_a_taught_vlm_of_nan_is_refused(theirs: Path) -> None:
    from safetensors.torch import load_file, save_file

    file = theirs / "checkpoints" / "final" / "tensors.safetensors"
    tensors = load_file(file)
    name = next(name for name, tensor in tensors.items() if tensor.is_floating_point())
    tensors[name].view(-1)[0] = float("nan")
    save_file(tensors, file)
    seal(file.parent)
    with pytest.raises(UserError, match="holds values that are not finite"):
        find_vlm(str(theirs))


def test_a_small_file_that_unpacks_to_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rls3_gym.study import archive

    monkeypatch.setattr(archive, "MOST", 10**6)
    path = tmp_path / "random-seed0.json.gz"
    path.write_bytes(gzip.compress(b" " * (10**6 + 1)))
    with pytest.raises(UserError, match=r"holds more than 1,000,000 bytes"):
        read_archive(path)
    path.write_bytes(gzip.compress(b"[" * 100_000))
    with pytest.raises(UserError, match=r"is not JSON \(nested too deep\)"):
        read_archive(path)


@pytest.mark.parametrize(
    "content", ["seed: 0\nagent: random\n", "agent: {name: random}\n", "agent: {name: 7}\nseed: 0\n"]
)
def test_a_run_without_agent_or_seed_is_not_compared(theirs: Path, content: str) -> None:
    (theirs / "config.yaml").write_text(content)
    with pytest.raises(UserError, match="config: (agent.name|seed) should"):
        read_run(theirs)


def test_pictures_of_a_run_are_read_by_their_plain_names(theirs: Path) -> None:
    run, path = RunDirectory(theirs), picture(theirs)
    assert run.read_picture(path.name) == path.read_bytes()
    assert run.read_picture("0" * 20 + ".png") is None
    shown = [shot.image for group in shots_by_round(read_data(theirs)) for shot in group.shots]
    assert "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode() in shown


@pytest.mark.slow
def test_names_are_drawn_as_they_are(theirs: Path) -> None:
    """No formula is looked for in them, and numbers beyond reason do not break a plot."""
    log = theirs / "metrics.jsonl"
    change(log, reasons={"$\\frac{$": 3, "<b>": 2}, losses={"$x_{$": 1e29, "total_last": -1e29}, set="$y^{$")
    page = write_report(theirs).read_text(encoding="utf-8")
    assert "$\\frac{$" in page and "$y^{$" in page
