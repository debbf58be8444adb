"""Suites within an experiment: scored with the evaluation sets, written down, and shown in the report."""

from __future__ import annotations

import json
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from experiment_tools import TINY, go_on, metrics, run, tiny
from rich.console import Console
from suite_files import write_folder, write_whatsup

from rls3_gym.cli.tables import print_summary
from rls3_gym.experiment.callbacks import RunCallback
from rls3_gym.experiment.config import ExperimentConfig, parse_config
from rls3_gym.experiment.run import find_vlm, start
from rls3_gym.export.model import export_vlm
from rls3_gym.runs.checkpoints import load_checkpoint, save_checkpoint
from rls3_gym.runs.rows import FinetuneRow, SuiteRow, read_metrics
from rls3_gym.runs.run_data import read_run, summarize
from rls3_gym.study.archive import load_run, write_archive
from rls3_gym.study.compare import compare_runs
from rls3_gym.study.results import write_results
from rls3_gym.suites.catalog import OpenSuite
from rls3_gym.vlm.loading import load_vlm
from rls3_registry.errors import UserError


def with_suites(folder: Path, **changes: Any) -> ExperimentConfig:
    """One round, measured on the held-out set, a folder, What'sUp and the forgetting probe."""
    suites = [
        {"name": "folder", "data": str(write_folder(folder / "own"))},
        {"name": "whatsup_a", "data": str(write_whatsup(folder / "whatsup"))},
    ]
    evaluation = {**TINY["evaluation"], "suites": suites, "forgetting": True}
    return tiny(**{"budget": {"rounds": 1}, "evaluation": evaluation} | changes)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("suites")
    return run(with_suites(folder), folder / "run").directory


def suite_rows(path: Path) -> dict[str, tuple[SuiteRow, ...]]:
    return read_metrics(path / "metrics.jsonl").suites


def test_suites_are_scored_before_and_after_as_the_sets_are(finished: Path) -> None:
    rows = metrics(finished, "suite")
    assert [(row["round"], row["suite"]) for row in rows] == [
        (round_, name) for round_ in (0, 1) for name in ("folder", "whatsup_a", "forgetting")
    ]
    digests = {row["round"]: row["vlm_digest"] for row in metrics(finished, "evaluation")}
    assert digests[0] != digests[1]
    assert all(row["vlm_digest"] == digests[row["round"]] for row in rows)


def test_their_rows_hold_what_the_suite_says_about_that_state_of_the_vlm(finished: Path) -> None:
    suites = read_metrics(finished / "metrics.jsonl").suites
    for vlm, row in zip((load_vlm("tiny"), find_vlm(str(finished))), suites["whatsup_a"], strict=True):
        result = OpenSuite("whatsup_a", finished.parent / "whatsup").score(vlm)
        assert row.items_hash == result.items_hash and row.n == result.n == 8
        assert row.value == {m.name: m.value for m in result.measures}
        assert row.low["set"] == result.measures[2].as_dict()["low"]
        assert row.n_by_measure == {"individual": 8, "pair": 4, "set": 2, "mirrored": 4}
    assert 26 <= suites["forgetting"][0].n <= 2 * 26  # two objects in each of at most `items` pictures


def test_the_report_has_a_table_before_and_after_with_intervals(finished: Path) -> None:
    page = (finished / "report.html").read_text(encoding="utf-8")
    assert "On pictures of others" in page
    (figure,) = re.findall(r"<h3>whatsup_a</h3>.*?</figure>", page, re.DOTALL)
    assert "<details open>" in figure  # a table without a plot is shown at once
    row = read_metrics(finished / "metrics.jsonl").suites["whatsup_a"][-1]
    value, low, high = (100 * (part["individual"] or 0) for part in (row.value, row.low, row.high))
    assert f"{value:.1f} % ({low:.0f}–{high:.0f})" in figure
    assert all(word in figure for word in ("before", "after", "blind", "pair", "mirrored"))
    assert "<h3>forgetting</h3>" in page


def test_the_card_of_the_model_has_them_too(finished: Path, tmp_path: Path) -> None:
    text = (export_vlm(str(finished), tmp_path / "vlm").folder / "README.md").read_text(encoding="utf-8")
    before, after = (rows[i].value["kinds"] for rows in [suite_rows(finished)["forgetting"]] for i in (0, -1))
    n = suite_rows(finished)["forgetting"][0].n_by_measure["kinds"]
    assert f"| forgetting | kinds | {n} | {before:.3f} [" in text and f"| 1 | {after:.3f} [" in text
    assert "| whatsup_a | pair | 4 |" in text and "photographs" not in text
    assert "(a random share of it trained)" in text


