"""A folder of one's own pictures: `images/` and `items.jsonl`, with a true caption and false ones for each."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field

from rls3_gym.suites.base import ChoiceItem, Picture, Score
from rls3_gym.suites.choices import accuracy, choose, mirrored, present, together
from rls3_gym.suites.files import FileRow, SuiteFolder, Text
from rls3_gym.suites.left_right import is_about_sides, says_left_or_right
from rls3_gym.vlm.base import VLM
from rls3_registry.errors import UserError, unknown


class _Line(FileRow):
    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    image: Text
    """Within `images/`, which may stand before it."""
    caption: Text
    """True of the picture."""
    false: Annotated[tuple[Text, ...], Field(strict=False, min_length=1, fail_fast=True)]
    """Captions that are not."""
    group: Text | None = None
    """Items of one group are also counted together: all of them right."""
    left_right: bool | None = None
    """Whether the item is also asked in the mirror image; by its captions when left out."""


def _check_keys(line: _Line, where: str) -> None:
    """Lines may hold more, as those that `rls3 export` writes do, but not what looks like a key mistyped."""
    keys = list(_Line.model_fields)
    for key in line.model_extra or {}:
        if difflib.get_close_matches(key, keys, cutoff=0.75):
            raise unknown("key", key, keys, where)


class Folder:
    """The package's own format, for sets that no other suite reads."""

    name = "folder"
    description = "Your own pictures: images/ and items.jsonl"

    def load(self, data: Path) -> list[ChoiceItem]:
        """See `Suite.load`."""
        files = SuiteFolder(self.name, data, "items.jsonl and the folder images")
        files.folder("images")
        items = []
        for where, line in files.json_lines("items.jsonl", _Line):
            _check_keys(line, where)
            captions = (line.caption, *line.false)
            if line.caption in line.false:
                raise UserError(f"{where}: false has the true caption too")
            if line.left_right and not says_left_or_right(captions):
                raise UserError(f"{where}: left_right is true, but no caption says left or right")
            mirrors = is_about_sides(line.caption, line.false) if line.left_right is None else line.left_right
            picture = Picture(line.image, files.picture(where, line.image.removeprefix("images/"), "images"))
            items.append(ChoiceItem(picture, line.caption, line.false, group=line.group, mirrors=mirrors))
        return items

    def score(self, items: Sequence[ChoiceItem], vlm: VLM) -> Score:
        """See `Suite.score`."""
        verdicts = choose(vlm, items)
        groups: dict[str, list[int]] = {}
        for i, item in enumerate(items):
            if item.group is not None:
                groups.setdefault(item.group, []).append(i)
        measures = [
            accuracy("accuracy", items, verdicts),
            together("groups", groups.values(), items, verdicts),
            mirrored(items, verdicts),
        ]
        return Score(present(measures))
