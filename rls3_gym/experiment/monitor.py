"""The monitor: it watches the environment, tells the callbacks what happens, keeps checkpoints, says when to stop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any, SupportsFloat

import gymnasium
import numpy as np

from rls3_agents.base import SamplerAgent
from rls3_gym.envs.scene_env import RLS3SceneEnv
from rls3_gym.experiment.budget import Budget
from rls3_gym.experiment.callbacks import RunCallback
from rls3_gym.experiment.config import ExperimentConfig
from rls3_gym.experiment.evaluator import Evaluator, Measurer
from rls3_gym.experiment.recorder import EpisodeTally, Recorder
from rls3_gym.runs.checkpoints import save_checkpoint, save_final_vlm
from rls3_gym.runs.directory import RunDirectory
from rls3_gym.runs.rows import EndRow, FinetuneRow, LifeRow, SuiteRow
from rls3_gym.vlm.base import VLM, WeightsVLM


class RunMonitor:
    """What `SamplerAgent.learn` is handed as its monitor."""

    def __init__(
        self,
        config: ExperimentConfig,
        directory: RunDirectory,
        env: RLS3SceneEnv,
        measurer: Measurer,
        callbacks: Sequence[RunCallback] = (),
        state: Mapping[str, Any] | None = None,
    ) -> None:
        """`state` is what `state()` gave when the checkpoint to continue from was written."""
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
        self._tally = EpisodeTally(**part.get("tally", {}))
        self._others = tuple(callbacks)
        self._started = perf_counter()
        self._stop_asked = False
        self._stopped = False
        self._saved_round = self._budget.counts["round"]

    @staticmethod
    def check(directory: RunDirectory, state: Mapping[str, Any]) -> None:
        """Raise `UserError`, or what a state of another form makes Python raise, unless the run in a directory can go
        on from the `state` of a monitor. Changes nothing."""
        missing = {"life", "steps_before", "budget", "measured", "tally", "recorder"} ^ state.keys()
        if missing:
            raise KeyError(*sorted(missing))
        Recorder.check(directory, state["recorder"])

    # What the agent asks

    @property
    def done(self) -> bool:
        """True when the budget is spent, or once a stop that was asked for has been saved."""
        return self._stopped or self.complete

    def safe_point(self, agent: SamplerAgent) -> None:
        """Save a checkpoint if a round has ended since the last one, or if a stop was asked for."""
        asked = self._stop_asked  # read once: a signal may come at any time
        if self._budget.counts["round"] > self._saved_round or (asked and not self._stopped):
            config = self._config.model_dump(mode="json")
            state = {"config": config, "environment": self._env.state(), "monitor": self.state()}
            steps = self._steps_before + self._budget.counts["n_steps"]
            save_checkpoint(self._directory.checkpoints, steps, state, agent.save)
            self._saved_round = self._budget.counts["round"]
        self._stopped = asked

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
        self._saved_round = 0
        self.life += 1
        return True

    def episode_begun(self, first: bool) -> None:
        """The environment was reset; before the first episode of the experiment the VLM is measured."""
        self._tally = EpisodeTally()
        for callback in self._callbacks:
            callback.episode_begun()
        if first:
            self._measure_if_due()

    def stepped(self, info: Mapping[str, Any], episode_over: bool) -> None:
        """One step was taken; `info` is the environment's."""
        self._budget.spend(info)
        self._tally.add(info)
        report: Mapping[str, Any] | None = info["finetune"]
        # The step that ends a round already counts the next one; its sample belongs to the one that ended.
        round_ = self._budget.counts["round"] - (report is not None)
        for callback in self._callbacks:
            callback.stepped(info, round_)
        if episode_over:
            episode = self._tally.row(info, round_, perf_counter() - self._started)
            self._tally = EpisodeTally()
            for callback in self._callbacks:
                callback.episode_ended(episode)
        if report is not None:
            for callback in self._callbacks:
                callback.round_ended(_finetune_row(self._budget.counts, report))
            self._measure_if_due()

    def state(self) -> dict[str, Any]:
        """What a continued run needs: what is spent and written, and the current episode."""
        return {
            "life": self.life,
            "steps_before": self._steps_before,
            "budget": self._budget.state(),
            "measured": self._evaluator.measured,
            "tally": self._tally.as_dict(),
            "recorder": self._recorder.state(),
        }

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


def _finetune_row(counts: Mapping[str, int], report: Mapping[str, Any]) -> FinetuneRow:
    """The row of a fine-tuning from its `FineTuneReport` as a dictionary."""
    return FinetuneRow.model_validate({key: counts[key] for key in ("round", "n_generated", "n_trained")} | {**report})


class MonitoredEnv(gymnasium.Wrapper[Any, Any, Any, Any]):
    """The environment as agents get it: each step is reported to the monitor, and only the experiment's seed counts."""

    def __init__(self, env: RLS3SceneEnv, monitor: RunMonitor, under_way: bool) -> None:
        """`under_way`: the experiment was continued, so that the first reset begins none."""
        super().__init__(env)
        self._monitor = monitor
        self._under_way = under_way

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start the next episode, or the next life. `seed` is not passed on: libraries seed environments as they like,
        and here a seed would start a new experiment."""
        begins = self._monitor.next_life() or not self._under_way
        self._under_way = True
        observation, info = self.env.reset(seed=self._monitor.seed if begins else None, options=options)
        self._monitor.episode_begun(first=begins)
        return observation, info

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._monitor.stepped(info, terminated or truncated)
        return observation, reward, terminated, truncated, info
