"""Whether a run makes progress: valid samples come, and some of them are chosen to train."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rls3_gym.experiment.config import ExperimentConfig
from rls3_gym.loop.scheduler import DEFAULT_SAMPLES_PER_ROUND
from rls3_registry.errors import UserError


class Stall:
    """Counts the steps without progress: says so after a round's worth of them, and gives up after many more."""

    def __init__(self, config: ExperimentConfig, state: Mapping[str, Any] | None = None) -> None:
        """`state` is what `state()` gave at the checkpoint to continue from."""
        self._config = config
        loop = config.environment
        if loop.episodes_per_round is not None:
            self._patience = loop.episodes_per_round * loop.steps_per_episode
        else:
            self._patience = max(loop.samples_per_round or DEFAULT_SAMPLES_PER_ROUND, loop.steps_per_episode)
        self._patience = max(self._patience, loop.num_envs * loop.steps_per_episode)
        self._seen: dict[str, list[Any]] = {"valid": [0, 0, False], "chosen": [[0, 0], 0, False]}
        """What was counted last, the step at which it changed, and whether the stall since then has been told of."""
        if state is not None:
            self._seen = {name: list(seen) for name, seen in state.items()}

    def after(self, counts: Mapping[str, int], waiting: int) -> str | None:
        """Take in the counts after a step, with the samples that wait to train; a line where there is news."""
        step = counts["n_steps"]
        for name, now in (("valid", counts["n_generated"]), ("chosen", [counts["round"], waiting])):
            if now != self._seen[name][0]:
                self._seen[name] = [now, step, False]
        found = self._standstill(step, self._patience)
        if found is None or self._seen[found[0]][2]:
            return None
        self._seen[found[0]][2] = True
        return found[1]

    def give_up(self, counts: Mapping[str, int]) -> None:
        """Raise `UserError` after `no_progress_steps` steps without progress, and at least a round's worth."""
        found = self._standstill(counts["n_steps"], max(self._patience, self._config.no_progress_steps))
        if found is not None:
            raise UserError(f"no progress: {found[1]}; the run gives up (no_progress_steps says after how many steps)")

    def state(self) -> dict[str, Any]:
        return {name: list(seen) for name, seen in self._seen.items()}

    def _standstill(self, step: int, limit: int) -> tuple[str, str] | None:
        """What has not changed for so many steps, and how to say so."""
        agent, loop = self._config.agent.name, self._config.environment
        if (waited := step - self._seen["valid"][1]) >= limit:
            return "valid", f"no valid sample in {waited:,} steps; no edit of agent {agent} was feasible"
        if loop.finetune and (waited := step - self._seen["chosen"][1]) >= limit:
            chosen = f"no sample was chosen (train_fraction is {loop.train_fraction:g})"
            return "chosen", f"nothing to train on in {waited:,} steps; {chosen}"
        return None
