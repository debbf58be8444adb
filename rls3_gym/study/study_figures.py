"""Figures of a comparison: baselines are gray; arms differ by marker as well as color, for those who print in gray."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from rls3_gym.study.analysis import SEED, Analysis, ArmAtBudget, Arms
from rls3_gym.study.numbers import AXES, TERMS, Axis, curve
from rls3_gym.study.statistics import intervals

POINTS = 60
"""Places at which a curve's mean and band are computed, beside those of its evaluations."""
AXIS_LABELS: dict[Axis, str] = {"n_trained": "samples trained on", "n_generated": "valid samples generated"}
# Okabe and Ito's colors, which color-blind readers can tell; then the same again, with other markers and dashed.
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7b5ea7", "#5c4a32")
_MARKERS = "o^sDvP*X<>pdh8"
_GRAYS = (("#8c8c8c", "--"), ("#4d4d4d", ":"), ("#b0b0b0", "-."), ("#6b6b6b", "--"), ("#9a9a9a", ":"))
_STYLE: dict[Any, Any] = {
    "text.parse_math": False,  # names come from files: a dollar sign in one is no formula
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#b8b8b8",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "rls3 study",
}


@dataclass(frozen=True)
class Look:
    """How an arm is drawn."""

    color: str
    marker: str
    dash: str
    above: bool
    """Drawn over the others: all but the baselines."""


def looks(arms: Sequence[str], baselines: Sequence[str]) -> dict[str, Look]:
    """Baselines in dashed grays, the other arms in color; every arm has a marker of its own, as far as they go."""
    found: dict[str, Look] = {}
    for number, arm in enumerate(arms):
        marker = _MARKERS[number % len(_MARKERS)]
        if arm in baselines:
            color, dash = _GRAYS[list(baselines).index(arm) % len(_GRAYS)]
            found[arm] = Look(color, marker, dash, above=False)
        else:
            colored = sum(look.above for look in found.values())
            dash = "-" if colored < len(_COLORS) else "--"
            found[arm] = Look(_COLORS[colored % len(_COLORS)], marker, dash, above=True)
    return found


def curves_figure(arms: Arms, analysis: Analysis, axes: Sequence[Axis] = AXES) -> Figure:
    """Accuracy over sample counts, a panel for each set: interquartile mean over seeds and its 95 % interval.

    Markers stand where the runs were evaluated. The panels show what comes after the first fine-tuning: what all arms
    have in common, the rise from the accuracy before any, is told in words.
    """
    with _style():
        rows = len(analysis.sets)
        figure = Figure(figsize=(4.9 * max(len(axes), 1.4), 3.3 * rows + 0.3), layout="constrained", dpi=130)
        panels = figure.subplots(rows, len(axes), squeeze=False, sharey="row")
        shown = looks(list(arms), analysis.baselines)
        taught: dict[str, list[_Line]] = {name: [] for name in analysis.sets}
        for line in _lines(arms, analysis.sets, axes):
            panel, look = panels[analysis.sets.index(line.set)][axes.index(line.axis)], shown[line.arm]
            order = 3 if look.above else 2
            panel.plot(
                line.x, line.middle, look.dash, color=look.color, marker=look.marker, markevery=list(line.evaluated),
                markersize=5, linewidth=1.7, label=line.arm, zorder=order,
            )  # fmt: skip
            panel.fill_between(line.x, line.low, line.high, color=look.color, alpha=0.15, linewidth=0, zorder=order - 2)
            if line.middle.min() < line.middle.max():
                taught[line.set].append(line)
        for i, name in enumerate(analysis.sets):
            for j, axis in enumerate(axes):
                _dress(panels[i][j], axis, name if j == 0 else "", "pairwise accuracy" if j == 0 else "")
            if taught[name]:
                _without_the_start(panels[i][0], taught[name])
        handles, labels = panels[0][0].get_legend_handles_labels()
        if len(labels) < len(arms):  # arms that never fine-tune have no curve over what they trained on
            handles, labels = panels[0][-1].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=_columns(labels, figure.get_figwidth()))
        return figure


