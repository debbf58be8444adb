"""One self-contained page about a run: what the VLM learned, from which samples, and how the agent chose them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from rls3_gym.report.accuracy import accuracy_figures
from rls3_gym.report.agent_figures import agent_figures
from rls3_gym.report.figures import FigureItem, loop_figures, percent, sample_figures
from rls3_gym.report.gallery import NOTE, shots_by_round
from rls3_gym.report.suite_tables import suite_figures
from rls3_gym.runs.directory import RunDirectory, write_text
from rls3_gym.runs.run_data import RunData, read_run


@dataclass(frozen=True)
class Tile:
    """A headline number."""

    label: str
    value: str
    more: str = ""
    trend: str = ""
    """CSS class of the line below: `up`, `down` or nothing."""


@dataclass(frozen=True)
class Section:
    """Figures that belong together."""

    title: str
    figures: Sequence[FigureItem]
    text: str = ""


def write_report(run_dir: Path) -> Path:
    """Write `report.html` into a run directory, finished or not; pictures and plots are inside the page.

    Raises `UserError` for a folder that is not a run directory, and when the page can't be written.
    """
    path = RunDirectory(run_dir).report
    write_text(path, render_page(read_run(run_dir)))
    return path


def render_page(run: RunData) -> str:
    """The page's HTML."""
    pages = Environment(
        loader=PackageLoader("rls3_gym.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return pages.get_template("report.html.j2").render(
        title=run.path.resolve().name,
        description=str(run.config.get("description") or ""),
        tiles=_tiles(run),
        notes=_notes(run),
        facts=_facts(run),
        sections=_sections(run),
        gallery=shots_by_round(run),
        gallery_note=NOTE,
        config=yaml.safe_dump(run.config, sort_keys=False, allow_unicode=True),
        environment=run.environment,
    )


def _sections(run: RunData) -> list[Section]:
    """All sections that have something to show, in the order of the page."""
    found = [
        Section(
            "What the VLM learned",
            accuracy_figures(run),
            "Held-out accuracy against the valid samples generated. Pairwise: the true caption against the one with "
            "a term turned, averaged over the six terms; chance is 50 %.",
        ),
        Section(
            "On pictures of others",
            suite_figures(run),
            "The suites of the experiment, before and after, with 95 % intervals (Wilson). Blind: with a plain gray "
            "picture in place of every picture, so what captions alone give away.",
        ),
        Section("Which samples the agent made", sample_figures(run)),
        Section(
            "How the agent trained",
            agent_figures(run),
            "What the agent says of itself, as its library calls it: means since the episode before. The reward of an "
            "episode falls as the VLM learns; it is no score.",
        ),
        Section("How the loop went", loop_figures(run)),
    ]
    return [replace(section, figures=_without_holes(section.figures)) for section in found if section.figures]


def _without_holes(figures: Sequence[FigureItem]) -> list[FigureItem]:
    """The page has two columns: a figure with nothing beside it takes the whole row."""
    filled: list[FigureItem] = []
    column = 0
    for i, item in enumerate(figures):
        alone = column == 0 and (i + 1 == len(figures) or figures[i + 1].wide)
        wide = item.wide or alone
        filled.append(replace(item, wide=wide))
        column = 0 if wide else 1 - column
    return filled


def _tiles(run: RunData) -> list[Tile]:
    counts, whole, seconds = run.metrics.counts, run.whole, run.spent.total
    tiles = []
    for name, rows in run.metrics.evaluations.items():
        before, after = rows[0].pairwise_accuracy or 0.0, rows[-1].pairwise_accuracy or 0.0
        label = f"accuracy on {name.replace('_', ' ')}"
        if len(rows) == 1:
            tiles.append(Tile(label, f"{100 * before:.1f} %", "before fine-tuning"))
        else:
            gain = 100 * (after - before)
            trend = "up" if gain > 0 else "down"
            tiles.append(Tile(label, f"{100 * after:.1f} %", f"{gain:+.1f} points from {100 * before:.1f} %", trend))
    if run.metrics.rows:
        tiles.append(Tile("samples generated", f"{counts['n_generated']:,}", f"{counts['n_trained']:,} trained on"))
    if whole is not None:
        tiles.append(Tile("valid steps", f"{100 * whole.valid_rate:.0f} %", f"of {whole.steps:,} steps"))
    if run.metrics.rows:
        tiles.append(Tile("rounds", str(counts["round"]), "of fine-tuning"))
    if seconds > 0 and counts["n_generated"]:
        tiles.append(Tile("wall time", _duration(seconds), f"{counts['n_generated'] / seconds:.3g} samples a second"))
    return tiles


def _notes(run: RunData) -> list[str]:
    if not run.metrics.rows:
        return ["Nothing has been measured yet: the run has only just begun."]
    notes = []
    if run.metrics.end is None:
        notes.append("The run is not complete: this is how far it got.")
    left_over = run.unfinished
    environment = run.config.get("environment")
    if isinstance(environment, dict) and environment.get("finetune") is False:
        notes.append("The VLM is asked but never taught: there are no rounds.")
    elif not run.metrics.finetunes:
        notes.append("No round of fine-tuning is finished yet.")
    elif left_over is not None:
        notes.append(
            f"The last {left_over.steps:,} steps ({left_over.valid:,} samples) are of a round that was not finished; "
            "the plots by round leave them out."
        )
    notes += [f"At step {row.n_steps:,}: {row.text}." for row in run.metrics.warnings[-5:]]
    undone = [row for row in run.metrics.finetunes if row.rolled_back]
    return notes + [f"Round {r.round}: the weights from before it were restored ({r.rolled_back})." for r in undone]


def _facts(run: RunData) -> list[tuple[str, str]]:
    config, spent = run.config, run.spent
    facts = [
        ("experiment", str(config.get("name", "?"))),
        ("agent", _name_of(config.get("agent"))),
        ("VLM", _name_of(config.get("vlm"))),
        ("seed", str(config.get("seed", "?"))),
    ]
    date = next((line.removeprefix("date ") for line in run.environment.splitlines() if line.startswith("date ")), None)
    if date is not None:
        facts.append(("begun", date))
    if spent.total > 0:
        shares = {name: round(100 * seconds / spent.total) for name, seconds in spent.parts.items()}
        rest = "agent and rest" if "scenes" in shares else "scenes, scoring, agent and rest"
        shares[rest] = max(0, 100 - sum(shares.values()))
        facts.append(("time spent", ", ".join(f"{share} % {name}" for name, share in shares.items())))
        if spent.processor is not None:
            facts.append(("processor time", _duration(spent.processor)))
    rows = [row for rows in run.metrics.evaluations.values() for row in rows]
    if rows:
        first, last = rows[0].vlm_digest, rows[-1].vlm_digest
        facts.append(("VLM state", first if first == last else f"{first} → {last}"))
        if rows[0].backend:
            facts.append(("backend", rows[0].backend))
    for name, of_set in run.metrics.evaluations.items():
        facts.append((f"set {name}", f"{of_set[0].n:,} items, hash {of_set[0].set_hash}"))
    for name, of_suite in run.metrics.suites.items():
        facts.append((f"suite {name}", f"{of_suite[0].n:,} items, hash {of_suite[0].items_hash}"))
    for life in run.metrics.lives:
        reached = ", ".join(f"{name} {percent(value)}" for name, value in life.pairwise_accuracy.items())
        facts.append((f"life {life.life}", f"{life.n_trained:,} trained, then {reached}; the VLM began anew after it"))
    if run.command:
        facts.append(("command", run.command))
    return facts


def _name_of(part: object) -> str:
    return str(part.get("name", "?")) if isinstance(part, dict) else str(part)


def _duration(seconds: float) -> str:
    hours, minutes = int(seconds) // 3600, int(seconds) // 60 % 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {int(seconds) % 60} s" if minutes else f"{seconds:.0f} s"
