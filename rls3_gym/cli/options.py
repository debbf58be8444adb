"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing but JSON, on standard output.")]
Plugins = Annotated[
    list[str] | None,
    typer.Option(
        "--plugin",
        metavar="module:Class",
        help="A class of yours that files may name as agent, VLM, backend or reward; it may lie in this folder.",
    ),
]
