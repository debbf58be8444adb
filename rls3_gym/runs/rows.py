"""The rows of a run's logs: what each holds, and the one place that reads them.

`metrics.jsonl` holds eight classes of rows, named by their key `row`; the samples (`rls3_gym.runs.samples`) have one.
JSON has no NaN: the mean of nothing (the accuracy of an episode without samples) is null in the file and None here.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from rls3_gym.runs.json_lines import json_lines
from rls3_gym.runs.row_values import (
    MOST_NAMES,
    ByCell,
    ByComplexity,
    BySlotCounts,
    BySlotShares,
    ByTerm,
    Cells,
    Count,
    Counts,
    CountsByComplexity,
    CountsByTerm,
    Name,
    Numbers,
    Objects,
    Offset,
    Seconds,
    Share,
    Text,
    plain,
)
from rls3_gym.scene.relations import RELATIONS
from rls3_registry.errors import UserError
from rls3_registry.validation import check


class Row(BaseModel):
    """What rows have in common: they are frozen, they refuse unknown keys, and they hold JSON's own types."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, content: Any) -> Any:
        return plain(content)


class EpisodeRow(Row):
    """An episode that ended."""

    row: Literal["episode"] = "episode"
    episode: Count
    """1 for the first of the experiment."""
    round: Count
    """The round it belongs to, 0 for the first; the number of fine-tunings before it."""
    n_generated: Count
    n_trained: Count
    n_steps: Count
    """Counts at its end; where it ended a round, after the fine-tuning."""
    valid_rate: Share
    """Samples per step."""
    reasons: Counts
    """Steps that gave no sample, by reason."""
    terms: CountsByTerm
    """Samples whose caption has the term."""
    cells: Cells
    """(26,) samples by relation cell, in the order of `rls3_gym.scene.relations.RELATIONS`."""
    complexity: CountsByComplexity
    """Samples by their caption's number of terms."""
    intrinsic: float | None
    extrinsic: float | None
    """Means of the two parts of the reward over the steps."""
    accuracy: Share | None
    """Share of its samples whose caption the VLM prefers to every hard negative."""
    pairwise: Share | None
    """The VLM's pairwise accuracy on its samples."""
    since_start_seconds: Seconds
    """Since the run began, without what was done again after a checkpoint. In runs that older versions continued it
    begins at 0 again with each command."""
    stage_seconds: Seconds | None = None
    """What went, since the row of the episode before, into making samples: places, pictures, captions, proposals ..."""
    score_seconds: Seconds | None = None
    """... and into asking the VLM about them."""
    cpu_seconds: Seconds | None = None
    """Processor time of the process since the row of the episode before, all threads, without that of workers. Older
    rows have none of the three."""


class AgentRow(Row):
    """What the agent said about its training: means over what it said since the row before. Written at the end of an
    episode, for agents that say anything."""

    row: Literal["agent"] = "agent"
    round: int
    n_generated: int
    n_trained: int
    n_steps: int
    """Counts as in the row of the episode, except that the `round` is one more where it ended a round."""
    values: dict[str, float | None]
    """By name: losses and the like as the agent's library calls them, and `episode_reward`, the sum of an episode's
    rewards. Names with a part before a slash belong together."""


class FinetuneRow(Row):
    """A round of fine-tuning: the `FineTuneReport`, and the counts after it."""

    row: Literal["finetune"] = "finetune"
    round: Count
    """Rounds so far, this one included."""
    n_generated: Count
    n_trained: Count
    n_samples: Count
    """Samples taught in this round."""
    optimizer_steps: Count
    losses: Numbers
    """Losses by name, nats."""
    digest_before: Name
    digest_after: Name
    """The VLM's weights."""
    seconds: Seconds
    rolled_back: Text | None
    """Why the weights from before the round were restored; None when they were not."""
    images_per_second: Seconds | None = None
    peak_memory: Count | None = None
    """Bytes; both as in the report, and missing in older rows."""


class EvaluationRow(Row):
    """The VLM's accuracy on one held-out set; see `rls3_gym.evaluation.metrics.Accuracy`."""

    row: Literal["evaluation"] = "evaluation"
    round: Count
    n_generated: Count
    n_trained: Count
    n_steps: Count
    vlm_digest: Name
    backend: Text
    """Fingerprint of the backend that made the pictures."""
    set: Name
    set_hash: Name
    pairwise_accuracy: Share
    strict_accuracy: Share | None
    mirrored_accuracy: Share | None
    by_term: ByTerm
    by_complexity: ByComplexity
    by_cell: ByCell | None = None
    """Missing in older rows."""
    worst_term: Name
    n: Count
    """Items of the set."""
    n_by_term: CountsByTerm
    """Items whose caption has the term."""
    answers: Numbers = {}
    """What the VLM writes when it is asked, see `rls3_gym.vlm.answers.AnswerScores`; empty for one that only scores."""
    evaluate_seconds: Seconds

    @model_validator(mode="after")
    def _accuracies_are_of_items(self) -> EvaluationRow:
        for term, n in self.n_by_term.items():
            if (self.by_term[term] is None) != (n == 0):
                raise ValueError(f"by_term.{term} is {self.by_term[term]}, of the {n} items of n_by_term")
        return self


