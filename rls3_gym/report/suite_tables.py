"""The tables of a report about suites: their numbers before and after the run, with intervals."""

from __future__ import annotations

from rls3_gym.report.figures import FigureItem, percent, points
from rls3_gym.runs.rows import SuiteRow
from rls3_gym.runs.run_data import RunData


def suite_figures(run: RunData) -> list[FigureItem]:
    """One table for each suite; the forgetting probe is one of them."""
    return [_table(name, rows[0], rows[-1]) for name, rows in run.metrics.suites.items()]


def _table(name: str, first: SuiteRow, last: SuiteRow) -> FigureItem:
    measured = {"accuracy": first} if last is first else {"before": first, "after": last}
    details = [f"{key.replace('_', ' ')} {value:.4g}" for key, value in last.details.items() if value is not None]
    return FigureItem(
        name,
        [],
        ("measure", "of", *measured, "points", "blind", "chance"),
        [
            (
                measure, f"{last.n_by_measure[measure]:,}", *(_cell(row, measure) for row in measured.values()),
                points(first.value.get(measure), value), percent(last.blind[measure]), percent(last.chance[measure]),
            )
            for measure, value in last.value.items()
        ],
        note=", ".join([f"{last.n:,} items", *details]),
        wide=True,
    )  # fmt: skip


def _cell(row: SuiteRow, measure: str) -> str:
    value, low, high = (part.get(measure) for part in (row.value, row.low, row.high))
    interval = "" if low is None or high is None else f" ({100 * low:.0f}–{100 * high:.0f})"
    return percent(value) + interval
