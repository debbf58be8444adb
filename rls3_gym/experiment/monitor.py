"""The monitor: it watches the environment, tells the callbacks what happens, keeps checkpoints, says when to stop."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from time import perf_counter, process_time
from typing import Any, Protocol

import numpy as np

from rls3_agents.base import SamplerAgent
from rls3_gym.experiment.agent_values import AgentValues
from rls3_gym.experiment.budget import Budget
from rls3_gym.experiment.callbacks import RunCallback
from rls3_gym.experiment.config import ExperimentConfig
from rls3_gym.experiment.evaluator import Evaluator, Measurer
from rls3_gym.experiment.recorder import EpisodeTally, Recorder
from rls3_gym.experiment.stall import Stall
from rls3_gym.loop.learning_loop import LaneStep
from rls3_gym.loop.scheduler import Scheduler
from rls3_gym.runs.checkpoints import save_checkpoint, save_final_vlm
from rls3_gym.runs.directory import RunDirectory
from rls3_gym.runs.row_values import MOST_NAMES
from rls3_gym.runs.rows import EndRow, FinetuneRow, LifeRow, SuiteRow, WarningRow
from rls3_gym.vlm.base import VLM, WeightsVLM


class ExperimentEnv(Protocol):
    """What every environment of an experiment has, whatever its door."""

    @property
    def scheduler(self) -> Scheduler:
        """Counts, batch and VLM."""

    def state(self) -> dict[str, Any]:
        """Everything that decides what happens next."""


@dataclass(frozen=True)
class _Saved:
    """How far the run was at a checkpoint, and when that was."""

    round: int
    steps: int
    at: float


class RunMonitor:
    """What `SamplerAgent.learn` is handed as its monitor."""

    def __init__(
        self,
        config: ExperimentConfig,
        directory: RunDirectory,
        env: ExperimentEnv,
        measurer: Measurer,
        callbacks: Sequence[RunCallback] = (),
        state: Mapping[str, Any] | None = None,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        """`state` is what `state()` gave when the checkpoint to continue from was written; `clock` gives seconds."""
        part: Mapping[str, Any] = {} if state is None else state
        self._config = config
        self._directory = directory
        self._env = env
        self.life: int = part.get("life", 1)
        """How often the VLM has begun."""
        self._steps_before: int = part.get("steps_before", 0)
        """Steps in earlier lives."""
        self._budget = Budget(config.budget, part.get("budget"))
        self._measurer = measurer
        self._evaluator = Evaluator(measurer, config.evaluation.every, part.get("measured"))
        self._recorder = Recorder(config, directory, part.get("recorder"))
        self._tallies = {int(lane): EpisodeTally(**tally) for lane, tally in part.get("tallies", {}).items()}
        """By lane: counts over the episode that is going on."""
        self._said = AgentValues(part.get("said"))
        self._others = tuple(callbacks)
        self._clock = clock
        self._started = clock() - part.get("elapsed", 0.0)
        """Moved back by what earlier commands took up to the checkpoint; older checkpoints do not say it."""
        self._spent_before = self._spent()
        self._stop_asked = False
        self._stopped = False
        self._stall = Stall(config, part.get("stall"))
        self._saved: _Saved | None = None
        if state is not None:
            self._saved = _Saved(self._budget.counts["round"], self._steps, clock())

    @staticmethod
    def check(directory: RunDirectory, state: Mapping[str, Any]) -> None:
        """Raise `UserError`, or what a state of another form makes Python raise, unless the run in a directory can go
        on from the `state` of a monitor. Changes nothing."""
        known = {"life", "steps_before", "budget", "measured", "tallies", "recorder", "said", "stall"}
        missing = known ^ (state.keys() - {"elapsed"})
        if missing:
            raise KeyError(*sorted(missing))
        Recorder.check(directory, state["recorder"])

    # What the agent asks

    @property
    def done(self) -> bool:
        """True when the budget is spent, or once a stop that was asked for has been saved."""
        return self._stopped or self.complete

    def safe_point(self, agent: SamplerAgent) -> None:
        """Save a checkpoint if it is time to (`CheckpointConfig`), or if a stop was asked for."""
        asked = self._stop_asked  # read once: a signal may come at any time
        if self._save_due or (asked and not self._stopped):
            config = self._config.model_dump(mode="json")
            state = {"config": config, "environment": self._env.state(), "monitor": self.state()}
            self._recorder.sync()
            save_checkpoint(self._directory.checkpoints, self._steps, state, agent.save)
            self._saved = _Saved(self._budget.counts["round"], self._steps, self._clock())
        self._stopped = asked

    def log(self, values: Mapping[str, float]) -> None:
        """Keep what the agent says about its training for the row at the end of the episode."""
        complete = self._said.left_out is None
        self._said.add(values)
        if complete and self._said.left_out is not None:
            too_many = f"the agent's values have more than {MOST_NAMES} names; those that came last are left out"
            for callback in self._callbacks:
                callback.note(f"{too_many}, such as {self._said.left_out!r}")

    @property
    def saved_steps(self) -> int | None:
        """Steps at the newest checkpoint; None as long as there is none."""
        return None if self._saved is None else self._saved.steps

    @property
    def _save_due(self) -> bool:
        saved, every = self._saved, self._config.checkpoints
        if saved is None or self._budget.counts["round"] > saved.round:
            return True
        waited = self._clock() - saved.at
        return self._steps - saved.steps >= every.every_steps or waited >= 60 * every.every_minutes

    @property
    def _steps(self) -> int:
        """In all lives."""
        return self._steps_before + self._budget.counts["n_steps"]

    # What the run asks

    @property
    def complete(self) -> bool:
        """Whether the budget of the last life is spent, or early stopping has ended its teaching."""
        return self._in_last_life and self._budget.complete

    @property
    def stopped(self) -> bool:
        """Whether a stop was asked for and has been saved."""
        return self._stopped

    def ask_to_stop(self) -> None:
        """Save at the next safe point, then stop."""
        self._stop_asked = True

    def finish(self) -> None:
        """End a complete run: measure once more if the last round was not measured, write the end row, keep the VLM."""
        if not self.complete:
            return
        self._measure_if_due(last=True)
        for callback in self._callbacks:
            callback.run_ended(EndRow.model_validate(self._budget.counts), self._budget.early_stopped)
        vlm = self._vlm
        save_final_vlm(self._directory.checkpoints, vlm.weights() if isinstance(vlm, WeightsVLM) else vlm.state())

    def close(self) -> None:
        self._recorder.close()

    # What the environment asks and tells

    @property
    def seed(self) -> int:
        """Of this life's experiment: the last life has the configuration's own, as a run of one life has."""
        if self._in_last_life:
            return self._config.seed
        return int(np.random.SeedSequence([self._config.seed, self.life]).generate_state(1)[0])

    def next_life(self) -> bool:
        """Begin the next life if the budget of this one is spent and there is another; says whether it did."""
        if self._in_last_life or not self._budget.complete:
            return False
        accuracy = {row.set: row.pairwise_accuracy for row in self._measurer.rows(self._vlm, self._budget.counts)}
        ended = LifeRow.model_validate({"life": self.life, **self._budget.counts, "pairwise_accuracy": accuracy})
        for callback in (self._recorder, *self._others):
            callback.life_ended(ended)
        self._steps_before += self._budget.counts["n_steps"]
        self._budget = Budget(self._config.budget)
        if self._saved is not None:
            self._saved = replace(self._saved, round=0)
        self._stall = Stall(self._config)
        self._said = AgentValues()
        self.life += 1
        for callback in (self._recorder, *self._others):
            callback.life_begun(self.life)
        return True

    def episodes_begun(self, lanes: Iterable[int], first: bool) -> None:
        """These lanes were reset; before the first episode of the experiment the VLM is measured."""
        for lane in lanes:
            self._tallies.pop(lane, None)
            for callback in self._callbacks:
                callback.episode_begun(lane)
        if first:
            self._measure_if_due()

    def stepped(self, step: LaneStep) -> None:
        """One step was taken on a lane, and no later lane has counted yet."""
        info, report = step.info, step.report
        self._budget.spend(info)
        tally = self._tallies.setdefault(step.lane, EpisodeTally())
        tally.add(step)
        # The step that ends a round already counts the next one; its sample belongs to the one that ended.
        round_ = self._budget.counts["round"] - (report is not None)
        for callback in self._callbacks:
            callback.stepped(step, round_)
        if step.ended:
            episode = tally.row(info, round_, self._seconds())
            self._tallies.pop(step.lane)
            for callback in self._callbacks:
                callback.episode_ended(episode)
            said = self._said.episode_ended(tally.intrinsic + tally.extrinsic, self._budget.counts)
            if said is not None:
                for callback in self._callbacks:
                    callback.agent_said(said)
        if report is not None:
            for callback in self._callbacks:
                callback.round_ended(_finetune_row(self._budget.counts, report.as_dict()))
            self._measure_if_due()
        self._look_for_progress()

    def state(self) -> dict[str, Any]:
        """What a continued run needs: what is spent and written, and the current episode."""
        return {
            "life": self.life,
            "steps_before": self._steps_before,
            "budget": self._budget.state(),
            "measured": self._evaluator.measured,
            "tallies": {str(lane): tally.as_dict() for lane, tally in self._tallies.items()},
            "recorder": self._recorder.state(),
            "said": self._said.state(),
            "stall": self._stall.state(),
            "elapsed": self._clock() - self._started,
        }

    def _seconds(self) -> dict[str, float]:
        """The times in the row of an episode that has ended."""
        before, self._spent_before = self._spent_before, self._spent()
        since_before = {key: max(0.0, value - before[key]) for key, value in self._spent_before.items()}
        return {"since_start_seconds": self._clock() - self._started, **since_before}

    def _spent(self) -> dict[str, float]:
        """Since the process began."""
        spent = self._env.scheduler.time_spent
        return {"stage_seconds": spent.stage, "score_seconds": spent.score, "cpu_seconds": process_time()}

    @property
    def _in_last_life(self) -> bool:
        return self.life == self._config.lives

    @property
    def _callbacks(self) -> tuple[RunCallback, ...]:
        """Who is told what happens now: the recorder only in the last life."""
        return (self._recorder, *self._others) if self._in_last_life else self._others

    @property
    def _vlm(self) -> VLM:
        return self._env.scheduler.vlm

    def _measure_if_due(self, last: bool = False) -> None:
        if self._in_last_life and self._evaluator.due(self._budget.counts["round"], last):
            for row in self._evaluator.measure(self._vlm, self._budget.counts):
                for callback in self._callbacks:
                    if isinstance(row, SuiteRow):
                        callback.suite_scored(row)
                    else:
                        callback.evaluated(row)

    def _look_for_progress(self) -> None:
        counts = self._budget.counts
        text = self._stall.after(counts, len(self._env.scheduler.batch))
        if text is not None:
            warning = WarningRow.model_validate({**counts, "text": text})
            for callback in self._callbacks:
                callback.warned(warning)
        self._stall.give_up(counts)


def _finetune_row(counts: Mapping[str, int], report: Mapping[str, Any]) -> FinetuneRow:
    """The row of a fine-tuning from its `FineTuneReport` as a dictionary."""
    return FinetuneRow.model_validate({key: counts[key] for key in ("round", "n_generated", "n_trained")} | {**report})
