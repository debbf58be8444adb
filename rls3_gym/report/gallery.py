"""The gallery of a report: some samples of each round with caption, hardest negative and the VLM's verdict."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from rls3_gym.runs.directory import RunDirectory
from rls3_gym.runs.rows import SampleRow
from rls3_gym.runs.run_data import RunData
from rls3_gym.runs.samples import pictured, pictured_rounds

SHOTS = 24
"""Pictures of a round, as many as a run keeps by default; more would make the page heavy."""
ROUNDS = 8
"""Rounds shown; of a longer run they are spread evenly, the first and the last among them."""
NOTE = (
    "Pictures that the agent arranged, with the VLM's verdict at the end of their episode. Right: it preferred the "
    "true caption to every hard negative. The number is by how much, in logits."
)

T = TypeVar("T")


@dataclass(frozen=True)
class Shot:
    """One picture of the gallery."""

    image: str | None
    """A data URI, or None when the file is gone."""
    caption: str
    rival: str
    rival_label: str
    verdict: str
    """CSS class: `right`, `wrong` or `none`."""
    verdict_text: str


@dataclass(frozen=True)
class ShotGroup:
    """The pictures of one round."""

    title: str
    shots: tuple[Shot, ...]


def shots_by_round(run: RunData) -> list[ShotGroup]:
    """Up to `SHOTS` kept pictures of up to `ROUNDS` rounds, in order."""
    directory = RunDirectory(run.path)
    shown = _spread(pictured_rounds(directory), ROUNDS)
    kept: dict[int, list[SampleRow]] = {number: [] for number in shown}
    for row in pictured(directory, shown):
        kept[row.round].append(row)
    finished = len(run.metrics.finetunes)
    groups = []
    for number in shown:
        rows = _spread(kept[number], SHOTS)
        right = sum(bool(row.correct) for row in rows)
        round_ = f"Round {number + 1}" if number < finished or not finished else f"After round {finished}"
        title = f"{round_}: {len(rows)} picture{'s' * (len(rows) != 1)}, {right} right"
        groups.append(ShotGroup(title, tuple(_shot(directory, row) for row in rows)))
    return groups


def _shot(directory: RunDirectory, row: SampleRow) -> Shot:
    png = directory.read_picture(str(row.file))
    image = None if png is None else "data:image/png;base64," + base64.b64encode(png).decode()
    if row.correct is None:
        return Shot(image, row.caption, "", "", "none", "not judged")
    by = f" {row.margin:+.2f}" if row.margin is not None else ""
    return Shot(
        image=image,
        caption=row.caption,
        rival=row.hardest_negative or "",
        rival_label="hardest negative" if row.correct else "preferred",
        verdict="right" if row.correct else "wrong",
        verdict_text=("right" if row.correct else "wrong") + by,
    )


def _spread(items: Sequence[T], limit: int) -> list[T]:
    """At most `limit` of the items, evenly spaced, both ends among them."""
    if len(items) <= limit:
        return list(items)
    return [items[round(i * (len(items) - 1) / (limit - 1))] for i in range(limit)]
