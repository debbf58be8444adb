"""Plots of a report as SVG inside the page: its colors follow the page's light or dark scheme.

Plots are drawn in fixed stand-in colors which are then replaced by the page's CSS variables. Every series has a marker
or a hatch of its own, so that a black and white print can be read.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

Points = tuple[Sequence[float], Sequence[float]]
"""x and y of a line."""
Interval = tuple[float, float]


@dataclass(frozen=True)
class Look:
    """How a line is drawn."""

    color: str
    marker: str
    dash: str = "-"
    hollow: bool = False


INK, FAINT, GRID, CARD = "#010101", "#020202", "#030303", "#040404"
PALETTE = ("#a10001", "#a20002", "#a30003", "#a40004", "#a50005", "#a60006", "#a70007", "#a80008")
_VARIABLES = {INK: "--ink", FAINT: "--faint", GRID: "--grid", CARD: "--card"}
_VARIABLES |= {color: f"--c{i + 1}" for i, color in enumerate(PALETTE)}
LOOKS = tuple(
    Look(color, marker, dash, hollow)
    for color, marker, dash, hollow in zip(
        PALETTE, "os^DvP<>", ("-", "--", "-.", ":") * 2, (False, True) * 4, strict=True
    )
)
"""For lines that have no look of their own, in their order."""
TERM_LOOKS = {
    "left": Look(PALETTE[0], "<"),
    "right": Look(PALETTE[1], ">", "--", hollow=True),
    "front": Look(PALETTE[2], "o"),
    "behind": Look(PALETTE[3], "s", "--", hollow=True),
    "above": Look(PALETTE[4], "^"),
    "below": Look(PALETTE[5], "v", "--", hollow=True),
}
"""Markers point where the term does; the second of a pair of antonyms is dashed and hollow."""
_HATCHES = ("", "////", "....", "xxxx", "----", "oo")
_STYLE: dict[Any, Any] = {
    "text.parse_math": False,  # names come from files: a dollar sign in one is no formula
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
    "lines.linewidth": 1.6,
    "lines.markersize": 5,
    "hatch.linewidth": 0.8,
    "legend.frameon": False,
    "legend.fontsize": 9,
}
SIZE = (5.6, 3.2)
NARROW = (3.8, 3.0)
"""Of three in a row."""
_MARKERS = 16
"""Markers on a line, at most about so many."""
_DASHES = ("--", "-.", ":")
Band = tuple[Sequence[float], Sequence[float], Sequence[float], Sequence[float]]
"""Places along x, and middle, low and high there."""


def line_plot(
    lines: Mapping[str, Points],
    name: str,
    x_end: float,
    *,
    looks: Mapping[str, Look] | None = None,
    percent: bool = True,
    y_label: str = "",
    y_start: float | None = None,
    chance: float | None = None,
    references: Mapping[str, Band] | None = None,
    size: tuple[float, float] = SIZE,
) -> Markup:
    """Lines over the samples generated, from 0 to `x_end`. Shares span 0 to 100 %, so that plots compare.

    `looks` by name; `chance` draws a reference line, `references` gray curves with their bands;
    `name` keeps the plot's element ids apart from those of others.
    """
    with _figure(name, size) as figure:
        axes = figure.add_subplot()
        for dash, (label, (places, middle, low, high)) in zip(_DASHES, (references or {}).items(), strict=False):
            axes.plot(places, middle, dash, color=FAINT, linewidth=1.3, label=label, zorder=1)
            axes.fill_between(places, low, high, color=FAINT, alpha=0.25, linewidth=0, zorder=0)
        for i, (label, (x, y)) in enumerate(lines.items()):
            look = (looks or {}).get(label, LOOKS[i % len(LOOKS)])
            axes.plot(
                x, y, look.dash, color=look.color, marker=look.marker, label=label,
                markerfacecolor=CARD if look.hollow else look.color, markevery=max(1, len(x) // _MARKERS),
            )  # fmt: skip
        if chance is not None:
            axes.axhline(chance, color=FAINT, linewidth=1, linestyle=(0, (1, 2)), label="chance")
        axes.set_xlim(-0.02 * max(x_end, 1), 1.02 * max(x_end, 1))
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.set_xlabel("samples generated")
        axes.set_ylabel(y_label)
        if percent:
            _shares(axes)
        else:
            axes.set_ylim(bottom=y_start)
        if len(lines) > 1 or chance is not None:
            figure.legend(loc="outside upper left", ncols=4)
        return _svg(figure)


def bars(
    groups: Mapping[str, Sequence[float]],
    ticks: Sequence[str],
    name: str,
    *,
    intervals: Mapping[str, Sequence[Interval]] | None = None,
    chance: float | None = None,
) -> Markup:
    """Shares as bars: one cluster for each tick, one bar in it for each group; `intervals` by group, low and high."""
    with _figure(name, SIZE) as figure:
        axes = figure.add_subplot()
        width = 0.76 / len(groups)
        for i, (label, values) in enumerate(groups.items()):
            x = np.arange(len(ticks)) + (i - (len(groups) - 1) / 2) * width
            last = i == len(groups) - 1
            axes.bar(
                x, values, 0.9 * width, label=label, edgecolor=PALETTE[0], linewidth=1,
                color=PALETTE[0] if last else CARD, hatch=None if last else "////",
            )  # fmt: skip
            if intervals is not None:
                low, high = np.array(intervals[label]).T
                reach = np.clip([values - low, high - values], 0.0, None)
                axes.errorbar(x, values, reach, fmt="none", ecolor=INK, elinewidth=1.2, capsize=3)
        handles, labels = axes.get_legend_handles_labels()
        if chance is not None:
            line = axes.axhline(chance, color=FAINT, linewidth=1, linestyle=(0, (1, 2)))
            handles, labels = [*handles, line], [*labels, "chance"]
        axes.set_xticks(range(len(ticks)), ticks)
        axes.grid(axis="x", visible=False)
        _shares(axes)
        if len(handles) > 1:
            figure.legend(handles, labels, loc="outside upper left", ncols=4)
        return _svg(figure)


def stacked_bars(parts: Mapping[str, Sequence[float]], ticks: Sequence[str], name: str, x_label: str) -> Markup:
    """Shares on top of each other, one bar for each tick; at most six parts have hatches of their own."""
    with _figure(name, SIZE) as figure:
        axes = figure.add_subplot()
        base = np.zeros(len(ticks))
        for i, (label, values) in enumerate(parts.items()):
            axes.bar(
                range(len(ticks)), values, bottom=base, label=label, color=PALETTE[i % len(PALETTE)],
                hatch=_HATCHES[i % len(_HATCHES)], edgecolor=CARD, linewidth=0.6,
            )  # fmt: skip
            base = base + np.asarray(values, float)
        step = max(1, len(ticks) // 10)
        axes.set_xticks(range(0, len(ticks), step), list(ticks)[::step])
        axes.grid(axis="x", visible=False)
        axes.set_xlabel(x_label)
        _shares(axes)
        figure.legend(loc="outside upper left", ncols=3)
        return _svg(figure)


def _shares(axes: Axes) -> None:
    axes.set_ylim(0.0, 1.02)
    axes.set_yticks([0.0, 0.25, 0.5, 0.75, 1.0])
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))


@contextmanager
def _figure(name: str, size: tuple[float, float]) -> Iterator[Figure]:
    """A figure in the page's style."""
    with mpl.rc_context(_STYLE | {"svg.hashsalt": name}):
        yield Figure(figsize=size, layout="constrained")


def _svg(figure: Figure) -> Markup:
    """The figure as an `<svg>` element with CSS variables for colors and the page's fonts."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    for color, variable in _VARIABLES.items():
        text = text.replace(color, f"var({variable})")
    text = re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', 'role="img"', text, count=1)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    return Markup(re.sub(r"font-family: [^;]*;", "font-family: inherit;", text))
