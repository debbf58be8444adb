"""The monitor: it watches the environment, tells the callbacks what happens, keeps checkpoints, says when to stop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any, SupportsFloat

import gymnasium

from rls3_agents.base import SamplerAgent
from rls3_gym.envs.scene_env import RLS3SceneEnv
from rls3_gym.experiment.budget import Budget
from rls3_gym.experiment.callbacks import RunCallback
from rls3_gym.experiment.config import ExperimentConfig
from rls3_gym.experiment.evaluator import Evaluator, Measurer
from rls3_gym.experiment.recorder import EpisodeTally, Recorder
from rls3_gym.runs.checkpoints import save_checkpoint, save_final_vlm
from rls3_gym.runs.directory import RunDirectory
from rls3_gym.runs.rows import EndRow, FinetuneRow
from rls3_gym.vlm.base import VLM


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
        self._budget = Budget(config.budget, part.get("budget"))
        self._evaluator = Evaluator(measurer, config.evaluation.every, part.get("measured"))
        self._recorder = Recorder(config, directory, part.get("recorder"))
        self._tally = EpisodeTally(**part.get("tally", {}))
        self._callbacks = (self._recorder, *callbacks)
        self._started = perf_counter()
        self._stop_asked = False
        self._stopped = False
        self._saved_round = self._budget.counts["round"]

    @staticmethod
    def check(directory: RunDirectory, state: Mapping[str, Any]) -> None:
        """Raise `UserError`, or what a state of another form makes Python raise, unless the run in a directory can go
        on from the `state` of a monitor. Changes nothing."""
        missing = {"budget", "measured", "tally", "recorder"} ^ state.keys()
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
            save_checkpoint(self._directory.checkpoints, self._budget.counts["n_steps"], state, agent.save)
            self._saved_round = self._budget.counts["round"]
        self._stopped = asked

    # What the run asks

    @property
    def complete(self) -> bool:
        """Whether the budget is spent, or early stopping has ended the teaching."""
        return self._budget.complete

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
        save_final_vlm(self._directory.checkpoints, self._vlm.state())

    def close(self) -> None:
        self._recorder.close()

    # What the environment tells

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
            "budget": self._budget.state(),
            "measured": self._evaluator.measured,
            "tally": self._tally.as_dict(),
            "recorder": self._recorder.state(),
        }

    @property
    def _vlm(self) -> VLM:
        return self._env.scheduler.vlm

    def _measure_if_due(self, last: bool = False) -> None:
        if self._evaluator.due(self._budget.counts["round"], last):
            for row in self._evaluator.measure(self._vlm, self._budget.counts):
                for callback in self._callbacks:
                    callback.evaluated(row)


def _finetune_row(counts: Mapping[str, int], report: Mapping[str, Any]) -> FinetuneRow:
    """The row of a fine-tuning from its `FineTuneReport` as a dictionary."""
    return FinetuneRow.model_validate({key: counts[key] for key in ("round", "n_generated", "n_trained")} | {**report})


class MonitoredEnv(gymnasium.Wrapper[Any, Any, Any, Any]):
    """The environment as agents get it: each step is reported to the monitor, and only the experiment's seed counts."""

    def __init__(self, env: RLS3SceneEnv, monitor: RunMonitor, seed: int | None) -> None:
        """`seed` begins the experiment at the first reset; None: it is under way already."""
        super().__init__(env)
        self._monitor = monitor
        self._seed = seed

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start the next episode. `seed` is not passed on: libraries seed environments as they like, and here a seed
        would start a new experiment."""
        seed, self._seed = self._seed, None
        observation, info = self.env.reset(seed=seed, options=options)
        self._monitor.episode_begun(first=seed is not None)
        return observation, info

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._monitor.stepped(info, terminated or truncated)
        return observation, reward, terminated, truncated, info
