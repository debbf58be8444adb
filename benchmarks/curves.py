"""The picture of a comparison: accuracy against samples generated, mean and spread over the seeds of each arm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from rls3_gym.runs.rows import EvaluationRow, read_metrics

COLORS = ("#4c78a8", "#54a24b", "#e45756", "#b279a2", "#f58518", "#72b7b2", "#9d755d", "#79706e")
TITLES = {
    "test": "test: balanced over terms and lengths",
    "test_natural": "test_natural: as uniform actions come",
    "validation": "validation",
}
POINTS = 200


def curve_of(run: Path, name: str) -> tuple[EvaluationRow, ...]:
    """A run's evaluations on one set, in order."""
    return read_metrics(run / "metrics.jsonl").evaluations[name]


def draw(runs: Mapping[str, Sequence[Path]], sets: Sequence[str], out: Path) -> None:
    """One panel for each set; `runs` are the run directories of each arm, one a seed. Writes a PNG."""
    style = {"axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "#e4e4e4"}
    with mpl.rc_context(style | {"font.size": 10, "legend.frameon": False, "axes.edgecolor": "#b8b8b8"}):
        figure = Figure(figsize=(4.6 * len(sets), 3.7), layout="constrained", dpi=130)
        panels = figure.subplots(1, len(sets), sharey=True, squeeze=False)[0]
        for panel, name in zip(panels, sets, strict=True):
            for color, (arm, paths) in zip(COLORS, runs.items(), strict=False):
                x, accuracy = _on_one_grid(paths, name)
                mean = accuracy.mean(0)
                spread = accuracy.std(0, ddof=1) if len(paths) > 1 else 0 * mean
                panel.plot(x, mean, color=color, label=arm, linewidth=1.8)
                panel.fill_between(x, mean - spread, mean + spread, color=color, alpha=0.15, linewidth=0)
            panel.axhline(0.5, color="#808080", linewidth=1, linestyle=":")
            panel.set_title(TITLES.get(name, name), fontsize=10, loc="left")
            panel.set_xlabel("samples generated")
            panel.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        panels[0].set_ylabel("pairwise accuracy")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=min(3 * len(sets), len(labels)))
        figure.savefig(out, metadata={"Software": None})


def _on_one_grid(paths: Sequence[Path], name: str) -> tuple[np.ndarray, np.ndarray]:
    """(POINTS,) samples generated up to where the shortest run ends, and (runs, POINTS) accuracies there."""
    curves = [curve_of(path, name) for path in paths]
    x = np.linspace(0, min(curve[-1].n_generated for curve in curves), POINTS)
    accuracy = [np.interp(x, [r.n_generated for r in curve], [r.pairwise_accuracy for r in curve]) for curve in curves]
    return x, np.stack(accuracy)
