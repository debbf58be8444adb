"""The command `rls3`. Anything heavy is imported by the command that needs it."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shlex
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

import rls3_registry
from rls3_gym.cli import export_commands, study_commands, tables
from rls3_gym.cli.options import Json, Trusted, plain_console
from rls3_registry.errors import SettingError, UserError, unknown
from rls3_registry.trust import allowing

app = typer.Typer(
    help="RL agents choose the training data that makes a vision-language model better.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"rls3 {importlib.metadata.version('rls3_gym')}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Print the version.")
    ] = False,
) -> None:
    """Options that go before a command."""


@app.command("list")
def list_(
    section: Annotated[str | None, typer.Argument(help="One of them; all when left out.")] = None,
    as_json: Json = False,
) -> None:
    """List what exists by name: environment ids, agents, VLMs, experiments, suites, rooms, objects and more."""
    if section is not None and section not in tables.SECTIONS:
        raise unknown("section", section, tables.SECTIONS, "list")
    found = {name: rows() for name, rows in tables.SECTIONS.items() if section in (None, name)}
    if as_json:
        _print_json(found if section is None else found[section])
        return
    console = plain_console()
    for name, rows in found.items():
        console.print(tables.listing(name, rows))


@app.command()
def run(
    context: typer.Context,
    experiment: Annotated[str | None, typer.Argument(help="A registered experiment, or a YAML file.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="A.B=C", help="Change one key, e.g. agent=tianshou/sac.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Change the seed.")] = None,
    out: Annotated[Path | None, typer.Option(help="The run directory; the next free one when left out.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Continue the run in this directory.")] = None,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write TensorBoard files, too.")] = False,
    wandb: Annotated[bool, typer.Option("--wandb", help="Send curves to Weights & Biases, too.")] = False,
    trust: Trusted = None,
    as_json: Json = False,
) -> None:
    """Carry out an experiment, or continue one (with a larger budget: extend it). Ctrl-C saves and stops."""
    changes = set_ or []
    if experiment is None and resume is None:
        known = ", ".join(rls3_registry.names("experiments"))
        raise UserError(f"run: name an experiment ({known}, or a YAML file), or a run directory with --resume")
    if resume is not None and out is not None:
        raise UserError("run: --out goes with a new run; --resume continues in the directory it names")
    from rls3_gym.cli.progress import RunProgress
    from rls3_gym.experiment import run as running
    from rls3_gym.experiment.config import ExperimentSource
    from rls3_gym.experiment.tracking import TensorBoardCurves, WandbCurves
    from rls3_gym.report.references import beside
    from rls3_gym.runs.run_data import summarize
    from rls3_gym.runs.taught import reading_config

    if experiment is not None:
        source = ExperimentSource(experiment, changes, seed)
    else:
        assert resume is not None
        source = running.source_of(resume, changes, seed)
    config = source.config()
    curves = [*([TensorBoardCurves()] if tensorboard else []), *([WandbCurves(config)] if wandb else [])]
    try:
        console = plain_console(stderr=True)
        with allowing(trust or ()), reading_config(source.path), RunProgress(console, config) as progress:
            if resume is None:
                result = running.start(config, context.obj, out, [progress, *curves])
            else:
                result = running.resume(config, resume, context.obj, [progress, *curves])
    except SettingError as error:
        if error.where:
            raise
        raise error.at(source.origin(error.keys)) from error
    finally:
        for curve in curves:
            curve.close()
    own = (word for code in config.own() for word in ("--trust", code))
    again = shlex.join(["rls3", "run", "--resume", str(result.directory), *own])
    summary = summarize(result.directory)
    for name, lines in beside(result.directory).items():
        summary["sets"][name]["references"] = lines
    summary |= {
        "stopped": result.stopped,
        "report": None if result.report is None else str(result.report),
        "resume": again if result.stopped else None,
    }
    if as_json:
        _print_json(summary)
    elif result.stopped:
        plain_console().print(f"stopped and saved; continue with: {again}", soft_wrap=True)
    else:
        tables.print_summary(plain_console(), summary)


@app.command()
def evaluate(
    vlm: Annotated[
        str, typer.Option(help="A registered VLM, its YAML file or folder, or what a run taught: RUN or RUN@round.")
    ] = "tiny",
    set_: Annotated[
        str | None, typer.Option("--set", help="The evaluation set of this world; test when left out.")
    ] = None,
    suite: Annotated[
        str | None, typer.Option(help="Instead, a suite of other people's pictures (`rls3 list suites`), with --data.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="The folder that holds the suite's files.")] = None,
    backend: Annotated[
        str | None,
        typer.Option(
            help="What shows the set, e.g. unity; when left out, the backend of the run, else the embedded one."
        ),
    ] = None,
    items: Annotated[
        int | None,
        typer.Option(min=1, help="Largest number of items of each set, or part of a suite, for a coarse measurement."),
    ] = None,
    trust: Trusted = None,
    as_json: Json = False,
) -> None:
    """Measure a VLM: relations by term and complexity on an evaluation set, and object presence; or one suite."""
    if (suite is None) != (data is None):
        raise UserError("evaluate: --suite names a suite and --data the folder of its files; give both, or neither")
    if suite is not None and set_ is not None:
        raise UserError("evaluate: --set names a set of this world and --suite one of others; give one of them")
    if suite is not None and backend is not None:
        raise UserError("evaluate: --backend shows a set of this world; a suite brings its own pictures")
    if suite is not None and data is not None:
        with allowing(trust or ()):
            _evaluate_suite(vlm, suite, data, items, as_json)
        return
    from rls3_gym.experiment.evaluator import evaluate_vlm
    from rls3_gym.runs.taught import find_backend, find_vlm

    with allowing(trust or ()):
        found = find_vlm(vlm)
        shown_by = find_backend(vlm, found, backend)
    try:
        result = evaluate_vlm(found, set_ or "test", shown_by, items)
    finally:
        shown_by.close()
    if as_json:
        _print_json(result)
    else:
        tables.print_evaluation(plain_console(), result)


def _evaluate_suite(vlm: str, suite: str, data: Path, items: int | None, as_json: bool) -> None:
    from rls3_gym.runs.taught import find_vlm
    from rls3_gym.suites.catalog import OpenSuite

    asked = OpenSuite(suite, data, items)  # before the VLM is loaded: a wrong folder shows at once
    found = find_vlm(vlm)
    result = {"vlm": found.name, "vlm_digest": found.digest(), **asked.score(found).as_dict()}
    if as_json:
        _print_json(result)
    else:
        tables.print_suite(plain_console(), result)


@app.command()
def report(
    run_directory: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")], as_json: Json = False
) -> None:
    """Write the report page of a run, finished or not."""
    from rls3_gym.report.page import write_report

    _print_path(write_report(run_directory), as_json)


@app.command()
def gallery(
    out: Annotated[Path, typer.Option(help="The picture to write.")] = Path("gallery.png"),
    backend: Annotated[str | None, typer.Option(help="Show the rooms alone, by this backend.")] = None,
    as_json: Json = False,
) -> None:
    """Write a contact sheet of rooms and object kinds."""
    from rls3_gym.cli.contact_sheet import write_gallery

    _print_path(write_gallery(out, backend), as_json)


@app.command()
def pretrain(
    out: Annotated[Path, typer.Option(help="Folder of the model; an interrupted call is continued there.")],
    vlm: Annotated[str, typer.Option(help="tiny, the CLIP, or paligemma_tiny.")] = "tiny",
    text_steps: Annotated[int | None, typer.Option(min=0, help="tiny: steps of the text tower alone.")] = None,
    stem_steps: Annotated[int | None, typer.Option(min=1, help="tiny: steps of both towers, image stem too.")] = None,
    frozen_steps: Annotated[int | None, typer.Option(min=0, help="tiny: steps with the image stem frozen.")] = None,
    vision_steps: Annotated[int | None, typer.Option(min=1, help="paligemma_tiny: steps of the image tower.")] = None,
    language_steps: Annotated[
        int | None, typer.Option(min=1, help="paligemma_tiny: steps of the language model.")
    ] = None,
    scenes_per_layout: Annotated[int | None, typer.Option(min=1, help="Scenes drawn in each training layout.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Fixes everything that is drawn.")] = None,
    as_json: Json = False,
) -> None:
    """Make the weights of a packaged VLM from nothing, and their model card."""
    from rls3_gym.cli.progress import PhaseProgress
    from rls3_gym.pretraining.catalog import make_weights

    given = {
        "text_steps": text_steps,
        "stem_steps": stem_steps,
        "frozen_steps": frozen_steps,
        "vision_steps": vision_steps,
        "language_steps": language_steps,
        "scenes_per_layout": scenes_per_layout,
        "threads": threads,
        "seed": seed,
    }
    with PhaseProgress(plain_console(stderr=True)) as progress:
        settings = {key: value for key, value in given.items() if value is not None}
        path = make_weights(vlm, out, settings, progress.show)
    _print_path(path, as_json)


@app.command()
def testsets(
    out: Annotated[Path | None, typer.Option(help="Folder to write to; the package's own when left out.")] = None,
    as_json: Json = False,
) -> None:
    """Build the evaluation sets again from their seeds."""
    from rls3_gym.cli.progress import PhaseProgress
    from rls3_gym.evalsets.builder import build_sets
    from rls3_gym.evalsets.specs import SETS_FOLDER

    folder = out or SETS_FOLDER
    with PhaseProgress(plain_console(stderr=True)) as progress:
        build_sets(folder, progress.show)
    _print_path(folder, as_json)


study_commands.add_to(app)
export_commands.add_to(app)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point. A mistake of the user is one line on standard error and exit code 2."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = app(given or ["--help"], prog_name="rls3", standalone_mode=False, obj=given)
    except UserError as error:
        _fail(str(error), 2)
    except typer.TyperException as error:
        _fail(error.format_message(), 2)
    except KeyboardInterrupt:
        _fail("interrupted", 130)
    except OSError as error:
        if error.filename is None:
            _drop_output()
        _fail(f"{error.filename or 'output'}: {error.strerror or error}"[:500], 2)
    except MemoryError as error:
        _fail(f"not enough memory: {error}", 2)
    # Typer itself turns Ctrl-C into this code, without a message.
    if code == 130:
        _fail("interrupted", 130)
    sys.exit(code if isinstance(code, int) else 0)


def _drop_output() -> None:
    """Send what standard output still holds nowhere: it can't be written, and Python would fail over it at exit."""
    with suppress(OSError, ValueError):  # a standard output that is no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(message: str, code: int) -> None:
    print("rls3: " + " ".join(message.split()), file=sys.stderr)
    sys.exit(code)


def _print_json(content: Any) -> None:
    print(json.dumps(content, indent=2, allow_nan=False))


def _print_path(path: Path, as_json: bool) -> None:
    if as_json:
        _print_json({"path": str(path)})
    else:
        print(path)
