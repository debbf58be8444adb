"""The figures of a report about what the VLM learned: its held-out accuracy, over time and by term."""

from __future__ import annotations

from collections.abc import Sequence

from rls3_gym.evaluation.metrics import wilson_interval
from rls3_gym.report import plots
from rls3_gym.report.figures import AXES, LENGTHS, FigureItem, line, percent, points
from rls3_gym.report.references import ReferenceCurve, curves_for
from rls3_gym.runs.row_values import COMPLEXITIES, TERM_NAMES
from rls3_gym.runs.rows import EvaluationRow
from rls3_gym.runs.run_data import RunData

MEASURES = {"pairwise": "pairwise_accuracy", "strict": "strict_accuracy", "mirrored": "mirrored_accuracy"}


def accuracy_figures(run: RunData) -> list[FigureItem]:
    sets = run.metrics.evaluations
    if not sets:
        return []
    end = run.metrics.counts["n_generated"]
    name, main = next(iter(sets.items()))
    first, last = main[0], main[-1]
    by_set = {set_: line((r.n_generated, r.pairwise_accuracy) for r in rows) for set_, rows in sets.items()}
    by_measure = {label: line((r.n_generated, getattr(r, key)) for r in main) for label, key in MEASURES.items()}
    by_term = {term: line((r.n_generated, r.by_term[term]) for r in main) for term in TERM_NAMES}
    by_length = {
        label: line((r.n_generated, r.by_complexity[terms]) for r in main)
        for label, terms in zip(LENGTHS, COMPLEXITIES, strict=True)
    }
    curves = curves_for(first)
    references = {f"{c.arm}, {name}": (c.n_generated, c.middle, c.low, c.high) for c in curves}
    progress = [(str(r.round), f"{r.n_generated:,}") for r in main]
    before_and_after = _before_and_after(name, first, last)
    ways_to_count = FigureItem(
        f"Three ways to count, on {name}",
        [plots.line_plot(by_measure, "measures", end)],
        ("round", "generated", *MEASURES),
        [(*at, *(percent(getattr(r, key)) for key in MEASURES.values())) for at, r in zip(progress, main, strict=True)],
        note="Strict: preferred to every hard negative. Mirrored: right in the picture and in its mirror image.",
    )
    answers = [_answers(name, first, last)] if last.answers else []
    if last is first:
        return [before_and_after, ways_to_count, *answers]
    return [
        FigureItem(
            "Pairwise accuracy by set",
            [plots.line_plot(by_set, "sets", end, chance=0.5, references=references)],
            ("set", "round", "generated", "trained", "pairwise"),
            [
                (r.set, str(r.round), f"{r.n_generated:,}", f"{r.n_trained:,}", percent(r.pairwise_accuracy))
                for rows in sets.values()
                for r in rows
            ]
            + [
                (f"{name}, {c.arm}", "–", "–", f"{last.n_trained:,}", percent(at[0]))
                for c in curves
                if (at := c.at(last.n_trained)) is not None
            ],
            note=_about(curves),
        ),
        ways_to_count,
        before_and_after,
        *answers,
        FigureItem(
            f"By caption length on {name}",
            [plots.line_plot(by_length, "complexity", end, chance=0.5)],
            ("round", "generated", *LENGTHS),
            [
                (*at, *(percent(r.by_complexity[terms]) for terms in COMPLEXITIES))
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
                (*at, *(percent(r.by_term[term]) for term in TERM_NAMES))
                for at, r in zip(progress, main, strict=True)
            ],
            wide=True,
        ),
    ]  # fmt: skip


def _about(curves: Sequence[ReferenceCurve]) -> str:
    if not curves:
        return ""
    seeds = " and ".join(str(n) for n in sorted({c.seeds for c in curves}))
    return (
        f"In gray: the same VLM taught by samples of others, {seeds} seeds each, with 95 % intervals; in the table, as "
        "many of their samples trained. Random: uniform actions. Stratified: balanced over relations, learns nothing."
    )


def _before_and_after(name: str, first: EvaluationRow, last: EvaluationRow) -> FigureItem:
    """Bars by term with intervals; terms that no item has are left out."""
    shown = [term for term in TERM_NAMES if first.n_by_term[term] and last.n_by_term[term]]
    measured = {"accuracy": first} if last is first else {"before": first, "after": last}
    values = {label: [row.by_term[term] or 0.0 for term in shown] for label, row in measured.items()}
    intervals = {label: [_interval(row, term) for term in shown] for label, row in measured.items()}

    def cell(row: EvaluationRow, term: str) -> str:
        if not row.n_by_term[term]:
            return "–"
        low, high = _interval(row, term)
        return f"{percent(row.by_term[term])} ({100 * low:.0f}–{100 * high:.0f})"

    return FigureItem(
        f"By term on {name}" + ("" if last is first else ", before and after"),
        [plots.bars(values, shown, "by-term", intervals=intervals, chance=0.5)] if shown else [],
        ("term", "items", *measured, "points"),
        [
            (term, f"{last.n_by_term[term]:,}", *(cell(row, term) for row in measured.values()),
             points(first.by_term[term], last.by_term[term]))
            for term in TERM_NAMES
        ],
        note=f"With 95 % intervals (Wilson) over the items that hold the term. Worst term now: {last.worst_term}.",
    )  # fmt: skip


def _answers(name: str, first: EvaluationRow, last: EvaluationRow) -> FigureItem:
    """What a VLM that writes says when it is asked."""
    measured = {"score": first} if last is first else {"before": first, "after": last}
    return FigureItem(
        f"Answers on {name}",
        [],
        ("measure", *measured, "points"),
        [
            (key.replace("_", " "), *(percent(row.answers.get(key)) for row in measured.values()),
             points(first.answers.get(key), value))
            for key, value in last.answers.items()
        ],
        note="Asked where one object is relative to another: F1 of the spatial terms that it claims (mean over the "
        "terms), answers with exactly the true terms, and how many of the two objects it names.",
    )  # fmt: skip


def _interval(row: EvaluationRow, term: str) -> plots.Interval:
    return wilson_interval(row.by_term[term] or 0.0, row.n_by_term[term])
