"""The tables of a comparison as text, for the terminal and for the page: one row for each budget and arm."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeGuard

from rls3_gym.study.analysis import Analysis, ArmAtBudget
from rls3_gym.study.numbers import COMPLEXITIES, TERMS, Axis
from rls3_gym.study.statistics import Interval
from rls3_gym.study.study_progress import duration
from rls3_gym.study.suite_changes import SuiteChange

NONE = "–"
LEVEL = 0.05
"""A difference is highlighted where its corrected p is below this; its interval alone is too narrow over few runs."""


@dataclass(frozen=True)
class Cell:
    """One entry: what it says, smaller text beside it, and how much it means."""

    text: str
    more: str = ""
    weight: str = ""
    """`up`, `down` (a difference that means something), or nothing."""

    def __str__(self) -> str:
        return f"{self.text} {self.more}".strip()


@dataclass(frozen=True)
class TextTable:
    """A table with its head."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


Format = Callable[[float], str]
Column = tuple[str, Callable[[ArmAtBudget], Cell]]


def percent(value: float) -> str:
    return f"{100 * value:.1f}"


def points(value: float) -> str:
    return f"{100 * value:+.1f}"


def count(value: float) -> str:
    return f"{value:,.0f}"


def decimal(value: float) -> str:
    return f"{value:.2f}"


def accuracy_table(analysis: Analysis, axis: Axis, name: str, noise_floor: float | None) -> TextTable:
    """Final accuracy on a set, and its differences to the baselines in points."""
    columns: list[Column] = [
        ("%", _interval(f"{name}.pairwise", percent)),
        *(
            (f"points to {baseline}", _difference(baseline, f"{name}.pairwise", points, noise_floor))
            for baseline in analysis.baselines
        ),
    ]
    return _table(f"Pairwise accuracy on {name}", analysis, axis, columns)


def learning_table(analysis: Analysis, axis: Axis, name: str) -> TextTable:
    """How a set was learned: gain, area under the curve, thresholds, efficiency, probability of improvement."""
    columns: list[Column] = [
        ("gain, points", _interval(f"{name}.gain", points)),
        ("nAUC, points", _interval(f"{name}.nauc", points)),
        ("samples to 50 %", _threshold(f"{name}.n_50", count, "≥ ")),
        ("samples to 80 %", _threshold(f"{name}.n_80", count, "≥ ")),
        ("data efficiency", _threshold(f"{name}.efficiency", decimal, "≤ ")),
        *((f"better than {b}", _improvement(b, f"{name}.pairwise")) for b in analysis.baselines),
    ]
    return _table(f"How {name} was learned", analysis, axis, columns)


def breakdown_table(analysis: Analysis, axis: Axis, name: str) -> TextTable:
    """What the VLM knows of a set: strict accuracy, and the pairwise one by term and by caption length."""
    columns: list[Column] = [
        ("strict, %", _interval(f"{name}.strict", percent)),
        ("worst term, %", _interval(f"{name}.worst_term", percent)),
        *((f"{term}, %", _mean(f"{name}.{term}", percent)) for term in TERMS),
        *((f"{n}-term captions, %", _mean(f"{name}.terms_{n}", percent)) for n in COMPLEXITIES),
    ]
    return _table(f"What the VLM knows of {name}", analysis, axis, columns)


def sampling_table(analysis: Analysis, axis: Axis) -> TextTable:
    """What was sampled until the budget."""
    columns: list[Column] = [
        ("generated", _mean("n_generated", count)),
        ("trained", _mean("n_trained", count)),
        ("valid steps, %", _mean("valid_rate", percent)),
        ("ambiguous, %", _mean("ambiguous_rate", percent)),
        ("effective cells of 26", _interval("effective_cells", lambda value: f"{value:.1f}")),
        ("above or below, % of samples", _interval("vertical_samples", percent)),
        ("% of terms", _mean("vertical_terms", percent)),
        ("1 / 2 / 3 terms, %", _lengths),
        ("effective captions", _mean("effective_captions", count)),
        ("near-duplicates, %", _mean("near_duplicates", percent)),
        ("targeting, terms", _mean("targeting", lambda value: f"{value:+.2f}")),
        ("targeting, cells", _mean("targeting_cells", lambda value: f"{value:+.2f}")),
    ]
    return _table("What was sampled", analysis, axis, columns)


def cost_table(analysis: Analysis, axis: Axis) -> TextTable:
    """Wall time of a run until the budget, and its processor time."""
    columns: list[Column] = [
        ("wall", _mean("wall_seconds", duration)),
        ("evaluation", _mean("evaluate_seconds", duration)),
        ("fine-tuning", _mean("finetune_seconds", duration)),
        ("scenes, scoring, agent", _mean("rest_seconds", duration)),
        ("scenes", _mean("stage_seconds", duration)),
        ("scoring", _mean("score_seconds", duration)),
        ("agent, rest", _mean("agent_seconds", duration)),
        ("processor", _mean("cpu_seconds", duration)),
        ("steps", _mean("n_steps", count)),
    ]
    return _table("What it cost", analysis, axis, columns)


