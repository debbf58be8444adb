"""The report page of a real, tiny run, and the contact sheet of the world."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from experiment_tools import run, tiny
from PIL import Image

from rls3_gym.cli import contact_sheet
from rls3_gym.evalsets.loader import set_hash
from rls3_gym.report.page import write_report
from rls3_registry.errors import UserError


class Page(HTMLParser):
    """What a page shows and loads."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.words: list[str] = []
        self.links: list[str] = []
        self.pictures: list[str] = []
        self.plots = 0
        self.feed(path.read_text(encoding="utf-8"))
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("src", "href", "xlink:href") and value and not value.startswith("#"):
                (self.pictures if tag == "img" else self.links).append(value)
        self.plots += tag == "svg"

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.fixture(scope="module")
def run_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report") / "small-run"
    return run(tiny(budget={"rounds": 2}), out).directory


@pytest.fixture
def copy(run_directory: Path, tmp_path: Path) -> Path:
    shutil.copytree(run_directory, tmp_path / "copy")
    return tmp_path / "copy"


def test_the_page_holds_everything_and_loads_nothing(run_directory: Path) -> None:
    page = Page(write_report(run_directory))
    assert page.links == []
    assert page.pictures and all(p.startswith("data:image/png;base64,") for p in page.pictures)
    assert page.plots >= 12
    css = re.findall(r"url\((?!#)", (run_directory / "report.html").read_text())
    assert not css


def test_the_page_says_what_was_run_and_what_came_of_it(run_directory: Path) -> None:
    page = Page(write_report(run_directory))
    rows = [json.loads(line) for line in (run_directory / "metrics.jsonl").read_text().splitlines()]
    evaluations = [row for row in rows if row["row"] == "evaluation"]
    for expected in ("small-run", "random", "tiny", set_hash("validation"), "rls3 run tiny.yaml"):
        assert expected in page.text
    for row in (evaluations[0], evaluations[-1]):
        assert row["vlm_digest"] in page.text
        assert f"{100 * row['pairwise_accuracy']:.1f} %" in page.text
    assert f"{rows[-1]['n_generated']:,}" in page.text
    samples = [json.loads(line) for line in (run_directory / "samples" / "samples.jsonl").read_text().splitlines()]
    shown = [row for row in samples if row["file"]]
    assert shown and all(row["caption"] in page.text for row in shown)
    assert all(row["hardest_negative"] in page.text for row in shown if row["correct"] is not None)


def test_a_run_without_a_finished_round_still_has_a_page(copy: Path) -> None:
    first = (copy / "metrics.jsonl").read_text().splitlines()[0]
    (copy / "metrics.jsonl").write_text(first + "\n")
    (copy / "samples" / "samples.jsonl").write_text("")
    assert "No round of fine-tuning is finished yet" in Page(write_report(copy)).text
    (copy / "metrics.jsonl").write_text("")
    assert "Nothing has been measured yet" in Page(write_report(copy)).text


def test_a_line_still_being_written_is_left_for_later_and_a_broken_one_is_named(copy: Path) -> None:
    with (copy / "metrics.jsonl").open("a") as metrics:
        metrics.write('{"row": "epis')
    write_report(copy)
    with (copy / "metrics.jsonl").open("a") as metrics:
        metrics.write("\n")
    with pytest.raises(UserError, match=r"metrics\.jsonl: line \d+ is not JSON"):
        write_report(copy)


def test_a_picture_that_is_gone_is_said_to_be(copy: Path) -> None:
    for picture in (copy / "samples").glob("*.png"):
        picture.unlink()
    page = Page(write_report(copy))
    assert page.pictures == [] and "picture not found" in page.text


def test_captions_are_text_not_markup(copy: Path) -> None:
    config = (copy / "config.yaml").read_text()
    (copy / "config.yaml").write_text(config + "description: '<b>bold</b>'\n" if "description" not in config else
                                      re.sub(r"description: .*", "description: '<b>bold</b>'", config))  # fmt: skip
    assert "<b>bold</b>" in Page(write_report(copy)).text


@pytest.mark.parametrize("missing", ["config.yaml", "metrics.jsonl"])
def test_a_folder_that_is_no_run_is_one_clear_line(copy: Path, missing: str) -> None:
    (copy / missing).unlink()
    with pytest.raises(UserError, match=f"is not a run directory of rls3 .*{missing}"):
        write_report(copy)
    with pytest.raises(UserError, match="there is no such run directory"):
        write_report(copy / "nowhere")


def test_the_gallery_shows_every_room_and_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contact_sheet, "LAYOUTS", 1)
    monkeypatch.setattr(contact_sheet, "ROOM_SIZE", 48)
    monkeypatch.setattr(contact_sheet, "OBJECT_SIZE", 48)
    monkeypatch.setattr(contact_sheet, "INSET", 16)
    path = contact_sheet.write_gallery(tmp_path / "contact_sheet.png")
    with Image.open(path) as sheet:
        pixels = np.asarray(sheet)
    assert sheet.format == "PNG" and pixels.shape[0] > 5 * 48 and pixels.shape[1] >= 7 * 48
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 1000
