"""The commands `rls3 export`, `export-vlm` and `export-world`: the data of a run, its VLM, and the world itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from rls3_gym.cli.options import Json, Trusted, plain_console
from rls3_registry.errors import UserError
from rls3_registry.trust import allowing

Push = Annotated[
    str | None,
    typer.Option(metavar="USER/NAME", help="A repository of the Hugging Face Hub: say what would be uploaded there."),
]
Yes = Annotated[bool, typer.Option("--yes", help="With --push: upload.")]
Out = Annotated[Path, typer.Option(help="The folder to write, new or empty.")]


def add_to(app: typer.Typer) -> None:
    """Give an app these commands."""
    app.command()(export)
    app.command("export-vlm")(export_vlm)
    app.command("export-world")(export_world)


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory, complete or not.")],
    format_: Annotated[str, typer.Option("--format", help="hf, webdataset, parquet or folder.")],
    out: Out,
    rounds: Annotated[
        str | None, typer.Option(metavar="A:B", help="Rounds from A up to and without B; the first is 0.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many samples, the earliest.")] = None,
    push: Push = None,
    yes: Yes = False,
    trust: Trusted = None,
    as_json: Json = False,
) -> None:
    """Write the samples of a run as a dataset: pictures, captions true and false, scenes, and a card."""
    from rls3_gym.cli.progress import PhaseProgress
    from rls3_gym.export.dataset import check_empty, check_format, export_samples
    from rls3_gym.export.records import Selection

    selection = Selection.parse(rounds, limit)
    check_format(format_)
    check_empty(out)
    upload = _upload(push, yes, "dataset")
    with allowing(trust or ()), PhaseProgress(plain_console(stderr=True)) as progress:

        def show(done: int, total: int) -> None:
            progress.show("samples", done, total)

        tally = export_samples(run, out, format_, selection, show)
    _finish({"path": str(out), "samples": tally.n}, out, upload, yes, as_json)


def export_vlm(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run directory, or RUN@round.")],
    out: Out,
    push: Push = None,
    yes: Yes = False,
    trust: Trusted = None,
    as_json: Json = False,
) -> None:
    """Write the VLM that a run has taught as a model folder of its library, open_clip or transformers, with a card."""
    from rls3_gym.export.dataset import check_empty
    from rls3_gym.export.model import export_vlm as write

    check_empty(out)
    upload = _upload(push, yes, "model")
    with allowing(trust or ()):
        digest = write(run, out).digest
    _finish({"path": str(out), "vlm_digest": digest}, out, upload, yes, as_json)


def export_world(
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="The JSON file to write, world.json of a Unity player or its project.")
    ],
    as_json: Json = False,
) -> None:
    """Write all rooms and object kinds as one JSON text: the Unity player builds its scenes from it."""
    from rls3_gym.export.world import world_digest, world_text

    text = world_text()
    try:
        out.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise UserError(f"--out {out}: {error.strerror}") from error
    digest = world_digest(text)
    print(json.dumps({"path": str(out), "world": digest}, indent=2) if as_json else f"{out}: world {digest}")


def _upload(push: str | None, yes: bool, contents: Literal["dataset", "model"]) -> Any:
    """Where to upload to, checked as far as it can be before the work; None when nothing is to be uploaded."""
    if push is None:
        if yes:
            raise UserError("--yes goes with --push USER/NAME")
        return None
    from rls3_gym.export.push import Upload

    upload = Upload.to(push, contents)
    if yes:
        upload.check_token()
    return upload


def _finish(found: dict[str, Any], out: Path, upload: Any, yes: bool, as_json: bool) -> None:
    """Say what was written, and upload it or say what would be."""
    if upload is not None:
        found |= {"push": upload.url, "uploaded": yes}
    if upload is not None and yes:
        upload.upload(out)
    if as_json:
        print(json.dumps(found, indent=2, allow_nan=False))
        return
    print(out)
    if upload is not None:
        print("\n".join([f"uploaded to {upload.url}"] if yes else upload.plan(out)))
