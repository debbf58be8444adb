"""RLlib as a sampler: one plugin for every algorithm of `rllib_algorithms.py`, on its new API stack.

The loop is ours, for RLlib's env runners make environments of their own, where there is one that holds the learning
VLM; and its training iterations know nothing of a budget of valid samples. Networks, distributions, losses, advantages
and optimizers are the library's: an `RLModule`, and a `Learner` that is given episodes or batches. All of it is in the
process of the run; the stages of the lanes may be anywhere in a cluster (`workers: ray`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME

from rls3_agents import saving
from rls3_agents.base import Monitor
from rls3_agents.library_agent import LibraryAgent
from rls3_agents.rllib.rllib_algorithms import ALGORITHMS, PpoSettings, RllibSettings, SacSettings
from rls3_agents.rllib.rllib_rows import COLUMNS, Replay, Rollout, Row
from rls3_registry.errors import UserError

Learner = Any


class RllibAgent(LibraryAgent[RllibSettings, Learner]):
    """One RLlib algorithm as a sampler agent; takes flat observations (`observation: state`)."""

    library = "rllib"
    observations = ("state",)

    def __init__(self, settings: Mapping[str, Any], *, seed: int) -> None:
        super().__init__(ALGORITHMS, settings, seed)
        self._steps = 0
        self._observation: NDArray[Any] | None = None

    def learn(self, env: gymnasium.Env[Any, Any] | VectorEnv[Any, Any, Any], monitor: Monitor) -> None:
        self.model_for(env)
        if self._observation is None:
            self._observation, _ = env.reset()
        with self.generators:
            if not len(self._rollout):  # an agent that goes on may be in the middle of one
                monitor.safe_point(self)
            while not monitor.done:
                if isinstance(env, VectorEnv):
                    self._step_all(env)
                else:
                    self._step(env)
                if self._update():
                    monitor.safe_point(self)

    def act(self, observation: Any, deterministic: bool = False) -> Any:
        with self.generators:
            raw, _ = self._choose(np.asarray(observation)[None], deterministic)
            return self._to_env(raw)[0]

    def build(self) -> Learner:
        seen, settings = self.observation_space, self.settings
        if not isinstance(seen, spaces.Box) or len(seen.shape) != 1:
            raise UserError("observation: the agents of RLlib take flat observations; use 'state'")
        self._rollout = Rollout(self.lanes)
        self._replay = Replay(settings.buffer_size if isinstance(settings, SacSettings) else 1)
        both = seen, self.action_space
        config = self.row.build(settings, *both)
        learner = config.build_learner(spaces={DEFAULT_MODULE_ID: both, "__env__": both, "__env_single__": both})
        if isinstance(settings, PpoSettings) and isinstance(self.action_space, spaces.Box):
            learner.module[DEFAULT_MODULE_ID].pi.log_std.data.fill_(settings.log_std_init)
        return learner

    def save_model(self, directory: Path) -> dict[str, Any]:
        learner = self.model("save")
        tensors = {
            "module": learner.module[DEFAULT_MODULE_ID].state_dict(),
            "optimizers": {name: optimizer.state_dict() for name, optimizer in learner._named_optimizers.items()},
            "log_alpha": self._log_alpha(learner),
        }
        saving.write_tensors(directory / "model.pt", tensors)
        arrays = self._replay.arrays() | {"observation": np.asarray(self._observation)}
        saving.write_arrays(directory / "arrays.npz", arrays)
        return {"steps": self._steps, "replay_next": self._replay.next}

    def load_model(self, directory: Path, counters: Mapping[str, Any]) -> None:
        learner = self.model("load")
        tensors = saving.read_tensors(directory / "model.pt")
        arrays = saving.read_arrays(directory / "arrays.npz")
        learner.module[DEFAULT_MODULE_ID].load_state_dict(tensors["module"])
        for name, optimizer in learner._named_optimizers.items():
            optimizer.load_state_dict(tensors["optimizers"][name])
        log_alpha = self._log_alpha(learner)
        if log_alpha is not None:
            log_alpha.data.copy_(tensors["log_alpha"])
        self._observation = arrays["observation"]
        self._replay.fill({name: rows for name, rows in arrays.items() if name in COLUMNS}, counters["replay_next"])
        self._steps = counters["steps"]

    def _log_alpha(self, learner: Learner) -> Any:
        """SAC's learned weight of entropy, which is no part of the module."""
        return learner.curr_log_alpha[DEFAULT_MODULE_ID] if isinstance(self.settings, SacSettings) else None

    def _step(self, env: gymnasium.Env[Any, Any]) -> None:
        """One environment step to learn from; the next episode begins where one ends."""
        seen = np.asarray(self._observation)
        raw, chosen = self._explore(seen[None])
        following, reward, terminated, truncated, _ = env.step(self._to_env(raw)[0])
        self._keep(0, Row(seen, raw[0], float(reward), terminated, truncated, following, _of(chosen, 0)))
        self._observation = env.reset()[0] if terminated or truncated else following

    def _step_all(self, env: VectorEnv[Any, Any, Any]) -> None:
        """One step on every lane."""
        seen = np.asarray(self._observation)
        raw, chosen = self._explore(seen)
        following, rewards, terminated, truncated, infos = env.step(self._to_env(raw))
        for lane in range(self.lanes):
            over = bool(terminated[lane]), bool(truncated[lane])
            last = infos["final_obs"][lane] if any(over) else following[lane]
            self._keep(lane, Row(seen[lane], raw[lane], float(rewards[lane]), *over, last, _of(chosen, lane)))
        self._observation = following

    def _keep(self, lane: int, row: Row) -> None:
        self._steps += 1
        if isinstance(self.settings, SacSettings):
            self._replay.add(row)
        else:
            self._rollout.add(lane, row)

    def _explore(self, observations: NDArray[Any]) -> tuple[NDArray[Any], dict[str, NDArray[Any]]]:
        settings = self.settings
        if isinstance(settings, SacSettings) and self._steps < settings.learning_starts:
            return self.action_space.sample()[None], {}
        return self._choose(observations, deterministic=False)

    def _update(self) -> bool:
        """Learn if it is time to. Returns whether the agent can be saved now: no work is half done."""
        learner, settings = self.model("learn"), self.settings
        so_far = {NUM_ENV_STEPS_SAMPLED_LIFETIME: self._steps}
        if isinstance(settings, PpoSettings):
            if len(self._rollout) < settings.train_batch_size:
                return False
            learner.update(
                episodes=self._rollout.episodes(),
                num_epochs=settings.num_epochs,
                minibatch_size=settings.minibatch_size,
                shuffle_batch_per_epoch=True,
                timesteps=so_far,
            )
            self._rollout.clear()
        elif isinstance(settings, SacSettings) and self._steps >= settings.learning_starts:
            for _ in range(settings.gradient_steps):
                # Torch's generator is in place of the global one, as for all else in the library.
                places = torch.randint(self._replay.length, (settings.train_batch_size,)).numpy()
                learner.update(batch=self._replay.batch(places), timesteps=so_far)
        return True

    def _choose(self, observations: NDArray[Any], deterministic: bool) -> tuple[NDArray[Any], dict[str, NDArray[Any]]]:
        """An action for each observation as the network gives it, unbounded for PPO's Box, and what it said."""
        module = self.model("act").module[DEFAULT_MODULE_ID]
        if deterministic:
            build, forward = module.get_inference_action_dist_cls(), module.forward_inference
        else:
            build, forward = module.get_exploration_action_dist_cls(), module.forward_exploration
        batch = {Columns.OBS: torch.as_tensor(observations)}
        with torch.no_grad():
            inputs = forward(batch)[Columns.ACTION_DIST_INPUTS]
            distribution = build.from_logits(inputs)
            if deterministic:
                return distribution.to_deterministic().sample().numpy(), {}
            action = distribution.sample()
            log_likelihood = distribution.logp(action)
        chosen = {Columns.ACTION_DIST_INPUTS: inputs.numpy(), Columns.ACTION_LOGP: log_likelihood.numpy()}
        return action.numpy(), chosen

    def _to_env(self, raw: NDArray[Any]) -> NDArray[Any]:
        space = self.action_space
        bounded = np.clip(raw, space.low, space.high) if isinstance(space, spaces.Box) else raw
        return np.asarray(bounded, dtype=space.dtype)


def _of(chosen: Mapping[str, NDArray[Any]], lane: int) -> dict[str, Any]:
    return {key: values[lane] for key, values in chosen.items()}
