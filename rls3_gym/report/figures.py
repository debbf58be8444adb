"""The figures of a report about samples and loop, and what all figures are: plots with their numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from rls3_gym.evaluation.metrics import coverage
from rls3_gym.report import plots
from rls3_gym.runs.row_values import COMPLEXITIES, TERM_NAMES
from rls3_gym.runs.rows import FinetuneRow
from rls3_gym.runs.run_data import RoundSummary, RunData

Cells = Sequence[Sequence[str]]
AXES = (TERM_NAMES[0:2], TERM_NAMES[2:4], TERM_NAMES[4:6])
"""The pairs of antonyms."""
LENGTHS = tuple(f"{name} term{'s' * (name != '1')}" for name in COMPLEXITIES)
REASONS = 5
"""Reasons drawn by themselves, the most frequent ones; the others are drawn as one."""


@dataclass(frozen=True)
class FigureItem:
    """One plot, or some side by side, and their numbers as a table."""

    title: str
    plots: Sequence[Markup]
    head: Sequence[str]
    rows: Cells
    note: str = ""
    wide: bool = False
    """Whether it takes a whole row of the page."""


def percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def points(before: float | None, after: float | None) -> str:
    return "–" if before is None or after is None else f"{100 * (after - before):+.1f}"


def line(values: Iterable[tuple[int, float | None]]) -> plots.Points:
    """x and y of a line; points without a value are left out."""
    known = [(float(x), y) for x, y in values if y is not None]
    return [x for x, _ in known], [y for _, y in known]


def sample_figures(run: RunData) -> list[FigureItem]:
    whole, rounds = run.whole, [r for r in run.rounds if r.valid]
    if whole is None or not whole.valid:
        return []
    figures = [
        FigureItem(
            "Captions that hold a term, all samples",
            [plots.bars({"all": [n / whole.valid for n in whole.terms.values()]}, TERM_NAMES, "totals")],
            ("term", "samples", "share"),
            [(name, f"{n:,}", percent(n / whole.valid)) for name, n in whole.terms.items()],
            note="A caption can hold up to three terms.",
        )
    ]
    if not rounds:
        return [*figures, _no_sample({"all steps": whole}, "")]
    end = run.metrics.counts["n_generated"]
    ends = {"first round": rounds[0]} if len(rounds) == 1 else {"first round": rounds[0], "last round": rounds[-1]}
    lengths = {label: [r.complexity[terms] / r.valid for terms in COMPLEXITIES] for label, r in ends.items()}
    return [
        *figures,
        FigureItem(
            "Caption length",
            [plots.bars(lengths, LENGTHS, "lengths")],
            ("round", *LENGTHS),
            [(str(r.round + 1), *(percent(r.complexity[terms] / r.valid) for terms in COMPLEXITIES)) for r in rounds],
        ),
        FigureItem(
            "Coverage of the 26 relation cells",
            [plots.line_plot({"coverage": line((r.n_generated, coverage(r.cells)) for r in rounds)}, "coverage", end)],
            ("round", "coverage", "cells used"),
            [(str(r.round + 1), percent(coverage(r.cells)), str(sum(n > 0 for n in r.cells))) for r in rounds],
            note="Entropy of the round's samples over the cells, as a share of that of equal counts.",
        ),
        _no_sample({str(r.round + 1): r for r in run.rounds}, "round"),
        FigureItem(
            "Captions that hold a term, by round",
            [
                plots.line_plot(
                    {term: line((r.n_generated, r.terms[term] / r.valid) for r in rounds) for term in pair},
                    f"made-{pair[0]}", end, looks=plots.TERM_LOOKS, size=plots.NARROW,
                )
                for pair in AXES
            ],
            ("round", "samples", *TERM_NAMES),
            [
                (str(r.round + 1), f"{r.valid:,}", *(percent(r.terms[term] / r.valid) for term in TERM_NAMES))
                for r in rounds
            ],
            wide=True,
        ),
    ]  # fmt: skip


def _no_sample(summaries: Mapping[str, RoundSummary], unit: str) -> FigureItem:
    """Steps without a sample by reason, the most frequent reason at the bottom; a bar for each of the summaries."""
    totals: dict[str, int] = {}
    for summary in summaries.values():
        for name, count in summary.reasons.items():
            totals[name] = totals.get(name, 0) + count
    names = sorted(totals, key=lambda name: -totals[name])

    def share(some: Sequence[str]) -> list[float]:
        return [sum(s.reasons.get(name, 0) for name in some) / max(s.steps, 1) for s in summaries.values()]

    parts = {name.replace("_", " "): share([name]) for name in names[:REASONS]}
    if names[REASONS:]:
        parts["other"] = share(names[REASONS:])
    return FigureItem(
        "Steps that gave no sample, by reason",
        [plots.stacked_bars(parts, list(summaries), "reasons", unit)] if parts else [],
        (unit, "steps", "valid", *(name.replace("_", " ") for name in names)),
        [
            (label, f"{s.steps:,}", percent(s.valid_rate), *(f"{s.reasons.get(name, 0):,}" for name in names))
            for label, s in summaries.items()
        ],
    )


def loop_figures(run: RunData) -> list[FigureItem]:
    figures, rounds, end = [], run.rounds, run.metrics.counts["n_generated"]
    if rounds:
        rewards = {
            "intrinsic": line((r.n_generated, r.intrinsic) for r in rounds),
            "extrinsic": line((r.n_generated, r.extrinsic) for r in rounds),
        }
        figures.append(
            FigureItem(
                "Reward of a step",
                [plots.line_plot(rewards, "rewards", end, percent=False)],
                ("round", "intrinsic", "extrinsic"),
                [(str(r.round + 1), f"{r.intrinsic:+.3f}", f"{r.extrinsic:+.3f}") for r in rounds],
                note="Means over the steps of a round. The extrinsic part falls as the VLM learns; it is no score.",
            )
        )
    if run.metrics.finetunes:
        figures.append(_losses(run.metrics.finetunes, end))
    return figures


def _losses(reports: Sequence[FinetuneRow], end: int) -> FigureItem:
    names = list(dict.fromkeys(name for row in reports for name in row.losses))
    lines = {name.replace("_", " "): line((r.n_generated, r.losses.get(name)) for r in reports) for name in names}

    def cell(value: float | None) -> str:
        return "–" if value is None else f"{value:.3f}"

    return FigureItem(
        "Fine-tuning loss",
        [plots.line_plot(lines, "losses", end, percent=False, y_label="nats", y_start=0.0)],
        ("round", "samples", "steps", *lines, "seconds", "images/s", "memory, GB"),
        [
            (
                str(r.round), f"{r.n_samples:,}", f"{r.optimizer_steps:,}",
                *(cell(r.losses.get(name)) for name in names), f"{r.seconds:.1f}",
                "–" if r.images_per_second is None else f"{r.images_per_second:.3g}",
                "–" if r.peak_memory is None else f"{r.peak_memory / 1e9:.2f}",
            )
            for r in reports
        ],
        note="Total first and last: means over the first and the last tenth of a round's steps.",
    )  # fmt: skip
