"""The rows of a run's logs, what is counted and chosen for them, and the reading that checks them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from rls3_gym.experiment.budget import Budget
from rls3_gym.experiment.config import BudgetConfig
from rls3_gym.experiment.recorder import PictureChoice
from rls3_gym.runs.codec import load_tree, save_tree
from rls3_gym.runs.json_lines import JsonLines
from rls3_gym.runs.row_values import TERM_NAMES
from rls3_gym.runs.rows import EndRow, EpisodeRow, FinetuneRow, Row, read_metrics
from rls3_registry.errors import UserError

CELLS = (2, *[0] * 25)


def episode(**changes: Any) -> EpisodeRow:
    content: dict[str, Any] = {
        "episode": 1, "round": 0, "n_generated": 2, "n_trained": 0, "n_steps": 3, "valid_rate": 2 / 3,
        "reasons": {"hidden": 1}, "terms": dict.fromkeys(TERM_NAMES, 0) | {"left": 2}, "cells": CELLS,
        "complexity": {"1": 2, "2": 0, "3": 0}, "intrinsic": -0.1,
        "extrinsic": 0.2, "accuracy": None, "pairwise": 0.5, "since_start_seconds": 1.0,
    }  # fmt: skip
    return EpisodeRow.model_validate(content | changes)


def finetune(**changes: Any) -> FinetuneRow:
    content: dict[str, Any] = {
        "round": 1, "n_generated": 2, "n_trained": 2, "n_samples": 2, "optimizer_steps": 1,
        "losses": {"total_last": 0.5}, "digest_before": "a", "digest_after": "b", "seconds": 0.1, "rolled_back": None,
    }  # fmt: skip
    return FinetuneRow.model_validate(content | changes)


def write(path: Path, *rows: Row) -> Path:
    log = JsonLines(path)
    for row in rows:
        log.append(row)
    log.close()
    return path


def test_rows_are_read_as_they_were_written(tmp_path: Path) -> None:
    rows = (episode(), finetune(), EndRow(round=1, n_generated=2, n_trained=2, n_steps=3))
    metrics = read_metrics(write(tmp_path / "metrics.jsonl", *rows))
    assert metrics.rows == rows
    assert metrics.episodes == rows[:1] and metrics.finetunes == rows[1:2] and metrics.end == rows[2]
    assert metrics.counts == {"round": 1, "n_generated": 2, "n_trained": 2, "n_steps": 3}


def test_the_first_key_of_a_line_says_which_row_it_is(tmp_path: Path) -> None:
    path = write(tmp_path / "metrics.jsonl", episode(), finetune())
    assert [next(iter(json.loads(line))) for line in path.read_text().splitlines()] == ["row", "row"]


def test_numpy_numbers_and_numbers_that_are_not_finite_become_jsons_own(tmp_path: Path) -> None:
    odd = episode(n_steps=np.int64(3), valid_rate=np.float32(0.5), cells=np.array(CELLS), extrinsic=float("nan"))
    assert (odd.n_steps, odd.valid_rate, odd.cells, odd.extrinsic) == (3, 0.5, CELLS, None)
    lost = finetune(losses={"total_last": float("inf")})
    (read,) = read_metrics(write(tmp_path / "metrics.jsonl", lost)).finetunes
    assert read.losses == {"total_last": None}


def test_what_a_message_takes_from_a_file_does_not_steer_the_terminal() -> None:
    assert str(UserError("a\x1b[31mb\nc\x07")) == "a\ufffd[31mb c\ufffd"
    assert len(str(UserError("x" * 10**6))) < 1600


def test_rows_cannot_be_changed_and_take_no_key_they_do_not_have() -> None:
    with pytest.raises(ValidationError):
        episode().round = 3  # type: ignore[misc]
    with pytest.raises(ValidationError):
        episode(kind="episode")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            '{"row": "epoch"}',
            "line 2: row: should be one of episode, agent, finetune, evaluation, suite, life, warning, end, not",
        ),
        ('{"round": 1}', r"line 2: row: should be one of .*, not None"),
        ('{"row": "end", "round": 1.5, "n_generated": 2, "n_trained": 2, "n_steps": 3}', "line 2: round: should be a"),
        ('{"row": "end", "round": 1, "n_generated": 2, "n_trained": 2}', "line 2: n_steps: is missing"),
        ('{"row": "end", "kind": 1, "round": 1, "n_generated": 2, "n_trained": 2}', "line 2: unknown key 'kind'"),
        ("[1]", "line 2 is not a JSON object"),
        ("{", "line 2 is not JSON"),
    ],
)
def test_a_line_that_is_no_such_row_is_named(tmp_path: Path, line: str, said: str) -> None:
    path = write(tmp_path / "metrics.jsonl", episode())
    with path.open("a") as log:
        log.write(line + "\n")
    with pytest.raises(UserError, match=rf"metrics\.jsonl: {said}"):
        read_metrics(path)


def test_a_last_line_without_its_end_is_of_a_run_that_still_writes(tmp_path: Path) -> None:
    path = write(tmp_path / "metrics.jsonl", episode())
    with path.open("a") as log:
        log.write('{"row": "end", "round": 1, "n_gen')
    assert read_metrics(path).rows == (episode(),)


# The budget


def test_arrays_and_tensors_of_a_tree_keep_apart_whatever_its_keys_are(tmp_path: Path) -> None:
    tree: dict[Any, Any] = {
        "a": {"b": np.zeros(2), "c": torch.zeros(2)}, "a.b": np.ones(3), "a.c": torch.ones(3),
        "n": {1: np.zeros(4), "1": np.ones(4)},
    }  # fmt: skip
    save_tree(tree, tmp_path)
    again = load_tree(tmp_path)
    for first, second in ((tree, again), (tree["a"], again["a"]), (tree["n"], again["n"])):
        for key in set(first) - {"a", "n"}:
            np.testing.assert_array_equal(first[key], second[key])


def spent(limits: dict[str, int], early_stopped: bool = False, **counts: int) -> Budget:
    budget = Budget(BudgetConfig(**limits))
    zero = dict.fromkeys(("round", "n_generated", "n_trained", "n_steps"), 0)
    budget.spend(zero | counts | {"early_stopped": early_stopped})
    return budget


def test_a_budget_is_spent_at_the_first_limit_or_when_teaching_has_stopped_early() -> None:
    both = {"n_generated": 10, "rounds": 3}
    assert not spent(both, n_generated=9, round=2).complete
    assert spent(both, n_generated=10, round=1).complete
    assert spent(both, n_generated=5, round=3).complete
    assert spent(both, early_stopped=True).complete


def test_a_budget_goes_on_from_its_state() -> None:
    before = spent({"rounds": 3}, early_stopped=True, round=2, n_steps=7)
    after = Budget(BudgetConfig(rounds=3), json.loads(json.dumps(before.state())))
    assert after.counts == before.counts and after.complete


# The choice of pictures


def picture(i: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.full((2, 2, 3), i % 251, np.uint8)


@pytest.mark.parametrize("limit", [1, 2, 4, 24])
def test_all_wanted_pictures_are_chosen_and_lie_evenly_however_long_the_round(limit: int) -> None:
    for n in [*range(3 * limit + 2), 1000]:
        choice = PictureChoice(limit)
        for i in range(n):
            choice.offer(i, picture(i))
        chosen = choice.chosen()
        assert len(chosen) == min(n, limit)
        assert all(np.array_equal(rgb, picture(place)) for place, rgb in chosen.items())
        places = [*chosen, n]
        gaps = np.diff(places)
        assert list(chosen) == sorted(chosen) and (n == 0 or places[0] == 0)
        assert n == 0 or gaps.max() <= 3 * max(1, n / limit), (n, gaps)


@given(st.integers(30, 1500), st.integers(0, 700))
def test_all_wanted_pictures_are_chosen_when_some_samples_wait_for_the_next_round(n: int, waiting: int) -> None:
    choice = PictureChoice(24)
    for i in range(n):
        choice.offer(i, picture(i))
    others = set(range(n - min(waiting, n // 2), n))  # of lanes whose episodes are not over
    chosen = choice.chosen(others)
    assert not others & set(chosen)
    assert len(chosen) == min(24, n - len(others))


def test_no_picture_is_chosen_when_none_is_wanted() -> None:
    choice = PictureChoice(0)
    choice.offer(0, picture(0))
    assert choice.chosen() == {}


@pytest.mark.parametrize("cut", [0, 3, 8, 21])
def test_a_choice_goes_on_from_a_checkpoint(tmp_path: Path, cut: int) -> None:
    whole, first = PictureChoice(4), PictureChoice(4)
    for i in range(50):
        whole.offer(i, picture(i))
    for i in range(cut):
        first.offer(i, picture(i))
    save_tree(first.state(), tmp_path)
    second = PictureChoice(4, load_tree(tmp_path))
    for i in range(cut, 50):
        second.offer(i, picture(i))
    assert list(second.chosen()) == list(whole.chosen())
    for mine, other in zip(second.chosen().values(), whole.chosen().values(), strict=True):
        assert np.array_equal(mine, other)
