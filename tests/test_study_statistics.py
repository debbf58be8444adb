"""Statistics over whole runs and numbers about one curve, on data whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest
from rliable import metrics as rliable_metrics
from scipy import stats

from rls3_gym.study import statistics


def test_nauc_is_the_mean_gain_over_the_budget() -> None:
    assert statistics.nauc([0, 100], [0.5, 0.7], 100) == pytest.approx(0.1)
    assert statistics.nauc([0, 100], [0.5, 0.7], 50) == pytest.approx(0.05)
    assert statistics.nauc([0, 50, 200], [0.5, 0.6, 0.6], 200) == pytest.approx((0.05 * 50 + 0.1 * 150) / 200)
    with pytest.raises(ValueError, match="ascending"):
        statistics.nauc([100, 0], [0.5, 0.7], 100)


def test_a_curve_says_nothing_about_what_lies_beyond_its_end() -> None:
    assert statistics.value_at([0, 100], [0.5, 0.7], 25) == pytest.approx(0.55)
    assert statistics.value_at([0, 100], [0.5, 0.7], 100) == pytest.approx(0.7)
    assert np.isnan(statistics.value_at([0, 100], [0.5, 0.7], 101))
    assert np.isnan(statistics.nauc([0, 100], [0.5, 0.7], 101))


def test_a_threshold_is_reached_only_by_two_evaluations_in_a_row() -> None:
    n, accuracy = [0, 10, 20, 30, 40], [0.5, 0.62, 0.58, 0.61, 0.63]
    assert statistics.samples_to_threshold(n, accuracy, 0.6, 40) == statistics.Threshold(30.0, True)
    assert statistics.samples_to_threshold(n, accuracy, 0.7, 40) == statistics.Threshold(40.0, False)
    assert not statistics.samples_to_threshold(n, accuracy, 0.6, 35).reached


@pytest.mark.parametrize("runs", [1, 2, 3, 4, 5, 8, 10, 11])
def test_the_interquartile_mean_is_rliables_and_scipys_trimmed_mean(runs: int) -> None:
    scores = np.random.default_rng(runs).normal(size=(runs, 3))
    found = statistics.intervals(scores, np.random.default_rng(0), resamples=10)
    for column, interval in zip(scores.T, found, strict=True):
        assert interval.iqm == pytest.approx(stats.trim_mean(column, 0.25))
        assert interval.iqm == pytest.approx(float(rliable_metrics.aggregate_iqm(column[:, None])))
        assert interval.mean == pytest.approx(column.mean())
        assert interval.runs == runs


def test_the_interquartile_mean_does_not_follow_an_outlier() -> None:
    (interval,) = statistics.intervals([[0.1], [0.2], [0.3], [0.4], [90.0]], np.random.default_rng(0), 10)
    assert interval.iqm == pytest.approx(0.3)


@pytest.mark.parametrize(("runs", "low", "high"), [(5, 0.86, 0.93), (10, 0.90, 0.96), (20, 0.92, 0.97)])
def test_intervals_hold_the_true_mean_as_often_as_the_docstring_says(runs: int, low: float, high: float) -> None:
    rng = np.random.default_rng(1)
    found = statistics.intervals(rng.normal(size=(runs, 3000)), rng, resamples=400)
    assert low <= np.mean([i.low <= 0 <= i.high for i in found]) <= high


def test_an_interval_of_one_run_has_no_bounds_and_of_none_no_value() -> None:
    one, none = statistics.intervals([[0.5, np.nan]], np.random.default_rng(0))
    assert (one.iqm, one.runs, none.runs) == (0.5, 1, 0)
    assert all(np.isnan(x) for x in (one.low, one.high, one.sd, none.iqm, none.mean))


def test_a_column_is_about_the_runs_that_have_a_value_in_it() -> None:
    scores = np.array([[1.0, 5.0], [2.0, np.nan], [3.0, 7.0]])
    whole, holey = statistics.intervals(scores, np.random.default_rng(0), 50)
    assert (whole.runs, holey.runs, holey.iqm) == (3, 2, 6.0)
    assert 5.0 <= holey.low <= holey.high <= 7.0


def test_an_interval_does_not_depend_on_what_else_is_in_the_table() -> None:
    scores = np.random.default_rng(3).normal(size=(6, 4))
    scores[4:, 1] = np.nan
    scores[0, 2] = np.nan
    whole = statistics.intervals(scores, np.random.default_rng(0))
    assert [statistics.intervals(scores[:, [i]], np.random.default_rng(0))[0] for i in range(4)] == whole


def test_equal_runs_have_an_interval_of_no_width() -> None:
    (interval,) = statistics.intervals(np.full((6, 1), 0.25), np.random.default_rng(0))
    assert (interval.low, interval.high, interval.sd) == (0.25, 0.25, 0.0)


def test_the_same_generator_gives_the_same_interval_and_no_global_one_is_touched() -> None:
    scores = np.random.default_rng(3).normal(size=(8, 2))
    before = np.random.get_state(legacy=False)["state"]["key"].copy()
    first, again = (statistics.intervals(scores, np.random.default_rng(7), 100) for _ in range(2))
    other = statistics.intervals(scores, np.random.default_rng(8), 100)
    assert first == again != other
    assert (np.random.get_state(legacy=False)["state"]["key"] == before).all()


def test_whole_runs_are_redrawn_so_that_columns_keep_together() -> None:
    scores = np.random.default_rng(4).normal(size=(9, 1))
    twice = statistics.intervals(np.hstack([scores, scores + 1.0]), np.random.default_rng(0), 200)
    assert twice[1].low - twice[0].low == pytest.approx(1.0)
    assert twice[1].high - twice[0].high == pytest.approx(1.0)


def test_p_values_count_the_signs_that_are_as_extreme() -> None:
    """Of the 2^5 sign patterns two give a mean as far from 0 as five differences of one sign; of 2^3, two."""
    five = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    rng = np.random.default_rng(0)
    assert statistics.p_values(five[:, None], rng) == pytest.approx([2 / 32])
    assert statistics.p_values(-five[:3, None], rng) == pytest.approx([2 / 8])
    with_gap = np.array([[0.1, 0.1], [0.2, np.nan], [0.3, np.nan]])
    assert statistics.p_values(with_gap, rng) == pytest.approx([2 / 8, 1.0])


def test_ties_are_no_difference() -> None:
    rng = np.random.default_rng(0)
    assert statistics.p_values(np.zeros((6, 1)), rng) == pytest.approx([1.0])
    assert statistics.improvement([1.0, 1.0], [1.0, 1.0]) == 0.5
    assert statistics.improvement([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]) == 0.5
    assert statistics.improvement([2.0, 2.0], [1.0, 2.0]) == pytest.approx(0.75)


def test_p_values_are_even_when_there_is_nothing() -> None:
    rng = np.random.default_rng(5)
    p = statistics.p_values(rng.normal(size=(8, 400)), rng)
    assert np.mean(p <= 0.05) == pytest.approx(0.05, abs=0.03)
    assert np.mean(p <= 0.5) == pytest.approx(0.5, abs=0.08)


def test_holm_by_hand() -> None:
    """Ascending 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1, never below the one before."""
    assert statistics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert statistics.holm([0.6, 0.7]) == pytest.approx([1.0, 1.0])
    assert statistics.holm([0.02, 0.02]) == pytest.approx([0.04, 0.04])
    corrected = statistics.holm([np.nan, 0.01])
    assert np.isnan(corrected[0]) and corrected[1] == pytest.approx(0.01)


def test_the_probability_of_improvement_counts_pairs_of_runs() -> None:
    assert statistics.improvement([3.0, 4.0], [1.0, 2.0]) == 1.0
    assert statistics.improvement([1.0, 4.0], [2.0, 3.0]) == 0.5
    assert np.isnan(statistics.improvement([], [1.0]))


def test_entropy_and_rank_correlation_of_nothing_are_nan() -> None:
    assert statistics.entropy([1, 1, 1, 1]) == pytest.approx(np.log(4))
    assert np.isnan(statistics.entropy([0, 0]))
    assert statistics.rank_correlation([1, 2, 3], [10, 20, 30]) == pytest.approx(1.0)
    assert np.isnan(statistics.rank_correlation([1, 1, 1], [10, 20, 30]))
