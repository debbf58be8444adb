"""Options that several commands have, and the console they print on."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

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


_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
"""What a terminal obeys instead of showing it: all control characters but tab and newline, and those that turn text."""


class _PlainConsole(Console):
    """A console where text can't steer the terminal: the names in somebody else's files are printed too."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """See `Console`. What rich itself tells the terminal is in the styles and in segments marked as control."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(_CONTROLS.sub("?", segment.text), segment.style)


def plain_console(stderr: bool = False) -> Console:
    """A console that prints names and paths as they are, brackets and colons included; control characters as "?"."""
    return _PlainConsole(stderr=stderr, markup=False, emoji=False, highlight=False)
