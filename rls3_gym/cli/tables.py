"""What the command line prints: lists of what exists by name, and tables of accuracies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

import rls3_registry
from rls3_agents.base import AGENTS
from rls3_gym.backends.base import BACKENDS
from rls3_gym.loop.rewards.base import REWARDS
from rls3_gym.registration import ENV_IDS
from rls3_gym.scene.catalog import load_catalog
from rls3_gym.scene.families import load_family
from rls3_gym.vlm.base import VLMS
from rls3_registry.plugins import PluginSection

Rows = list[dict[str, Any]]


def _ids() -> Rows:
    return [{"id": name, "arguments": arguments} for name, arguments in ENV_IDS.items()]


def _plugins(section: PluginSection[Any]) -> Rows:
    specs = {name: section.find(name)[1] for name in section.names()}
    return [{"name": name, "plugin": spec.plugin, "description": spec.description} for name, spec in specs.items()]


def _experiments() -> Rows:
    from rls3_gym.experiment.config import load_config

    configs = {name: load_config(name) for name in rls3_registry.names("experiments")}
    return [
        {"name": name, "agent": c.agent.name, "vlm": c.vlm.name, "description": c.description}
        for name, c in configs.items()
    ]


def _studies() -> Rows:
    from rls3_gym.study.study_config import load_study

    studies = {name: load_study(name) for name in rls3_registry.names("studies")}
    return [{"name": name, "arms": list(s.arms), "description": s.description} for name, s in studies.items()]


def _suites() -> Rows:
    from rls3_gym.suites.catalog import SUITES

    return [{"name": name, "description": suite.description} for name, suite in SUITES.items()]


def _rooms() -> Rows:
    families = {name: load_family(name).sizes for name in rls3_registry.names("rooms")}
    return [
        {"name": name, "train": s.train, "validation": s.validation, "test": s.test} for name, s in families.items()
    ]


def _objects() -> Rows:
    return [
        {"name": kind.name, "file": f"objects/{kind.slug}.yaml", "held_out": kind.held_out}
        for kind in load_catalog().kinds
    ]


SECTIONS: dict[str, Callable[[], Rows]] = {
    "ids": _ids,
    "agents": lambda: _plugins(AGENTS),
    "vlms": lambda: _plugins(VLMS),
    "backends": lambda: _plugins(BACKENDS),
    "rewards": lambda: _plugins(REWARDS),
    "experiments": _experiments,
    "studies": _studies,
    "suites": _suites,
    "rooms": _rooms,
    "objects": _objects,
}
"""What `rls3 list` can list: one row per name, JSON-ready."""


def listing(section: str, rows: Rows) -> Table:
    """A section of `rls3 list`."""
    table = Table(title=section, title_justify="left")
    for column in rows[0] if rows else ():
        table.add_column(column.replace("_", " "))
    for row in rows:
        table.add_row(*(_cell(value) for value in row.values()))
    return table


def print_summary(console: Console, summary: Mapping[str, Any]) -> None:
    """Accuracy before and after a run, by term and by complexity, for each evaluation set; and where the report is."""
    for name, entry in summary["sets"].items():
        before, after = entry["before"], entry["after"]
        title = f"pairwise accuracy on {name} ({after['n']:,} items) after {summary['n_trained']:,} trained samples"
        table = Table(title=title, title_justify="left")
        for column in ("", "before", "after", "change"):
            table.add_column(column, justify="left" if not column else "right")
        for label, was, now in _pairs(before, after):
            table.add_row(label, _share(was), _share(now), _points(was, now))
        for line in entry.get("references", ()):
            label = f"{line['arm']} ({line['seeds']} seeds), as many trained"
            table.add_row(label, "", _share(line["accuracy"]), f"{line['low']:.1%} to {line['high']:.1%}", style="dim")
        console.print(table)
    for name, entry in summary["suites"].items():
        console.print(_suite_change(name, entry["before"], entry["after"]))
    console.print(f"report: {summary['report']}", soft_wrap=True)


def _suite_change(name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Table:
    """A suite's numbers before and after a run."""
    table = Table(title=f"{name} ({after['n']:,} items)", title_justify="left")
    for column in ("", "before", "after", "95 % interval", "change"):
        table.add_column(column, justify="left" if not column else "right")
    for measure, now in after["value"].items():
        was, low, high = before["value"].get(measure), after["low"][measure], after["high"][measure]
        interval = "" if low is None else f"{low:.1%} to {high:.1%}"
        table.add_row(measure, _share(was), _share(now), interval, _points(was, now))
    return table


def print_evaluation(console: Console, result: Mapping[str, Any]) -> None:
    """The accuracies of one VLM on one set."""
    table = Table(title=f"{result['vlm']} ({result['vlm_digest']}) on {result['set']}", title_justify="left")
    table.add_column("")
    table.add_column("accuracy", justify="right")
    table.add_row("object presence", _share(result["presence_accuracy"]))
    for label, value in _accuracies(result).items():
        table.add_row(label, _share(value))
    table.caption = f"{result['n']:,} items, pairwise chance 50 %"
    console.print(table)


def print_suite(console: Console, result: Mapping[str, Any]) -> None:
    """The numbers of one VLM on one suite, with intervals, and what they are to be compared with."""
    table = Table(title=f"{result['vlm']} ({result['vlm_digest']}) on {result['suite']}", title_justify="left")
    for column in ("", "accuracy", "95 % interval", "of", "blind", "chance"):
        table.add_column(column, justify="left" if not column else "right")
    for measure in result["measures"]:
        interval = "" if measure["low"] is None else f"{measure['low']:.1%} to {measure['high']:.1%}"
        table.add_row(
            measure["name"], _share(measure["value"]), interval, f"{measure['n']:,}", _share(measure["blind"]),
            _share(measure["chance"]),
        )  # fmt: skip
    details = "".join(f", {name.replace('_', ' ')} {value:.4g}" for name, value in result["details"].items())
    table.caption = f"{result['n']:,} items{details}; blind: the same captions with a gray picture"
    console.print(table)


def _pairs(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[tuple[str, float | None, float | None]]:
    was = _accuracies(before)
    return [(label, was.get(label), value) for label, value in _accuracies(after).items()]


def _accuracies(row: Mapping[str, Any]) -> dict[str, float | None]:
    return {
        "all terms": row["pairwise_accuracy"],
        **row["by_term"],
        **{f"{n}-term captions": value for n, value in row["by_complexity"].items()},
        "strict (against every negative)": row["strict_accuracy"],
        **{f"answers: {name.replace('_', ' ')}": value for name, value in row.get("answers", {}).items()},
    }


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _points(was: float | None, now: float | None) -> str:
    return "" if was is None or now is None else f"{100 * (now - was):+.1f}"


def _cell(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={item}" for key, item in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(str(item) for item in value)
    return {True: "yes", False: "no"}.get(value, str(value)) if isinstance(value, bool) else str(value)
