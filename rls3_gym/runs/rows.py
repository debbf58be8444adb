"""The rows of a run's logs: what each holds, and the one place that reads them.

`metrics.jsonl` holds seven classes of rows, named by their key `row`; the samples (`rls3_gym.runs.samples`) have one.
JSON has no NaN: the mean of nothing (the accuracy of an episode without samples) is null in the file and None here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from rls3_registry.errors import UserError, first_line
from rls3_registry.validation import check

Whole = Annotated[tuple[int, ...], Field(strict=False)]
Floats = Annotated[tuple[float, ...], Field(strict=False)]


class Row(BaseModel):
    """What rows have in common: they are frozen, they refuse unknown keys, and they hold JSON's own types."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, content: Any) -> Any:
        return _plain(content)


class EpisodeRow(Row):
    """An episode that ended."""

    row: Literal["episode"] = "episode"
    episode: int
    """1 for the first of the experiment."""
    round: int
    """The round it belongs to, 0 for the first; the number of fine-tunings before it."""
    n_generated: int
    n_trained: int
    n_steps: int
    """Counts at its end; where it ended a round, after the fine-tuning."""
    valid_rate: float
    """Samples per step."""
    reasons: dict[str, int]
    """Steps that gave no sample, by reason."""
    terms: dict[str, int]
    """Samples whose caption has the term."""
    cells: Whole
    """(26,) samples by relation cell, in the order of `rls3_gym.scene.relations.RELATIONS`."""
    complexity: dict[str, int]
    """Samples by their caption's number of terms."""
    intrinsic: float | None
    extrinsic: float | None
    """Means of the two parts of the reward over the steps."""
    accuracy: float | None
    """Share of its samples whose caption the VLM prefers to every hard negative."""
    pairwise: float | None
    """The VLM's pairwise accuracy on its samples."""
    since_start_seconds: float
    """Since the command began that wrote the row: a continued run begins at 0 again."""


class FinetuneRow(Row):
    """A round of fine-tuning: the `FineTuneReport`, and the counts after it."""

    row: Literal["finetune"] = "finetune"
    round: int
    """Rounds so far, this one included."""
    n_generated: int
    n_trained: int
    n_samples: int
    """Samples taught in this round."""
    optimizer_steps: int
    losses: dict[str, float | None]
    """Losses by name, nats."""
    digest_before: str
    digest_after: str
    """The VLM's weights."""
    seconds: float
    rolled_back: str | None
    """Why the weights from before the round were restored; None when they were not."""
    images_per_second: float | None = None
    peak_memory: int | None = None
    """Bytes; both as in the report, and missing in older rows."""


class EvaluationRow(Row):
    """The VLM's accuracy on one held-out set; see `rls3_gym.evaluation.metrics.Accuracy`."""

    row: Literal["evaluation"] = "evaluation"
    round: int
    n_generated: int
    n_trained: int
    n_steps: int
    vlm_digest: str
    backend: str
    """Fingerprint of the backend that made the pictures."""
    set: str
    set_hash: str
    pairwise_accuracy: float | None
    strict_accuracy: float | None
    mirrored_accuracy: float | None
    by_term: dict[str, float | None]
    by_complexity: dict[str, float | None]
    worst_term: str
    n: int
    """Items of the set."""
    n_by_term: dict[str, int]
    """Items whose caption has the term."""
    answers: dict[str, float | None] = {}
    """What the VLM writes when it is asked, see `rls3_gym.vlm.answers.AnswerScores`; empty for one that only scores."""
    evaluate_seconds: float


class SuiteRow(Row):
    """The VLM's numbers on one suite, or those of the forgetting probe, by the names of their measures; see
    `rls3_gym.suites.base.Measure`."""

    row: Literal["suite"] = "suite"
    round: int
    n_generated: int
    n_trained: int
    n_steps: int
    vlm_digest: str
    suite: str
    items_hash: str
    """Identity of the items asked about."""
    n: int
    """How many they are."""
    value: dict[str, float | None]
    low: dict[str, float | None]
    high: dict[str, float | None]
    """The 95 % interval of each value; null where it is no share of independent items."""
    blind: dict[str, float | None]
    """The values with a plain gray picture in place of every picture."""
    chance: dict[str, float | None]
    n_by_measure: dict[str, int]
    """What each value is a share of."""
    details: dict[str, float | None]
    evaluate_seconds: float


class LifeRow(Row):
    """The end of a life that is not the last: what the agent had taught the VLM, which now begins anew."""

    row: Literal["life"] = "life"
    life: int
    """1 for the first."""
    round: int
    n_generated: int
    n_trained: int
    n_steps: int
    """Counts of this life alone."""
    pairwise_accuracy: dict[str, float | None]
    """By set."""


class WarningRow(Row):
    """Something about the run that a person should know of: it makes no progress."""

    row: Literal["warning"] = "warning"
    round: int
    n_generated: int
    n_trained: int
    n_steps: int
    text: str


class EndRow(Row):
    """The run is complete: the counts at its end."""

    row: Literal["end"] = "end"
    round: int
    n_generated: int
    n_trained: int
    n_steps: int


class PlacedObject(NamedTuple):
    """One object of a sample's scene, as `Arrangement.encode` gives it: world frame, meters, and yaw in radians."""

    kind: str
    x: float
    y: float
    z: float
    yaw: float


