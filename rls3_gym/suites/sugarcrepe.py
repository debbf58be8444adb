"""SugarCrepe (Hsieh et al., NeurIPS 2023): COCO captions against captions with something swapped or replaced."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rls3_gym.suites.base import ChoiceItem, Picture, Score
from rls3_gym.suites.choices import accuracy, by_part, choose, mirrored, present
from rls3_gym.suites.files import FileRow, SuiteFolder, Text
from rls3_gym.suites.left_right import is_about_sides
from rls3_gym.vlm.base import VLM

PARTS = ("swap_obj", "swap_att", "replace_rel")
"""The parts about what goes with what; the others are about what there is."""


class _Entry(FileRow):
    filename: Text
    caption: Text
    negative_caption: Text


class SugarCrepe:
    """The three parts of SugarCrepe that word order decides."""

    name = "sugarcrepe"
    description = "SugarCrepe: swapped objects, swapped attributes, replaced relations"

    def load(self, data: Path) -> list[ChoiceItem]:
        """See `Suite.load`."""
        files = SuiteFolder(self.name, data, f"{', '.join(f'{part}.json' for part in PARTS)} and the folder val2017")
        files.folder("val2017")
        return [
            ChoiceItem(
                Picture(entry.filename, files.picture(where, entry.filename, "val2017")),
                entry.caption,
                (entry.negative_caption,),
                part=part,
                mirrors=is_about_sides(entry.caption, [entry.negative_caption]),
            )
            for part in PARTS
            for where, entry in files.json_mapping(f"{part}.json", _Entry)
        ]

    def score(self, items: Sequence[ChoiceItem], vlm: VLM) -> Score:
        """See `Suite.score`."""
        verdicts = choose(vlm, items)
        measures = [accuracy("accuracy", items, verdicts), *by_part(items, verdicts), mirrored(items, verdicts)]
        return Score(present(measures))
