"""One self-contained page about a comparison: curves, tables with intervals, and all that is needed to repeat it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from rls3_gym.study import study_tables
from rls3_gym.study.analysis import Comparison, environments_of, sets_of
from rls3_gym.study.numbers import AXES, Axis
from rls3_gym.study.study_figures import as_svg, costs_figure, shares_figure, terms_figure


@dataclass(frozen=True)
class Plot:
    """A figure with its title and what to read in it."""

    title: str
    svg: Markup
    note: str = ""


@dataclass(frozen=True)
class AxisTables:
    """The tables at equal numbers of one sort of samples."""

    title: str
    main: tuple[study_tables.TextTable, ...]
    """One for each set."""
    more: tuple[study_tables.TextTable, ...]


def render_page(comparison: Comparison, curves: Figure) -> str:
    """The page's HTML; `curves` is drawn already."""
    pages = Environment(
        loader=PackageLoader("rls3_gym.study"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return pages.get_template("study.html.j2").render(
        comparison=comparison,
        notes=tuple(_notes(comparison)),
        facts=tuple(_facts(comparison)),
        curves=Markup(as_svg(curves)),
        tables=tuple(_tables(comparison)),
        suites=study_tables.suite_table(comparison.suites),
        plots=tuple(_plots(comparison)),
        environments=environments_of(comparison),
    )


def _axes(comparison: Comparison) -> list[Axis]:
    return [axis for axis in AXES if any(line.axis == axis for line in comparison.analysis.arms)]


def _tables(comparison: Comparison) -> Iterator[AxisTables]:
    analysis = comparison.analysis
    titles = {
        "n_trained": "At equal numbers of samples trained on",
        "n_generated": "At equal numbers of valid samples generated",
    }
    for axis in _axes(comparison):
        of_sets = [
            make(analysis, axis, name)
            for name in analysis.sets
            for make in (study_tables.learning_table, study_tables.breakdown_table)
        ]
        yield AxisTables(
            titles[axis],
            tuple(study_tables.accuracy_table(analysis, axis, name, comparison.noise_floor) for name in analysis.sets),
            (*of_sets, study_tables.sampling_table(analysis, axis), study_tables.cost_table(analysis, axis)),
        )


def _plots(comparison: Comparison) -> Iterator[Plot]:
    """Figures at the largest budget that runs of every arm came to."""
    analysis = comparison.analysis
    name = analysis.sets[0]
    for axis in _axes(comparison):
        budgets = sorted({line.budget for line in analysis.arms if line.axis == axis}, reverse=True)
        for budget in budgets:
            lines = [line for line in analysis.arms if (line.axis, line.budget) == (axis, budget)]
            if all("wall_seconds" in line.numbers and line.numbers["wall_seconds"].runs for line in lines):
                unit = "trained on" if axis == "n_trained" else "generated"
                place = f"{budget:,} {unit}"
                yield Plot(f"Accuracy by term, {place}", Markup(as_svg(terms_figure(lines, name, analysis.baselines))))
                yield Plot(f"Terms in the captions, {place}", Markup(as_svg(shares_figure(lines, analysis.baselines))))
                yield Plot(
                    f"Time, {place}",
                    Markup(as_svg(costs_figure(lines))),
                    "Means something where the runs were made on like machines.",
                )
                return


def _notes(comparison: Comparison) -> Iterator[str]:
    if comparison.missing:
        yield f"Not all of it: {comparison.still_to_make}."
    runs = [run for arm in comparison.arms.values() for run in arm]
    if not all(run.complete for run in runs):
        yield f"{sum(not run.complete for run in runs)} of the runs have not come to their end."
    states = {run.evaluations[0].vlm_digest for run in runs}
    if len(states) > 1:
        yield "The runs do not start from the same VLM state: differences are not due to the samples alone."
    few = min(len(arm) for arm in comparison.arms.values())
    if few < 5:
        yield f"Only {few} run{'s' * (few != 1)} of some arm: intervals over fewer than five say little."


def _facts(comparison: Comparison) -> Iterator[tuple[str, str]]:
    for name, facts in sets_of(comparison).items():
        yield f"set {name}", f"{facts['items']:,} items, hash {facts['hash']}"
    backends = {str(facts["backend"]) for facts in sets_of(comparison).values() if facts["backend"]}
    if backends:
        yield "backend", ", ".join(sorted(backends))
    runs = [run for arm in comparison.arms.values() for run in arm]
    yield "VLM", ", ".join(dict.fromkeys(str(_name(run.config.get("vlm"))) for run in runs))
    yield "VLM state before", ", ".join(dict.fromkeys(run.evaluations[0].vlm_digest for run in runs))
    for arm, mine in comparison.arms.items():
        yield f"seeds of {arm}", _ranges(sorted(run.seed for run in mine))
    if comparison.noise_floor is not None:
        yield "noise floor", f"±{100 * comparison.noise_floor:.1f} points (same data, other shuffles)"


def _name(part: object) -> object:
    return part.get("name", "?") if isinstance(part, dict) else part


def _ranges(seeds: Sequence[int]) -> str:
    """`0-4, 7` for 0, 1, 2, 3, 4 and 7."""
    parts: list[list[int]] = []
    for seed in seeds:
        if parts and parts[-1][-1] == seed - 1:
            parts[-1].append(seed)
        else:
            parts.append([seed])
    return ", ".join(str(part[0]) if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts)