def _placed(objects: Any) -> Any:
    """Lists of five, as JSON has them, as `PlacedObject`; anything else is left for the check to refuse."""
    if not isinstance(objects, list | tuple) or not all(isinstance(o, list | tuple) and len(o) == 5 for o in objects):
        return objects
    return tuple(PlacedObject(*values) for values in objects)


class SampleRow(Row):
    """One valid sample: its caption, the VLM's verdict at the end of its episode, and where it came from."""

    file: str | None
    """Its picture under `samples/`; None for the many whose picture is not kept."""
    round: int
    n_generated: int
    """Its number: 1 for the first of the experiment."""
    caption: str
    hardest_negative: str | None
    """The false caption that the VLM likes best."""
    correct: bool | None
    margin: float | None
    """True caption minus hardest negative, logits. The three are None when the episode was dropped."""
    cell: int
    """Index of its relation in `rls3_gym.scene.relations.RELATIONS`."""
    scene_key: str
    family: str
    layout: int
    split: str
    objects: Annotated[tuple[PlacedObject, ...], BeforeValidator(_placed), Field(strict=False)]
    slot_a: int
    slot_b: int
    """Slots of the pair that the caption is about."""
    offset: Floats
    """From b to a in the camera frame, meters."""
    visible: Floats
    pixels: Whole
    """By slot: share of an object's own pixels that are seen, and how many those are."""


MetricsRow = EpisodeRow | FinetuneRow | EvaluationRow | SuiteRow | LifeRow | WarningRow | EndRow
METRICS_ROWS: dict[str, type[MetricsRow]] = {
    "episode": EpisodeRow,
    "finetune": FinetuneRow,
    "evaluation": EvaluationRow,
    "suite": SuiteRow,
    "life": LifeRow,
    "warning": WarningRow,
    "end": EndRow,
}
"""The classes of `metrics.jsonl` by the value of their key `row`."""
R = TypeVar("R", bound=Row)


@dataclass(frozen=True)
class Metrics:
    """The rows of `metrics.jsonl`, in the order in which they were written."""

    rows: tuple[MetricsRow, ...]

    def _of(self, model: type[R]) -> tuple[R, ...]:
        return tuple(row for row in self.rows if isinstance(row, model))

    @cached_property
    def episodes(self) -> tuple[EpisodeRow, ...]:
        return self._of(EpisodeRow)

    @cached_property
    def finetunes(self) -> tuple[FinetuneRow, ...]:
        return self._of(FinetuneRow)

    @cached_property
    def lives(self) -> tuple[LifeRow, ...]:
        """Those before the last, which all other rows are about."""
        return self._of(LifeRow)

    @cached_property
    def warnings(self) -> tuple[WarningRow, ...]:
        return self._of(WarningRow)

    @cached_property
    def evaluations(self) -> dict[str, tuple[EvaluationRow, ...]]:
        """By set, in the order of the experiment's configuration."""
        found = self._of(EvaluationRow)
        return {name: tuple(row for row in found if row.set == name) for name in dict.fromkeys(r.set for r in found)}

    @cached_property
    def suites(self) -> dict[str, tuple[SuiteRow, ...]]:
        """By suite, in the order of the experiment's configuration."""
        found = self._of(SuiteRow)
        return {
            name: tuple(row for row in found if row.suite == name) for name in dict.fromkeys(r.suite for r in found)
        }

    @property
    def end(self) -> EndRow | None:
        """The last row of a complete run; None while it is not complete."""
        last = self.rows[-1] if self.rows else None
        return last if isinstance(last, EndRow) else None

    @property
    def counts(self) -> dict[str, int]:
        """`round`, `n_generated`, `n_trained` and `n_steps` at the last row."""
        last = next((row for row in reversed(self.rows) if not isinstance(row, FinetuneRow | LifeRow)), None)
        counted = {
            key: 0 if last is None else int(getattr(last, key)) for key in ("n_generated", "n_trained", "n_steps")
        }
        return {"round": len(self.finetunes), **counted}


def read_metrics(path: Path) -> Metrics:
    """The rows of a `metrics.jsonl`, of a run that is complete or still going.

    Raises `UserError` naming file, line and key for a row that is none of these, or when the file can't be read.
    """
    rows: list[MetricsRow] = []
    for where, content in json_lines(path):
        model = METRICS_ROWS.get(str(content.get("row")))
        if model is None:
            raise UserError(f"{where}: row: should be one of {', '.join(METRICS_ROWS)}, not {content.get('row')!r}")
        rows.append(check(model, content, where))
    return Metrics(tuple(rows))


def json_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Place and content of each line. A last line without its end is of a run that is still writing: left for later."""
    try:
        with path.open(encoding="utf-8", newline="\n") as file:
            for number, line in enumerate(file, start=1):
                if not line.endswith("\n"):
                    return
                where = f"{path}: line {number}"
                try:
                    content = json.loads(line)
                except ValueError as error:
                    raise UserError(f"{where} is not JSON ({error})") from error
                if not isinstance(content, dict):
                    raise UserError(f"{where} is not a JSON object")
                yield where, content
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({first_line(error)})") from error


def _plain(value: Any) -> Any:
    """JSON's own types: numpy's become Python's, and a number that is not finite becomes None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
