"""What a report shows: each figure with the numbers it was drawn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from rls3_gym.evaluation.metrics import coverage
from rls3_gym.report import plots
from rls3_gym.runs.rundata import COMPLEXITIES, TERM_NAMES, Row, RunData

Cells = Sequence[Sequence[str]]


@dataclass(frozen=True)
class FigureItem:
    """A plot, and its numbers as a table."""

    title: str
    svg: Markup
    head: Sequence[str] = ()
    rows: Cells = ()
    note: str = ""


@dataclass(frozen=True)
class Section:
    """Figures that belong together."""

    title: str
    figures: Sequence[FigureItem]
    text: str = ""


def sections(run: RunData) -> list[Section]:
    """All sections, in the order of the page; those without anything to show have no figures."""
    return [
        Section(
            "What the VLM learned",
            _accuracy(run),
            "Held-out accuracy against the valid samples generated. Pairwise: the true caption against the one with "
            "a term turned, averaged over the six terms; chance is 50 %.",
        ),
        Section("Which samples the agent made", _samples(run)),
        Section("How the loop went", _loop(run)),
    ]


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def _points(before: float | None, after: float | None) -> str:
    return "–" if before is None or after is None else f"{100 * (after - before):+.1f}"


def _line(rows: Sequence[Row], key: str, name: str | None = None) -> tuple[list[float], list[float]]:
    """x and y of a line: `row[key]`, or `row[key][name]`; points without a value are left out."""
    pairs = [(row["n_generated"], row[key] if name is None else row[key][name]) for row in rows]
    return [float(x) for x, y in pairs if y is not None], [float(y) for x, y in pairs if y is not None]


def _accuracy(run: RunData) -> list[FigureItem]:
    sets = run.evaluations
    if not sets:
        return []
    main_name, main = next(iter(sets.items()))
    first, last = main[0], main[-1]
    by_set = {name: _line(rows, "pairwise_accuracy") for name, rows in sets.items()}
    all_rows = [(name, row) for name, rows in sets.items() for row in rows]
    measures = {"pairwise": "pairwise_accuracy", "strict": "strict_accuracy", "mirrored": "mirrored_accuracy"}
    terms = {name: _line(main, "by_term", name) for name in TERM_NAMES}
    complexities = {f"{name} term{'s' * (name != '1')}": _line(main, "by_complexity", name) for name in COMPLEXITIES}
    known = [name for name in TERM_NAMES if first["by_term"][name] is not None and last["by_term"][name] is not None]
    return [
        FigureItem(
            "Pairwise accuracy by set",
            Markup(plots.line_plot(by_set, "sets", "", chance=0.5)),
            ("set", "round", "generated", "trained", *measures),
            [
                (
                    name, str(row["round"]), f"{row['n_generated']:,}", f"{row['n_trained']:,}",
                    *(_percent(row[key]) for key in measures.values()),
                )
                for name, row in all_rows
            ],
        ),
        FigureItem(
            f"Three ways to count, on {main_name}",
            Markup(plots.line_plot({n: _line(main, key) for n, key in measures.items()}, "measures", "")),
            note="Strict: preferred to every hard negative. Mirrored: right in the picture and in its mirror image.",
        ),
        FigureItem(
            f"By term on {main_name}, before and after",
            Markup(_radar(first, last, known)) if len(known) > 2 else Markup(),
            ("term", "before", "after", "points"),
            [
                (name, _percent(first["by_term"][name]), _percent(last["by_term"][name]),
                 _points(first["by_term"][name], last["by_term"][name]))
                for name in TERM_NAMES
            ],
            note=f"Worst term now: {last['worst_term']}.",
        ),
        FigureItem(
            f"By term on {main_name}, over time",
            Markup(plots.line_plot(terms, "terms", "", looks=plots.TERM_LOOKS, chance=0.5)),
        ),
        FigureItem(
            f"By caption length on {main_name}",
            Markup(plots.line_plot(complexities, "complexity", "", chance=0.5)),
            ("terms in the caption", "before", "after", "points"),
            [
                (name, _percent(first["by_complexity"][name]), _percent(last["by_complexity"][name]),
                 _points(first["by_complexity"][name], last["by_complexity"][name]))
                for name in COMPLEXITIES
            ],
        ),
    ]  # fmt: skip


def _radar(first: Row, last: Row, names: Sequence[str]) -> str:
    values = {"before": [first["by_term"][n] for n in names]}
    if last is not first:
        values["after"] = [last["by_term"][n] for n in names]
    return plots.radar(values, names, "radar")


def _samples(run: RunData) -> list[FigureItem]:
    rounds = [r for r in run.rounds if r.valid]
    if not rounds:
        return []
    x = [float(r.n_generated) for r in rounds]
    terms = {name: (x, [r.terms[name] / r.valid for r in rounds]) for name in TERM_NAMES}
    cover = {"coverage": (x, [coverage(r.cells) for r in rounds])}
    total = sum(r.valid for r in rounds)
    totals = {name: sum(r.terms[name] for r in rounds) for name in TERM_NAMES}
    shares = {
        "first round": [rounds[0].complexity[c] / rounds[0].valid for c in COMPLEXITIES],
        "last round": [rounds[-1].complexity[c] / rounds[-1].valid for c in COMPLEXITIES],
    }
    if len(rounds) == 1:
        del shares["last round"]
    return [
        FigureItem(
            "Captions that hold a term",
            Markup(plots.grouped_bars({"all samples": [n / total for n in totals.values()]}, TERM_NAMES, "totals", "")),
            ("term", "samples", "share"),
            [(name, f"{n:,}", _percent(n / total)) for name, n in totals.items()],
            note="A caption can hold up to three terms.",
        ),
        FigureItem(
            "The same, round by round",
            Markup(plots.line_plot(terms, "term-shares", "", looks=plots.TERM_LOOKS)),
        ),
        FigureItem(
            "Caption length",
            Markup(plots.grouped_bars(shares, [f"{c} term{'s' * (c != '1')}" for c in COMPLEXITIES], "lengths", "")),
            ("round", *(f"{c} term{'s' * (c != '1')}" for c in COMPLEXITIES)),
            [(str(r.round + 1), *(f"{r.complexity[c]:,}" for c in COMPLEXITIES)) for r in rounds],
        ),
        FigureItem(
            "Coverage of the 26 relation cells",
            Markup(plots.line_plot(cover, "coverage", "")),
            ("round", "coverage", "cells used"),
            [(str(r.round + 1), _percent(coverage(r.cells)), str(sum(n > 0 for n in r.cells))) for r in rounds],
            note="Entropy of the round's samples over the cells, as a share of equal counts.",
        ),
    ]


def _loop(run: RunData) -> list[FigureItem]:
    figures = []
    rounds = run.rounds
    if rounds:
        names = sorted({name for r in rounds for name in r.reasons})
        labels = [name.replace("_", " ") for name in names]
        ticks = [str(r.round + 1) for r in rounds]
        steps = [max(r.steps, 1) for r in rounds]
        refused = {
            label: [r.reasons.get(name, 0) / n for r, n in zip(rounds, steps, strict=True)]
            for name, label in zip(names, labels, strict=True)
        }
        x = [float(r.n_generated) for r in rounds]
        rewards = {"intrinsic": (x, [r.intrinsic for r in rounds]), "extrinsic": (x, [r.extrinsic for r in rounds])}
        figures += [
            FigureItem(
                "Steps that gave no sample, by reason",
                Markup(plots.stacked_bars(refused, ticks, "reasons", "", "round")),
                ("round", "valid", *labels),
                [
                    (str(r.round + 1), _percent(r.valid_rate), *(f"{r.reasons.get(name, 0):,}" for name in names))
                    for r in rounds
                ],
            ),
            FigureItem(
                "Reward of a step",
                Markup(plots.line_plot(rewards, "rewards", "", percent=False)),
                ("round", "intrinsic", "extrinsic"),
                [(str(r.round + 1), f"{r.intrinsic:+.3f}", f"{r.extrinsic:+.3f}") for r in rounds],
                note="Means over the steps of a round. The extrinsic part falls as the VLM learns; it is no score.",
            ),
        ]
    reports = run.of_kind("finetune")
    if reports:
        parts = [name for name in reports[0]["losses"] if not name.startswith("total_")]
        keys = {"first steps": "total_first", "last steps": "total_last"} | {p.replace("_", " "): p for p in parts}
        losses = {label: _line(reports, "losses", name) for label, name in keys.items()}
        figures.append(
            FigureItem(
                "Fine-tuning loss",
                Markup(plots.line_plot(losses, "losses", "nats", percent=False)),
                ("round", "samples", "steps", *keys, "seconds"),
                [
                    (
                        str(r["round"]), f"{r['n_samples']:,}", f"{r['optimizer_steps']:,}",
                        *("–" if r["losses"][name] is None else f"{r['losses'][name]:.3f}" for name in keys.values()),
                        f"{r['seconds']:.1f}",
                    )
                    for r in reports
                ],
                note="First and last steps: mean total loss over the first and last tenth of a round. Others: means "
                "over the round, unweighted.",
            )
        )  # fmt: skip
    return figures
