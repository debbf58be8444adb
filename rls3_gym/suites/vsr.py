"""VSR, Visual Spatial Reasoning (Liu et al., TACL 2023): captions of COCO pictures that are true or false."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rls3_gym.suites.base import Measure, Picture, Score, fit_of, share
from rls3_gym.suites.choices import BATCH, caption_item, flipped, gray_picture, present
from rls3_gym.suites.files import FileRow, SuiteFolder, Text
from rls3_gym.suites.left_right import exchanged, is_about_sides
from rls3_gym.suites.relation_words import with_opposite
from rls3_gym.vlm.base import VLM, ScoringVLM
from rls3_registry.errors import UserError

Floats = NDArray[np.float64]
_FILLER = "A photo."
"""Stands where a VLM is to be given a false caption and there is none."""


class _Line(FileRow):
    image: Text
    caption: Text
    label: Literal[0, 1]
    relation: Text


@dataclass(frozen=True, eq=False)
class Statement:
    """A picture with a caption that is true or false of it."""

    picture: Picture
    caption: str
    true: bool
    opposite: str | None
    """The caption with its relation turned; None where the caption is false, or its relation has no opposite."""
    part: str
    """`dev` or `test`."""
    mirrors: bool
    group: None = None

    @property
    def identity(self) -> tuple[str, ...]:
        """See `SuiteItem`."""
        return (self.picture.name, self.caption, str(self.true))


@dataclass(frozen=True, eq=False)
class _Scores:
    """Scores of n statements, all (n,)."""

    plain: Floats
    """Of the caption."""
    mirrored: Floats
    """In the mirror image, with left and right exchanged; NaN for statements that don't mirror."""
    opposite: Floats
    """Of the opposite caption, or of a filler."""
    opposite_mirrored: Floats


class Vsr:
    """One split of VSR: true or false by a threshold chosen on `dev`, and contrast pairs, both on `test`."""

    def __init__(self, split: str, about: str) -> None:
        """`split` is the folder of its files."""
        self.name = f"vsr_{split}"
        self.description = f"VSR, {about}: true or false by a threshold, and contrast pairs"
        self._split = split

    def load(self, data: Path) -> list[Statement]:
        """See `Suite.load`. The `train` file isn't read: nothing is trained here."""
        files = SuiteFolder(
            self.name, data, f"splits/{self._split}/dev.jsonl, splits/{self._split}/test.jsonl and images/"
        )
        files.folder("images")
        items = []
        for part in ("dev", "test"):
            for where, line in files.json_lines(f"splits/{self._split}/{part}.jsonl", _Line):
                picture = Picture(line.image, files.picture(where, line.image, "images"))
                opposite = with_opposite(line.caption, line.relation) if line.label else None
                mirrors = is_about_sides(line.caption)
                items.append(Statement(picture, line.caption, bool(line.label), opposite, part, mirrors))
        return items

    def score(self, items: Sequence[Statement], vlm: VLM) -> Score:
        """See `Suite.score`. Needs a VLM with `ScoringVLM.logits`."""
        if not isinstance(vlm, ScoringVLM):
            raise UserError(f"suite {self.name}: needs a VLM with a method logits, which {vlm.name} does not have")
        seen, blind = (_ask(vlm, vlm.image_size, items, gray) for gray in (False, True))
        labels = np.array([item.true for item in items])
        test = np.array([item.part == "test" for item in items])
        turning = test & np.array([item.mirrors for item in items])
        contrast = test & np.array([item.opposite is not None for item in items])
        threshold = best_threshold(seen.plain[~test], labels[~test])
        blind_threshold = best_threshold(blind.plain[~test], labels[~test])
        right, blind_right = (seen.plain > threshold) == labels, (blind.plain > blind_threshold) == labels
        both = right & ((seen.mirrored > threshold) == labels)
        blind_both = blind_right & ((blind.mirrored > blind_threshold) == labels)
        most = max(labels[test].mean(), 1 - labels[test].mean())
        measures = [
            share("true or false", right[test], blind_right[test], float(most)),
            share("true or false, mirrored", both[turning], blind_both[turning]),
            _contrast("contrast pairs", seen, blind, contrast, mirrored=False),
            _contrast("contrast pairs, mirrored", seen, blind, contrast & turning, mirrored=True),
        ]
        return Score(present(measures), {"threshold": threshold, "blind_threshold": blind_threshold})


def best_threshold(scores: Floats, labels: NDArray[np.bool_]) -> float:
    """The threshold that most labels agree with, where a higher score means true; of several the lowest.

    Raises `UserError` for no scores.
    """
    if len(scores) == 0:
        raise UserError("a threshold needs statements of the dev split; there are none")
    ordered = np.unique(scores)
    candidates = np.concatenate([[ordered[0] - 1], (ordered[:-1] + ordered[1:]) / 2, [ordered[-1] + 1]])
    true, false = np.sort(scores[labels]), np.sort(scores[~labels])
    agreeing = len(true) - np.searchsorted(true, candidates, "right") + np.searchsorted(false, candidates, "right")
    return float(candidates[int(agreeing.argmax())])


def _ask(vlm: ScoringVLM, size: int, items: Sequence[Statement], gray: bool) -> _Scores:
    """Scores of every statement, as many pictures at once as fit into memory; `gray`: in a plain gray picture."""
    parts = []
    for start in range(0, len(items), BATCH):
        lot = items[start : start + BATCH]
        pictures = [gray_picture(size) if gray else item.picture.show(size, fit_of(vlm)) for item in lot]
        pairs = [(item.caption, item.opposite or _FILLER) for item in lot]
        shown = [caption_item(rgb, true, [false]) for rgb, (true, false) in zip(pictures, pairs, strict=True)]
        turning = [i for i, item in enumerate(lot) if item.mirrors]
        shown += [caption_item(flipped(pictures[i]), exchanged(pairs[i][0]), [exchanged(pairs[i][1])]) for i in turning]
        logits = vlm.logits(shown).astype(np.float64)
        mirrored = np.full((len(lot), 2), np.nan)
        mirrored[turning] = logits[len(lot) :, :2]
        parts.append(np.stack([logits[: len(lot), 0], mirrored[:, 0], logits[: len(lot), 1], mirrored[:, 1]]))
    return _Scores(*np.concatenate(parts, axis=1))


def _contrast(name: str, seen: _Scores, blind: _Scores, chosen: NDArray[np.bool_], mirrored: bool) -> Measure | None:
    """The share of true captions that score higher than their opposites; `mirrored`: in the mirror image as well."""

    def right(scores: _Scores) -> NDArray[np.bool_]:
        higher = scores.plain > scores.opposite
        if mirrored:
            higher &= scores.mirrored > scores.opposite_mirrored
        return np.asarray(higher[chosen])

    return share(name, right(seen), right(blind), 0.25 if mirrored else 0.5)


VSR: Mapping[str, Vsr] = {
    suite.name: suite for suite in (Vsr("random", "random split"), Vsr("zeroshot", "split without shared concepts"))
}
