"""The command `rls3`: what it prints, where, and with which exit code."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from experiment_tools import tiny_file

import rls3_registry
from rls3_gym.cli.app import main
from rls3_gym.registration import ENV_IDS
from rls3_gym.scene.catalog import load_catalog
from rls3_gym.scene.relations import Term

COMMANDS = (
    "list", "run", "evaluate", "report", "gallery", "pretrain", "testsets", "study", "compare", "export", "export-vlm",
    "export-world",
)  # fmt: skip


def rls3(*words: str) -> int:
    """Exit code of a command, run in this process."""
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert isinstance(caught.value.code, int)
    return caught.value.code


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert rls3("--help") == 0
    out = capsys.readouterr().out
    assert all(f"\n  {command} " in out for command in COMMANDS)


def test_without_a_command_it_helps(capsys: pytest.CaptureFixture[str]) -> None:
    assert rls3() == 0
    assert "Usage: rls3" in capsys.readouterr().out


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert rls3("--version") == 0
    assert capsys.readouterr().out == f"rls3 {importlib.metadata.version('rls3_gym')}\n"


def test_listing_imports_neither_torch_nor_an_rl_library() -> None:
    code = (
        "import sys\nfrom rls3_gym.cli.app import main\ntry: main(['list', '--json'])\nexcept SystemExit: pass\n"
        "print([m for m in ('torch', 'stable_baselines3', 'tianshou', 'open_clip', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_list_as_json_holds_every_section(capsys: pytest.CaptureFixture[str]) -> None:
    assert rls3("list", "--json") == 0
    found: dict[str, list[dict[str, Any]]] = json.loads(capsys.readouterr().out)
    assert {row["id"] for row in found["ids"]} == set(ENV_IDS)
    assert {row["name"] for row in found["agents"]} >= set(rls3_registry.names("agents"))
    for section in ("vlms", "experiments", "studies", "rooms"):
        assert {row["name"] for row in found[section]} == set(rls3_registry.names(section))
    assert {row["name"] for row in found["objects"]} == {kind.name for kind in load_catalog().kinds}
    assert all(row["description"] for section in ("agents", "vlms", "experiments", "studies") for row in found[section])


@pytest.mark.parametrize("section", ["ids", "agents", "vlms", "backends", "experiments", "studies", "rooms", "objects"])
def test_list_of_one_section_prints_a_table_or_its_rows(section: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert rls3("list", section) == 0
    table = capsys.readouterr().out
    assert rls3("list", section, "--json") == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed and all(str(next(iter(row.values()))).split("/")[0] in table for row in listed)


def test_a_run_ends_with_a_table_before_and_after_per_term_and_the_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = tiny_file(tmp_path, budget={"rounds": 1}), tmp_path / "run"
    assert rls3("run", str(file), "--out", str(out), "--seed", "2") == 0
    said = capsys.readouterr()
    for word in ("before", "after", "change", *(term.name.lower() for term in Term)):
        assert word in said.out
    assert said.out.splitlines()[-1] == f"report: {out / 'report.html'}"
    assert (out / "report.html").is_file()
    assert "round  1" in said.err  # progress is not part of the output
    assert (out / "command.txt").read_text(encoding="utf-8").startswith(f"rls3 run {file} --out {out} --seed 2")

    assert rls3("report", str(out)) == 0
    assert capsys.readouterr().out.strip() == str(out / "report.html")


def test_a_run_with_json_prints_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tiny_file(tmp_path, budget={"n_generated": 1})
    assert rls3("run", str(file), "--set", "agent=stratified", "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["run"] == str(Path("runs", "tiny-stratified-seed0-1"))
    assert summary["sets"]["validation"]["before"]["round"] == 0
    assert (summary["stopped"], summary["resume"]) == (False, None)
    assert Path(summary["report"]).is_file()


def test_names_with_brackets_are_printed_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = tiny_file(tmp_path, budget={"n_generated": 1}), tmp_path / "[red]a[/b] :cat:"
    assert rls3("run", str(file), "--out", str(out)) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[-1] == f"report: {out / 'report.html'}"
    assert said.err.splitlines()[0].endswith(f", in {out}")


def test_evaluate_as_json_gives_presence_and_relations(capsys: pytest.CaptureFixture[str]) -> None:
    assert rls3("evaluate", "--vlm", "tiny", "--set", "validation", "--items", "60", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    for key in ("presence_accuracy", "pairwise_accuracy", "strict_accuracy"):
        assert 0 <= result[key] <= 1, key
    assert set(result["by_term"]) == {term.name.lower() for term in Term}
    assert set(result["by_complexity"]) == {"1", "2", "3"}
    assert 30 <= result["n"] <= 60
    assert (result["vlm"], result["set"]) == ("tiny", "validation")


@pytest.mark.slow
def test_gallery_writes_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "sheet.png"
    assert rls3("gallery", "--out", str(out), "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"path": str(out)}
    assert out.read_bytes().startswith(b"\x89PNG")
