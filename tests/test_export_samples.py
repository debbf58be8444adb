"""The samples of a run as datasets that others load without this package."""

from __future__ import annotations

import hashlib
import io
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from env_parts import tiny_vlm
from experiment_tools import metrics, rows, sample_rows, write_sample_rows
from PIL import Image
from test_cli import rls3

import rls3_gym.export.files
import rls3_gym.export.tables
from rls3_gym.export.dataset import FORMATS, export_samples
from rls3_gym.export.dataset_card import FIELDS, LOADING
from rls3_gym.export.records import Selection
from rls3_gym.scene.captions import negatives, parse
from rls3_gym.scene.layouts import draw_layout
from rls3_gym.scene.relations import RELATIONS
from rls3_gym.suites.catalog import OpenSuite
from rls3_registry.errors import UserError

Record = dict[str, Any]


@pytest.fixture(scope="module")
def exported(taught_run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The run in every format."""
    folder = tmp_path_factory.mktemp("exported")
    for name in FORMATS:
        export_samples(taught_run, folder / name, name)
    return {name: folder / name for name in FORMATS}


def items(folder: Path) -> list[Record]:
    return rows(folder / "items.jsonl")


def files(folder: Path) -> dict[str, str]:
    """Hashes of all files by name."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def test_every_valid_sample_is_there_with_all_that_is_known_of_it(taught_run: Path, exported: dict[str, Path]) -> None:
    made, written = sample_rows(taught_run), items(exported["folder"])
    assert len(written) == len(made) > 10
    for row, item in zip(made, written, strict=True):
        for key in (
            "caption", "correct", "margin", "hardest_negative", "offset", "visible", "pixels", "family", "layout",
            "split", "slot_a", "slot_b", "round", "n_generated", "cell", "scene_key",
        ):  # fmt: skip
            assert item[key] == row[key], key
        assert [list(thing.values()) for thing in item["objects"]] == row["objects"]
        assert item["relation"] == RELATIONS[row["cell"]].label == parse(item["caption"]).relation.label
        camera = draw_layout(row["family"], row["layout"]).camera
        assert tuple(item["camera"].values()) == (*camera.eye, camera.heading, camera.pitch, camera.fov_deg)
        assert item["hardest_negative"] in item["false"] and item["caption"] not in item["false"]
        false = negatives(item["kind_a"], item["kind_b"], np.array(row["offset"]))
        assert item["false"] == [n.caption for n in false] == [n["caption"] for n in item["negatives"]]
        assert {n["change"] for n in item["negatives"]} >= {"opposite", "swapped"}
        assert {n["term"] for n in item["negatives"] if n["change"] == "opposite"} == set(item["terms"])


def test_a_sample_names_the_vlm_that_was_asked_about_it(taught_run: Path, exported: dict[str, Path]) -> None:
    taught = metrics(taught_run, "finetune")
    before = {row["round"] - 1: row["digest_before"] for row in taught}
    assert {item["round"] for item in items(exported["folder"])} == set(before)
    assert all(item["vlm_digest"] == before[item["round"]] for item in items(exported["folder"]))


def test_pictures_that_were_not_kept_are_taken_again_to_the_byte(
    taught_run: Path, exported: dict[str, Path], tmp_path: Path
) -> None:
    """The same run without its pictures: the dataset is the same, the card says how they came about."""
    kept = {row["n_generated"]: row["file"] for row in sample_rows(taught_run) if row["file"] is not None}
    assert 8 < len(kept) < len(sample_rows(taught_run))
    bare = tmp_path / "run"
    shutil.copytree(taught_run, bare)
    for picture in (bare / "samples").glob("*.png"):
        picture.unlink()
    export_samples(bare, tmp_path / "out", "folder")
    for number, file in kept.items():
        again, before = tmp_path / "out" / "images" / f"{number:08d}.png", taught_run / "samples" / file
        assert again.read_bytes() == before.read_bytes()
        assert np.array_equal(np.array(Image.open(again)), np.array(Image.open(before)))
    again_, first = files(tmp_path / "out"), files(exported["folder"])
    assert again_.pop("README.md") != first.pop("README.md") and again_ == first


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_run_gives_the_same_bytes(
    taught_run: Path, exported: dict[str, Path], tmp_path: Path, name: str
) -> None:
    export_samples(taught_run, tmp_path / "again", name)
    assert files(tmp_path / "again") == files(exported[name])


def check_loaded(found: list[tuple[Image.Image, Record]], folder: Path) -> None:
    """What another library has loaded is what the plain folder holds."""
    expected = items(folder)
    assert len(found) == len(expected)
    for (image, record), item in zip(found, expected, strict=True):
        assert np.array_equal(np.array(image), np.array(Image.open(folder / item.pop("image"))))
        assert {key: record[key] for key in item} == item


def test_datasets_loads_it_with_its_pictures_decoded(
    exported: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    loaded = datasets.load_dataset(str(exported["hf"]), split="train", cache_dir=str(tmp_path))
    assert isinstance(loaded.features["image"], datasets.Image)
    check_loaded([(row["image"], row) for row in loaded], exported["folder"])


def test_webdataset_loads_it(exported: dict[str, Path]) -> None:
    import webdataset

    shards = sorted(str(path) for path in exported["webdataset"].glob("*.tar"))
    loaded = webdataset.WebDataset(shards, shardshuffle=False).decode("pil").to_tuple("png", "json")
    check_loaded(list(loaded), exported["folder"])


def test_pandas_loads_the_table(exported: dict[str, Path]) -> None:
    table = pd.read_parquet(exported["parquet"] / "samples.parquet", dtype_backend="pyarrow")
    records = table.to_dict("records")
    check_loaded([(Image.open(io.BytesIO(row.pop("image"))), row) for row in records], exported["folder"])


def test_plain_files_are_a_suite_of_ones_own(exported: dict[str, Path]) -> None:
    loaded = OpenSuite("folder", exported["folder"])
    score = loaded.score(tiny_vlm())
    assert score.n == len(items(exported["folder"]))
    assert score.measures[0].name == "accuracy" and score.measures[0].chance < 0.5


def test_long_datasets_are_cut_into_shards(taught_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rls3_gym.export.files, "SHARD", 7)
    monkeypatch.setattr(rls3_gym.export.tables, "SHARD", 7)
    monkeypatch.setattr(rls3_gym.export.tables, "_GROUP", 3)
    n = len(sample_rows(taught_run))
    shards = -(-n // 7)
    export_samples(taught_run, tmp_path / "tars", "webdataset")
    assert [path.name for path in sorted(tmp_path.glob("tars/*.tar"))] == [f"{i:05d}.tar" for i in range(shards)]
    export_samples(taught_run, tmp_path / "hf", "hf")
    tables = sorted((tmp_path / "hf" / "data").iterdir())
    assert [path.name for path in tables] == [f"train-{i:05d}-of-{shards:05d}.parquet" for i in range(shards)]
    assert [len(pd.read_parquet(path)) for path in tables] == [7] * (shards - 1) + [n - 7 * (shards - 1)]


@pytest.mark.parametrize("name", FORMATS)
def test_the_card_describes_the_rows_and_its_example_loads_them(exported: dict[str, Path], name: str) -> None:
    folder = exported[name]
    card = (folder / "README.md").read_text(encoding="utf-8")
    head = yaml.safe_load(card.split("---")[1])
    assert head["license"] == "apache-2.0" and ("configs" in head) == (name == "hf")
    written = items(exported["folder"])
    left = sum("left" in item["terms"] for item in written)
    two = sum(len(item["terms"]) == 2 for item in written)
    kitchen = sum(item["family"] == "kitchen" for item in written)
    assert f"| term | left | {left} |" in card and f"| number of terms | 2 | {two} |" in card
    assert f"| room family | kitchen | {kitchen} |" in card
    assert f"{sum(item['correct'] for item in written) / len(written):.1%} of the {len(written)} samples" in card
    assert "rls3 run tiny.yaml" in card and "embedded-1-64px-2x" in card
    (example,) = re.findall(r"^```python\n(.*?)^```$", card, re.MULTILINE | re.DOTALL)
    assert example.strip() == LOADING[name].strip()
    code = example.replace("DIR", str(folder))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"(64, 64) {written[0]['caption']} {written[0]['false']}" in done.stdout


def test_every_field_is_described(exported: dict[str, Path]) -> None:
    described = {name for names in FIELDS for name in names.split(", ")}
    assert described == items(exported["folder"])[0].keys()


def test_rounds_and_a_number_choose_samples(taught_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "some"
    words = ("export", str(taught_run), "--format", "folder", "--out", str(out))
    assert rls3(*words, "--rounds", "1:2", "--limit", "3") == 0
    second = [row["n_generated"] for row in sample_rows(taught_run) if row["round"] == 1]
    assert [item["n_generated"] for item in items(out)] == second[:3]
    assert {item["round"] for item in _chosen(taught_run, "1:")} == {1, 2}
    assert {item["round"] for item in _chosen(taught_run, ":1")} == {0}


def _chosen(run_directory: Path, rounds: str) -> list[Record]:
    from rls3_gym.runs.directory import RunDirectory

    return [row.model_dump() for row in Selection.parse(rounds, None).rows(RunDirectory(run_directory))]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--format", "hff"), "--format: unknown format 'hff'; did you mean 'hf'?"),
        (("--format", "hf", "--rounds", "2"), "--rounds 2: must look like a:b"),
        (("--format", "hf", "--rounds", "7:9"), "has no samples of these rounds"),
        (("--format", "hf", "--yes"), "--yes goes with --push"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(
    taught_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    assert rls3("export", str(taught_run), *words, "--out", str(tmp_path / "out")) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_in_it_is_left_alone(
    taught_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    assert rls3("export", str(taught_run), "--format", "hf", "--out", str(tmp_path)) == 2
    assert capsys.readouterr().err.endswith("is there already and not empty; name another folder with --out\n")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is not a run directory of rls3 \(it has no config.yaml"):
        export_samples(tmp_path, tmp_path / "out", "hf")


def changed(run_directory: Path, copy: Path, **values: Any) -> Path:
    """A copy of a run with other values in its first sample."""
    shutil.copytree(run_directory, copy)
    first, *rest = sample_rows(copy)
    write_sample_rows(copy, [{**first, **values}, *rest])
    return copy


def test_rows_that_do_not_hold_together_are_refused(taught_run: Path, tmp_path: Path) -> None:
    cases = {
        "does not bear out 'The pot is": {"caption": "The pot is above the globe."},
        "sample 1: does not describe a scene": {"family": "castle"},
        "sample 1: does not describe a scene (no slot 9)": {"slot_a": 9},
    }
    for number, (said, values) in enumerate(cases.items()):
        with pytest.raises(UserError, match=re.escape(said)):
            export_samples(changed(taught_run, tmp_path / str(number), **values), tmp_path / "out", "folder")
    assert not (tmp_path / "out").exists()


def test_a_row_cannot_bring_in_a_file_from_elsewhere(taught_run: Path, tmp_path: Path) -> None:
    """Neither by a path that leads out of the run, nor by a link."""
    secret = tmp_path / "secret.png"
    Image.new("RGB", (64, 64)).save(secret)
    outside = changed(taught_run, tmp_path / "outside", file="../../secret.png")
    with pytest.raises(UserError, match="'../../secret.png' is not the name of a picture in there"):
        export_samples(outside, tmp_path / "out", "folder")
    linked = changed(taught_run, tmp_path / "linked", file="0123456789abcdef0123.png")
    (linked / "samples" / "0123456789abcdef0123.png").symlink_to(secret)
    with pytest.raises(UserError, match="0123456789abcdef0123.png: is a link"):
        export_samples(linked, tmp_path / "out2", "folder")


def test_a_run_of_another_world_is_refused(taught_run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(taught_run, copy)
    log = copy / "metrics.jsonl"
    log.write_text(log.read_text().replace("embedded-1-64px-2x", "embedded-0-64px-2x"))
    with pytest.raises(UserError, match="were taken in embedded-0-64px-2x, and this package shows embedded-1-64px-2x"):
        export_samples(copy, tmp_path / "out", "folder")


@pytest.mark.parametrize("name", FORMATS)
def test_an_interrupted_export_leaves_nothing(taught_run: Path, tmp_path: Path, name: str) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == 5:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        export_samples(taught_run, tmp_path / "out", name, show=interrupt)
    assert list(tmp_path.iterdir()) == []