def suite_table(changes: Sequence[SuiteChange]) -> TextTable:
    """Every measure of the suites before and after, and the change in points."""
    rows = []
    before = ("", "")
    for change in changes:
        here = (change.suite, change.measure)
        clear = change.change.low > 0 or change.change.high < 0
        weight = ("up" if change.change.iqm > 0 else "down") if clear else ""
        rows.append((
            Cell(" ".join(here) if here != before else ""), Cell(change.arm), Cell(str(change.change.runs)),
            *(_of(part, percent) for part in (change.before, change.after)), _of(change.change, points, weight),
        ))  # fmt: skip
        before = here
    return TextTable("Suites", ("suite", "arm", "runs", "before, %", "after, %", "points"), tuple(rows))


def _of(found: Interval, form: Format, weight: str = "") -> Cell:
    return Cell(form(found.iqm), _bounds(found, form), weight) if _is_known(found) else Cell(NONE)


def _table(title: str, analysis: Analysis, axis: Axis, columns: Sequence[Column]) -> TextTable:
    unit = {"n_trained": "trained on", "n_generated": "generated"}[axis]
    head = (unit, "arm", "runs", *(name for name, _ in columns))
    return TextTable(title, head, tuple(_rows(analysis, axis, columns)))


def _rows(analysis: Analysis, axis: Axis, columns: Sequence[Column]) -> Iterator[tuple[Cell, ...]]:
    before = None
    for line in analysis.arms:
        if line.axis != axis:
            continue
        budget = count(line.budget) if line.budget != before else ""
        before = line.budget
        runs = line.numbers.get(f"{analysis.sets[0]}.pairwise")
        yield (Cell(budget), Cell(line.arm), Cell(str(runs.runs if runs else 0)), *(make(line) for _, make in columns))


def _interval(number: str, form: Format) -> Callable[[ArmAtBudget], Cell]:
    def make(line: ArmAtBudget) -> Cell:
        found = line.numbers.get(number)
        return _of(found, form) if found else Cell(NONE)

    return make


def _mean(number: str, form: Format) -> Callable[[ArmAtBudget], Cell]:
    def make(line: ArmAtBudget) -> Cell:
        found = line.numbers.get(number)
        return Cell(form(found.mean)) if _is_known(found) else Cell(NONE)

    return make


def _difference(baseline: str, number: str, form: Format, noise_floor: float | None) -> Callable[[ArmAtBudget], Cell]:
    def make(line: ArmAtBudget) -> Cell:
        found = line.differences.get(baseline, {}).get(number)
        if found is None or not _is_known(found.interval):
            return Cell("" if line.arm == baseline else NONE)
        gap = found.interval
        p = f" p {found.p_holm:.2g}" if gap.runs > 1 else ""
        clear = found.p_holm < LEVEL and abs(gap.iqm) > (noise_floor or 0.0) and (gap.low > 0 or gap.high < 0)
        weight = ("up" if gap.iqm > 0 else "down") if clear else ""
        return Cell(form(gap.iqm), _bounds(gap, form) + p, weight)

    return make


def _improvement(baseline: str, number: str) -> Callable[[ArmAtBudget], Cell]:
    def make(line: ArmAtBudget) -> Cell:
        found = line.differences.get(baseline, {}).get(number)
        known = found is not None and math.isfinite(found.improvement)
        return Cell(f"{found.improvement:.0%}" if found and known else "" if line.arm == baseline else NONE)

    return make


def _threshold(number: str, form: Format, censored: str) -> Callable[[ArmAtBudget], Cell]:
    """A number that some runs did not come to: then a bound, with the share of runs that did."""

    def make(line: ArmAtBudget) -> Cell:
        found, reached = line.numbers.get(number), line.numbers.get(f"{number}_reached")
        if not _is_known(found) or reached is None:
            return Cell(NONE)
        if reached.mean == 1.0:
            return Cell(form(found.iqm), _bounds(found, form))
        return Cell(f"{censored}{form(found.iqm)}", f"{reached.mean:.0%} came to it")

    return make


def _lengths(line: ArmAtBudget) -> Cell:
    shares = [line.numbers.get(f"length_{n}") for n in COMPLEXITIES]
    return Cell(" / ".join(f"{100 * share.mean:.0f}" if share and share.runs else NONE for share in shares))


def _is_known(found: Interval | None) -> TypeGuard[Interval]:
    return found is not None and math.isfinite(found.iqm)


def _bounds(found: Interval, form: Format) -> str:
    return f"[{form(found.low)}, {form(found.high)}]" if math.isfinite(found.low) else ""
