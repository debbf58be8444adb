"""External suites on the command line: what it prints, and the one line that answers a wrong layout."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from suite_files import WRITERS, blink_row, vsr_line, write_blink, write_folder, write_lines

from rls3_gym.cli.app import main
from rls3_gym.suites.catalog import SUITES, OpenSuite
from rls3_registry.errors import UserError


def rls3(*words: str) -> int:
    """Exit code of a command, run in this process."""
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert isinstance(caught.value.code, int)
    return caught.value.code


def test_json_has_every_number_with_its_interval(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    WRITERS["whatsup_a"](tmp_path)
    words = ("evaluate", "--vlm", "tiny", "--suite", "whatsup_a", "--data", str(tmp_path))
    assert rls3(*words, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["vlm"], result["suite"], result["n"], result["details"]) == ("tiny", "whatsup_a", 8, {})
    assert [m["name"] for m in result["measures"]] == ["individual", "pair", "set", "mirrored"]
    for found in result["measures"]:
        assert set(found) == {"name", "value", "low", "high", "n", "blind", "chance"}
        assert found["low"] <= found["value"] <= found["high"]
    assert rls3(*words, "--items", "4", "--json") == 0
    assert json.loads(capsys.readouterr().out)["n"] == 4


def test_the_table_shows_them_beside_the_blind_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    WRITERS["vsr_zeroshot"](tmp_path)
    assert rls3("evaluate", "--suite", "vsr_zeroshot", "--data", str(tmp_path)) == 0
    said = capsys.readouterr().out
    for word in ("tiny", "vsr_zeroshot", "contrast pairs", "blind", "chance", " to ", "threshold"):
        assert word in said, word


def test_suites_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert rls3("list", "suites", "--json") == 0
    assert {row["name"] for row in json.loads(capsys.readouterr().out)} == set(SUITES)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--suite", "folder"), "--suite names a suite and --data the folder"),
        (("--data", "."), "--suite names a suite and --data the folder"),
        (("--suite", "folder", "--data", ".", "--set", "test"), "--set names a set of this world and --suite one"),
        (("--suite", "foldr", "--data", "."), "unknown suite 'foldr'; did you mean 'folder'?"),
        (("--suite", "folder", "--data", "nowhere"), "nowhere: there is no such folder; suite folder expects items."),
    ],
)
def test_a_wrong_use_is_answered_in_one_line(
    words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert rls3("evaluate", *words) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def _remove(name: str) -> Callable[[Path], None]:
    def remove(folder: Path) -> None:
        path = folder / name
        path.unlink() if path.is_file() else path.rename(folder / "elsewhere")

    return remove


def _change(name: str, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    """Change the content of a JSON file."""

    def rewrite(folder: Path) -> None:
        content = json.loads((folder / name).read_text(encoding="utf-8"))
        (folder / name).write_text(json.dumps(change(content)), encoding="utf-8")

    return rewrite


def _line(name: str, **changes: Any) -> Callable[[Path], None]:
    """Change the first line of a file of JSON lines; a value of ... removes the key."""

    def rewrite(folder: Path) -> None:
        first, *others = (folder / name).read_text(encoding="utf-8").splitlines()
        content = {k: v for k, v in (json.loads(first) | changes).items() if v is not ...}
        (folder / name).write_text("\n".join([json.dumps(content), *others]), encoding="utf-8")

    return rewrite


WHATSUP, ARO, SPLIT = "controlled_images_dataset.json", "visual_genome_relation.json", "splits/zeroshot/"
BLINK = "Spatial_Relation/val-00000-of-00001.parquet"


@pytest.mark.parametrize(
    ("suite", "spoil", "said"),
    [
        ("whatsup_a", _remove(WHATSUP), f"has no file {WHATSUP}; suite whatsup_a expects {WHATSUP} and the folder"),
        ("whatsup_a", _remove("controlled_images"), "has no folder controlled_images; suite whatsup_a expects"),
        ("whatsup_a", _change(WHATSUP, lambda c: {"a": c}), f"{WHATSUP}: should be a list with at least one entry"),
        ("whatsup_a", _change(WHATSUP, lambda c: [c[0] | {"image_path": "data/other/a_left_of_b.jpeg"}]),
         "entry 0: image_path should begin with data/controlled_images/, not 'data/other/"),
        ("whatsup_a", _change(WHATSUP, lambda c: [c[0] | {"image_path": "data/controlled_images/photo.jpeg"}]),
         r"the name of the picture should be object, relation \(left, right, on, under\) and object"),
        ("whatsup_a", _change(WHATSUP, lambda c: [c[0] | {"caption_options": ["a"]}]), "entry 0: caption_options"),
        ("whatsup_a", _change(WHATSUP, lambda c: [{}]), "entry 0: image_path: is missing"),
        ("vsr_zeroshot", _remove(SPLIT + "dev.jsonl"), "has no file splits/zeroshot/dev.jsonl; suite vsr_zeroshot"),
        ("vsr_zeroshot", _remove("images"), "has no folder images"),
        ("vsr_zeroshot", _line(SPLIT + "test.jsonl", label=2), r"test\.jsonl: line 1: label: should be 0 or 1, not 2"),
        ("vsr_zeroshot", _line(SPLIT + "test.jsonl", caption=...), r"test\.jsonl: line 1: caption: is missing"),
        ("vsr_zeroshot", _line(SPLIT + "dev.jsonl", image="none.jpg"), r"line 1: the picture 'none\.jpg' is not in "),
        ("vsr_zeroshot", lambda f: (f / SPLIT / "dev.jsonl").write_text("{"), r"dev\.jsonl: line 1: is not JSON"),
        ("vsr_zeroshot", lambda f: (f / SPLIT / "dev.jsonl").write_text("\n"), r"dev\.jsonl: should have at least one"),
        ("vsr_zeroshot", lambda f: (f / SPLIT / "dev.jsonl").write_bytes(b"\xff\xfe"), r"dev\.jsonl: cannot be read"),
        ("sugarcrepe", _remove("swap_att.json"), "has no file swap_att.json; suite sugarcrepe expects swap_obj.json"),
        ("sugarcrepe", _remove("val2017"), "has no folder val2017"),
        ("sugarcrepe", _change("swap_obj.json", list), r"swap_obj\.json: should be a mapping with at least one entry"),
        ("sugarcrepe", _change("swap_obj.json", lambda c: {"0": 3}), "entry '0': should be a mapping of keys"),
        ("sugarcrepe", _change("swap_obj.json", lambda c: {"0": c["0"] | {"caption": "\ud800"}}),
         "entry '0': caption: should be a valid string"),
        ("aro_relation", _remove(ARO), "has no file visual_genome_relation.json"),
        ("aro_relation", _change(ARO, lambda c: [c[0] | {"bbox_w": 0}]), "entry 0: bbox_w: should be greater than 0"),
        ("blink_spatial", _remove("Spatial_Relation"), "has no folder Spatial_Relation"),
        ("blink_spatial", _remove(BLINK), "has no file Spatial_Relation/val-00000-of-00001.parquet"),
        ("blink_spatial", lambda f: (f / BLINK).write_text("x"), "is not a Parquet file that can be read"),
        ("blink_spatial", lambda f: write_blink(f, [{"idx": "1", "question": "Is it?"}]),
         "has no column image_1, choices, answer; it should have idx, question, image_1, choices, answer"),
        ("blink_spatial", lambda f: write_blink(f, [blink_row(1, "Is it?", "hidden", "on")]),
         r"row 0: choices should be yes and no, and answer \(A\) or \(B\), not \['yes', 'no'\] and 'hidden'"),
        ("folder", _remove("items.jsonl"), "has no file items.jsonl; suite folder expects items.jsonl and the folder"),
        ("folder", _line("items.jsonl", false=[]), r"items\.jsonl: line 1: false: should be a list with at least one"),
        ("folder", _line("items.jsonl", flase=["a"]), "unknown key 'flase'; did you mean 'false'"),
        ("folder", _line("items.jsonl", caption="It is to the right."), "line 1: false has the true caption too"),
    ],
)  # fmt: skip
def test_a_wrong_layout_is_answered_with_what_was_expected_where(
    suite: str, spoil: Callable[[Path], Any], said: str, tmp_path: Path
) -> None:
    WRITERS[suite](tmp_path)
    spoil(tmp_path)
    with pytest.raises(UserError, match=said) as caught:
        OpenSuite(suite, tmp_path)
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


OUT = ["../secret.png", "a/../../secret.png", "..", "/etc/secret.png", "C:\\secret.png", "\\\\host\\secret.png",
       "..\\secret.png", "C:secret.png", "a\0b.png", " "]  # fmt: skip


@pytest.mark.parametrize("reference", OUT)
def test_no_file_can_name_a_picture_outside_the_folder(reference: str, tmp_path: Path) -> None:
    line = {"image": reference, "caption": "A cat.", "false": ["A dog."]}
    write_folder(tmp_path / "suite", [line])
    (tmp_path / "secret.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"line 1: the picture .* should be a relative path without '\.\.'"):
        OpenSuite("folder", tmp_path / "suite")


@pytest.mark.parametrize("suite", ["whatsup_a", "vsr_zeroshot", "sugarcrepe", "aro_relation"])
def test_no_suite_follows_a_path_out_of_its_folder(suite: str, tmp_path: Path) -> None:
    folder = WRITERS[suite](tmp_path / "suite")
    out = {
        "whatsup_a": _change(WHATSUP, lambda c: [c[0] | {"image_path": "data/controlled_images/../../a_on_b.jpeg"}]),
        "vsr_zeroshot": _line(SPLIT + "test.jsonl", image="../../secret.jpg"),
        "sugarcrepe": _change("swap_obj.json", lambda c: {"0": c["0"] | {"filename": "../../secret.jpg"}}),
        "aro_relation": _change(ARO, lambda c: [c[0] | {"image_path": "/secret.jpg"}]),
    }
    out[suite](folder)
    with pytest.raises(UserError, match=r"should be a relative path without '\.\.'"):
        OpenSuite(suite, folder)


def test_the_test_questions_of_blink_are_not_read(tmp_path: Path) -> None:
    folder = write_blink(tmp_path)
    (folder / "Spatial_Relation" / "test-00000-of-00001.parquet").write_bytes(b"not looked at")
    assert len(SUITES["blink_spatial"].load(folder)) == 3


def test_one_split_of_vsr_is_read_and_not_the_other(tmp_path: Path) -> None:
    folder = WRITERS["vsr_zeroshot"](tmp_path)
    write_lines(folder / "splits" / "random" / "dev.jsonl", [vsr_line("on.jpg", "on", 1)])
    write_lines(folder / "splits" / "random" / "test.jsonl", [vsr_line("on.jpg", "under", 0)])
    assert len(SUITES["vsr_random"].load(folder)) == 2
    assert len(SUITES["vsr_zeroshot"].load(folder)) == 7
