"""Rows of somebody else's run that can't be of one run together are named, and what they leave out is not drawn."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from experiment_tools import rows
from test_foreign_runs import theirs

from rls3_gym.report.page import write_report
from rls3_registry.errors import UserError

__all__ = ["theirs"]  # a fixture


def test_evaluations_out_of_order_are_named(theirs: Path) -> None:
    log = theirs / "metrics.jsonl"
    log.write_text("".join(json.dumps(row) + "\n" for row in reversed(rows(log))), encoding="utf-8")
    with pytest.raises(UserError, match=r"metrics.jsonl: line \d+: round: is below that of the evaluation on"):
        write_report(theirs)


@pytest.mark.parametrize("key", ["low", "high", "blind", "chance", "n_by_measure"])
def test_a_suite_row_that_lacks_a_part_of_a_measure_is_named(theirs: Path, key: str) -> None:
    log = theirs / "metrics.jsonl"
    last = rows(log)[-1]
    of_measure = {name: {"accuracy": 0.5} for name in ("value", "low", "high", "blind", "chance")}
    of_measure["n_by_measure"] = {"accuracy": 3}
    names = {"suite": "x", "items_hash": "h", "vlm_digest": "d"}
    row = {**last, "row": "suite", **names, **of_measure, "n": 3, "details": {}, "evaluate_seconds": 1.0}
    with log.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n" + json.dumps(row | {key: {}}) + "\n")
    number = len(rows(log))
    with pytest.raises(UserError, match=rf"metrics.jsonl: line {number}: {key} should have the keys of value: acc"):
        write_report(theirs)


def test_a_term_without_items_at_the_end_is_left_out_of_the_bars(theirs: Path) -> None:
    log = theirs / "metrics.jsonl"
    found = rows(log)
    row = [row for row in found if row["row"] == "evaluation"][-1]
    row["n_by_term"]["above"], row["by_term"]["above"] = 0, None
    log.write_text("".join(json.dumps(row) + "\n" for row in found), encoding="utf-8")
    assert write_report(theirs).is_file()
