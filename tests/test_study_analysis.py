"""Arms compared: intervals, paired differences, and the tables, figures and page made of them."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import trim_mean
from study_rows import made_up, point

import rls3_gym
from rls3_gym.experiment.config import load_config
from rls3_gym.report.references import References
from rls3_gym.study.analysis import Analysis, ArmAtBudget, Arms, Comparison, analyze
from rls3_gym.study.archive import write_archive
from rls3_gym.study.compare import compare_runs
from rls3_gym.study.numbers import accuracy_at
from rls3_gym.study.results import as_csv, summary, write_results
from rls3_gym.study.run_rows import RunRows, SuitePoint
from rls3_gym.study.study_figures import curves_figure, looks, save_png
from rls3_gym.study.study_tables import accuracy_table, learning_table, suite_table
from rls3_gym.study.suite_changes import suite_changes
from rls3_registry.errors import UserError

LUCK = np.random.default_rng(0).normal(scale=0.02, size=6)
"""What the runs of a seed have in common."""


def arms(better: float = 0.05, seeds: int = 6) -> Arms:
    """`random`; `stratified`, better by 0.1 than it; `sac`, better by `better`, with one seed less."""
    made = {
        name: [made_up([0.5, 0.6 + gain + luck, 0.7 + gain + luck], seed, name) for seed, luck in enumerate(LUCK)]
        for name, gain in (("random", 0.0), ("stratified", 0.1), ("sac", better))
    }
    return {name: runs[: seeds - (name == "sac")] for name, runs in made.items()}


def line(analysis: Analysis, arm: str, budget: int = 20, axis: str = "n_trained") -> ArmAtBudget:
    (found,) = (x for x in analysis.arms if (x.arm, x.budget, x.axis) == (arm, budget, axis))
    return found


@pytest.fixture(scope="module")
def analysis() -> Analysis:
    return analyze(arms(), ["test"], {"n_trained": [10, 20], "n_generated": [20]}, ["random", "stratified"])


def test_paired_differences_cancel_what_seeds_share(analysis: Analysis) -> None:
    own = line(analysis, "sac").numbers["test.pairwise"]
    gap = line(analysis, "sac").differences["random"]["test.pairwise"]
    assert own.high - own.low > 0.01
    assert (gap.interval.iqm, gap.interval.low, gap.interval.high) == pytest.approx((0.05, 0.05, 0.05))
    assert (own.runs, gap.interval.runs) == (5, 5)


def test_p_is_corrected_over_the_arms_that_meet_one_baseline(analysis: Analysis) -> None:
    """Six seeds of one sign give 2/64, five 2/32; the smaller is doubled, the larger may not be below it."""
    by_arm = {arm: line(analysis, arm).differences["random"]["test.pairwise"] for arm in ("stratified", "sac")}
    assert (by_arm["stratified"].p, by_arm["sac"].p) == pytest.approx((2 / 64, 2 / 32))
    assert (by_arm["stratified"].p_holm, by_arm["sac"].p_holm) == pytest.approx((4 / 64, 4 / 64))


def test_an_arm_is_not_compared_with_itself(analysis: Analysis) -> None:
    assert set(line(analysis, "random").differences) == {"stratified"}
    assert set(line(analysis, "sac").differences) == {"random", "stratified"}


def test_both_axes_are_compared_at_their_own_budgets(analysis: Analysis) -> None:
    assert line(analysis, "random", 20, "n_generated").numbers["test.pairwise"].iqm == pytest.approx(
        line(analysis, "random", 10, "n_trained").numbers["test.pairwise"].iqm
    )
    assert len(analysis.runs) == 3 * (6 + 6 + 5)


def test_the_target_of_the_thresholds_is_what_stratified_gained(analysis: Analysis) -> None:
    numbers = line(analysis, "stratified").numbers
    gain = numbers["test.gain"].mean
    assert gain == pytest.approx(0.3 + LUCK.mean())
    assert numbers["test.n_50"].mean == pytest.approx(10.0)
    without = analyze({"sac": arms()["sac"]}, ["test"], {"n_trained": [20]}, [])
    assert "test.n_50" not in line(without, "sac").numbers


def test_the_same_runs_give_the_same_analysis(analysis: Analysis) -> None:
    again = analyze(arms(), ["test"], {"n_trained": [10, 20], "n_generated": [20]}, ["random", "stratified"])
    assert repr(again) == repr(analysis)


def test_a_run_that_ended_too_early_is_left_out_of_a_budget() -> None:
    short = {"random": [made_up([0.5, 0.6], 0), *arms()["random"][1:]]}
    found = line(analyze(short, ["test"], {"n_trained": [20]}, []), "random").numbers["test.pairwise"]
    assert found.runs == 5 and math.isfinite(found.low)


def test_runs_on_other_items_do_not_compare() -> None:
    other = made_up([0.5, 0.6], 0, evaluations=(point(0, 0.5, set_hash="other"), point(10, 0.6, 1, set_hash="other")))
    with pytest.raises(UserError, match=r"arm b, seed 0: was measured on test other of 100 items .* others on test ha"):
        analyze({"a": [made_up([0.5, 0.6])], "b": [other]}, ["test"], {"n_trained": [10]}, [])
    with pytest.raises(UserError, match="arm a: has two runs of seed 0"):
        analyze({"a": [made_up([0.5, 0.6])] * 2}, ["test"], {"n_trained": [10]}, [])
    with pytest.raises(UserError, match="arm a, seed 0: was not measured on validation"):
        analyze({"a": [made_up([0.5, 0.6])]}, ["validation"], {"n_trained": [10]}, [])


def comparison(analysis: Analysis, **changes: object) -> Comparison:
    known = {"name": "mini", "description": "a <study>", "arms": arms(), "analysis": analysis}
    commands = {arm: f"rls3 run default --set agent={arm}" for arm in arms()}
    return Comparison(**{**known, "command": "rls3 study mini", "commands": commands, **changes})  # type: ignore[arg-type]


def test_results_csv_has_a_row_for_each_run_and_budget(analysis: Analysis) -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(analysis))))
    assert len(rows) == len(analysis.runs)
    row = next(r for r in rows if (r["arm"], r["seed"], r["axis"], r["budget"]) == ("random", "2", "n_trained", "20"))
    assert float(row["test.pairwise"]) == pytest.approx(0.7 + LUCK[2], abs=1e-5)


def test_the_summary_is_json_without_nan(analysis: Analysis) -> None:
    text = json.dumps(summary(comparison(analysis)), allow_nan=False)
    found = json.loads(text)
    (row,) = (b for b in found["budgets"] if (b["arm"], b["axis"], b["budget"]) == ("sac", "n_trained", 20))
    assert row["differences"]["random"]["test.pairwise"]["iqm"] == pytest.approx(0.05)
    assert found["sets"] == {"test": {"hash": "hash of test", "items": 100, "backend": "embedded"}}
    assert found["seeds"]["sac"] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("pairs", "found"), [(5, ["", ""]), (10, ["up", "up"])])
def test_a_difference_is_weighed_against_its_interval_its_p_and_the_noise_floor(pairs: int, found: list[str]) -> None:
    """Five pairs can't give a p below 0.05, however far the interval is from 0."""
    made = {name: [made_up([0.5, y, y], seed, name) for seed in range(pairs)] for name, y in (("a", 0.6), ("b", 0.65))}
    analysis = analyze(made, ["test"], {"n_trained": [10, 20]}, ["a"])

    def weights(noise_floor: float | None) -> list[str]:
        table = accuracy_table(analysis, "n_trained", "test", noise_floor)
        column = table.head.index("points to a")
        return [row[column].weight for row in table.rows if row[1].text == "b"]

    assert line(analysis, "b").differences["a"]["test.pairwise"].interval.low > 0.04
    assert weights(None) == weights(0.04) == found
    assert weights(0.06) == ["", ""]


