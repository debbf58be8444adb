"""Many stages, one VLM: the RLS3 loop as a Gymnasium vector environment."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array
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
from rls3_gym.envs.views import VIEWS, ActionView
from rls3_gym.loop.learning_loop import LaneStep, LearningLoop
from rls3_gym.loop.scheduler import Scheduler
from rls3_gym.loop.worker_lanes import Workers
from rls3_gym.loop.worker_processes import StartMethod
from rls3_gym.scene.arrangement import Arrangement
from rls3_gym.scene.catalog import load_catalog
from rls3_gym.vlm.base import VLM
from rls3_registry.errors import UserError, shown, unknown

START_METHODS = ("spawn", "forkserver")


class RLS3SceneVectorEnv(VectorEnv[Any, Any, NDArray[Any]]):
    """`num_envs` lanes that teach one VLM: `gymnasium.make_vec("rls3_gym:RLS3Scene-v0", num_envs=8)`.

    A lane is a stage with its episode. What a lane does and shows is what `RLS3SceneEnv` does and shows, and all its
    arguments and ids are taken; a vector environment of one lane gives what the single one gives. What the lanes share
    is the VLM, the batch, the rewards' memory and all counts.

    ## One step
    Every lane carries out its action. Then the lanes count one after the other, by number. Lanes whose episodes end
    are asked about in one VLM call (with `sample_error` or `influence`, all lanes at every step); the share of each
    that trains joins the batch in turn, and where that completes a round the VLM is taught before the next lane is
    counted. Each lane's `info` has the counts as they were after its turn, so the last lane's are the totals.

    ## Autoreset
    `AutoresetMode.SAME_STEP`: where an episode ends, the next one begins in the same step. The observation is the new
    episode's first; the last one of the old is in `infos["final_obs"]`, its info in `infos["final_info"]`.

    ## Seeding
    `reset(seed=s)` starts a new experiment with the seeds s, s + 1, ... on the lanes, `reset(seed=[...])` with those
    given. `reset()` begins the next episode on all lanes, `reset(options={"reset_mask": mask})` on some. The option
    `arrangement` is the scene to begin with on each of them. Lane n begins with the n-th room family.

    ## Workers
    | `workers` | where the stages run |
    |---|---|
    | 0 | in this process, one after the other (default) |
    | n | spread over n processes, started as `worker_start` says: `spawn` (default) or `forkserver` |
    | `"ray"` | actors in a Ray cluster, one for each lane; see docs/ray.md |

    Pictures come through shared memory, from actors in messages, and torch is never loaded in a worker. The same seed
    gives the same run with any workers. A worker that dies is reported with its lanes, in a Gymnasium warning, and
    another one goes on where they stood: nothing is lost. `close()` ends all workers, and so does the end of the
    program, whatever its cause. The script that is running is not imported by the workers, so it needs no `if __name__
    == "__main__"`.

    ## For adapters
    `act(actions)` and `begin(lanes)` step and reset some of the lanes; `taken` is what the last step gave on each.

    ## Versions
    - v0: first version.
    """

    metadata: dict[str, Any] = {
        "render_modes": ["rgb_array"],
        "render_fps": 8,
        "autoreset_mode": AutoresetMode.SAME_STEP,
    }

    def __init__(
        self,
        num_envs: int = 1,
        *,
        vlm: str | VLM = "tiny",
        finetune_settings: Mapping[str, Any] | None = None,
        held_out: Collection[str] | None = None,
        render_mode: str | None = None,
        workers: Workers = 0,
        worker_start: StartMethod = "spawn",
        **settings: Any,
    ) -> None:
        """See the class and `RLS3SceneEnv`.

        Raises `UserError`, one line, for an argument that is unknown or out of range.
        """
        self.num_envs = _whole("num_envs", num_envs, 1)
        workers = workers if workers == "ray" else _whole("workers", workers, 0, ", or 'ray'")
        if worker_start not in START_METHODS:
            raise unknown("start method", str(worker_start), START_METHODS, "worker_start")
        if workers == "ray" and worker_start != START_METHODS[0]:
            raise UserError("worker_start goes with a number of workers: Ray starts its own processes")
        if check_render_mode(render_mode) == "human":
            raise UserError("render_mode: a vector environment has 'rgb_array' only")
        self.settings = environment_settings(settings)
        compute_alone_after_a_fork()
        self.render_mode = render_mode
        view, kinds = VIEWS[self.settings.action_view], [kind.name for kind in load_catalog().training]
        self.action_view: ActionView = view(kinds, self.settings)
        self.observer = Observer(self.settings, kinds)
        self.single_action_space = self.action_view.space
        self.single_observation_space = self.observer.space
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.taken: dict[int, LaneStep] = {}
        """What the last step gave, by lane."""
        self.begun: dict[int, dict[str, Any]] = {}
        """The infos of the episodes that the last step or reset began, by lane."""
        self.loop = LearningLoop(
            find_vlm(vlm, finetune_settings),
            self.settings,
            lanes=self.num_envs,
            held_out=check_held_out(held_out),
            offer=view.offer,
            decoder=self.action_view,
            workers=workers,
            worker_start=worker_start,
        )

    @property
    def infos(self) -> list[dict[str, Any]]:
        """What the last step said of each lane; of one whose episode ended, the last of it."""
        return [step.info for step in self.taken.values()]

    @property
    def scheduler(self) -> Scheduler:
        """Counts, batch and VLM."""
        return self.loop.scheduler

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """With seeds: a new experiment. Without: the next episode.

        Args:
            seed: One for all lanes, or one for each.
            options: `arrangement`: the scene to begin with. `reset_mask`: (num_envs,) bool, the lanes to reset.

        Raises:
            UserError: An option is unknown, or the arrangement is not feasible.
        """
        options = dict(options or {})
        mask = _mask(options.pop("reset_mask", None), self.num_envs)
        arrangement = arrangement_option(options)
        self.loop.check_scene(arrangement)
        seeds = self._seeds(seed)
        if seeds is not None or not self.loop.begun:
            if not mask.all():
                raise UserError("reset: a new experiment begins on all lanes; give no reset_mask with a seed")
            given: Sequence[int | None] = [None] * self.num_envs if seeds is None else seeds
            self.loop.begin_experiment([seeding.np_random(s)[0] for s in given])
        chosen = [int(n) for n in np.flatnonzero(mask)]
        self.begun = self.begin(chosen, arrangement)
        return self.observation(), batched_infos(self.begun, self.num_envs)

    def step(
        self, actions: Any
    ) -> tuple[Any, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """One step on every lane; where an episode ends, the next one begins.

        Args:
            actions: An element of `action_space`, or a sequence of one action for each lane.

        Raises:
            UserError: An action is not in the space; no lane has moved then.
        """
        taken = self.act(by_lane(actions, self.num_envs))
        ended = [number for number, step in taken.items() if step.ended]
        final = {number: self.observe(number) for number in ended}
        self.begun = self.begin(ended) if ended else {}
        infos = batched_infos(
            {number: self.begun.get(number, step.info) for number, step in taken.items()}, self.num_envs
        )
        if ended:
            observations, over = np.full(self.num_envs, None, object), np.isin(np.arange(self.num_envs), ended)
            for number in ended:
                observations[number] = final[number]
            old = batched_infos({number: taken[number].info for number in ended}, self.num_envs)
            infos |= {"final_obs": observations, "_final_obs": over, "final_info": old, "_final_info": over.copy()}
        rewards = np.array([step.reward for step in taken.values()], np.float64)
        truncated = np.array([step.ended for step in taken.values()], np.bool_)
        return self.observation(), rewards, np.zeros(self.num_envs, np.bool_), truncated, infos

    def act(self, actions: Mapping[int, Any]) -> dict[int, LaneStep]:
        """One step on some lanes, without autoreset: what it gave on each.

        Raises `UserError` for an action that is not in the space, and `gymnasium.error.ResetNeeded` for a lane whose
        episode is over; no lane has moved then.
        """
        self.loop.check_begun()
        for action in actions.values():
            self.action_view.check(action)
        self.taken = self.loop.step(actions)
        return self.taken

    def begin(self, lanes: Sequence[int], arrangement: Arrangement | None = None) -> dict[int, dict[str, Any]]:
        """The next episode on some lanes: the `info` of each."""
        return self.loop.begin_episodes(dict.fromkeys(lanes, arrangement))

    def observe(self, lane: int) -> Any:
        """What is seen of a lane now."""
        return self.observer.observe(self.loop.lanes[lane], self.scheduler)

    def observation(self) -> Any:
        """What is seen of all lanes now, e.g. to continue after `load_state`."""
        seen = [self.observe(number) for number in range(self.num_envs)]
        return stacked(self.single_observation_space, seen)

    def action_masks(self) -> NDArray[np.bool_]:
        """(num_envs, n) which of the actions of a `Discrete` space are known to be feasible before acting. Raises
        `UserError` in the other action views."""
        return np.stack([self.action_view.masks(lane) for lane in self.loop.lanes])

    def state(self) -> dict[str, Any]:
        """Everything that decides what happens next, of all lanes and the VLM; see `RLS3SceneEnv.state`. It can be
        loaded with any number of workers."""
        return self.loop.state()

    def load_state(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`, in an environment made with the same arguments; `workers` may differ."""
        self.loop.load_state(state)

    def render(self) -> tuple[NDArray[np.uint8], ...] | None:
        """(392, 320, 3) uint8 for each lane: its picture with caption and verdict; see `RLS3SceneEnv`."""
        if self.render_mode is None:
            gymnasium.logger.warn("render() does nothing without a render_mode; make the environment with one")
            return None
        return tuple(draw_lane(self.loop, number) for number in range(self.num_envs))

    def close_extras(self, **kwargs: Any) -> None:
        """Free the backends and end the workers."""
        self.loop.close()

    def _seeds(self, seed: int | Sequence[int | None] | None) -> list[int] | None:
        if seed is None:
            return None
        if isinstance(seed, int | np.integer):
            return [int(seed) + number for number in range(self.num_envs)]
        seeds = list(seed)
        given = [int(s) for s in seeds if s is not None]
        if len(seeds) != self.num_envs or (given and len(given) < self.num_envs):
            raise UserError(f"reset: give one seed, or {self.num_envs}, one for each lane, not {seeds}")
        return given or None


