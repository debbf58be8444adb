"""The RLS3 loop for several agents: a PettingZoo environment with one agent per active object."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal

import numpy as np
from gymnasium import spaces
from gymnasium.utils import seeding
from numpy.typing import NDArray

from rls3_gym._compat.torch_fork import compute_alone_after_a_fork
from rls3_gym.envs.observations import Observer
from rls3_gym.envs.painter import draw_lane
from rls3_gym.envs.settings import (
    arrangement_option,
    check_held_out,
    check_render_mode,
    environment_settings,
    find_vlm,
)
from rls3_gym.envs.slot_views import SlotView, show
from rls3_gym.loop.learning_loop import LaneStep, LearningLoop
from rls3_gym.loop.scheduler import Scheduler
from rls3_gym.scene.arrangement import SLOTS
from rls3_gym.scene.catalog import load_catalog
from rls3_gym.vlm.base import VLM
from rls3_registry.errors import UserError, shown, unknown

try:
    from pettingzoo import AECEnv, ParallelEnv
    from pettingzoo.utils import parallel_to_aec
except ImportError as error:
    raise UserError("several agents need PettingZoo: pip install 'rls3_gym[pettingzoo]'") from error

PAYS = ("per_agent", "shared")
AGENTS = tuple(f"object_{slot}" for slot in range(SLOTS))


class RLS3SceneParallelEnv(ParallelEnv[str, Any, Any]):  # type: ignore[misc]  # PettingZoo is untyped to mypy
    """Three agents, `object_0` to `object_2`, each of which moves and exchanges the object in its slot:
    `rls3_gym.parallel_env()`.

    It is the learning loop of `RLS3SceneEnv` with one lane, and takes its arguments.

    ## One step
    All agents choose in the scene as it stands. Their edits are carried out one after the other, each in the scene that
    those before it have left, and each gives a sample, or the reason why there is none: an object may stand by then
    where another was meant to go. Who is first changes from step to step, in turn, over the whole experiment, so that
    each agent is first, second and third equally often. An edit is a step of the learning loop: `n_steps` grows by
    three.

    ## Spaces
    | `action_view` | an agent's actions |
    |---|---|
    | `select` | Discrete(16): one of the proposals for its object |
    | `preference` | Box(-1, 1, (11,)): weights over the features of these proposals |
    | `box` | Box(-1, 1, (4,)): kind, x, y, level; (5,) with `choose_reference` |
    | `multi_discrete` | MultiDiscrete: kind, x cell, y cell, level |
    | `relation` | Discrete(26): the relation of its object to another one; where moving it can't make that, the other is moved |

    Observations are those of `RLS3SceneEnv`, with the proposals or relations for the agent's own object, and with three more values
    at the end of the state: which object is its own (one-hot).

    ## Pay
    | `pay` | an agent's reward |
    |---|---|
    | `per_agent` | the intrinsic reward of its own edit, and the extrinsic reward of every sample of the step that its object takes part in: as the one the caption is about, or as its reference |
    | `shared` | for all agents the same: the mean of the rewards of the three edits |

    What a reward pays for the whole episode, at its last step, all agents get in full, in either case.

    ## Episodes
    `steps_per_episode` and `steps_per_scene` are steps of all agents: an episode of 32 is 96 edits. All agents are
    truncated together. `reset(seed=s)` starts a new experiment, `reset()` the next episode. Each agent's info is that
    of its edit.

    ## Versions
    - v0: first version.
    """  # noqa: E501

    metadata: dict[str, Any] = {
        "name": "RLS3SceneParallel-v0",
        "render_modes": ["rgb_array"],
        "render_fps": 8,
        "is_parallelizable": True,
    }

    def __init__(
        self,
        *,
        vlm: str | VLM = "tiny",
        finetune_settings: Mapping[str, Any] | None = None,
        held_out: Collection[str] | None = None,
        render_mode: str | None = None,
        pay: Literal["per_agent", "shared"] = "per_agent",
        **settings: Any,
    ) -> None:
        """See the class and `RLS3SceneEnv`.

        Raises `UserError`, one line, for an argument that is unknown or out of range.
        """
        if pay not in PAYS:
            raise unknown("pay", str(pay), PAYS, "pay")
        if check_render_mode(render_mode) == "human":
            raise UserError("render_mode: an environment of several agents has 'rgb_array' only")
        self.settings = environment_settings(settings)
        compute_alone_after_a_fork()
        self.render_mode = render_mode
        self.pay = pay
        kinds = [kind.name for kind in load_catalog().training]
        self.action_view = SlotView(kinds, self.settings)
        self._observer = Observer(self.settings, kinds, slots=1)
        self.possible_agents = list(AGENTS)
        self.agents: list[str] = []
        self.observation_spaces = {agent: self._observation_space() for agent in AGENTS}
        self.action_spaces = {agent: self.action_view.space() for agent in AGENTS}
        self.taken: list[LaneStep] = []
        """What the edits of the last step gave, in the order in which they were carried out."""
        per_scene = self.settings.steps_per_scene or (None if self.action_view.offer is None else 10)
        edits = {
            "steps_per_episode": SLOTS * self.settings.steps_per_episode,
            "steps_per_scene": None if per_scene is None else SLOTS * per_scene,
        }
        self.loop = LearningLoop(
            find_vlm(vlm, finetune_settings),
            self.settings.model_copy(update=edits),
            held_out=check_held_out(held_out),
            offer=self.action_view.offer,
        )

    @property
    def scheduler(self) -> Scheduler:
        """Counts, batch and VLM."""
        return self.loop.scheduler

    def observation_space(self, agent: str) -> spaces.Space[Any]:
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Space[Any]:
        return self.action_spaces[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """With a seed: a new experiment. Without: the next episode. The option `arrangement` is the scene to begin
        with; one called `options` is passed over, as PettingZoo's own tests hand it over. Raises `UserError` for any
        other."""
        arrangement = arrangement_option({k: v for k, v in (options or {}).items() if k != "options"})
        self.loop.check_scene(arrangement)
        if seed is not None or not self.loop.begun:
            self.loop.begin_experiment([seeding.np_random(seed)[0]])
        info = self.loop.begin_episode(arrangement=arrangement)
        self.agents = list(AGENTS)
        return self.observations(), {agent: dict(info) for agent in AGENTS}

    def step(
        self, actions: Mapping[str, Any]
    ) -> tuple[dict[str, Any], dict[str, float], dict[str, bool], dict[str, bool], dict[str, dict[str, Any]]]:
        """The edits of all agents, one after the other; see the class.

        Raises `UserError` when an agent has no action, or one that is not in its space; nothing has happened then.
        """
        self.loop.check_begun()
        if not isinstance(actions, Mapping) or set(actions) != set(AGENTS):
            given = list(actions) if isinstance(actions, Mapping) else actions
            raise UserError(f"step: needs an action of each of {', '.join(AGENTS)}, not of {shown(given)}")
        for slot, agent in enumerate(AGENTS):
            self.action_view.check(actions[agent], slot)
        lane, order = self.loop.lane(), self._order()
        edits = {slot: self.action_view.decode(actions[AGENTS[slot]], slot, lane) for slot in order}
        self.taken = []
        for place, slot in enumerate(order):
            show(lane, slot)
            self.taken.append(self.loop.step({0: edits[slot]}, offer=place == SLOTS - 1)[0])
        by_slot = dict(zip(order, self.taken, strict=True))
        over = self.taken[-1].ended
        self.agents = [] if over else list(AGENTS)
        return (
            self.observations(),
            {agent: self._reward(slot, by_slot) for slot, agent in enumerate(AGENTS)},
            dict.fromkeys(AGENTS, False),
            dict.fromkeys(AGENTS, over),
            {agent: by_slot[slot].info for slot, agent in enumerate(AGENTS)},
        )

    def _order(self) -> list[int]:
        """The slots in the order of this step."""
        first = self.scheduler.n_steps // SLOTS
        return [(first + place) % SLOTS for place in range(SLOTS)]

    def _reward(self, slot: int, steps: Mapping[int, LaneStep]) -> float:
        for_episode = sum(step.for_episode for step in steps.values())
        if self.pay == "shared":
            return sum(step.reward - step.for_episode for step in steps.values()) / SLOTS + for_episode
        own = float(steps[slot].info["intrinsic"])
        for step in steps.values():
            if step.sample is not None and slot in (step.sample.slot_a, step.sample.slot_b):
                own += step.info["extrinsic"] - step.for_episode
        return own + for_episode

    def observations(self) -> dict[str, Any]:
        """What each agent sees now, e.g. to continue after `load_state`."""
        return {agent: self._observe(slot) for slot, agent in enumerate(AGENTS)}

    def _observe(self, slot: int) -> Any:
        lane = self.loop.lane()
        show(lane, slot)
        seen, own = self._observer.observe(lane, self.scheduler, slot), np.eye(SLOTS, dtype=np.float32)[slot]
        if self.settings.observation == "pixels":
            return seen
        if self.settings.observation == "state":
            return np.concatenate([seen, own])
        return seen | {"state": np.concatenate([seen["state"], own])}

    def _observation_space(self) -> spaces.Space[Any]:
        """A new observation space of one agent."""
        state, size = self._observer.state.space, self.settings.image_size
        told = spaces.Box(float(state.low[0]), float(state.high[0]), (state.shape[0] + SLOTS,), np.float32)
        pixels = spaces.Box(0, 255, (size, size, 3), np.uint8)
        both: dict[str, spaces.Space[Any]] = {"state": told, "pixels": pixels}
        return spaces.Dict(both) if self.settings.observation == "dict" else both[self.settings.observation]

    def action_masks(self) -> NDArray[np.bool_]:
        """(agents, n) which actions of a `Discrete` space are known to be feasible. Raises `UserError` in the other
        action views."""
        return np.stack([self.action_view.masks(self.loop.lane(), slot) for slot in range(SLOTS)])

    def state(self) -> NDArray[Any]:
        """PettingZoo's global state: what all agents see, one after the other."""
        seen = self.observations().values()
        return np.concatenate(
            [np.ravel(part) for one in seen for part in (one.values() if isinstance(one, dict) else [one])]
        )

    def loop_state(self) -> dict[str, Any]:
        """Everything that decides what happens next; see `RLS3SceneEnv.state`."""
        return self.loop.state()

    def load_state(self, state: Mapping[str, Any]) -> None:
        """The inverse of `loop_state`, in an environment made with the same arguments."""
        self.loop.load_state(state)
        self.agents = list(AGENTS)

    def render(self) -> NDArray[np.uint8] | None:
        """(392, 320, 3) uint8: the scene after the last edit, with its caption and verdict."""
        return None if self.render_mode is None else draw_lane(self.loop, 0)

    def close(self) -> None:
        """Free the backend. Closing twice is fine."""
        self.loop.close()


def aec_env(**arguments: Any) -> AECEnv[str, Any, Any]:
    """The same with agents that act one after the other; nothing happens before all three have chosen."""
    return parallel_to_aec(RLS3SceneParallelEnv(**arguments))