class SuiteRow(Row):
    """The VLM's numbers on one suite, or those of the forgetting probe, by the names of their measures; see
    `rls3_gym.suites.base.Measure`."""

    row: Literal["suite"] = "suite"
    round: Count
    n_generated: Count
    n_trained: Count
    n_steps: Count
    vlm_digest: Name
    suite: Name
    items_hash: Name
    """Identity of the items asked about."""
    n: Count
    """How many they are."""
    value: Numbers
    low: Numbers
    high: Numbers
    """The 95 % interval of each value; null where it is no share of independent items."""
    blind: Numbers
    """The values with a plain gray picture in place of every picture."""
    chance: Numbers
    n_by_measure: Counts
    """What each value is a share of."""
    details: Numbers
    evaluate_seconds: Seconds

    @model_validator(mode="after")
    def _all_are_of_the_same_measures(self) -> SuiteRow:
        for key in ("low", "high", "blind", "chance", "n_by_measure"):
            if getattr(self, key).keys() != self.value.keys():
                raise ValueError(f"{key} should have the keys of value: {', '.join(self.value)}")
        return self


class LifeRow(Row):
    """The end of a life that is not the last: what the agent had taught the VLM, which now begins anew."""

    row: Literal["life"] = "life"
    life: Count
    """1 for the first."""
    round: Count
    n_generated: Count
    n_trained: Count
    n_steps: Count
    """Counts of this life alone."""
    pairwise_accuracy: Annotated[dict[Name, Share | None], Field(max_length=MOST_NAMES)]
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
    round: Count
    n_generated: Count
    n_trained: Count
    n_steps: Count


class SampleRow(Row):
    """One valid sample: its caption, the VLM's verdict at the end of its episode, and where it came from."""

    file: str | None
    """Its picture under `samples/`; None for the many whose picture is not kept."""
    round: Count
    n_generated: Count
    """Its number: 1 for the first of the experiment."""
    caption: Text
    hardest_negative: Text | None
    """The false caption that the VLM likes best."""
    correct: bool | None
    margin: float | None
    """True caption minus hardest negative, logits. The three are None when the episode was dropped."""
    cell: Annotated[int, Field(ge=0, lt=len(RELATIONS))]
    """Index of its relation in `rls3_gym.scene.relations.RELATIONS`."""
    scene_key: Text
    family: Name
    layout: Count
    split: Name
    objects: Objects
    slot_a: Count
    slot_b: Count
    """Slots of the pair that the caption is about."""
    offset: Offset
    """From b to a in the camera frame, meters."""
    visible: BySlotShares
    pixels: BySlotCounts
    """By slot: share of an object's own pixels that are seen, and how many those are."""


MetricsRow = EpisodeRow | AgentRow | FinetuneRow | EvaluationRow | SuiteRow | LifeRow | WarningRow | EndRow
METRICS_ROWS: dict[str, type[MetricsRow]] = {
    "episode": EpisodeRow,
    "agent": AgentRow,
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
    def agent(self) -> tuple[AgentRow, ...]:
        return self._of(AgentRow)

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
    names = _Names()
    before: dict[str, EvaluationRow] = {}
    for where, content in json_lines(path):
        model = METRICS_ROWS.get(str(content.get("row"))[:20])
        if model is None:
            shown = repr(content.get("row"))[:80]
            raise UserError(f"{where}: row: should be one of {', '.join(METRICS_ROWS)}, not {shown}")
        row = check(model, content, where)
        names.add(row, where)
        if isinstance(row, EvaluationRow):
            for key in ("round", "n_generated", "n_trained"):
                if getattr(row, key) < getattr(before.setdefault(row.set, row), key):
                    raise UserError(f"{where}: {key}: is below that of the evaluation on {row.set} before it")
            before[row.set] = row
        rows.append(row)
    return Metrics(tuple(rows))


class _Names:
    """The names that rows have come with: each is drawn, so that thousands would never end."""

    def __init__(self) -> None:
        self._seen: dict[str, set[str]] = {}

    def add(self, row: MetricsRow, where: str) -> None:
        """Raises `UserError` where it brings one name too many."""
        for key, value in row:
            if isinstance(value, dict) or key in ("set", "suite"):
                seen = self._seen.setdefault(key, set())
                seen.update([value] if isinstance(value, str) else value)
                if len(seen) > MOST_NAMES:
                    raise UserError(f"{where}: {key}: is one of more than {MOST_NAMES} names in this file")
