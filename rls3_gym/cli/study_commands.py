"""The commands `rls3 study` and `rls3 compare`."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rls3_gym.cli.options import Json, Trusted, plain_console
from rls3_registry.errors import UserError
from rls3_registry.trust import allowing

if TYPE_CHECKING:
    from rls3_gym.study.analysis import Comparison
    from rls3_gym.study.executor import Executor
    from rls3_gym.study.jobs import Job
    from rls3_gym.study.study_tables import Cell


class Place(StrEnum):
    """Where runs are made."""

    HERE = "here"
    RAY = "ray"


def add_to(app: typer.Typer) -> None:
    """Give an app these commands."""
    app.command()(study)
    app.command()(compare)


def study(
    source: Annotated[str, typer.Argument(metavar="STUDY", help="A registered study, or a YAML file.")],
    arms: Annotated[str | None, typer.Option(help="Make runs of these arms alone, e.g. random,sac.")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Another number of seeds, for every arm.")] = None,
    processes: Annotated[int | None, typer.Option(min=1, help="Runs at a time.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run directories: runs/studies/NAME.")] = None,
    results: Annotated[Path | None, typer.Option(help="Folder of the results: results/NAME.")] = None,
    on: Annotated[Place, typer.Option(help="Where the runs are made: here, or on the machines of a Ray cluster.")] = (
        Place.HERE
    ),
    gpus: Annotated[float, typer.Option(min=0, help="With --on ray: GPUs that each run keeps for itself.")] = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say which runs are missing.")] = False,
    trust: Trusted = None,
    as_json: Json = False,
) -> None:
    """Compare arms over seeds: make the runs that are missing, write tables, curves and a page. Ctrl-C saves and stops;
    the same command goes on, on another machine with the results folder alone."""
    from rls3_gym.experiment.config import experiment_path
    from rls3_gym.runs.taught import reading_config
    from rls3_gym.study.carry_out import StudyFolders, missing_runs, run_study
    from rls3_gym.study.results import summary
    from rls3_gym.study.study_config import load_study

    config = load_study(source)
    folders = StudyFolders(out or Path("runs", "studies", config.name), results or Path("results", config.name))
    chosen = [name.strip() for name in arms.split(",")] if arms else []
    if dry_run:
        _print_missing(*missing_runs(config, folders, chosen, seeds), as_json)
        return
    trusted = [word for code in trust or () for word in ("--trust", code)]
    # The results are of all arms that have been run, so the command beside them makes all.
    whole = ["rls3", "study", source, *_given({"--seeds": None if arms else seeds}), *trusted]
    # What decides which runs there are; the rest of the options say where and how they are made.
    command = ["rls3", "study", source, *_given({"--arms": arms, "--seeds": seeds}), *trusted]
    how = {"--processes": processes, "--out": out, "--results": results, "--gpus": gpus or None}
    where = {} if on is Place.HERE else {"--on": on}
    console = plain_console(stderr=True)
    trusting = reading_config(experiment_path(config.experiment))
    with allowing(trust or ()), trusting, _executor(on, gpus) as executor:
        outcome = run_study(
            config, folders, console, shlex.join(whole),
            arms=chosen, seeds=seeds, processes=processes, executor=executor,
        )  # fmt: skip
    if outcome.comparison is not None and outcome.page is not None:
        if as_json:
            found = {"stopped": outcome.stopped, "page": str(outcome.page), **summary(outcome.comparison)}
            print(json.dumps(found, indent=2, allow_nan=False))
        else:
            print_comparison(plain_console(), outcome.comparison, outcome.page)
    if outcome.failure is not None:
        raise outcome.failure
    if outcome.stopped:
        words = shlex.join([*command, *_given({**how, **where})])
        console.print(f"stopped and saved; continue with: {words}", soft_wrap=True, highlight=False)


def _given(options: Mapping[str, Any]) -> list[str]:
    """Options of a command line, without those that were left out."""
    return [word for name, value in options.items() if value is not None for word in (name, str(value))]


@contextmanager
def _executor(on: Place, gpus: float) -> Iterator[Executor]:
    """What carries out the runs; closed at the end."""
    from rls3_gym.study.executor import LocalExecutor

    executor: Executor = LocalExecutor()
    if on is Place.RAY:
        from rls3_gym.study.ray_executor import RayExecutor

        executor = RayExecutor(gpus)
    elif gpus:
        raise UserError("--gpus goes with --on ray")
    try:
        yield executor
    finally:
        executor.close()


def compare(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Run directories, each as RUN or ARM=RUN.")],
    baseline: Annotated[
        list[str] | None, typer.Option(help="Arm that the others are compared with (random and stratified).")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("comparison"),
    as_json: Json = False,
) -> None:
    """Compare runs, arm by arm and seed by seed: tables with intervals, curves, one page."""
    from rls3_gym.study.compare import compare_runs
    from rls3_gym.study.results import summary, write_results

    comparison = compare_runs(runs, baseline or ())
    page = write_results(comparison, out)
    if as_json:
        print(json.dumps({"page": str(page), **summary(comparison)}, indent=2, allow_nan=False))
    else:
        print_comparison(plain_console(), comparison, page)


def print_comparison(console: Console, comparison: Comparison, page: Path) -> None:
    """Accuracies with intervals and paired differences at equal numbers of samples; where the page is."""
    from rls3_gym.study.numbers import AXES
    from rls3_gym.study.study_tables import accuracy_table, suite_table

    analysis = comparison.analysis
    texts = [accuracy_table(analysis, axis, name, comparison.noise_floor) for name in analysis.sets for axis in AXES]
    for text in [*texts, suite_table(comparison.suites)]:
        if not text.rows:
            continue
        table = Table(title=f"{text.title} ({text.head[0]})", title_justify="left", padding=(0, 0, 0, 1))
        for i, name in enumerate(text.head):
            table.add_column(name, justify="left" if i == 1 else "right")
        for row in text.rows:
            table.add_row(*(_two_lines(cell) for cell in row))
        console.print(table)
    if comparison.missing:
        console.print(comparison.still_to_make, highlight=False)
    console.print(f"page: {page}", soft_wrap=True, highlight=False)


def _two_lines(cell: Cell) -> Text:
    """What a cell says, its interval below it, and below that its p."""
    style = {"up": "green", "down": "red"}.get(cell.weight, "")
    more = cell.more.replace("] p ", "]\np ")
    return Text.assemble((cell.text, style), (f"\n{more}" if more else "", "dim"))


def _print_missing(missing: list[Job], total: int, as_json: bool) -> None:
    if as_json:
        rows: list[dict[str, Any]] = [
            {"arm": job.arm, "seed": job.seed, "continues": job.checkpoint, "command": job.words()} for job in missing
        ]
        print(json.dumps(rows, indent=2))
        return
    console = plain_console()
    for job in missing:
        console.print(f"{job.name}: {'goes on' if job.checkpoint else 'new'}", highlight=False)
    console.print(f"{len(missing)} of {total} runs are missing", highlight=False)