def test_a_censored_number_says_how_many_runs_came_to_it(analysis: Analysis) -> None:
    table = learning_table(analysis, "n_trained", "test")
    column = table.head.index("samples to 80 %")
    cells = {row[1].text: row[column] for row in table.rows[-3:]}
    assert (cells["random"].text, cells["random"].more) == ("≥ 20", "0% came to it")


def test_the_page_stands_alone_and_says_what_repeats_it(analysis: Analysis, tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    page = write_results(comparison(analysis, noise_floor=0.004, missing=2), first)
    text = page.read_text(encoding="utf-8")
    assert "a &lt;study&gt;" in text and "2 runs of the study still to be made" in text
    assert "rls3 run default --set agent=sac" in text and "hash of test" in text and "±0.4 points" in text
    assert not re.findall(r'(?:src|href)="(?!#|data:)', text.replace('xlink:href="#', ""))
    assert text.count("<svg") == 4
    write_results(comparison(analysis, noise_floor=0.004, missing=2), second)
    names = ["curves.png", "references.json", "results.csv", "study.html", "summary.json"]
    assert sorted(p.name for p in first.iterdir()) == names
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in names)


def test_arms_differ_by_marker_and_baselines_are_gray() -> None:
    names = [f"arm{i}" for i in range(10)]
    shown = looks(["random", *names, "stratified"], ["random", "stratified"])
    assert len({look.marker for look in shown.values()}) == 12
    assert len({(look.color, look.marker) for look in shown.values()}) == 12

    def is_gray(color: str) -> bool:
        return len({color[1:3], color[3:5], color[5:7]}) == 1

    assert {name for name, look in shown.items() if is_gray(look.color)} == {"random", "stratified"}


