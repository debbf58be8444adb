"""Figures of a report as SVG that lives inside the page: its colors follow the page's light or dark scheme.

Figures are drawn in fixed stand-in colors which are then replaced by the page's CSS variables.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

Series = Mapping[str, tuple[Sequence[float], Sequence[float]]]
"""Lines by name: x and y values."""

INK, FAINT, GRID = "#010101", "#020202", "#030303"
PALETTE = ("#a10001", "#a20002", "#a30003", "#a40004", "#a50005", "#a60006", "#a70007", "#a80008")
_VARIABLES = {INK: "--ink", FAINT: "--faint", GRID: "--grid"} | {c: f"--c{i + 1}" for i, c in enumerate(PALETTE)}
TERM_LOOKS = {
    "left": (PALETTE[0], "-"),
    "right": (PALETTE[0], "--"),
    "front": (PALETTE[1], "-"),
    "behind": (PALETTE[1], "--"),
    "above": (PALETTE[2], "-"),
    "below": (PALETTE[2], "--"),
}
"""Antonyms share a color; the second of a pair is dashed."""
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 10.0,
    "text.color": INK,
    "axes.labelcolor": FAINT,
    "axes.edgecolor": GRID,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "lines.linewidth": 1.8,
    "lines.markersize": 4,
    "legend.frameon": False,
    "legend.fontsize": 9,
}
_SIZE = (4.6, 2.9)


def line_plot(
    lines: Series,
    name: str,
    y_label: str,
    *,
    looks: Mapping[str, tuple[str, str]] | None = None,
    percent: bool = True,
    chance: float | None = None,
    x_label: str = "samples generated",
) -> str:
    """Lines over sample counts. `chance` draws a reference line; `looks` gives color and dash by name."""
    with _figure(name, _SIZE) as figure:
        axes = figure.add_subplot()
        for number, (label, (x, y)) in enumerate(lines.items()):
            color, dash = (looks or {}).get(label, (PALETTE[number % len(PALETTE)], "-"))
            axes.plot(x, y, dash, color=color, marker="o", label=label)
        if chance is not None:
            axes.axhline(chance, color=FAINT, linewidth=1, linestyle=":")
            axes.annotate(
                "chance", (1, chance), xycoords=("axes fraction", "data"), xytext=(-2, 3),
                textcoords="offset points", ha="right", color=FAINT, fontsize=8,
            )  # fmt: skip
        axes.set_xlabel(x_label)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        if percent:
            _widen(axes)
        _finish(figure, axes, y_label, percent, len(lines))
        return _svg(figure)


def stacked_bars(
    parts: Mapping[str, Sequence[float]], ticks: Sequence[str], name: str, y_label: str, x_label: str
) -> str:
    """Bars of shares on top of each other, one bar for each tick."""
    with _figure(name, _SIZE) as figure:
        axes = figure.add_subplot()
        base = np.zeros(len(ticks))
        for number, (label, values) in enumerate(parts.items()):
            axes.bar(range(len(ticks)), values, bottom=base, color=PALETTE[number % len(PALETTE)], label=label)
            base = base + np.asarray(values, float)
        step = max(1, len(ticks) // 10)
        axes.set_xticks(range(0, len(ticks), step), list(ticks)[::step])
        axes.grid(axis="x", visible=False)
        axes.set_xlabel(x_label)
        _finish(figure, axes, y_label, True, len(parts))
        return _svg(figure)


def grouped_bars(groups: Mapping[str, Sequence[float]], ticks: Sequence[str], name: str, x_label: str) -> str:
    """Horizontal bars side by side: one cluster for each tick, one bar in it for each group."""
    with _figure(name, _SIZE) as figure:
        axes = figure.add_subplot()
        height = 0.8 / len(groups)
        for number, (label, values) in enumerate(groups.items()):
            offset = (number - (len(groups) - 1) / 2) * height
            axes.barh(np.arange(len(ticks)) + offset, values, height * 0.9, color=PALETTE[number], label=label)
        axes.set_yticks(range(len(ticks)), ticks)
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set_xlabel(x_label)
        if len(groups) > 1:
            figure.legend(loc="outside upper left", ncols=3)
        return _svg(figure)


def radar(values: Mapping[str, Sequence[float]], spokes: Sequence[str], name: str) -> str:
    """One closed line for each name, over the spokes; 0.3 at the center, the ring of chance drawn at 0.5."""
    with _figure(name, (4.6, 3.6)) as figure:
        axes = figure.add_subplot(projection="polar")
        angles = np.linspace(0, 2 * np.pi, len(spokes), endpoint=False)
        around = np.append(angles, angles[0])
        for number, (label, value) in enumerate(values.items()):
            color = (FAINT, PALETTE[0])[number] if len(values) == 2 else PALETTE[number]
            closed = np.append(value, value[0])
            axes.plot(around, closed, color=color, label=label, linestyle="-" if number else "--")
            axes.fill(around, closed, color=color, alpha=0.12)
        circle = np.linspace(0, 2 * np.pi, 100)
        axes.plot(circle, np.full(100, 0.5), color=FAINT, linewidth=1, linestyle=":")
        axes.set_xticks(angles, spokes, color=INK)
        low = min(0.3, np.floor(10 * min(min(v) for v in values.values())) / 10)
        axes.set_ylim(low, 1.0)
        axes.set_yticks([0.5, 0.75, 1.0], ["50 %", "75 %", "100 %"], fontsize=8)
        axes.spines["polar"].set_visible(False)
        figure.legend(loc="outside upper left", ncols=2)
        return _svg(figure)


@contextmanager
def _figure(name: str, size: tuple[float, float]) -> Iterator[Figure]:
    """A figure in the page's style; `name` keeps its element ids apart from those of other figures."""
    with mpl.rc_context(_STYLE | {"svg.hashsalt": name}):
        yield Figure(figsize=size, layout="constrained")


def _finish(figure: Figure, axes: Axes, y_label: str, percent: bool, lines: int) -> None:
    if percent:
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_ylabel(y_label)
    if lines > 1:
        figure.legend(loc="outside upper left", ncols=3)


def _widen(axes: Axes, span: float = 0.2) -> None:
    """Show at least 20 points of a share, so that a percent up or down doesn't look like a cliff."""
    low, high = axes.get_ylim()
    if high - low < span:
        middle = min(max((low + high) / 2, span / 2), 1 - span / 2)
        axes.set_ylim(middle - span / 2, middle + span / 2)


def _svg(figure: Figure) -> str:
    """The figure as an `<svg>` element with CSS variables for colors and the page's fonts."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    for color, variable in _VARIABLES.items():
        text = text.replace(color, f"var({variable})")
    text = re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', 'role="img"', text, count=1)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    return re.sub(r"font-family: [^;]*;", "font-family: inherit;", text)
