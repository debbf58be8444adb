"""From the rows of a run to its numbers at a budget, on runs whose numbers can be told by hand."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from experiment_tools import tiny
from study_rows import ABOVE, CELLS, RIGHT, TERMS, made_up, point, totals

from rls3_gym.experiment.same import check_wanted
from rls3_gym.study.archive import load_run, read_archive, write_archive
from rls3_gym.study.numbers import Targets, numbers_of
from rls3_gym.study.run_rows import is_complete, read_run
from rls3_registry.errors import UserError

NO_TARGETS = {"test": Targets()}


def test_accuracy_between_two_evaluations_lies_on_a_straight_line() -> None:
    run = made_up([0.5, 0.6, 0.7])
    found = numbers_of(run, "n_trained", 15, NO_TARGETS)
    assert found["test.pairwise"] == pytest.approx(0.65)
    assert found["test.gain"] == pytest.approx(0.15)
    assert found["test.strict"] == pytest.approx(0.325)
    assert found["test.start"] == 0.5
    assert found["test.worst_term"] == found["test.left"] == found["test.terms_2"] == pytest.approx(0.65)
    assert found["test.nauc"] == pytest.approx((0.05 * 10 + 0.125 * 5) / 15)
    assert numbers_of(run, "n_generated", 30, NO_TARGETS)["test.pairwise"] == pytest.approx(0.65)


def test_beyond_its_end_a_run_has_no_numbers() -> None:
    found = numbers_of(made_up([0.5, 0.6, 0.7]), "n_trained", 21, NO_TARGETS)
    assert math.isnan(found["test.pairwise"]) and math.isnan(found["test.nauc"])
    assert "valid_rate" not in found and "test.n_50" not in found


def test_samples_that_came_after_the_last_fine_tuning_do_not_change_the_vlm() -> None:
    run = made_up([0.5, 0.6], n_generated=35)
    assert numbers_of(run, "n_generated", 35, NO_TARGETS)["test.pairwise"] == pytest.approx(0.6)
    unfinished = made_up([0.5, 0.6], n_generated=35, complete=False)
    assert math.isnan(numbers_of(unfinished, "n_generated", 35, NO_TARGETS)["test.pairwise"])


def test_thresholds_are_shares_of_the_gain_of_stratified_and_censored_at_the_budget() -> None:
    run = made_up([0.5, 0.55, 0.6, 0.62, 0.63])
    found = numbers_of(run, "n_trained", 40, {"test": Targets(gain=0.2)})
    assert (found["test.n_50"], found["test.n_50_reached"]) == (20.0, 1.0)
    assert (found["test.n_80"], found["test.n_80_reached"]) == (40.0, 0.0)


def test_the_end_of_a_run_is_no_evaluation_in_a_row_with_the_last_one() -> None:
    targets = {"test": Targets(gain=0.3, accuracy=0.7)}
    found = numbers_of(made_up([0.5, 0.5, 0.8], n_generated=50), "n_generated", 45, targets)
    assert (found["test.n_80"], found["test.n_80_reached"]) == (45.0, 0.0)
    assert (found["test.efficiency"], found["test.efficiency_reached"]) == (45 / 50, 0.0)


def test_data_efficiency_is_the_budget_over_the_samples_it_took() -> None:
    """As good as `random` is after 40 samples: after 20, so twice as efficient."""
    found = numbers_of(made_up([0.5, 0.55, 0.6, 0.62, 0.63]), "n_trained", 40, {"test": Targets(accuracy=0.6)})
    assert (found["test.efficiency"], found["test.efficiency_reached"]) == (2.0, 1.0)
    never = numbers_of(made_up([0.5, 0.55, 0.5]), "n_trained", 10, {"test": Targets(accuracy=0.6)})
    assert (never["test.efficiency"], never["test.efficiency_reached"]) == (0.5, 0.0)


def test_what_was_sampled_is_counted_until_the_budget() -> None:
    """Rounds of 40 steps and 20 samples: a quarter above in the first, all above in the second."""
    run = made_up([0.5, 0.6, 0.7], rounds=(totals(0, 10, above=5), totals(1, 20, above=20)))
    first, both = (numbers_of(run, "n_trained", n, NO_TARGETS) for n in (10, 20))
    assert first["valid_rate"] == both["valid_rate"] == pytest.approx(0.5)
    assert first["ambiguous_rate"] == pytest.approx(0.1)
    assert (first["vertical_samples"], both["vertical_samples"]) == pytest.approx((0.25, 25 / 40))
    assert (first["vertical_terms"], first["term_right"]) == pytest.approx((0.25, 0.75))
    assert first["cell_entropy"] == pytest.approx(-(0.25 * math.log(0.25) + 0.75 * math.log(0.75)))
    assert first["effective_cells"] == pytest.approx(math.exp(first["cell_entropy"]))
    assert (first["length_1"], first["length_3"]) == (1.0, 0.0)
    assert both["near_duplicates"] == pytest.approx(1 / 40)
    assert numbers_of(run, "n_trained", 15, NO_TARGETS)["vertical_samples"] == pytest.approx((5 + 10) / 30)


def test_the_cost_is_split_into_evaluation_fine_tuning_and_the_rest() -> None:
    found = numbers_of(made_up([0.5, 0.6, 0.7]), "n_trained", 20, NO_TARGETS)
    keys = ("wall_seconds", "evaluate_seconds", "finetune_seconds", "rest_seconds")
    assert [found[key] for key in keys] == pytest.approx([20.0, 8.0, 2.0, 10.0])
    assert "agent_seconds" not in found  # of an older run, whose rows do not say what the rest was


def test_the_rest_of_the_cost_is_split_into_scenes_scoring_and_the_agent() -> None:
    split = {"stage_seconds": 3.0, "score_seconds": 2.0, "cpu_seconds": 30.0}
    rounds = (totals(0, 10, **split), totals(1, 20, **{key: 2 * value for key, value in split.items()}))
    found = numbers_of(made_up([0.5, 0.6, 0.7], rounds=rounds), "n_trained", 20, NO_TARGETS)
    keys = ("rest_seconds", "stage_seconds", "score_seconds", "agent_seconds", "cpu_seconds")
    assert [found[key] for key in keys] == pytest.approx([10.0, 6.0, 4.0, 0.0, 60.0])


def test_targeting_is_positive_when_the_worst_terms_are_sampled_most() -> None:
    errors = dict(zip(TERMS, (0.1, 0.2, 0.3, 0.4, 0.5, 0.6), strict=True))
    before = point(0, 0.6, by_term={term: 1 - error for term, error in errors.items()})
    after = point(10, 0.7, round_=1)
    for order, expected in ((1, 1.0), (-1, -1.0)):
        counts = dict(zip(TERMS, range(1, 7)[::order], strict=True))
        run = made_up([0.5, 0.6], evaluations=(before, after), rounds=(totals(0, 10, terms=counts),))
        assert numbers_of(run, "n_trained", 10, NO_TARGETS)["targeting"] == pytest.approx(expected)


def test_targeting_of_cells_is_positive_when_the_worst_cells_are_sampled_most() -> None:
    accuracy = tuple(1 - 0.02 * cell for cell in range(CELLS - 1)) + (None,)  # of one the set has no item
    before, after = point(0, 0.6, by_cell=accuracy), point(10, 0.7, round_=1)
    for order, expected in ((1, 1.0), (-1, -1.0)):
        made = totals(0, 10, cells=tuple(range(CELLS)[::order]))
        run = made_up([0.5, 0.6], evaluations=(before, after), rounds=(made,))
        assert numbers_of(run, "n_trained", 10, NO_TARGETS)["targeting_cells"] == pytest.approx(expected)
    old = made_up([0.5, 0.6])
    assert "targeting_cells" not in numbers_of(old, "n_trained", 10, NO_TARGETS)


def test_a_vlm_that_never_learns_has_no_numbers_over_what_it_was_trained_on() -> None:
    frozen = made_up([0.5], rounds=(totals(0, 0, finetuned=False, n_generated=20),), n_generated=20)
    assert numbers_of(frozen, "n_generated", 20, NO_TARGETS)["test.pairwise"] == 0.5
    assert numbers_of(frozen, "n_generated", 20, NO_TARGETS)["valid_rate"] == 0.5
    assert "valid_rate" not in numbers_of(frozen, "n_trained", 10, NO_TARGETS)


NO_TERMS = dict.fromkeys(TERMS, 0)


def episode(round_: int, n_generated: int, n_trained: int, n_steps: int, since: float, cell: int) -> dict[str, Any]:
    cells = [0] * CELLS
    cells[cell] = 2
    counts = {"n_generated": n_generated, "n_trained": n_trained, "n_steps": n_steps, "round": round_}
    return {
        "row": "episode", "episode": 1, **counts, "valid_rate": 0.5, "reasons": {"hidden": 2}, "cells": cells,
        "terms": NO_TERMS | {"right": 2}, "complexity": {"1": 2, "2": 0, "3": 0},
        "intrinsic": -0.1, "extrinsic": None, "accuracy": None,
        "pairwise": None, "since_start_seconds": since,
    }  # fmt: skip


def evaluation(round_: int, n: int, pairwise: float) -> dict[str, Any]:
    return {
        "row": "evaluation", "round": round_, "n_generated": n, "n_trained": n, "n_steps": 2 * n, "set": "test",
        "set_hash": "abc", "backend": "b", "vlm_digest": "d", "n": 9, "pairwise_accuracy": pairwise,
        "strict_accuracy": 0.1, "mirrored_accuracy": 0.1, "by_term": dict.fromkeys(TERMS), "n_by_term": NO_TERMS,
        "by_complexity": {"1": None, "2": None, "3": None},
        "worst_term": "left", "evaluate_seconds": 3.0,
    }  # fmt: skip


def run_directory(path: Path, rows: list[dict[str, Any]], samples: list[dict[str, Any]] | None = None) -> Path:
    (path / "samples").mkdir(parents=True)
    (path / "checkpoints").mkdir()
    (path / "config.yaml").write_text(
        yaml.safe_dump({"name": "x", "seed": 3, "agent": {"name": "random"}}), encoding="utf-8"
    )
    for name, lines in (("metrics.jsonl", rows), ("samples/samples.jsonl", samples or [])):
        (path / name).write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


ROWS: list[dict[str, Any]] = [
    evaluation(0, 0, 0.5),
    episode(0, 2, 0, 4, 5.0, RIGHT),
    episode(0, 4, 4, 8, 9.0, ABOVE),
    {
        "row": "finetune",
        "round": 1,
        "n_generated": 4,
        "n_trained": 4,
        "n_samples": 4,
        "optimizer_steps": 1,
        "losses": {},
        "digest_before": "c",
        "digest_after": "d",
        "seconds": 2.0,
        "rolled_back": None,
    },  # fmt: skip
    evaluation(1, 4, 0.6),
    episode(1, 6, 4, 12, 2.0, RIGHT),  # the run was continued here: its clock began again
    {"row": "end", "round": 1, "n_generated": 7, "n_trained": 4, "n_steps": 15},
]


def test_a_run_directory_is_read_round_by_round(tmp_path: Path) -> None:
    run = read_run(run_directory(tmp_path / "run", ROWS))
    first, last = run.rounds
    assert (first.finetuned, first.n_trained, first.cells[RIGHT], first.cells[ABOVE]) == (True, 4, 2, 2)
    assert (first.reasons, first.terms, first.intrinsic) == ({"hidden": 4}, NO_TERMS | {"right": 4}, -0.1)
    assert (first.wall_seconds, first.evaluate_seconds, first.finetune_seconds) == (9.0, 3.0, 2.0)
    assert (last.finetuned, last.wall_seconds, last.evaluate_seconds) == (False, 11.0, 6.0)
    assert (last.stage_seconds, last.score_seconds, last.cpu_seconds) == (None, None, None)
    assert (run.seed, run.sets, run.n_generated, run.complete) == (3, ("test",), 7, True)
    assert [p.pairwise for p in run.curve("test")] == [0.5, 0.6]


def test_what_the_time_of_episodes_went_into_is_added_up(tmp_path: Path) -> None:
    split = {"stage_seconds": 1.0, "score_seconds": 0.5, "cpu_seconds": 3.0}
    rows = [{**row, **split} if row["row"] == "episode" else row for row in ROWS]
    first, last = read_run(run_directory(tmp_path / "run", rows)).rounds
    assert (first.stage_seconds, first.score_seconds, first.cpu_seconds) == (2.0, 1.0, 6.0)
    assert (last.stage_seconds, last.score_seconds, last.cpu_seconds) == (3.0, 1.5, 9.0)


def test_a_sample_in_the_place_of_an_earlier_one_is_a_near_duplicate(tmp_path: Path) -> None:
    def sample(caption: str, x: float, layout: int = 0) -> dict[str, Any]:
        place = {"family": "kitchen", "layout": layout, "offset": [x, 0.0, 0.0]}
        return {"round": 0, "caption": caption, **place}

    samples = [sample("a", 0.50), sample("a", 0.52), sample("a", 0.90), sample("a", 0.50, 1), sample("b", 0.50)]
    (first, _) = read_run(run_directory(tmp_path / "run", ROWS, samples)).rounds
    assert first.near_duplicates == 1
    assert first.caption_entropy == pytest.approx(-(0.8 * math.log(0.8) + 0.2 * math.log(0.2)))


def test_a_run_that_was_cut_off_is_not_complete(tmp_path: Path) -> None:
    assert not is_complete(tmp_path / "nothing")
    path = run_directory(tmp_path / "run", ROWS[:-1])
    assert not is_complete(path) and not read_run(path).complete
    with (path / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"row": "end"')
    assert not is_complete(path)


def test_the_small_file_of_a_run_gives_it_back_and_is_small(tmp_path: Path) -> None:
    run = made_up([0.5 + 0.01 * i for i in range(30)], sets=("test", "test_natural"))
    paths = [tmp_path / name / "run.json.gz" for name in ("a", "b")]
    for path in paths:
        write_archive(run, path)
    assert read_archive(paths[0]) == load_run(paths[1]) == run
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert paths[0].stat().st_size < 60_000


@pytest.mark.parametrize(
    "content",
    [b"", b"text", gzip.compress(b"[]"), gzip.compress(b'{"format": "other"}')],
    ids=["empty", "text", "list", "other"],
)
def test_what_is_no_small_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "run.json.gz"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"run\.json\.gz: (cannot be read|is not JSON|is not the small file of a run)"):
        read_archive(path)


def test_a_small_file_without_an_accuracy_or_out_of_order_is_named(tmp_path: Path) -> None:
    path = tmp_path / "run.json.gz"
    whole = made_up([0.5, 0.6, 0.7])
    write_archive(whole.model_copy(update={"evaluations": whole.evaluations[::-1]}), path)
    with pytest.raises(UserError, match=r"run\.json\.gz: test: round should not fall from one to the next"):
        read_archive(path)
    write_archive(whole.model_copy(update={"rounds": whole.rounds[::-1]}), path)
    with pytest.raises(UserError, match=r"run\.json\.gz: rounds: round should not fall from one to the next"):
        read_archive(path)
    nothing = whole.evaluations[0].model_copy(update={"pairwise": None})
    write_archive(whole.model_copy(update={"evaluations": (nothing,)}), path)
    with pytest.raises(UserError, match=r"run\.json\.gz: evaluations\.0\.pairwise: should be a valid number, not None"):
        read_archive(path)


def test_a_run_of_another_configuration_is_named_with_the_key() -> None:
    now = {"agent": {"name": "random"}, "budget": {"rounds": 3}, "output": "elsewhere", "description": "new"}
    check_wanted({**now, "output": "runs", "description": "old"}, now, Path("x"), "remove it")
    with pytest.raises(UserError, match=r"x: budget\.rounds was 2 when the run was made and is 3 in the study now"):
        check_wanted({**now, "budget": {"rounds": 2}}, now, Path("x"), "remove it")


def test_a_run_from_before_a_key_existed_is_compared_by_its_default() -> None:
    now = tiny().resolved().model_dump(mode="json")
    before = json.loads(json.dumps(now))
    del before["lives"], before["environment"]["proposals"], before["evaluation"]["every"]
    check_wanted(before, now, Path("x"), "remove it")
    other = tiny(lives=2).resolved().model_dump(mode="json")
    with pytest.raises(UserError, match=r"x: lives was 1 when the run was made and is 2 in the study now"):
        check_wanted(before, other, Path("x"), "remove it")
