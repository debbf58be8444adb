"""What'sUp (Kamath et al., EMNLP 2023): photographs of two objects in four relations that differ in nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated

from pydantic import Field

from rls3_gym.suites.base import ChoiceItem, Picture, Score
from rls3_gym.suites.choices import accuracy, choose, mirrored, present, together
from rls3_gym.suites.files import FileRow, SuiteFolder, Text
from rls3_gym.suites.left_right import is_about_sides
from rls3_gym.vlm.base import VLM
from rls3_registry.errors import UserError

_ROOT = "data/"
"""What the picture paths in the files begin with: the folder of the authors' repository that the data go to."""


class _Entry(FileRow):
    image_path: Text
    caption_options: Annotated[tuple[Text, ...], Field(strict=False, min_length=2, fail_fast=True)]
    """The first one is true."""


class WhatsUp:
    """One subset of What'sUp: each set of four pictures shows two objects in two pairs of opposite relations."""

    def __init__(self, subset: str, file: str, folder: str, pairs: Sequence[tuple[str, str]]) -> None:
        """`pairs` are the opposite relations, as picture names have them."""
        self.name = f"whatsup_{subset.lower()}"
        self.description = f"What'sUp, subset {subset}: individual, pair and set accuracy"
        self._file = file
        self._folder = folder
        self._pairs = pairs

    def load(self, data: Path) -> list[ChoiceItem]:
        """See `Suite.load`."""
        files = SuiteFolder(self.name, data, f"{self._file} and the folder {self._folder}")
        files.folder(self._folder)
        items = []
        for where, entry in files.json_list(self._file, _Entry):
            path = entry.image_path.removeprefix(_ROOT)
            if not path.startswith(f"{self._folder}/"):
                raise UserError(
                    f"{where}: image_path should begin with {_ROOT}{self._folder}/, not {entry.image_path!r}"
                )
            objects, _ = self._read_name(path, where)
            captions = entry.caption_options
            if captions[0] in captions[1:]:
                raise UserError(f"{where}: caption_options has the true caption twice")
            items.append(
                ChoiceItem(
                    Picture(path, files.picture(where, path, ".")), captions[0], captions[1:],
                    group=objects, mirrors=is_about_sides(captions[0], captions[1:]),
                )
            )  # fmt: skip
        return items

    def score(self, items: Sequence[ChoiceItem], vlm: VLM) -> Score:
        """See `Suite.score`."""
        verdicts = choose(vlm, items)
        sets: dict[str, dict[str, int]] = {}
        for i, item in enumerate(items):
            objects, relation = self._read_name(item.picture.name, item.picture.name)
            sets.setdefault(objects, {})[relation] = i
        pairs = [[found[a], found[b]] for found in sets.values() for a, b in self._pairs if {a, b} <= found.keys()]
        whole = [list(found.values()) for found in sets.values() if len(found) == 2 * len(self._pairs)]
        measures = [
            accuracy("individual", items, verdicts),
            together("pair", pairs, items, verdicts),
            together("set", whole, items, verdicts),
            mirrored(items, verdicts),
        ]
        return Score(present(measures))

    def _read_name(self, path: str, where: str) -> tuple[str, str]:
        """The two objects and the relation in a picture's name, such as `mug_left_of_plate.jpeg`."""
        words = PurePosixPath(path).stem.split("_")
        relations = [relation for pair in self._pairs for relation in pair]
        if len(words) < 3 or words[1] not in relations:
            raise UserError(
                f"{where}: the name of the picture should be object, relation ({', '.join(relations)}) and object "
                f"with _ between them, not {path!r}"
            )
        return f"{words[0]} {words[-1]}", words[1]


WHATSUP: Mapping[str, WhatsUp] = {
    suite.name: suite
    for suite in (
        WhatsUp("A", "controlled_images_dataset.json", "controlled_images", (("left", "right"), ("on", "under"))),
        WhatsUp("B", "controlled_clevr_dataset.json", "controlled_clevr", (("left", "right"), ("in-front", "behind"))),
    )
}