def test_the_summary_and_the_tables_have_them(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary = summarize(finished)
    first, last = metrics(finished, "suite")[0], metrics(finished, "suite")[3]
    assert summary["suites"]["folder"]["before"]["value"] == first["value"]
    assert summary["suites"]["folder"]["after"]["value"] == last["value"]
    json.dumps(summary, allow_nan=False)
    table = pq.read_table(finished / "metrics.parquet").to_pylist()
    assert [row["value.individual"] for row in table if row["row"] == "suite" and row["suite"] == "whatsup_a"]
    print_summary(Console(), summary | {"report": "page"})
    said = capsys.readouterr().out
    assert "whatsup_a (8 items)" in said and "95 % interval" in said


def test_the_time_they_take_is_time_for_evaluating(finished: Path) -> None:
    rows = [json.loads(line) for line in (finished / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    spent = sum(row.get("evaluate_seconds", 0.0) for row in rows)
    assert read_run(finished).spent.parts["evaluating"] == pytest.approx(spent)


def test_an_experiment_with_suites_can_be_written_down(tmp_path: Path) -> None:
    config = with_suites(tmp_path)
    assert [suite.name for suite in config.evaluation.suites] == ["folder", "whatsup_a"]
    assert parse_config(yaml.safe_load(config.to_yaml()), "again") == config
    assert tiny().evaluation.suites == () and not tiny().evaluation.forgetting


@pytest.mark.parametrize(
    ("suites", "said"),
    [
        ([{"name": "foldr", "data": "."}], "unknown suite 'foldr'; did you mean 'folder'?"),
        ([{"name": "folder", "data": "nowhere"}], "nowhere: there is no such folder; suite folder expects"),
    ],
)
def test_a_wrong_suite_shows_before_anything_is_written(
    suites: list[dict[str, str]], said: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=re.escape(said)):
        run(tiny(evaluation={"suites": suites}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("suites", "said"),
    [
        ([{"name": "folder", "data": "."}] * 2, "evaluation.suites: should name each suite once"),
        ([{"name": "folder"}], "evaluation.suites.0.data: is missing"),
        ([{"name": "folder", "path": "."}], "unknown key 'evaluation.suites.0.path'"),
    ],
)
def test_a_wrong_setting_is_answered_in_one_line(suites: list[dict[str, str]], said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said)):
        tiny(evaluation={"suites": suites})


class StopAfterTheFirstRound(RunCallback):
    def round_ended(self, row: FinetuneRow) -> None:
        signal.raise_signal(signal.SIGINT)  # as Ctrl-C does: the run saves and stops


def test_a_stopped_run_goes_on_with_the_suites_it_began_with(tmp_path: Path) -> None:
    config, out = with_suites(tmp_path, budget={"rounds": 2}), tmp_path / "run"
    assert start(config, [], out, [StopAfterTheFirstRound()]).stopped
    go_on(config, out)
    assert metrics(out) == metrics(run(config, tmp_path / "whole").directory)
    assert [row["round"] for row in metrics(out, "suite")] == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_a_run_from_before_there_were_suites_can_be_continued(tmp_path: Path) -> None:
    config, out = tiny(budget={"rounds": 2}), tmp_path / "run"
    assert start(config, [], out, [StopAfterTheFirstRound()]).stopped
    checkpoint = load_checkpoint(out / "checkpoints")
    evaluation = {k: v for k, v in checkpoint.state["config"]["evaluation"].items() if k in ("sets", "items", "every")}
    older = {**checkpoint.state, "config": {**checkpoint.state["config"], "evaluation": evaluation}}

    def copied(folder: Path) -> None:
        shutil.copytree(checkpoint.agent, folder, dirs_exist_ok=True)

    save_checkpoint(out / "checkpoints", 10**6, older, copied)
    assert not go_on(config, out).stopped


def test_compare_shows_suites_before_and_after(finished: Path, tmp_path: Path) -> None:
    comparison = compare_runs([str(finished)])
    page = write_results(comparison, tmp_path / "comparison").read_text(encoding="utf-8")
    first, last = (row for row in metrics(finished, "suite") if row["suite"] == "forgetting")
    (measure,) = (change for change in comparison.suites if change.suite == "forgetting")
    assert measure.before.iqm == pytest.approx(first["value"][measure.measure])
    assert measure.after.iqm == pytest.approx(last["value"][measure.measure])
    assert "<h2>Suites</h2>" in page and "forgetting" in page
    kept = json.loads((tmp_path / "comparison" / "summary.json").read_text(encoding="utf-8"))["suites"]
    assert {row["suite"] for row in kept} == {"folder", "whatsup_a", "forgetting"}
    assert kept[0]["before"]["low"] is None  # one run has no interval over runs


def test_a_runs_small_file_keeps_its_suites(finished: Path, tmp_path: Path) -> None:
    small = tmp_path / "one.json.gz"
    write_archive(load_run(finished), small)
    assert load_run(small).suites == load_run(finished).suites != ()