def test_the_small_figure_shows_some_arms_on_the_first_set_with_markers_where_they_were_evaluated(
    analysis: Analysis, tmp_path: Path
) -> None:
    write_results(comparison(analysis, headline=("random", "sac")), tmp_path)
    assert (tmp_path / "headline.png").read_bytes().startswith(b"\x89PNG")
    runs = [made_up([0.5, 0.6, 0.7], seed=seed) for seed in range(2)]
    found = analyze({"sac": runs}, ["test"], {"n_trained": [10]}, [])
    (panel,) = curves_figure({"sac": runs}, found, ("n_trained",)).axes
    (line,) = [line for line in panel.lines if line.get_label() == "sac"]
    x, y = (np.asarray(data)[line.get_markevery()] for data in line.get_data())
    assert (x.tolist(), y.tolist()) == ([0.0, 10.0, 20.0], pytest.approx([0.5, 0.6, 0.7]))
    assert 0.5 < panel.get_ylim()[0] < 0.6 and "before: 50%" in [text.get_text() for text in panel.texts]


def test_curves_are_drawn_for_one_run_and_for_a_vlm_that_never_learns(tmp_path: Path) -> None:
    frozen = made_up([0.5], agent="frozen", n_generated=30)
    few: Arms = {"one": [made_up([0.5, 0.6])], "frozen": [frozen]}
    found = analyze(few, ["test"], {"n_trained": [10], "n_generated": [20]}, [])
    figure = curves_figure(few, found)
    save_png(figure, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert {text.get_text() for legend in figure.legends for text in legend.get_texts()} == {"one", "frozen"}


def keep(folder: Path, arms: Arms) -> list[str]:
    paths = []
    for arm, runs in arms.items():
        for run in runs:
            path = folder / f"{arm}-{run.seed}.json.gz"
            write_archive(run, path)
            paths.append(str(path))
    return paths


def scored(before: float, after: float, seed: int = 0, items: str = "x") -> RunRows:
    """A run with a suite of one measure before and after, and one scoring between that does not count."""
    points = [
        SuitePoint(suite="s", items_hash=items, round=i, n_trained=10 * i, value={"accuracy": value, "never": None})
        for i, value in enumerate((before, 0.0, after))
    ]
    return made_up([0.5, 0.6], seed, suites=tuple(points))


def test_suites_are_compared_run_by_run_before_and_after() -> None:
    runs = [scored(0.5, 0.7, 0), scored(0.1, 0.3, 1), scored(0.9, 0.8, 2)]
    change, never = suite_changes({"a": runs, "b": [made_up([0.5, 0.6])]})
    assert (change.suite, change.measure, change.arm, change.change.runs) == ("s", "accuracy", "a", 3)
    assert change.before.mean == pytest.approx(0.5)
    assert change.change.mean == pytest.approx(0.1)
    assert change.change.low <= 0.1 <= change.change.high
    assert never.change.runs == 0
    table = suite_table((change, never))
    assert [str(cell) for cell in table.rows[1]][3:] == ["–", "–", "–"]
    with pytest.raises(UserError, match="scored on items y of suite s, others on x"):
        suite_changes({"a": [scored(0.5, 0.7), scored(0.5, 0.7, 1, "y")]})


def test_runs_are_sorted_into_arms_by_agent(tmp_path: Path) -> None:
    found = compare_runs(keep(tmp_path, arms()))
    assert {arm: len(runs) for arm, runs in found.arms.items()} == {"random": 6, "stratified": 6, "sac": 5}
    assert found.analysis.baselines == ("random", "stratified")
    assert {(x.axis, x.budget) for x in found.analysis.arms} == {
        ("n_trained", 10), ("n_trained", 20), ("n_generated", 20), ("n_generated", 40),
    }  # fmt: skip
    assert found.commands["sac"] == "rls3 run x --set agent=sac --seed 0"  # without the place it was made in


def test_runs_of_one_agent_with_other_settings_are_arms_of_their_own(tmp_path: Path) -> None:
    low, high = ({"environment": {"extrinsic": name, "image_size": 64}} for name in ("cell_error", "sample_error"))
    runs = [made_up([0.5, 0.6], seed, "sac", config=c) for c in (low, high) for seed in (0, 1)]
    paths = keep(tmp_path, {f"r{i}": [run] for i, run in enumerate(runs)})
    assert {arm: len(found) for arm, found in compare_runs(paths).arms.items()} == {
        "sac environment.extrinsic=cell_error": 2,
        "sac environment.extrinsic=sample_error": 2,
    }


def test_a_run_from_before_a_key_existed_belongs_to_the_arm_of_those_after(tmp_path: Path) -> None:
    old = {"budget": {"rounds": 2}}
    new: dict[str, object] = {**old, "lives": 1, "environment": {"num_envs": 1}}
    runs = [made_up([0.5, 0.6], seed, config=config) for seed, config in enumerate((old, new))]
    found = compare_runs(keep(tmp_path, {"random": runs}))
    assert {arm: len(runs) for arm, runs in found.arms.items()} == {"random": 2}


def test_arms_may_be_named_by_hand(tmp_path: Path) -> None:
    paths = keep(tmp_path, {"random": arms()["random"][:2], "sac": arms()["sac"][:2]})
    found = compare_runs([f"{name}={path}" for name, path in zip("aabb", paths, strict=True)], ["a"])
    assert list(found.arms) == ["a", "b"] and found.analysis.baselines == ("a",)
    assert found.command.startswith("rls3 compare a=") and found.command.endswith(" --baseline a")
    with pytest.raises(UserError, match="--baseline: unknown arm 'c'"):
        compare_runs(paths, ["c"])
    with pytest.raises(UserError, match="there is no such run directory"):
        compare_runs([str(tmp_path / "nowhere")])


def test_the_command_of_an_arm_names_no_place(tmp_path: Path) -> None:
    run = made_up([0.5, 0.6], command="rls3 run x --out=somewhere/else --seed 0")
    assert compare_runs(keep(tmp_path, {"random": [run]})).commands == {"random": "rls3 run x --seed 0"}


def test_the_curves_of_random_and_stratified_are_kept_for_reports(analysis: Analysis, tmp_path: Path) -> None:
    made = comparison(analysis)
    write_results(made, tmp_path)
    kept = References.model_validate_json((tmp_path / "references.json").read_text(encoding="utf-8"))
    assert {curve.arm for curve in kept.curves} == {"random", "stratified"} & set(made.arms)
    for curve in kept.curves:
        assert (
            curve.set_hash == "hash of test" and curve.vlm_digest == "c0" and curve.seeds == len(made.arms[curve.arm])
        )
        expected = interquartile([accuracy_at(run, "test", "n_trained", 20) for run in made.arms[curve.arm]])
        at = curve.at(20)
        assert at is not None and at[0] == pytest.approx(expected, abs=2e-4) and at[1] <= at[0] <= at[2]
        assert np.interp(20, curve.n_trained, curve.n_generated) == pytest.approx(40)
        assert curve.at(10_000) is None
        assert curve.at(round(1.04 * curve.n_trained[-1])) == curve.at(round(curve.n_trained[-1]))


@pytest.mark.parametrize("name", ["default", "hard", "quickstart"])
def test_the_packaged_curves_reach_to_the_end_of_the_experiments_they_are_shown_beside(name: str) -> None:
    config = load_config(name)
    assert config.budget.rounds is not None and config.environment.samples_per_round is not None
    end = config.budget.rounds * config.environment.samples_per_round
    folder = Path(rls3_gym.__file__).parent / "report" / "references"
    curves = References.model_validate_json((folder / f"{name}.json").read_text(encoding="utf-8")).curves
    assert {curve.arm for curve in curves} == {"random", "stratified"}
    assert all(curve.at(round(1.04 * end)) is not None for curve in curves)


def interquartile(values: list[float]) -> float:
    return float(trim_mean(values, 0.25))
