"""The report page of a real, tiny run, and the contact sheet of the world."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from experiment_tools import TINY, run, sample_rows, tiny
from PIL import Image

from rls3_gym.backends.base import load_backend
from rls3_gym.cli import contact_sheet
from rls3_gym.evalsets.loader import SET_NAMES, set_hash
from rls3_gym.evaluation.metrics import wilson_interval
from rls3_gym.experiment.config import ExperimentConfig
from rls3_gym.report import references
from rls3_gym.report.gallery import shots_by_round
from rls3_gym.report.page import write_report
from rls3_gym.report.references import ReferenceCurve, References, beside
from rls3_gym.runs.rows import EvaluationRow
from rls3_gym.runs.run_data import read_run
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
    assert "How the agent trained" not in page.text  # `random` has nothing to say
    css = re.findall(r"url\((?!#)", (run_directory / "report.html").read_text())
    assert not css


def test_the_page_shows_all_pictures_that_a_run_keeps_of_its_rounds_by_default(tmp_path: Path) -> None:
    wanted = ExperimentConfig.model_fields["images_per_round"].default
    loop = {"steps_per_episode": 16, "episodes_per_round": 3, "train_fraction": 1.0}
    config = tiny(agent="stratified", environment=loop, budget={"rounds": 2}, images_per_round=wanted)
    directory = run(config, tmp_path / "run").directory
    assert [len(group.shots) for group in shots_by_round(read_run(directory))] == [wanted, wanted] == [24, 24]


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
    shown = [row for row in sample_rows(run_directory) if row["file"]]
    assert shown and all(row["caption"] in page.text for row in shown)
    assert all(row["hardest_negative"] in page.text for row in shown if row["correct"] is not None)


def test_a_run_without_a_finished_round_still_has_a_page(copy: Path) -> None:
    first = (copy / "metrics.jsonl").read_text().splitlines()[0]
    (copy / "metrics.jsonl").write_text(first + "\n")
    shutil.rmtree(copy / "samples" / "samples.parquet")
    assert "No round of fine-tuning is finished yet" in Page(write_report(copy)).text
    (copy / "metrics.jsonl").write_text("")
    assert "Nothing has been measured yet" in Page(write_report(copy)).text


def test_every_plot_has_its_numbers_below_it_and_no_figure_stands_beside_a_hole(run_directory: Path) -> None:
    html = write_report(run_directory).read_text(encoding="utf-8")
    grids = [section for section in html.split("<h2>") if '<div class="grid">' in section]
    assert len(grids) == 3
    for figure in re.findall(r"<figure class=\"card.*?</figure>", html, re.DOTALL):
        assert "<svg" in figure and "<td" in figure.split("numbers", 1)[1]
    for grid in grids:
        column = 0
        for wide in re.findall(r'<figure class="card( wide)?">', grid):
            assert not (wide and column), "a figure stands alone in its row"
            column = 0 if wide else 1 - column
        assert column == 0


def test_an_unfinished_round_is_named_and_is_no_point_of_the_plots_by_round(copy: Path) -> None:
    lines = (copy / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    cut = max(i for i, row in enumerate(rows) if row["row"] == "finetune")  # the second round has no fine-tuning now
    (copy / "metrics.jsonl").write_text("\n".join(lines[:cut]) + "\n")
    run = read_run(copy)
    assert [summary.round for summary in run.rounds] == [0]
    assert run.unfinished is not None and run.unfinished.round == 1
    assert run.whole is not None and run.whole.valid == run.rounds[0].valid + run.unfinished.valid
    text = Page(write_report(copy)).text
    assert f"The last {run.unfinished.steps:,} steps" in text
    assert "The run is not complete" in text and "After round 1:" in text


def test_terms_are_compared_with_intervals_that_follow_from_the_items(run_directory: Path) -> None:
    page = Page(write_report(run_directory))
    first, *_, last = read_run(run_directory).metrics.evaluations["validation"]
    for row in (first, last):
        low, high = wilson_interval(row.by_term["left"] or 0.0, row.n_by_term["left"])
        assert f"({100 * low:.0f}–{100 * high:.0f})" in page.text
    assert "before and after" in page.text


def test_the_page_says_when_and_how_long(run_directory: Path) -> None:
    page, spent = Page(write_report(run_directory)), read_run(run_directory).spent
    assert re.search(r"begun 20\d\d-\d\d-\d\d \d\d:\d\d UTC", page.text)
    assert "samples a second" in page.text
    assert list(spent.parts) == ["evaluating", "fine-tuning", "scenes", "scoring"]
    for name, seconds in spent.parts.items():
        assert f"{round(100 * seconds / spent.total)} % {name}" in page.text
    assert "% agent and rest" in page.text and "processor time" in page.text
    assert all(seconds > 0 for seconds in spent.parts.values()) and sum(spent.parts.values()) < spent.total
    assert spent.processor is not None and spent.processor > 0


def test_the_time_of_a_run_that_was_carried_on_is_that_of_all_its_commands(copy: Path) -> None:
    rows = [json.loads(line) for line in (copy / "metrics.jsonl").read_text().splitlines()]
    episodes = [row for row in rows if row["row"] == "episode"]
    for i, row in enumerate(episodes):
        row["since_start_seconds"] = 10.0 * (i % 3 + 1)  # 10, 20, 30, and begun again: 10, 20, 30
    for row in rows:
        if row["row"] == "evaluation":
            row["evaluate_seconds"] = 1.0
    (copy / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read_run(copy).spent.total == 30 + 1 + 30 + 1  # the first evaluation lies before the first episode's end
    assert read_run(copy).spent.parts["evaluating"] == 3


def test_a_run_of_an_older_version_does_not_say_what_the_rest_of_its_time_was(copy: Path) -> None:
    rows = [json.loads(line) for line in (copy / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        for key in ("stage_seconds", "score_seconds", "cpu_seconds"):
            row.pop(key, None)
    (copy / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert list(read_run(copy).spent.parts) == ["evaluating", "fine-tuning"]
    text = Page(write_report(copy)).text
    assert "% scenes, scoring, agent and rest" in text and "processor time" not in text


def test_a_vlm_that_is_never_taught_has_a_page_without_rounds(tmp_path: Path) -> None:
    frozen = {**TINY["environment"], "finetune": False}
    directory = run(tiny(environment=frozen, budget={"n_generated": 6}), tmp_path / "run").directory
    page = Page(directory / "report.html")
    assert "there are no rounds" in page.text and "No round of fine-tuning" not in page.text
    assert page.plots >= 4 and page.pictures


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
    rooms = contact_sheet.write_gallery(tmp_path / "rooms.png", "embedded_cluttered")
    with Image.open(rooms) as sheet:
        alone = np.asarray(sheet)
    assert 48 < len(alone) < len(pixels)
    of_rooms = pixels[: len(alone), : alone.shape[1]]
    assert 0.005 < (alone != of_rooms).any(axis=2).mean() < 0.5


def reference(first: EvaluationRow, **changes: Any) -> ReferenceCurve:
    known = {
        "arm": "stratified", "seeds": 3, "set_hash": first.set_hash, "vlm_digest": first.vlm_digest,
        "backend": first.backend, "n_trained": (0.0, 1000.0), "n_generated": (0.0, 2000.0),
        "middle": (0.5, 0.9), "low": (0.5, 0.85), "high": (0.5, 0.95),
    }  # fmt: skip
    return ReferenceCurve(**(known | changes))


def test_reference_curves_stand_beside_a_run_of_the_same_vlm_items_and_world(
    run_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = read_run(run_directory).metrics.evaluations["validation"][0]
    others = [
        reference(first, arm="other items", set_hash="x"),
        reference(first, arm="other VLM", vlm_digest="y"),
        reference(first, arm="other world", backend="z"),
    ]
    shipped = (References(command="rls3 study x", curves=(reference(first), *others)),)
    monkeypatch.setattr(references, "packaged", lambda: shipped)
    page = Page(write_report(run_directory))
    assert "stratified, validation" in page.text and "In gray" in page.text
    assert not any(other.arm in page.text for other in others)
    (line,) = beside(run_directory)["validation"]
    assert line["arm"] == "stratified" and 0.5 < line["accuracy"] < 0.9


def test_a_run_without_references_has_a_page_without_them(run_directory: Path) -> None:
    assert beside(run_directory) == {"validation": []}
    assert "In gray" not in Page(write_report(run_directory)).text


def test_the_packaged_references_are_of_the_packaged_sets_worlds_and_vlm() -> None:
    hashes = {set_hash(name) for name in SET_NAMES}
    worlds = {load_backend(name, 64).fingerprint for name in ("embedded", "embedded_cluttered")}
    for shipped in references.packaged():
        assert shipped.command.startswith("rls3 study")
        for curve in shipped.curves:
            assert curve.set_hash.split("/")[0] in hashes
            assert curve.vlm_digest == "c05347605523" and curve.backend in worlds
            assert curve.n_trained[0] == 0 and curve.seeds >= 2
