"""What a report shows: each figure with the numbers it was drawn from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

from rls3_gym.evaluation.metrics import coverage, wilson_interval
from rls3_gym.report import plots
from rls3_gym.runs.rows import EvaluationRow, FinetuneRow
from rls3_gym.runs.run_data import COMPLEXITIES, TERM_NAMES, RoundSummary, RunData

Cells = Sequence[Sequence[str]]
AXES = (TERM_NAMES[0:2], TERM_NAMES[2:4], TERM_NAMES[4:6])
"""The pairs of antonyms."""
REASONS = 5
"""Reasons drawn by themselves, the most frequent ones; the others are drawn as one."""
LENGTHS = tuple(f"{name} term{'s' * (name != '1')}" for name in COMPLEXITIES)
MEASURES = {"pairwise": "pairwise_accuracy", "strict": "strict_accuracy", "mirrored": "mirrored_accuracy"}


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


@dataclass(frozen=True)
class Section:
    """Figures that belong together."""

    title: str
    figures: Sequence[FigureItem]
    text: str = ""


def sections(run: RunData) -> list[Section]:
    """All sections that have something to show, in the order of the page."""
    found = [
        Section(
            "What the VLM learned",
            _accuracy(run),
            "Held-out accuracy against the valid samples generated. Pairwise: the true caption against the one with "
            "a term turned, averaged over the six terms; chance is 50 %.",
        ),
        Section("Which samples the agent made", _samples(run)),
        Section("How the loop went", _loop(run)),
    ]
    return [replace(section, figures=_without_holes(section.figures)) for section in found if section.figures]


def _without_holes(figures: Sequence[FigureItem]) -> list[FigureItem]:
    """The page has two columns: a figure that would stand alone beside nothing takes the whole row."""
    filled: list[FigureItem] = []
    column = 0
    for i, item in enumerate(figures):
        alone = column == 0 and (i + 1 == len(figures) or figures[i + 1].wide)
        wide = item.wide or alone
        filled.append(replace(item, wide=wide))
        column = 0 if wide else 1 - column
    return filled


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def _points(before: float | None, after: float | None) -> str:
    return "–" if before is None or after is None else f"{100 * (after - before):+.1f}"


def _line(values: Iterable[tuple[int, float | None]]) -> plots.Points:
    """x and y of a line; points without a value are left out."""
    known = [(float(x), y) for x, y in values if y is not None]
    return [x for x, _ in known], [y for _, y in known]


def _accuracy(run: RunData) -> list[FigureItem]:
    sets = run.metrics.evaluations
    if not sets:
        return []
    end = run.metrics.counts["n_generated"]
    name, main = next(iter(sets.items()))
    first, last = main[0], main[-1]
    by_set = {set_: _line((r.n_generated, r.pairwise_accuracy) for r in rows) for set_, rows in sets.items()}
    by_measure = {label: _line((r.n_generated, getattr(r, key)) for r in main) for label, key in MEASURES.items()}
    by_term = {term: _line((r.n_generated, r.by_term[term]) for r in main) for term in TERM_NAMES}
    by_length = {
        label: _line((r.n_generated, r.by_complexity[terms]) for r in main)
        for label, terms in zip(LENGTHS, COMPLEXITIES, strict=True)
    }
    progress = [(str(r.round), f"{r.n_generated:,}") for r in main]
    return [
        FigureItem(
            "Pairwise accuracy by set",
            [plots.line_plot(by_set, "sets", end, chance=0.5)],
            ("set", "round", "generated", "trained", "pairwise"),
            [
                (r.set, str(r.round), f"{r.n_generated:,}", f"{r.n_trained:,}", _percent(r.pairwise_accuracy))
                for rows in sets.values()
                for r in rows
            ],
        ),
        FigureItem(
            f"Three ways to count, on {name}",
            [plots.line_plot(by_measure, "measures", end)],
            ("round", "generated", *MEASURES),
            [
                (*at, *(_percent(getattr(r, key)) for key in MEASURES.values()))
                for at, r in zip(progress, main, strict=True)
            ],
            note="Strict: preferred to every hard negative. Mirrored: right in the picture and in its mirror image.",
        ),
        _before_and_after(name, first, last),
        FigureItem(
            f"By caption length on {name}",
            [plots.line_plot(by_length, "complexity", end, chance=0.5)],
            ("round", "generated", *LENGTHS),
            [
                (*at, *(_percent(r.by_complexity[terms]) for terms in COMPLEXITIES))
                for at, r in zip(progress, main, strict=True)
            ],
        ),
        FigureItem(
            f"By term on {name}, over time",
            [
                plots.line_plot(
                    {term: by_term[term] for term in pair}, f"term-{pair[0]}", end,
                    looks=plots.TERM_LOOKS, chance=0.5, size=plots.NARROW,
                )
                for pair in AXES
            ],
            ("round", "generated", *TERM_NAMES),
            [
                (*at, *(_percent(r.by_term[term]) for term in TERM_NAMES))
                for at, r in zip(progress, main, strict=True)
            ],
            wide=True,
        ),
    ]  # fmt: skip


def _before_and_after(name: str, first: EvaluationRow, last: EvaluationRow) -> FigureItem:
    """Bars by term with intervals; terms that no item speaks of are left out."""
    shown = [term for term in TERM_NAMES if first.n_by_term.get(term)]
    measured = {"before": first} if last is first else {"before": first, "after": last}
    values = {label: [row.by_term[term] or 0.0 for term in shown] for label, row in measured.items()}
    intervals = {label: [_interval(row, term) for term in shown] for label, row in measured.items()}

    def cell(row: EvaluationRow, term: str) -> str:
        if not row.n_by_term.get(term):
            return "–"
        low, high = _interval(row, term)
        return f"{_percent(row.by_term[term])} ({100 * low:.0f}–{100 * high:.0f})"

    return FigureItem(
        f"By term on {name}, {' and '.join(measured)}",
        [plots.bars(values, shown, "by-term", intervals=intervals, chance=0.5)] if shown else [],
        ("term", "items", *measured, "points"),
        [
            (term, f"{last.n_by_term.get(term, 0):,}", *(cell(row, term) for row in measured.values()),
             _points(first.by_term[term], last.by_term[term]))
            for term in TERM_NAMES
        ],
        note=f"With 95 % intervals (Wilson) over the items that hold the term. Worst term now: {last.worst_term}.",
    )  # fmt: skip


def _interval(row: EvaluationRow, term: str) -> plots.Interval:
    return wilson_interval(row.by_term[term] or 0.0, row.n_by_term[term])


def _samples(run: RunData) -> list[FigureItem]:
    whole, rounds = run.whole, [r for r in run.rounds if r.valid]
    if whole is None or not whole.valid:
        return []
    figures = [
        FigureItem(
            "Captions that hold a term, all samples",
            [plots.bars({"all": [n / whole.valid for n in whole.terms.values()]}, TERM_NAMES, "totals")],
            ("term", "samples", "share"),
            [(name, f"{n:,}", _percent(n / whole.valid)) for name, n in whole.terms.items()],
            note="A caption can hold up to three terms.",
        )
    ]
    if not rounds:
        return [*figures, _no_sample([replace(whole, round=0)], "all steps")]
    end = run.metrics.counts["n_generated"]
    ends = {"first round": rounds[0]} if len(rounds) == 1 else {"first round": rounds[0], "last round": rounds[-1]}
    lengths = {label: [r.complexity[terms] / r.valid for terms in COMPLEXITIES] for label, r in ends.items()}
    return [
        *figures,
        FigureItem(
            "Caption length",
            [plots.bars(lengths, LENGTHS, "lengths")],
            ("round", *LENGTHS),
            [(str(r.round + 1), *(_percent(r.complexity[terms] / r.valid) for terms in COMPLEXITIES)) for r in rounds],
        ),
        FigureItem(
            "Coverage of the 26 relation cells",
            [plots.line_plot({"coverage": _line((r.n_generated, coverage(r.cells)) for r in rounds)}, "coverage", end)],
            ("round", "coverage", "cells used"),
            [(str(r.round + 1), _percent(coverage(r.cells)), str(sum(n > 0 for n in r.cells))) for r in rounds],
            note="Entropy of the round's samples over the cells, as a share of that of equal counts.",
        ),
        _no_sample(run.rounds, "round"),
        FigureItem(
            "Captions that hold a term, by round",
            [
                plots.line_plot(
                    {term: _line((r.n_generated, r.terms[term] / r.valid) for r in rounds) for term in pair},
                    f"made-{pair[0]}", end, looks=plots.TERM_LOOKS, size=plots.NARROW,
                )
                for pair in AXES
            ],
            ("round", "samples", *TERM_NAMES),
            [
                (str(r.round + 1), f"{r.valid:,}", *(_percent(r.terms[term] / r.valid) for term in TERM_NAMES))
                for r in rounds
            ],
            wide=True,
        ),
    ]  # fmt: skip


def _no_sample(rounds: Sequence[RoundSummary], unit: str) -> FigureItem:
    """Steps without a sample by reason, the most frequent reason at the bottom."""
    totals = {name: sum(r.reasons.get(name, 0) for r in rounds) for r in rounds for name in r.reasons}
    names = sorted(totals, key=lambda name: -totals[name])

    def share(some: Sequence[str]) -> list[float]:
        return [sum(r.reasons.get(name, 0) for name in some) / max(r.steps, 1) for r in rounds]

    parts = {name.replace("_", " "): share([name]) for name in names[:REASONS]}
    if names[REASONS:]:
        parts["other"] = share(names[REASONS:])
    ticks = [str(r.round + 1) for r in rounds] if unit == "round" else [unit]
    return FigureItem(
        "Steps that gave no sample, by reason",
        [plots.stacked_bars(parts, ticks, "reasons", "round" if unit == "round" else "")] if parts else [],
        (unit, "steps", "valid", *(name.replace("_", " ") for name in names)),
        [
            (tick, f"{r.steps:,}", _percent(r.valid_rate), *(f"{r.reasons.get(name, 0):,}" for name in names))
            for tick, r in zip(ticks, rounds, strict=True)
        ],
    )


def _loop(run: RunData) -> list[FigureItem]:
    figures, rounds, end = [], run.rounds, run.metrics.counts["n_generated"]
    if rounds:
        rewards = {
            "intrinsic": _line((r.n_generated, r.intrinsic) for r in rounds),
            "extrinsic": _line((r.n_generated, r.extrinsic) for r in rounds),
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
    lines = {name.replace("_", " "): _line((r.n_generated, r.losses.get(name)) for r in reports) for name in names}

    def cell(value: float | None) -> str:
        return "–" if value is None else f"{value:.3f}"

    return FigureItem(
        "Fine-tuning loss",
        [plots.line_plot(lines, "losses", end, percent=False, y_label="nats", y_start=0.0)],
        ("round", "samples", "steps", *lines, "seconds"),
        [
            (
                str(r.round), f"{r.n_samples:,}", f"{r.optimizer_steps:,}",
                *(cell(r.losses.get(name)) for name in names), f"{r.seconds:.1f}",
            )
            for r in reports
        ],
        note="Total first and last: means over the first and the last tenth of a round's steps.",
    )  # fmt: skip
