"""One self-contained page about a run: what the VLM learned, from which samples, and how the agent chose them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from rls3_gym.report.figures import Section, sections
from rls3_gym.report.gallery import NOTE, shots_by_round
from rls3_gym.runs.rundata import Row, RunData, read_run

REPORT_NAME = "report.html"


@dataclass(frozen=True)
class Tile:
    """A headline number."""

    label: str
    value: str
    more: str = ""
    trend: str = ""
    """CSS class of the line below: `up`, `down` or nothing."""


def write_report(run_dir: Path) -> Path:
    """Write `report.html` into a run directory, finished or not; pictures and plots are inside the page.

    Raises `UserError` for a folder that is not a run directory, and `OSError` when the page can't be written.
    """
    run = read_run(run_dir)
    path = run_dir / REPORT_NAME
    partial = path.with_name(f".{REPORT_NAME}.partial")
    try:
        partial.write_text(render_page(run), encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def render_page(run: RunData) -> str:
    """The page's HTML."""
    pages = Environment(
        loader=PackageLoader("rls3_gym.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    gallery = shots_by_round(run)
    return pages.get_template("report.html.j2").render(
        title=run.path.resolve().name,
        description=str(run.config.get("description") or ""),
        tiles=_tiles(run),
        notes=_notes(run),
        facts=_facts(run),
        sections=_sections(run),
        gallery=gallery,
        gallery_note=NOTE,
        config=yaml.safe_dump(run.config, sort_keys=False, allow_unicode=True),
        environment=run.environment,
    )


def _sections(run: RunData) -> list[Section]:
    return [section for section in sections(run) if section.figures]


def _tiles(run: RunData) -> list[Tile]:
    tiles = []
    for name, rows in run.evaluations.items():
        first, last = rows[0], rows[-1]
        before, after = first["pairwise_accuracy"], last["pairwise_accuracy"]
        label = f"accuracy on {name.replace('_', ' ')}"
        if len(rows) == 1:
            tiles.append(Tile(label, f"{100 * before:.1f} %", "before fine-tuning"))
        else:
            gain = 100 * (after - before)
            trend = "up" if gain > 0 else "down"
            tiles.append(Tile(label, f"{100 * after:.1f} %", f"{gain:+.1f} points from {100 * before:.1f} %", trend))
    last = run.rows[-1] if run.rows else {}
    if "n_generated" in last:
        tiles.append(Tile("samples generated", _count(last["n_generated"]), f"{_count(last['n_trained'])} trained on"))
    if run.rounds:
        steps = sum(r.steps for r in run.rounds)
        valid = sum(r.valid for r in run.rounds)
        tiles.append(Tile("valid steps", f"{100 * valid / max(steps, 1):.0f} %", f"of {_count(steps)} steps"))
    rounds = len(run.of_kind("finetune"))
    if run.rows:
        tiles.append(Tile("rounds", str(rounds), "of fine-tuning"))
    return tiles


def _notes(run: RunData) -> list[str]:
    if not run.rows:
        return ["Nothing has been measured yet: the run has only just begun."]
    if not run.of_kind("finetune"):
        return ["No round of fine-tuning is finished yet."]
    undone = [r for r in run.of_kind("finetune") if r.get("rolled_back")]
    return [f"Round {r['round']}: the weights from before it were restored ({r['rolled_back']})." for r in undone]


def _facts(run: RunData) -> list[tuple[str, str]]:
    config = run.config
    facts = [
        ("experiment", str(config.get("name", "?"))),
        ("agent", _name_of(config.get("agent"))),
        ("VLM", _name_of(config.get("vlm"))),
        ("seed", str(config.get("seed", "?"))),
    ]
    states = [str(row["vlm_digest"]) for row in run.of_kind("evaluation")]
    if states:
        facts.append(("VLM state", states[0] if states[0] == states[-1] else f"{states[0]} → {states[-1]}"))
    for name, rows in run.evaluations.items():
        facts.append((f"set {name}", _set_line(rows)))
    if run.command:
        facts.append(("command", run.command))
    return facts


def _set_line(rows: Sequence[Row]) -> str:
    return f"{rows[0]['n']:,} items, hash {rows[0]['set_hash']}"


def _name_of(part: object) -> str:
    return str(part.get("name", "?")) if isinstance(part, dict) else str(part)


def _count(number: object) -> str:
    return f"{int(str(number)):,}"