def by_lane(actions: Any, lanes: int) -> dict[int, Any]:
    """An action for each lane. Raises `UserError` for another number of them."""
    try:
        if len(actions) != lanes:
            raise UserError(f"step: {len(actions)} actions for {lanes} lanes")
        return {number: actions[number] for number in range(lanes)}
    except (TypeError, KeyError, IndexError) as error:
        raise UserError(f"step: needs an action for each of {lanes} lanes, not {shown(actions)}") from error


def stacked(space: gymnasium.Space[Any], seen: Sequence[Any]) -> Any:
    """Observations of one space as an element of the batched space, in new arrays."""
    empty: Any = create_empty_array(space, len(seen))
    return concatenate(space, seen, empty)


def batched_infos(infos: Mapping[int, Mapping[str, Any]], lanes: int) -> dict[str, Any]:
    """The infos of some lanes, by lane, in Gymnasium's form: `key` has a row for each lane, `_key` says whose count."""
    numbers = list(infos)
    if not numbers:
        return {}
    there = np.zeros(lanes, np.bool_)
    there[numbers] = True
    batched: dict[str, Any] = {}
    for key, value in infos[numbers[0]].items():
        values = [info[key] for info in infos.values()]
        if isinstance(value, Mapping):
            batched[key] = batched_infos(dict(zip(numbers, values, strict=True)), lanes)
        else:
            rows = np.array(values, object if isinstance(value, str) else None)
            if len(numbers) == lanes:
                batched[key] = rows
            else:
                batched[key] = (
                    np.full(lanes, "", object)
                    if rows.dtype == object
                    else np.zeros((lanes, *rows.shape[1:]), rows.dtype)
                )
                batched[key][numbers] = rows
        batched[f"_{key}"] = there.copy()
    return batched


def _whole(name: str, value: Any, least: int, otherwise: str = "") -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise UserError(f"{name} should be a whole number, at least {least}{otherwise}, not {value!r}")
    return int(value)


def _mask(given: Any, lanes: int) -> NDArray[np.bool_]:
    mask = np.ones(lanes, np.bool_) if given is None else np.asarray(given)
    if mask.shape != (lanes,) or mask.dtype != np.bool_:
        raise UserError(f"reset: reset_mask should be {lanes} truth values, not {given!r}")
    return mask
