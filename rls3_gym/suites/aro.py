"""ARO's VG-Relation (Yuksekgonul et al., ICLR 2023): which of two things stands in a relation to which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from rls3_gym.suites.base import ChoiceItem, Measure, Picture, Score
from rls3_gym.suites.choices import Verdicts, accuracy, choose, mirrored, present
from rls3_gym.suites.files import FileRow, SuiteFolder, Text
from rls3_gym.suites.left_right import is_about_sides
from rls3_gym.vlm.base import VLM

_FILE = "visual_genome_relation.json"
SPATIAL = frozenset({
    "above", "at", "behind", "below", "beneath", "in", "in front of", "inside", "on", "on top of",
    "to the left of", "to the right of", "under",
})  # fmt: skip
"""Relations that say where a thing is."""

Number = Annotated[float, Field(strict=False, allow_inf_nan=False)]
Length = Annotated[float, Field(strict=False, allow_inf_nan=False, gt=0)]


class _Entry(FileRow):
    image_path: Text
    true_caption: Text
    false_caption: Text
    relation_name: Text
    bbox_x: Number
    bbox_y: Number
    bbox_w: Length
    bbox_h: Length


@dataclass(frozen=True, eq=False)
class RelationItem(ChoiceItem):
    """A part of a picture that shows two things, a caption, and the caption with the two exchanged."""

    relation: str = ""


class AroRelation:
    """VG-Relation: each item is the box around two things, as the authors' loader cuts it out."""

    name = "aro_relation"
    description = "ARO, VG-Relation: a relation against the one with its two things exchanged"

    def load(self, data: Path) -> list[RelationItem]:
        """See `Suite.load`."""
        files = SuiteFolder(self.name, data, f"{_FILE} and the folder images")
        files.folder("images")
        items = []
        for where, entry in files.json_list(_FILE, _Entry):
            path = files.picture(where, entry.image_path, "images")
            box = (entry.bbox_x, entry.bbox_y, entry.bbox_x + entry.bbox_w, entry.bbox_y + entry.bbox_h)
            captions = (entry.true_caption, entry.false_caption)
            items.append(
                RelationItem(
                    Picture(entry.image_path, path, box), captions[0], captions[1:],
                    mirrors=is_about_sides(captions[0], captions[1:]), relation=entry.relation_name,
                )
            )  # fmt: skip
        return items

    def score(self, items: Sequence[RelationItem], vlm: VLM) -> Score:
        """See `Suite.score`."""
        verdicts = choose(vlm, items)
        spatial = np.array([item.relation in SPATIAL for item in items])
        about_places = [item for item in items if item.relation in SPATIAL]
        measures = [
            accuracy("accuracy", items, verdicts),
            _mean_over_relations(items, verdicts),
            accuracy("relations of place", about_places, verdicts[spatial]),
            mirrored(items, verdicts),
        ]
        return Score(present(measures))


def _mean_over_relations(items: Sequence[RelationItem], verdicts: Verdicts) -> Measure:
    """The mean of the accuracies of the relations, whatever their number of items."""
    names = np.array([item.relation for item in items])
    chosen = [names == name for name in np.unique(names)]
    value = float(np.mean([verdicts.right[part].mean() for part in chosen]))
    blind = float(np.mean([verdicts.blind[part].mean() for part in chosen]))
    return Measure("mean over relations", value, len(chosen), blind, 0.5)
