"""Options that several commands have, and the console they print on."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

Json = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing but JSON, on standard output.")]
Trusted = Annotated[
    list[str] | None,
    typer.Option(
        "--trust",
        metavar="module:Class",
        help="A class of yours that files may name as agent, VLM, backend or reward; it may lie in this folder. Or a "
        "program or a model of the Hub that the files of a run may name.",
    ),
]


def plain_console(stderr: bool = False) -> Console:
    """A console that prints names and paths as they are, brackets and colons included."""
    return Console(stderr=stderr, markup=False, emoji=False, highlight=False)
