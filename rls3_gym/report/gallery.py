"""The gallery of a report: some samples of each round with caption, hardest negative and the VLM's verdict."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from rls3_gym.runs.rundata import Row, RunData

SHOTS = 12
"""Pictures of a round; more would make the page heavy."""
ROUNDS = 16
"""Rounds shown; of a longer run they are spread evenly, the first and the last among them."""
NOTE = (
    "Pictures that the agent arranged, with the VLM's verdict at the end of their episode: told apart means that it "
    "preferred the true caption to every hard negative. The number is by how much, in logits."
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
    kept: dict[int, list[Row]] = {}
    for row in run.samples:
        if row.get("file"):
            kept.setdefault(int(row["round"]), []).append(row)
    folder = run.path / "samples"
    groups = []
    for number in _spread(sorted(kept), ROUNDS):
        rows = _spread(kept[number], SHOTS)
        right = [row["correct"] for row in rows if row.get("correct") is not None]
        score = f", {sum(right)} of {len(right)} told apart" if right else ""
        title = f"Round {number + 1}: {len(rows)} picture{'s' * (len(rows) != 1)}{score}"
        groups.append(ShotGroup(title, tuple(_shot(folder, row) for row in rows)))
    return groups


def _shot(folder: Path, row: Row) -> Shot:
    path = folder / str(row["file"])
    image = None
    if path.is_file():
        image = "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
    correct, margin = row.get("correct"), row.get("margin")
    if correct is None:
        return Shot(image, str(row["caption"]), "", "", "none", "not judged")
    by = f" {margin:+.2f}" if margin is not None else ""
    return Shot(
        image=image,
        caption=str(row["caption"]),
        rival=str(row.get("hardest_negative") or ""),
        rival_label="hardest negative" if correct else "preferred",
        verdict="right" if correct else "wrong",
        verdict_text=("told apart" if correct else "mistaken") + by,
    )


def _spread(items: Sequence[T], limit: int) -> list[T]:
    """At most `limit` of the items, evenly spaced, both ends among them."""
    if len(items) <= limit:
        return list(items)
    return [items[round(i * (len(items) - 1) / (limit - 1))] for i in range(limit)]
