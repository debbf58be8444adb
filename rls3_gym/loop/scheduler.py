"""The scheduler: it owns the one VLM and decides when it is asked and when it is taught.

`steps_per_episode` steps give one feedback; `episodes_per_round` episodes, or those that bring `samples_per_round`
samples, one fine-tuning.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, model_validator

from rls3_gym.loop.cells import CellRecord
from rls3_gym.loop.running_mean import RunningMean
from rls3_gym.loop.selection import SELECTIONS, Guide, SelectionName
from rls3_gym.sample import Sample, decode_samples, encode_items
from rls3_gym.vlm.base import VLM, Feedback, FineTuneReport
from rls3_gym.vlm.feedback import join_feedback, split_feedback
from rls3_registry.errors import UserError
from rls3_registry.validation import Settings

ERROR_RATE = 0.02
"""Weight of one sample in the running errors that agents observe."""
DEFAULT_SAMPLES_PER_ROUND = 500
_COUNTERS = ("n_steps", "n_generated", "n_trained", "episode", "round", "episodes_in_round")


class Schedule(Settings):
    """The numbers of the loop."""

    model_config = ConfigDict(strict=True, use_attribute_docstrings=True)

    steps_per_episode: int = Field(32, ge=1, le=100_000)
    """Steps of an episode (the paper's T)."""
    episodes_per_round: int | None = Field(None, ge=1, le=100_000)
    """Episodes of a round (the paper's E): how many until the VLM is fine-tuned. Give this or `samples_per_round`."""
    samples_per_round: int | None = Field(None, ge=1, le=1_000_000)
    """Samples of a round: it ends with the episode that brings the batch to so many. Samplers that make few valid
    samples an episode and those that make many then teach in equal rounds. 500 when `episodes_per_round` is not given
    either."""
    train_fraction: float = Field(0.5, gt=0, le=1)
    """Share of an episode's samples that trains (the paper's eta)."""
    selection: SelectionName = "random"
    """How that share is chosen."""
    finetune: bool = True
    """Off: the VLM is scored but never taught, and there are no rounds. Build evaluation environments that way."""
    early_stopping: int | None = Field(None, ge=1, le=1_000_000)
    """Rounds without a better validation score until fine-tuning ends for good; never when left out."""

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if self.episodes_per_round is not None and self.samples_per_round is not None:
            raise ValueError("give episodes_per_round or samples_per_round, not both (set the other to null)")
        return self

    def round_is_full(self, episodes: int, samples: int) -> bool:
        """Whether a round of so many episodes, with so many samples in its batch, is over."""
        if self.episodes_per_round is not None:
            return episodes >= self.episodes_per_round
        return samples >= (self.samples_per_round or DEFAULT_SAMPLES_PER_ROUND)

    def rounds_of(self, episodes: int, generated: int) -> float:
        """How many rounds so many episodes and generated samples make, about."""
        if self.episodes_per_round is not None:
            return episodes / self.episodes_per_round
        return self.train_fraction * generated / (self.samples_per_round or DEFAULT_SAMPLES_PER_ROUND)


class EarlyStopping:
    """No more fine-tuning once `patience` rounds in a row gave no better validation accuracy."""

    def __init__(self, samples: Sequence[Sample], patience: int, vlm: VLM) -> None:
        """`vlm` is in its first state, to which every experiment returns."""
        self.samples = samples
        self.patience = patience
        self._first = vlm.evaluate(samples).pairwise_accuracy
        self.clear()

    @property
    def stopped(self) -> bool:
        return self.waited >= self.patience

    def clear(self) -> None:
        """Return to the state before the first round."""
        self.best, self.waited = self._first, 0

    def end_round(self, vlm: VLM) -> None:
        """Score the VLM after a round."""
        accuracy = vlm.evaluate(self.samples).pairwise_accuracy
        better = accuracy > self.best
        self.best = max(self.best, accuracy)
        self.waited = 0 if better else self.waited + 1


@dataclass(frozen=True, eq=False)
class EpisodeOutcome:
    """What the end of an episode gave."""

    feedback: Feedback
    """On all samples of the episode, in order; length 0 when there were none."""
    report: FineTuneReport | None
    """Of the fine-tuning, when this episode was the last of its round."""
    trained: tuple[Sample, ...]
    """The batch that was taught then."""


@dataclass
class TimeSpent:
    """Where the time of a loop went since it was made, wall seconds; the rest is the agent's, and fine-tuning."""

    stage: float = 0.0
    """Making samples: places, pictures, captions, and what is offered to choose from."""
    score: float = 0.0
    """Asking the VLM about samples."""


class Scheduler:
    """Counts, keeps the batch, asks and teaches the VLM.

    It draws from one generator of its own (`begin_experiment`): the share of samples that trains, and the
    order of training. Stages and agents never see that generator, so they cannot change what is drawn.
    """

    def __init__(
        self,
        vlm: VLM,
        schedule: Schedule,
        *,
        held_out: frozenset[str] = frozenset(),
        validation: Sequence[Sample] = (),
        guide: Guide = tuple,
    ) -> None:
        """Take over a VLM.

        Args:
            vlm: As given it is the first state, to which every new experiment returns.
            schedule: The numbers of the loop.
            held_out: Scene keys whose samples must not train.
            validation: What early stopping watches, where the schedule asks for it.
            guide: Loads the guide set, where the selection asks for it.

        Raises:
            UserError: The VLM is to be taught, but others share it.
        """
        if schedule.finetune and getattr(vlm, "frozen", False):
            raise UserError("vlm: others share this VLM (vlm.actor), so it can't be taught; set finetune to false")
        self.vlm = vlm
        self.schedule = schedule
        self.held_out = held_out
        self.early_stopping: EarlyStopping | None = None
        self._selection = SELECTIONS[schedule.selection]()
        self._first_state = vlm.state() if schedule.finetune else None
        self._term_error = RunningMean(6, ERROR_RATE, 0.5)
        self._complexity_error = RunningMean(3, ERROR_RATE, 0.5)
        self._made = RunningMean(6, ERROR_RATE, 0.5)
        self.cells = CellRecord()
        """Counts and errors of the relation cells, over all lanes."""
        self.time_spent = TimeSpent()
        self.begin_experiment(np.random.default_rng(0))
        if schedule.finetune:  # once for all experiments: they begin with the same weights
            self._selection.prepare(vlm, guide)
            if schedule.early_stopping is not None:
                self.early_stopping = EarlyStopping(validation, schedule.early_stopping, vlm)

    def begin_experiment(self, rng: np.random.Generator) -> None:
        """First VLM state, empty batch, all counters zero; `rng` is the scheduler's own from now on."""
        self.rng = rng
        if self._first_state is not None:
            self.vlm.load_state(self._first_state)
        self.vlm_digest = self.vlm.digest()
        self.n_steps = self.n_generated = self.n_trained = 0
        self.episode = self.round = self.episodes_in_round = 0
        self.batch: list[Sample] = []
        self._term_error.clear()
        self._complexity_error.clear()
        self._made.clear()
        self.cells.clear()
        if self.early_stopping is not None:
            self.early_stopping.clear()

    @property
    def early_stopped(self) -> bool:
        """Whether early stopping has ended the fine-tuning of this experiment."""
        return self.early_stopping is not None and self.early_stopping.stopped

    @property
    def progress(self) -> dict[str, Any]:
        """How far the teaching is: `n_trained`, `n_episodes`, `round`, `vlm_digest`, `early_stopped`."""
        return {
            "n_trained": self.n_trained,
            "n_episodes": self.episode,
            "round": self.round,
            "vlm_digest": self.vlm_digest,
            "early_stopped": self.early_stopped,
        }

    @property
    def term_error(self) -> NDArray[np.float64]:
        """(6,) running error per term, 0..1: how often its opposite was preferred recently; starts at 0.5."""
        return self._term_error.values

    @property
    def axis_error(self) -> NDArray[np.float64]:
        """(3,) running error averaged over antonyms: left/right, front/behind, above/below.

        A VLM that always says "left" is right about every left and wrong about every right: the average
        over both does not reward turning that bias around.
        """
        errors = self._term_error.values
        return np.asarray((errors[::2] + errors[1::2]) / 2)

    @property
    def made(self) -> NDArray[np.float64]:
        """(6,) running shares, 0..1, of the recent samples: those whose caption has a term of each axis (left/right,
        front/behind, above/below), and those with one, two and three terms; starts at 0.5."""
        return self._made.values

    @property
    def complexity_error(self) -> NDArray[np.float64]:
        """(3,) running pairwise error of captions with one, two and three terms."""
        return self._complexity_error.values

    def count_step(self, sample: Sample | None) -> None:
        """Count one step, and its sample if it gave one."""
        self.n_steps += 1
        if sample is not None:
            self.n_generated += 1
            self.cells.count(sample)

    def score(self, samples: Sequence[Sample]) -> list[Feedback]:
        """The VLM's feedback on each sample at once, before the episode's end. Hand it to `end_episodes`."""
        return split_feedback(self._ask(samples)) if samples else []

    def _ask(self, samples: Sequence[Sample]) -> Feedback:
        started = perf_counter()
        feedback = self.vlm.evaluate(samples)
        self.time_spent.score += perf_counter() - started
        return feedback

    def end_episodes(
        self, episodes: Sequence[Sequence[Sample]], scored: Sequence[Sequence[Feedback]] | None = None
    ) -> Iterator[EpisodeOutcome]:
        """Episodes of one or more lanes end: the VLM is asked about all samples in one call, then it may be taught.

        Episodes count one after the other, in the order given, each when its outcome is taken; the training share of
        each joins the batch, and the one that completes a round has the VLM taught before the next is counted.

        Args:
            episodes: The samples of each episode.
            scored: The feedback of `score` on the first samples of each episode, where there is some: nothing is asked
                twice.

        Returns:
            One outcome for each episode.

        Raises:
            UserError: A sample is of a held-out scene; nothing has been counted.
        """
        if self.schedule.finetune:
            for samples in episodes:
                self._refuse_held_out(samples)
        feedbacks = self._feedbacks(episodes, scored or [() for _ in episodes])
        return (self._end_episode(*episode) for episode in zip(episodes, feedbacks, strict=True))

    def _end_episode(self, samples: Sequence[Sample], feedback: Feedback) -> EpisodeOutcome:
        self._note_errors(samples, feedback)
        self.cells.judge(samples, feedback)
        self.episode += 1
        if not self.schedule.finetune or self.early_stopped:
            return EpisodeOutcome(feedback, None, ())
        chosen = self._selection.choose(samples, feedback, self.schedule.train_fraction, self.rng)
        self.batch += [samples[i] for i in chosen]
        self.episodes_in_round += 1
        if not self.schedule.round_is_full(self.episodes_in_round, len(self.batch)):
            return EpisodeOutcome(feedback, None, ())
        trained, report = self._teach()
        return EpisodeOutcome(feedback, report, trained)

    def _refuse_held_out(self, samples: Sequence[Sample]) -> None:
        for sample in samples:
            if sample.scene_key in self.held_out:
                raise UserError(f"scene {sample.scene_key} belongs to a held-out set and must not train the VLM")

    def _feedbacks(self, episodes: Sequence[Sequence[Sample]], scored: Sequence[Sequence[Feedback]]) -> list[Feedback]:
        if not episodes:
            return []
        unasked = [sample for samples, known in zip(episodes, scored, strict=True) for sample in samples[len(known) :]]
        answers = self._ask(unasked) if unasked else join_feedback(())
        feedbacks, start = [], 0
        for samples, known in zip(episodes, scored, strict=True):
            end = start + len(samples) - len(known)
            if end < start:
                raise ValueError(f"{len(samples)} samples but feedback on {len(known)}")
            rest = answers[start:end]
            feedbacks.append(join_feedback([*known, rest]) if known else rest)
            start = end
        return feedbacks

    def _note_errors(self, samples: Sequence[Sample], feedback: Feedback) -> None:
        for i, sample in enumerate(samples):
            for term in sample.relation.terms:
                self._term_error.add(term, 1.0 - float(feedback.by_term[i, term]))
            self._complexity_error.add(sample.relation.complexity - 1, 1.0 - float(feedback.pairwise[i]))
            axes = {term.axis for term in sample.relation.terms}
            length = sample.relation.complexity
            self._made.add_all(
                range(6), [float(axis in axes) for axis in (0, 2, 1)] + [float(length == n) for n in (1, 2, 3)]
            )

    def _teach(self) -> tuple[tuple[Sample, ...], FineTuneReport | None]:
        """Fine-tune on the batch and clear it. An empty batch (no feasible sample at all) is no round."""
        trained, self.batch, self.episodes_in_round = tuple(self.batch), [], 0
        if not trained:
            return (), None
        report = self.vlm.finetune(trained, self.rng)
        self.round += 1
        if report.rolled_back is None:
            self.n_trained += len(trained)
        self.vlm_digest = self.vlm.digest()
        if self.early_stopping is not None:
            self.early_stopping.end_round(self.vlm)
        return trained, report

    def state(self) -> dict[str, Any]:
        """Everything held, the VLM included: JSON-ready values, numpy arrays and tensors."""
        stopping = self.early_stopping
        return {
            "counters": {name: int(getattr(self, name)) for name in _COUNTERS},
            "rng": self.rng.bit_generator.state,
            "batch": encode_items(self.batch),
            "term_error": self._term_error.values.copy(),
            "complexity_error": self._complexity_error.values.copy(),
            "made": self._made.values.copy(),
            "cells": self.cells.state(),
            "early_stopping": None if stopping is None else {"best": stopping.best, "waited": stopping.waited},
            "vlm": self.vlm.state() if self.schedule.finetune else None,
            "vlm_digest": self.vlm_digest,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`, on a scheduler made with the same arguments.

        Raises `UserError` when the VLM's weights are not the ones the state was taken with.
        """
        if self.schedule.finetune and state["vlm"] is not None:
            self.vlm.load_state(state["vlm"])
        self.vlm_digest = self.vlm.digest()
        if self.vlm_digest != state["vlm_digest"]:
            raise UserError(f"the state belongs to VLM weights {state['vlm_digest']}, not {self.vlm_digest}")
        for name in _COUNTERS:
            setattr(self, name, int(state["counters"][name]))
        self.rng.bit_generator.state = state["rng"]
        self.batch = decode_samples(state["batch"])
        self._term_error.values[:] = state["term_error"]
        self._complexity_error.values[:] = state["complexity_error"]
        self._made.values[:] = state["made"]
        self.cells.load_state(state["cells"])
        if self.early_stopping is not None and state["early_stopping"] is not None:
            self.early_stopping.best = float(state["early_stopping"]["best"])
            self.early_stopping.waited = int(state["early_stopping"]["waited"])