def _without_the_start(panel: Axes, lines: Sequence[_Line]) -> None:
    """Let a row of panels begin below the lowest curve after its first fine-tuning, and say what there was before."""
    low = min(line.low[line.after_the_first :].min() for line in lines)
    high = max(line.high.max() for line in lines)
    room = 0.06 * (high - low) + 0.002
    panel.set_ylim(low - room, high + room)
    before = np.mean([line.middle[0] for line in lines])
    panel.text(0.99, 0.03, f"before: {before:.0%}", transform=panel.transAxes, ha="right", color="#555555")


def _columns(labels: Sequence[str], inches: float) -> int:
    """Columns of a legend, so that long names stay within a figure's width, about 13 letters to the inch."""
    return max(1, min(len(labels), 6, int(13.3 * inches) // (8 + max(map(len, labels), default=0))))


@dataclass(frozen=True)
class _Line:
    """An arm's curve on a set."""

    axis: Axis
    set: str
    arm: str
    x: np.ndarray
    """(n,) sample counts up to the end of the shortest run."""
    middle: np.ndarray
    """(n,) interquartile means."""
    low: np.ndarray
    high: np.ndarray
    """(n,) the bounds of their intervals: the means themselves for a single run."""
    evaluated: tuple[int, ...]
    """The places in `x` of evaluations."""

    @property
    def after_the_first(self) -> int:
        """The point of the second evaluation, the one after the first fine-tuning."""
        return self.evaluated[min(1, len(self.evaluated) - 1)]


def _lines(arms: Arms, sets: Sequence[str], axes: Sequence[Axis]) -> Iterator[_Line]:
    """The curves of all arms, on every set and axis on which they have any length."""
    seeds = sorted({run.seed for runs in arms.values() for run in runs})
    places: list[tuple[Axis, str, str, np.ndarray, tuple[int, ...]]] = []
    columns: list[np.ndarray] = []
    for axis in axes:
        for name in sets:
            for arm, runs in arms.items():
                drawn = [(run.seed, *curve(run, name, axis)) for run in runs]
                end = min(x[-1] for _, x, _ in drawn)
                # Rounds differ by a few samples from run to run: a marker stands where all runs have been evaluated.
                marked = [min(max(xs), end) for xs in zip(*(x for _, x, _ in drawn), strict=False)]
                grid = np.union1d(np.linspace(0, end, POINTS), marked)
                table = np.full((len(seeds), len(grid)), np.nan)
                for seed, x, y in drawn:
                    table[seeds.index(seed)] = np.interp(grid, x, y)
                places.append((axis, name, arm, grid, tuple(np.searchsorted(grid, np.unique(marked)).tolist())))
                columns.append(table)
    found = intervals(np.concatenate(columns, axis=1), np.random.default_rng(SEED))
    for axis, name, arm, grid, evaluated in places:
        part, found = found[: len(grid)], found[len(grid) :]
        middle, low, high = (np.array([getattr(i, key) for i in part]) for key in ("iqm", "low", "high"))
        if grid[-1] > 0:
            yield _Line(axis, name, arm, grid, middle, _or(low, middle), _or(high, middle), evaluated)


def _or(values: np.ndarray, otherwise: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(values), otherwise, values)


def terms_figure(lines: Sequence[ArmAtBudget], name: str, baselines: Sequence[str]) -> Figure:
    """Accuracy by term on a set at one budget: one row for each term, one marker for each arm, with its interval."""
    start = [lines[0].numbers[f"{name}.start"].mean]
    with _style():
        figure = Figure(figsize=(5.6, 1.2 + 0.09 * len(TERMS) * (len(lines) + 2)), layout="constrained", dpi=130)
        panel = figure.subplots()
        panel.axvline(start[0], color="#b8b8b8", linewidth=1)
        _dots(panel, lines, {term: f"{name}.{term}" for term in TERMS}, baselines)
        panel.set_xlabel(f"pairwise accuracy on {name}; vertical line: all terms, before")
        figure.legend(loc="outside upper left", ncols=4)
        return figure


def shares_figure(lines: Sequence[ArmAtBudget], baselines: Sequence[str]) -> Figure:
    """What the captions spoke of until one budget: the share of each term among all terms."""
    with _style():
        figure = Figure(figsize=(5.6, 1.2 + 0.09 * len(TERMS) * (len(lines) + 2)), layout="constrained", dpi=130)
        panel = figure.subplots()
        panel.axvline(1 / len(TERMS), color="#b8b8b8", linewidth=1)
        _dots(panel, lines, {term: f"term_{term}" for term in TERMS}, baselines)
        panel.set_xlabel("share of the terms in all captions; vertical line: all alike")
        panel.set_xlim(left=0)
        figure.legend(loc="outside upper left", ncols=4)
        return figure


def costs_figure(lines: Sequence[ArmAtBudget]) -> Figure:
    """Wall seconds of a run until one budget, by what they went into."""
    split = all("stage_seconds" in line.numbers for line in lines)  # older runs do not say it
    sampling = {"stage_seconds": "scenes", "score_seconds": "scoring", "agent_seconds": "agent, rest"}
    parts = {
        **(sampling if split else {"rest_seconds": "scenes, scoring, agent"}),
        "finetune_seconds": "fine-tuning",
        "evaluate_seconds": "evaluation",
    }
    colors = ("#009e73", "#f0e442", "#56b4e9", "#0072b2", "#c8c8c8")[-len(parts) :]
    with _style():
        figure = Figure(figsize=(5.6, 1.3 + 0.32 * len(lines)), layout="constrained", dpi=130)
        panel = figure.subplots()
        base = np.zeros(len(lines))
        for (key, label), color in zip(parts.items(), colors, strict=True):
            values = np.array([line.numbers[key].iqm if key in line.numbers else np.nan for line in lines])
            panel.barh(range(len(lines)), np.nan_to_num(values), left=base, color=color, label=label, height=0.65)
            base = base + np.nan_to_num(values)
        panel.set_yticks(range(len(lines)), [line.arm for line in lines])
        panel.invert_yaxis()
        panel.grid(axis="y", visible=False)
        panel.set_xlabel("seconds of a run, wall time")
        figure.legend(loc="outside upper left", ncols=3)
        return figure


def _dots(panel: Axes, lines: Sequence[ArmAtBudget], rows: Mapping[str, str], baselines: Sequence[str]) -> None:
    """A cluster of markers with intervals for each row of numbers."""
    shown = looks([line.arm for line in lines], baselines)
    step = 0.8 / max(len(lines), 1)
    for number, line in enumerate(lines):
        found = [line.numbers.get(key) for key in rows.values()]
        y = [i + (number - (len(lines) - 1) / 2) * step for i, interval in enumerate(found) if interval]
        known = [interval for interval in found if interval]
        middle, low, high = (np.array([getattr(i, key) for i in known]) for key in ("iqm", "low", "high"))
        look = shown[line.arm]
        panel.hlines(y, _or(low, middle), _or(high, middle), color=look.color, linewidth=1.4)
        panel.plot(middle, y, look.marker, color=look.color, markersize=5, label=line.arm)
    panel.set_yticks(range(len(rows)), list(rows))
    panel.set_ylim(len(rows) - 0.5, -0.5)
    for edge in range(1, len(rows)):
        panel.axhline(edge - 0.5, color="#f0f0f0", linewidth=0.8)
    panel.grid(axis="y", visible=False)
    panel.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))


def _dress(panel: Axes, axis: Axis, title: str, label: str) -> None:
    panel.axhline(0.5, color="#808080", linewidth=0.9, linestyle=(0, (1, 3)))
    panel.set_xlabel(AXIS_LABELS[axis])
    panel.set_ylabel(label)
    if title:
        panel.set_title(title, fontsize=10.5, loc="left")
    panel.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    panel.yaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10]))
    panel.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    panel.set_xlim(left=0)


@contextmanager
def _style() -> Iterator[None]:
    with mpl.rc_context(_STYLE):
        yield


def save_png(figure: Figure, path: Path) -> None:
    """Write a figure as PNG; the same figure gives the same bytes."""
    figure.savefig(path, format="png", metadata={"Software": None})


def as_svg(figure: Figure) -> str:
    """A figure as an `<svg>` element that scales with the page."""
    buffer = io.StringIO()
    with _style():
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    return re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', 'role="img"', text, count=1)
