"""The figure of a report about the agent's own training: a small plot for each value that it says."""

from __future__ import annotations

from rls3_gym.report import plots
from rls3_gym.report.figures import FigureItem, line
from rls3_gym.runs.run_data import RunData

ROWS = 40
"""Rows of the table, spread evenly over the run: all of them are in `metrics.jsonl`."""


def agent_figures(run: RunData) -> list[FigureItem]:
    """One figure with all plots, none where the agent says nothing. Names with the same part before a slash share a
    plot."""
    rows = run.metrics.agent
    if not rows:
        return []
    names = list(dict.fromkeys(name for row in rows for name in row.values))
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(name.split("/")[0], []).append(name)
    end = run.metrics.counts["n_generated"]
    drawn = [
        plots.line_plot(
            {name.split("/")[-1]: line((row.n_generated, row.values.get(name)) for row in rows) for name in members},
            f"agent-{group}", end, looks=plots.TERM_LOOKS, percent=False, y_label=group.replace("_", " "),
            size=plots.NARROW,
        )
        for group, members in groups.items()
    ]  # fmt: skip
    shown = [rows[i * len(rows) // min(ROWS, len(rows))] for i in range(min(ROWS, len(rows)))]
    table = [
        (f"{row.n_generated:,}", *("–" if (v := row.values.get(name)) is None else f"{v:.4g}" for name in names))
        for row in shown
    ]
    title = "Losses and the like"
    return [FigureItem(title, drawn, ("samples", *(name.replace("_", " ") for name in names)), table, wide=True)]
