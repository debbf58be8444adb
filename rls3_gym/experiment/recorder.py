"""The recorder: writes what happens in a run into its directory, rows, pictures and in the end the tables."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rls3_gym.experiment.callbacks import RunCallback
from rls3_gym.experiment.config import ExperimentConfig
from rls3_gym.runs.directory import RunDirectory
from rls3_gym.runs.rows import (
    EndRow,
    EpisodeRow,
    EvaluationRow,
    FinetuneRow,
    JsonLines,
    LifeRow,
    SampleRow,
    SuiteRow,
)
from rls3_gym.sample import Sample
from rls3_gym.scene.relations import RELATIONS, Term

_VERDICT = ("hardest_negative", "correct", "margin")
RGB = NDArray[np.uint8]
ROWS_WITHOUT_ROUNDS = 1000
"""Sample rows that a run without fine-tuning holds before it writes them, with as many pictures as of a round."""


class PictureChoice:
    """Chooses `limit` of a round's samples, spread evenly over it, although its length is not known beforehand.

    Every sample is taken until there are twice as many as wanted; then every second one is dropped, and from there on
    only every second sample is taken, and so on. What is left when the round ends is evenly spread, and is
    thinned to `limit`.
    """

    def __init__(self, limit: int, state: Mapping[str, Any] | None = None) -> None:
        self._limit = limit
        self._stride: int = 1 if state is None else state["stride"]
        self._held: dict[int, RGB] = {} if state is None else dict(zip(state["places"], state["rgb"], strict=True))

    def offer(self, place: int, rgb: RGB) -> None:
        """The picture of the round's sample number `place`, from 0; they come in order."""
        if self._limit == 0 or place % self._stride:
            return
        self._held[place] = rgb
        if len(self._held) == 2 * self._limit:
            self._stride *= 2
            self._held = {place: rgb for place, rgb in self._held.items() if place % self._stride == 0}

    def chosen(self) -> dict[int, RGB]:
        """At most `limit` pictures by place: of fewer samples all, else exactly so many."""
        places, n = list(self._held), len(self._held)
        if n <= self._limit:
            return self._held
        return {place: self._held[place] for place in (places[i * n // self._limit] for i in range(self._limit))}

    def state(self) -> dict[str, Any]:
        held = list(self._held.values())
        rgb = np.stack(held) if held else np.zeros((0, 0, 0, 3), np.uint8)
        return {"stride": self._stride, "places": list(self._held), "rgb": rgb}


class Recorder(RunCallback):
    """Writes metrics.jsonl as things happen, and the samples of a round, with their pictures, when the round ends."""

    def __init__(
        self, config: ExperimentConfig, directory: RunDirectory, state: Mapping[str, Any] | None = None
    ) -> None:
        """`state` is what `state()` gave at the checkpoint to continue from: rows that came after it are dropped."""
        self._config = config
        self._directory = directory
        self._metrics = JsonLines(directory.metrics, 0 if state is None else state["metrics"])
        self._samples = JsonLines(directory.sample_rows, 0 if state is None else state["samples"])
        self._round: list[dict[str, Any]] = [] if state is None else list(state["round"])
        """Sample rows of the current round, not yet written."""
        self._judged: int = 0 if state is None else state["judged"]
        """How many of them are of episodes that are over."""
        self._pictures = PictureChoice(config.images_per_round, None if state is None else state["pictures"])

    @staticmethod
    def check(directory: RunDirectory, state: Mapping[str, Any]) -> None:
        """Raise `UserError`, or what a state of another form makes Python raise, unless the logs in a directory go
        with the `state` of a recorder. Changes nothing."""
        missing = {"metrics", "samples", "round", "judged", "pictures"} ^ state.keys()
        if missing:
            raise KeyError(*sorted(missing))
        JsonLines.check(directory.metrics, int(state["metrics"]))
        JsonLines.check(directory.sample_rows, int(state["samples"]))

    def state(self) -> dict[str, Any]:
        """What a continued run needs: the lengths of the logs, and what is not written yet."""
        return {
            "metrics": self._metrics.position,
            "samples": self._samples.position,
            "round": self._round,
            "judged": self._judged,
            "pictures": self._pictures.state(),
        }

    def close(self) -> None:
        """Close the logs. Samples of a round that is not over are in the checkpoint, or come again after it."""
        self._metrics.close()
        self._samples.close()

    def episode_begun(self) -> None:
        self._judged = len(self._round)  # an episode that was dropped: its samples stay without a verdict

    def stepped(self, info: Mapping[str, Any], round_: int) -> None:
        sample: Sample | None = info["sample"]
        if sample is not None:
            self._pictures.offer(len(self._round), sample.rgb)
            head = {"file": None, "round": round_, "n_generated": info["n_generated"], "caption": info["caption"]}
            verdict = dict.fromkeys(_VERDICT)
            self._round.append(head | verdict | {"cell": sample.relation.index, **sample.provenance})
        if info["feedback"] is not None:
            for i, row in enumerate(self._round[self._judged :]):
                row |= {key: info["feedback"][key][i] for key in _VERDICT}
            self._judged = len(self._round)

    def episode_ended(self, row: EpisodeRow) -> None:
        self._metrics.append(row)
        # A run that teaches nothing has no rounds, and must not hold all of its samples until its end.
        if not self._config.environment.finetune and len(self._round) >= ROWS_WITHOUT_ROUNDS:
            self._write_samples()

    def round_ended(self, row: FinetuneRow) -> None:
        self._write_samples()
        self._metrics.append(row)

    def evaluated(self, row: EvaluationRow) -> None:
        self._metrics.append(row)

    def suite_scored(self, row: SuiteRow) -> None:
        self._metrics.append(row)

    def life_ended(self, row: LifeRow) -> None:
        self._metrics.append(row)

    def run_ended(self, row: EndRow, early_stopped: bool) -> None:
        from rls3_gym.runs.parquet import write_tables  # pyarrow: only a run that is complete needs it

        self._write_samples()
        self._metrics.append(row)
        write_tables(self._directory)

    def _write_samples(self) -> None:
        """Write the rows of the round, and the pictures chosen from it."""
        for place, rgb in self._pictures.chosen().items():
            file = f"{_content_hash(rgb)}.png"
            self._directory.save_image(file, rgb)
            self._round[place]["file"] = file
        for content in self._round:
            self._samples.append(SampleRow(**content))
        self._round, self._judged = [], 0
        self._pictures = PictureChoice(self._config.images_per_round)


def _content_hash(rgb: RGB) -> str:
    """Name of a picture: 20 hex digits over its pixels."""
    return hashlib.sha256(np.ascontiguousarray(rgb).tobytes()).hexdigest()[:20]


def _terms() -> dict[str, int]:
    return {term.name.lower(): 0 for term in Term}


@dataclass
class EpisodeTally:
    """Counts over the steps of one episode. `as_dict` and `EpisodeTally(**...)` carry it through a checkpoint."""

    steps: int = 0
    valid: int = 0
    intrinsic: float = 0.0
    extrinsic: float = 0.0
    """Sums of the two reward parts."""
    reasons: dict[str, int] = field(default_factory=dict)
    """Infeasible steps by reason."""
    terms: dict[str, int] = field(default_factory=_terms)
    """Samples whose caption has the term."""
    cells: list[int] = field(default_factory=lambda: [0] * len(RELATIONS))
    """Samples by relation cell, in the order of `RELATIONS`."""
    complexity: dict[str, int] = field(default_factory=lambda: {"1": 0, "2": 0, "3": 0})
    """Samples by their caption's number of terms."""

    def add(self, info: Mapping[str, Any]) -> None:
        """Count one step from its `info`."""
        self.steps += 1
        self.intrinsic += float(info["intrinsic"])
        self.extrinsic += float(info["extrinsic"])
        sample: Sample | None = info["sample"]
        if sample is None:
            reason = str(info["reason"])
            self.reasons[reason] = self.reasons.get(reason, 0) + 1
            return
        self.valid += 1
        self.cells[sample.relation.index] += 1
        self.complexity[str(sample.relation.complexity)] += 1
        for term in sample.relation.terms:
            self.terms[term.name.lower()] += 1

    def row(self, info: Mapping[str, Any], round_: int, since_start_seconds: float) -> EpisodeRow:
        """The episode's row, once it has ended with a step's `info`; rewards are means over the steps."""
        steps = max(self.steps, 1)
        feedback: Mapping[str, Any] = info["feedback"] or {}
        return EpisodeRow(
            episode=info["n_episodes"],
            round=round_,
            n_generated=info["n_generated"],
            n_trained=info["n_trained"],
            n_steps=info["n_steps"],
            valid_rate=self.valid / steps,
            reasons=self.reasons,
            terms=self.terms,
            cells=tuple(self.cells),
            complexity=self.complexity,
            intrinsic=self.intrinsic / steps,
            extrinsic=self.extrinsic / steps,
            accuracy=feedback.get("accuracy"),
            pairwise=feedback.get("pairwise"),
            since_start_seconds=since_start_seconds,
        )

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)
