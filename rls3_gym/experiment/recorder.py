"""The recorder: writes what happens in a run into its directory, rows, pictures and in the end the tables."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rls3_gym.experiment.callbacks import RunCallback
from rls3_gym.experiment.config import ExperimentConfig
from rls3_gym.loop.learning_loop import LaneStep
from rls3_gym.runs.directory import RunDirectory
from rls3_gym.runs.json_lines import JsonLines
from rls3_gym.runs.parquet import write_metrics_table
from rls3_gym.runs.rows import (
    AgentRow,
    EndRow,
    EpisodeRow,
    EvaluationRow,
    FinetuneRow,
    LifeRow,
    SampleRow,
    SuiteRow,
    WarningRow,
)
from rls3_gym.runs.samples import SampleParts
from rls3_gym.scene.relations import RELATIONS, Term

_VERDICT = ("hardest_negative", "correct", "margin")
RGB = NDArray[np.uint8]
ROWS_WITHOUT_ROUNDS = 1000
"""Sample rows that a run without fine-tuning holds before it writes them, with as many pictures as of a round."""


class PictureChoice:
    """Chooses `limit` of a round's samples, spread evenly over it, although its length is not known beforehand.

    Every sample is taken until there are four times as many as wanted; then every second one is dropped, and from there
    on only every second sample is taken, and so on. What is left when the round ends is evenly spread, and is
    thinned to `limit`: there are enough where up to half of the samples belong to episodes that are not over.
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
        if len(self._held) == 4 * self._limit:
            self._stride *= 2
            self._held = {place: rgb for place, rgb in self._held.items() if place % self._stride == 0}

    def chosen(self, without: Collection[int] = ()) -> dict[int, RGB]:
        """At most `limit` pictures by place, of fewer samples all, but none of the places `without`."""
        places = [place for place in self._held if place not in without]
        n = len(places)
        if n > self._limit:
            places = [places[i * n // self._limit] for i in range(self._limit)]
        return {place: self._held[place] for place in places}

    def moved(self, places: Mapping[int, int]) -> PictureChoice:
        """A new choice that begins with the pictures at some of the places, by the places that they get there."""
        new = PictureChoice(self._limit)
        for place, to in places.items():
            if place in self._held:
                new.offer(to, self._held[place])
        return new

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
        self._samples = SampleParts(directory.sample_table, None if state is None else state["samples"])
        self._round: list[dict[str, Any]] = [] if state is None else list(state["round"])
        """Sample rows of the current round, not yet written."""
        self._open: dict[int, list[int]] = {}
        """By lane: which of them are of an episode that is not over."""
        for lane, places in ({} if state is None else state["open"]).items():
            self._open[int(lane)] = [int(place) for place in places]
        self._pictures = PictureChoice(config.images_per_round, None if state is None else state["pictures"])

    @staticmethod
    def check(directory: RunDirectory, state: Mapping[str, Any]) -> None:
        """Raise `UserError`, or what a state of another form makes Python raise, unless the logs in a directory go
        with the `state` of a recorder. Changes nothing."""
        missing = {"metrics", "samples", "round", "open", "pictures"} ^ state.keys()
        if missing:
            raise KeyError(*sorted(missing))
        JsonLines.check(directory.metrics, int(state["metrics"]))
        SampleParts.check(directory.sample_table, state["samples"])

    def state(self) -> dict[str, Any]:
        """What a continued run needs: the lengths of the logs, and what is not written yet."""
        return {
            "metrics": self._metrics.position,
            "samples": self._samples.state(),
            "round": self._round,
            "open": {str(lane): places for lane, places in self._open.items()},
            "pictures": self._pictures.state(),
        }

    def close(self) -> None:
        """Close the log. Samples of a round that is not over are in the checkpoint, or come again after it."""
        self._metrics.close()

    def sync(self) -> None:
        """Wait until all that was written is on the disk itself."""
        self._metrics.sync()

    def episode_begun(self, lane: int) -> None:
        self._open.pop(lane, None)  # of an episode that was dropped: these samples stay without a verdict

    def stepped(self, step: LaneStep, round_: int) -> None:
        info, sample = step.info, step.sample
        if sample is not None:
            place = len(self._round)
            self._pictures.offer(place, sample.rgb)
            head = {"file": None, "round": round_, "n_generated": info["n_generated"], "caption": info["caption"]}
            verdict = dict.fromkeys(_VERDICT)
            self._round.append(head | verdict | {"cell": sample.relation.index, **sample.provenance})
            self._open.setdefault(step.lane, []).append(place)
        if step.ended:
            feedback = info["feedback"]
            preferred = feedback["hardest_negative"].split("\n")
            for i, place in enumerate(self._open.pop(step.lane, [])):
                verdict = {"hardest_negative": preferred[i], "correct": bool(feedback["correct"][i])}
                self._round[place] |= {"round": round_, **verdict, "margin": float(feedback["margin"][i])}

    def episode_ended(self, row: EpisodeRow) -> None:
        self._metrics.append(row)
        # A run that teaches nothing has no rounds, and must not hold all of its samples until its end.
        if not self._config.environment.finetune and len(self._round) >= ROWS_WITHOUT_ROUNDS:
            self._write_samples()

    def agent_said(self, row: AgentRow) -> None:
        self._metrics.append(row)

    def round_ended(self, row: FinetuneRow) -> None:
        self._write_samples()
        self._metrics.append(row)

    def evaluated(self, row: EvaluationRow) -> None:
        self._metrics.append(row)

    def suite_scored(self, row: SuiteRow) -> None:
        self._metrics.append(row)

    def life_ended(self, row: LifeRow) -> None:
        self._metrics.append(row)

    def warned(self, row: WarningRow) -> None:
        self._metrics.append(row)

    def run_ended(self, row: EndRow, early_stopped: bool) -> None:
        self._write_samples(unfinished=True)
        self._metrics.append(row)
        write_metrics_table(self._directory)

    def _write_samples(self, unfinished: bool = False) -> None:
        """Write the rows of the round, and the pictures chosen from it. Those of episodes that other lanes have not
        finished wait for the next round, unless nothing comes after."""
        waiting = [] if unfinished else sorted(place for places in self._open.values() for place in places)
        to = {place: new for new, place in enumerate(waiting)}
        for place, rgb in self._pictures.chosen(to).items():
            file = f"{_content_hash(rgb)}.png"
            self._directory.save_image(file, rgb)
            self._round[place]["file"] = file
        self._samples.append([SampleRow(**row) for place, row in enumerate(self._round) if place not in to])
        self._pictures = self._pictures.moved(to)
        self._open = {lane: [to[place] for place in places] for lane, places in self._open.items() if waiting}
        self._round = [self._round[place] for place in waiting]


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

    def add(self, step: LaneStep) -> None:
        """Count one step."""
        info, sample = step.info, step.sample
        self.steps += 1
        self.intrinsic += float(info["intrinsic"])
        self.extrinsic += float(info["extrinsic"])
        if sample is None:
            reason = str(info["reason"])
            self.reasons[reason] = self.reasons.get(reason, 0) + 1
            return
        self.valid += 1
        self.cells[sample.relation.index] += 1
        self.complexity[str(sample.relation.complexity)] += 1
        for term in sample.relation.terms:
            self.terms[term.name.lower()] += 1

    def row(self, info: Mapping[str, Any], round_: int, seconds: Mapping[str, float]) -> EpisodeRow:
        """The episode's row, once it has ended with a step's `info`; rewards are means over the steps. `seconds`: the
        times that the row has, by their names."""
        steps = max(self.steps, 1)
        feedback: Mapping[str, Any] = info["feedback"]
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
            accuracy=feedback["accuracy"] if feedback["n"] else None,
            pairwise=feedback["pairwise"] if feedback["n"] else None,
            since_start_seconds=seconds["since_start_seconds"],
            stage_seconds=seconds["stage_seconds"],
            score_seconds=seconds["score_seconds"],
            cpu_seconds=seconds["cpu_seconds"],
        )

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)
