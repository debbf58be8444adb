"""The experiment's side of a run: it watches the environment, writes the logs, keeps checkpoints, says when to stop."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from time import perf_counter
from typing import Any, SupportsFloat

import gymnasium
import numpy as np
from numpy.typing import NDArray

from rls3_agents.base import SamplerAgent
from rls3_gym.envs.scene_env import RLS3SceneEnv
from rls3_gym.experiment.config import ExperimentConfig
from rls3_gym.experiment.evaluator import Measurer
from rls3_gym.experiment.progress import RunProgress
from rls3_gym.experiment.tally import EpisodeTally
from rls3_gym.runs.checkpoints import save_checkpoint, save_final_vlm
from rls3_gym.runs.directory import JsonLines, RunDirectory
from rls3_gym.sample import Sample

_VERDICT = ("hardest_negative", "correct", "margin")
_COUNTERS = ("n_generated", "n_trained", "n_steps")
_BEGINNING: Mapping[str, Any] = {
    "metrics": 0,
    "samples": 0,
    "tally": {},
    "in_round": 0,
    "pending": [],
    "counts": {"round": 0, **dict.fromkeys(_COUNTERS, 0)},
    "measured": -1,
}
"""The state of a monitor that has seen nothing."""


def check_logs(directory: RunDirectory, state: Mapping[str, Any]) -> None:
    """Raise `UserError`, or what a state of another form makes Python raise, unless the logs go with a monitor's
    `state`. Changes nothing."""
    if state.keys() != _BEGINNING.keys():
        raise KeyError(*sorted(state.keys() ^ _BEGINNING.keys()))
    JsonLines.check(directory.metrics, int(state["metrics"]))
    JsonLines.check(directory.sample_rows, int(state["samples"]))


class RunMonitor:
    """What `SamplerAgent.learn` is handed as its monitor."""

    def __init__(
        self,
        config: ExperimentConfig,
        directory: RunDirectory,
        env: RLS3SceneEnv,
        measurer: Measurer,
        progress: RunProgress,
        state: Mapping[str, Any] | None = None,
    ) -> None:
        """`state` is what `state()` gave when the checkpoint to continue from was written."""
        self._config = config
        self._directory = directory
        self._env = env
        self._measurer = measurer
        self._progress = progress
        self._started = perf_counter()
        self._stop_asked = False
        self._stopped = False
        state = _BEGINNING if state is None else state
        self._tally = EpisodeTally(**state["tally"])
        self._in_round: int = state["in_round"]
        self._pending: list[dict[str, Any]] = list(state["pending"])
        self._counts: dict[str, int] = dict(state["counts"])
        self._measured: int = state["measured"]
        self._metrics = JsonLines(directory.metrics, state["metrics"])
        self._samples = JsonLines(directory.sample_rows, state["samples"])
        self._saved_round = self._counts["round"]
        # Pictures are spread evenly over a round, so that its later episodes are seen as well.
        per_round = config.environment.steps_per_episode * config.environment.episodes_per_round
        self._stride = math.ceil(per_round / config.images_per_round) if config.images_per_round else 0

    # What the agent asks

    @property
    def done(self) -> bool:
        """True when the budget is spent, or once a stop that was asked for has been saved."""
        return self._stopped or self.complete

    def safe_point(self, agent: SamplerAgent) -> None:
        """Save a checkpoint if a round has ended since the last one, or if a stop was asked for."""
        asked = self._stop_asked  # read once: a signal may come at any time
        if self._counts["round"] > self._saved_round or (asked and not self._stopped):
            self._save(agent)
        self._stopped = asked

    # What the run asks

    @property
    def complete(self) -> bool:
        """Whether the budget is spent, or early stopping has ended the teaching."""
        budget = self._config.budget
        by_samples = budget.n_generated is not None and self._counts["n_generated"] >= budget.n_generated
        by_rounds = budget.rounds is not None and self._counts["round"] >= budget.rounds
        return by_samples or by_rounds or self._env.scheduler.early_stopped

    @property
    def stopped(self) -> bool:
        """Whether a stop was asked for and has been saved."""
        return self._stopped

    def ask_to_stop(self) -> None:
        """Save at the next safe point and be done then."""
        self._stop_asked = True

    def finish(self) -> None:
        """Of a complete run: write what the last, unfinished episode gave, measure a last time if the last round was
        not, and keep the VLM as it is now."""
        if self.complete:
            self._write_samples({})
            if self._measured < self._counts["round"]:
                self._measure()
            self._metrics.append({"kind": "end", **self._counts})
            if self._env.scheduler.early_stopped:
                self._progress.note("early stopping: the validation score no longer rises")
            save_final_vlm(self._directory.checkpoints, self._env.scheduler.vlm.state())

    def close(self) -> None:
        self._metrics.close()
        self._samples.close()

    # What the environment tells

    def episode_begun(self, first: bool) -> None:
        """The environment was reset; before the first episode the VLM is measured as it came."""
        self._write_samples({})
        self._tally = EpisodeTally()
        if first:
            self._measure()

    def stepped(self, info: Mapping[str, Any], episode_over: bool) -> None:
        """One step was taken; `info` is the environment's."""
        self._counts = {key: int(info[key]) for key in ("round", *_COUNTERS)}
        self._tally.add(info)
        # The step that ends a round already speaks of the next one; its sample belongs to the one that ended.
        report: Mapping[str, Any] | None = info["finetune"]
        round_ = self._counts["round"] - (report is not None)
        if info["sample"] is not None:
            self._note_sample(info, round_)
        if episode_over:
            self._write_samples(info["feedback"] or {})
            self._log_episode(info, round_)
        if report is not None:
            # Without the environment's n_steps: the report's n_steps are those of the optimizer.
            counts = {key: self._counts[key] for key in ("round", "n_generated", "n_trained")}
            self._metrics.append({"kind": "finetune", **counts, **report})
            self._in_round = 0
            if report["rolled_back"] is not None:
                self._progress.note(f"round {self._counts['round']} was undone: {report['rolled_back']}")
            if self._counts["round"] % self._config.evaluation.every == 0:
                self._measure()

    def state(self) -> dict[str, Any]:
        """What a continued run needs: lengths of the logs, counters, the episode that is going on."""
        return {
            "metrics": self._metrics.position,
            "samples": self._samples.position,
            "tally": self._tally.as_dict(),
            "in_round": self._in_round,
            "pending": self._pending,
            "counts": self._counts,
            "measured": self._measured,
        }

    def _save(self, agent: SamplerAgent) -> None:
        config = self._config.model_dump(mode="json")
        state = {"config": config, "environment": self._env.state(), "monitor": self.state()}
        save_checkpoint(self._directory.checkpoints, self._counts["n_steps"], state, agent.save)
        self._saved_round = self._counts["round"]

    def _measure(self) -> None:
        vlm = self._env.scheduler.vlm
        head = {"kind": "evaluation", **self._counts, "vlm_digest": vlm.digest()}
        for i, row in enumerate(self._measurer.rows(vlm)):
            self._metrics.append(head | row)
            self._progress.evaluated(
                self._counts["round"], self._counts["n_generated"], self._counts["n_trained"],
                row["set"], row["pairwise_accuracy"], shown=i == 0,
            )  # fmt: skip
        self._measured = self._counts["round"]

    def _note_sample(self, info: Mapping[str, Any], round_: int) -> None:
        """Keep a sample's row until the VLM's verdict on it is known, at the end of the episode."""
        sample: Sample = info["sample"]
        kept = self._stride > 0 and self._in_round % self._stride == 0
        self._in_round += 1
        file = f"{_content_hash(sample.rgb)}.png" if kept else None
        if file is not None:
            self._directory.save_image(file, sample.rgb)
        head = {"file": file, "round": round_, "n_generated": info["n_generated"], "caption": info["caption"]}
        verdict = dict.fromkeys(_VERDICT)
        self._pending.append(head | verdict | {"cell": sample.relation.index, **sample.provenance})

    def _write_samples(self, feedback: Mapping[str, Any]) -> None:
        """Write the episode's rows with its verdicts; without, when the episode was given up."""
        for i, row in enumerate(self._pending):
            self._samples.append(row | {key: feedback[key][i] for key in _VERDICT if key in feedback})
        self._pending = []

    def _log_episode(self, info: Mapping[str, Any], round_: int) -> None:
        feedback: Mapping[str, Any] = info["feedback"] or {}
        self._metrics.append(
            {
                "kind": "episode",
                "episode": info["n_episodes"],
                **self._counts,
                "round": round_,
                **self._tally.row(),
                "accuracy": feedback.get("accuracy"),
                "pairwise": feedback.get("pairwise"),
                "since_start_seconds": perf_counter() - self._started,
            }
        )
        done = self._counts["n_generated"] if self._config.budget.n_generated else self._counts["round"]
        self._progress.episode(done, self._counts["n_generated"], round_, self._tally.valid_rate, self._tally.reward)
        self._tally = EpisodeTally()


class MonitoredEnv(gymnasium.Wrapper[Any, Any, Any, Any]):
    """The environment as agents get it: each step is reported to the monitor, and the experiment's seed rules."""

    def __init__(self, env: RLS3SceneEnv, monitor: RunMonitor, seed: int | None) -> None:
        """`seed` begins the experiment at the first reset; None: it is under way already."""
        super().__init__(env)
        self._monitor = monitor
        self._seed = seed

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start the next episode. `seed` is not passed on: libraries seed environments as they like, and here a
        seed would begin everything anew."""
        seed, self._seed = self._seed, None
        observation, info = self.env.reset(seed=seed, options=options)
        self._monitor.episode_begun(first=seed is not None)
        return observation, info

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._monitor.stepped(info, terminated or truncated)
        return observation, reward, terminated, truncated, info


def _content_hash(rgb: NDArray[np.uint8]) -> str:
    """Name of a picture: 20 hex digits over its pixels."""
    return hashlib.sha256(np.ascontiguousarray(rgb).tobytes()).hexdigest()[:20]
