"""The agents of a `RLS3SceneParallelEnv` as lanes of a vector environment: independent learners that share a policy.

A row of observations, actions and rewards is one agent's. What learns in a Gymnasium vector environment can learn here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from rls3_gym.envs.parallel_env import AGENTS, RLS3SceneParallelEnv
from rls3_gym.envs.vector_env import batched_infos, by_lane, stacked
from rls3_gym.loop.learning_loop import LearningLoop
from rls3_gym.loop.scheduler import Scheduler


class AgentsAsLanes(VectorEnv[Any, Any, NDArray[Any]]):
    """`num_envs` is the number of agents; autoreset is SAME_STEP, as in `RLS3SceneVectorEnv`."""

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "autoreset_mode": AutoresetMode.SAME_STEP}

    def __init__(self, env: RLS3SceneParallelEnv) -> None:
        self.env = env
        self.num_envs = len(AGENTS)
        self.render_mode = env.render_mode
        self.single_observation_space = env.observation_space(AGENTS[0])
        self.single_action_space = env.action_space(AGENTS[0])
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self.infos: list[dict[str, Any]] = []
        """What the last step said to each agent."""
        self.begun: dict[int, dict[str, Any]] = {}
        """What the last reset said to each agent, where the last step or reset began an episode."""

    @property
    def loop(self) -> LearningLoop:
        """The learning loop, of one lane."""
        return self.env.loop

    @property
    def scheduler(self) -> Scheduler:
        """Counts, batch and VLM."""
        return self.env.scheduler

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """With a seed (of several, the first): a new experiment. Without: the next episode."""
        seen, infos = self.env.reset(seed[0] if isinstance(seed, list) else seed, options)
        self.begun = dict(enumerate(infos.values()))
        return self._stacked(seen), batched_infos(self.begun, self.num_envs)

    def step(
        self, actions: Any
    ) -> tuple[Any, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """One step of all agents; when the episode ends, the next one begins.

        Raises `UserError` for another number of actions, or one that is not in the space; nothing has happened then.
        """
        chosen = by_lane(actions, self.num_envs)
        seen, rewards, terminated, truncated, told = self.env.step(dict(zip(AGENTS, chosen.values(), strict=True)))
        self.infos, self.begun = list(told.values()), {}
        infos: dict[str, Any] = batched_infos(dict(enumerate(self.infos)), self.num_envs)
        if not self.env.agents:
            final = np.full(self.num_envs, None, object)
            for number, last in enumerate(seen.values()):
                final[number] = last
            over = np.ones(self.num_envs, np.bool_)
            old = infos
            seen, begun = self.env.reset()
            self.begun = dict(enumerate(begun.values()))
            infos = batched_infos(self.begun, self.num_envs)
            infos |= {"final_obs": final, "_final_obs": over, "final_info": old, "_final_info": over.copy()}
        results = (np.array(list(part.values())) for part in (rewards, terminated, truncated))
        return self._stacked(seen), *results, infos

    def action_masks(self) -> NDArray[np.bool_]:
        """(num_envs, n); see `RLS3SceneParallelEnv.action_masks`."""
        return self.env.action_masks()

    def observation(self) -> Any:
        """What the agents see now, e.g. to continue after `load_state`."""
        return self._stacked(self.env.observations())

    def state(self) -> dict[str, Any]:
        """Everything that decides what happens next; see `RLS3SceneEnv.state`."""
        return self.env.loop_state()

    def load_state(self, state: dict[str, Any]) -> None:
        """The inverse of `state`."""
        self.env.load_state(state)

    def close_extras(self, **kwargs: Any) -> None:
        self.env.close()

    def _stacked(self, seen: dict[str, Any]) -> Any:
        return stacked(self.single_observation_space, list(seen.values()))
