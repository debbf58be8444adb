"""BLINK's Spatial_Relation (Fu et al., ECCV 2024): questions about places, turned into captions to choose from."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rls3_gym.suites.base import ChoiceItem, Picture, Score
from rls3_gym.suites.choices import accuracy, by_part, choose, mirrored, present
from rls3_gym.suites.files import MOST_BYTES, MOST_TEXT, SuiteFolder
from rls3_gym.suites.left_right import is_about_sides
from rls3_gym.suites.relation_words import RELATIONS, VERBS, with_opposite
from rls3_gym.vlm.base import VLM
from rls3_registry.errors import UserError, first_line

_FOLDER = "Spatial_Relation"
_MOST_ROWS = 10_000
"""Of a file; the authors' has 143."""
_COLUMNS = ("idx", "question", "image_1", "choices", "answer")
OPPOSITE, NOT, QUESTION = "against the opposite", "against its denial", "question with answer"
"""The parts: how a question was turned into captions."""


def _either(words: Sequence[str] | frozenset[str]) -> str:
    return "|".join(re.escape(word) for word in sorted(words, key=lambda word: (-len(word), word)))


_IS = re.compile(rf"(?P<be>is|are) (?P<a>the .+?) (?P<relation>{_either(RELATIONS)}) (?P<b>the .+?)\?", re.IGNORECASE)
_DOES = re.compile(rf"does (?P<a>the .+?) (?P<verb>{_either(tuple(VERBS))}) (?P<b>the .+?)\?", re.IGNORECASE)


def captions_of(question: str) -> tuple[str, str, str]:
    """What yes and no to a question mean, as captions; and the part that the item belongs to.

    - "Is the cat left of the car?" is "The cat is left of the car." against "The cat is right of the car.", where the
      relation has an opposite (`relation_words.OPPOSITES`).
    - "Is the cat touching the car?" is "The cat is touching the car." against "The cat is not touching the car.", and
      so are "contain", "consist of" and "have as a part" after "does".
    - Any other question is asked as it is, with its answer behind it: "... yes" against "... no".
    """
    asked = question.strip()
    if found := _IS.fullmatch(asked):
        a, be, b = found["a"][0].upper() + found["a"][1:], found["be"].lower(), found["b"]
        relation = found["relation"].lower()
        yes = f"{a} {be} {relation} {b}."
        opposite = with_opposite(yes, relation)
        return (yes, f"{a} {be} not {relation} {b}.", NOT) if opposite is None else (yes, opposite, OPPOSITE)
    if found := _DOES.fullmatch(asked):
        a, verb, b = found["a"][0].upper() + found["a"][1:], found["verb"].lower(), found["b"]
        return f"{a} {VERBS[verb]} {b}.", f"{a} does not {verb} {b}.", NOT
    return f"{asked} yes", f"{asked} no", QUESTION


class BlinkSpatial:
    """The validation questions of Spatial_Relation; the answers of its test questions are not published."""

    name = "blink_spatial"
    description = "BLINK, Spatial_Relation: yes-or-no questions as captions"

    def load(self, data: Path) -> list[ChoiceItem]:
        """See `Suite.load`. Pictures are kept as they are encoded; there are 143."""
        files = SuiteFolder(self.name, data, f"the folder {_FOLDER} with val-00000-of-00001.parquet")
        shards = sorted(files.folder(_FOLDER).glob("val-*.parquet"))
        if not shards:
            files.file(f"{_FOLDER}/val-00000-of-00001.parquet")  # says what is missing
        items = [_item(row, f"{path}: row {i}") for path in shards for i, row in enumerate(_rows(path))]
        if not items:
            raise UserError(f"{shards[0]}: should have at least one row")
        return items

    def score(self, items: Sequence[ChoiceItem], vlm: VLM) -> Score:
        """See `Suite.score`."""
        verdicts = choose(vlm, items)
        measures = [accuracy("accuracy", items, verdicts), *by_part(items, verdicts), mirrored(items, verdicts)]
        return Score(present(measures))


def _rows(path: Path) -> list[dict[str, Any]]:
    import pyarrow as pa  # only this suite needs it
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        missing = [column for column in _COLUMNS if column not in file.schema_arrow.names]
        if missing:
            raise UserError(f"{path}: has no column {', '.join(missing)}; it should have {', '.join(_COLUMNS)}")
        if file.metadata.num_rows > _MOST_ROWS:
            raise UserError(f"{path}: has {file.metadata.num_rows:,} rows; at most {_MOST_ROWS:,} are read")
        rows: list[dict[str, Any]] = []
        decoded = 0
        # One row at a time: what is there once in the file may stand in every row.
        for batch in file.iter_batches(1, columns=list(_COLUMNS), use_threads=False):
            decoded += batch.nbytes
            if decoded > MOST_BYTES:
                raise UserError(f"{path}: its columns come to more than {MOST_BYTES:,} bytes, the most that is read")
            rows += batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: is not a Parquet file that can be read ({first_line(error)})") from error
    return rows


def _item(row: Mapping[str, Any], where: str) -> ChoiceItem:
    name, question, image, choices, answer = (row[column] for column in _COLUMNS)
    if not isinstance(question, str) or not isinstance(name, str):
        raise UserError(f"{where}: idx and question should be text")
    if max(len(question), len(name)) > MOST_TEXT:
        raise UserError(f"{where}: idx and question should have at most {MOST_TEXT:,} characters")
    if not isinstance(image, Mapping) or not isinstance(image.get("bytes"), bytes):
        raise UserError(f"{where}: image_1 should hold the bytes of a picture")
    options = [str(choice).strip().lower() for choice in choices] if isinstance(choices, list) else []
    letters = {f"({chr(ord('A') + i)})": option for i, option in enumerate(options)}
    if sorted(options) != ["no", "yes"] or answer not in letters:
        raise UserError(f"{where}: choices should be yes and no, and answer (A) or (B), not {choices!r} and {answer!r}")
    yes, no, part = captions_of(question)
    true, false = (yes, no) if letters[answer] == "yes" else (no, yes)
    return ChoiceItem(Picture(name, image["bytes"]), true, (false,), part=part, mirrors=is_about_sides(true, [false]))
