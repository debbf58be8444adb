"""The RLS3 loop as a Gymnasium environment: one stage, one scheduler, and the VLM that learns inside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np

from rls3_gym.backends.base import load_backend
from rls3_gym.envs.arguments import (
    RENDER_MODES,
    check_held_out,
    check_image_size,
    check_name,
    check_render_mode,
    check_rules,
    find_families,
    find_vlm,
)
from rls3_gym.envs.episode import Episode
from rls3_gym.envs.observations import Observer
from rls3_gym.envs.painter import Painter, Window, describe_step
from rls3_gym.envs.views import make_view
from rls3_gym.evalsets.loader import held_out_keys, load_set
from rls3_gym.loop.rewards import DEFAULT_EXTRINSIC, make_extrinsic, make_intrinsic
from rls3_gym.loop.scheduler import EarlyStopping, EpisodeOutcome, Schedule, Scheduler
from rls3_gym.scene.arrangement import Reason
from rls3_gym.stage import FeasibilityRules, Outcome, Stage
from rls3_gym.vlm.base import VLM

_NO_SUCH_EDIT = Outcome(None, Reason.NO_PLACE, None)


class RLS3SceneEnv(gymnasium.Env[Any, Any]):
    """An agent arranges objects in rooms so that a vision-language model learns from the pictures.

    Each step puts one of the three active objects somewhere (or swaps it for a kind from the container). A feasible
    edit gives one captioned picture, a *sample*. At the end of an episode of `T` steps the VLM is asked about the
    episode's samples; what it gets wrong pays the agent. After `E` episodes the VLM is fine-tuned on a random share
    `eta` of their samples, inside the step that ends the E-th episode; then the loop goes on with the updated VLM.

    ## Action space
    | `action_view` | space | meaning |
    |---|---|---|
    | `box` | Box(-1, 1, (5,), float32) | slot, kind, x, y, level |
    | `multi_discrete` | MultiDiscrete([3, kinds - 2, 12, 12, 4]) | slot, kind, x cell, y cell, level |
    | `relation` | Discrete(78) | slot x relation cell: put the slot in that relation to another object |

    Kinds are counted among those not standing in another slot; x and y span the floor plan of the current room's stage,
    left to right and front to back; level is the height the object is let go from (0 to 1.6 m): it comes to rest on the
    highest surface at that place which is not higher and has room. Yaw (and what a view
    leaves open) is drawn by the environment's generator. See `rls3_gym.envs.views`.

    ## Observation space
    | `observation` | space | meaning |
    |---|---|---|
    | `state` | Box(-10, 10, (n,), float32) | room, surfaces, objects, step, the VLM's running errors; slices in `rls3_gym.envs.observations.StateView` |
    | `pixels` | Box(0, 255, (image_size, image_size, 3), uint8) | the camera picture of the scene as it stands |
    | `dict` | Dict(state, pixels) | both |

    ## Reward
    intrinsic + extrinsic; both are in `info`. Intrinsic: `intrinsic_feasible` or `intrinsic_infeasible` each step.
    Extrinsic (`rls3_gym.loop.rewards`): `cell_error` (default), `cell_error_unweighted`, `sample_error`, `reducible_error` and
    `learning_progress` are paid at the step; `episode_error`, the paper's, at the episode's last step.

    ## Episode end
    `truncated` after `T` steps; never `terminated`. `reset(seed=s)` starts a new experiment: the VLM as it was given,
    an empty batch, all counters zero. `reset()` starts the next episode, in the next room family, and keeps the learning
    VLM; an unfinished episode is dropped: its samples count as generated, but do not train.

    ## Info (the same keys at every step and at reset)
    | key | value |
    |---|---|
    | `n_generated`, `n_trained`, `n_steps` | valid samples, trained samples, steps of this experiment |
    | `n_episodes`, `round` | episodes ended, fine-tunings done (`episode` is a key that gymnasium and SB3 own) |
    | `feasible`, `reason` | whether the step gave a sample; else why not (a `Reason`'s value), otherwise "" |
    | `reasons` | infeasible steps of this experiment by reason |
    | `intrinsic`, `extrinsic` | the two parts of the reward |
    | `sample`, `caption` | the sample (None) and its caption ("") |
    | `correct`, `margin`, `hardest_negative` | the VLM's verdict on the sample; None until it has been asked |
    | `feedback` | at the episode's last step: `accuracy` (strict), `pairwise` (None without samples), `n`, and lists over the episode's samples: `correct`, `margin`, `hardest_negative`; else None |
    | `finetune` | the `FineTuneReport` as a dictionary on the step that ended a round; else None |
    | `vlm_digest` | names the VLM's weights after this step |
    | `early_stopped` | whether early stopping has ended the fine-tuning |

    The VLM is asked once an episode, all samples together (only `sample_error` needs each verdict at its step).

    ## Arguments
    | argument | default | meaning |
    |---|---|---|
    | `vlm` | `"tiny"` | registered name, YAML file or model folder; or a `VLM`, which is then taught in place |
    | `backend` | `"embedded"` | world that shows the scenes: registered name or YAML file |
    | `families` | all | room families, cycled over the episodes |
    | `steps_per_episode` | 32 | steps of an episode (the paper's T) |
    | `episodes_per_round` | 96 | episodes of a round (the paper's E); about 400 trained samples with random actions |
    | `train_fraction` | 0.5 | the paper's eta: share of an episode's samples that trains, in (0, 1]; see `rls3_gym.loop.scheduler.Schedule` |
    | `extrinsic` | `"cell_error"` | reward for what the VLM gets wrong |
    | `intrinsic_feasible` | 0.0 | reward of a step that gives a sample |
    | `intrinsic_infeasible` | -0.1 | reward of one that gives none: a number, or numbers by reason |
    | `action_view`, `observation` | `"box"`, `"state"` | see above |
    | `image_size` | 64 | side of the samples' pictures, pixels |
    | `finetune` | True | off: the VLM never changes; build evaluation environments that way |
    | `finetune_settings` | None | settings that differ from the VLM's own (`rls3_gym.vlm.settings`) |
    | `rules` | `FeasibilityRules()` | what a sample must meet beyond geometry |
    | `early_stopping` | None | rounds without a better validation score until fine-tuning ends for good |
    | `held_out` | the evaluation sets' | scene keys that must not train; such edits are infeasible (`held_out`) |
    | `render_mode` | None | `"rgb_array"`: 320-pixel picture with caption and verdict; `"human"`: a window (pygame) |

    ## Ids
    `RLS3Scene-v0`, `RLS3SceneFrozen-v0` (`finetune=False`), `RLS3SceneMultiDiscrete-v0`, `RLS3SceneRelation-v0`,
    `RLS3ScenePixels-v0`.

    Do not put several learning environments into `SyncVectorEnv` or `AsyncVectorEnv`: each would teach a VLM of its own,
    and none of them would be the one that all samples taught. Frozen ones are fine.

    ## Versions
    - v0: first version.
    """  # noqa: E501

    metadata: dict[str, Any] = {"render_modes": list(RENDER_MODES), "render_fps": 8}

    def __init__(
        self,
        *,
        vlm: str | VLM = "tiny",
        backend: str = "embedded",
        families: Sequence[str] | None = None,
        steps_per_episode: int = 32,
        episodes_per_round: int = 96,
        train_fraction: float = 0.5,
        extrinsic: str = DEFAULT_EXTRINSIC,
        intrinsic_feasible: float = 0.0,
        intrinsic_infeasible: float | Mapping[str, float] = -0.1,
        action_view: str = "box",
        observation: str = "state",
        image_size: int = 64,
        finetune: bool = True,
        finetune_settings: Mapping[str, Any] | None = None,
        rules: FeasibilityRules | None = None,
        early_stopping: int | None = None,
        held_out: frozenset[str] | None = None,
        render_mode: str | None = None,
    ) -> None:
        """See the class. Raises `UserError`, one line, for an argument that is unknown or out of range."""
        schedule = Schedule(steps_per_episode, episodes_per_round, train_fraction, finetune)
        image_size = check_image_size(image_size)
        self.render_mode = check_render_mode(render_mode)
        self.intrinsic = make_intrinsic(intrinsic_feasible, intrinsic_infeasible)
        self.extrinsic = make_extrinsic(
            check_name("extrinsic", extrinsic), steps_per_episode, lambda: load_set("guide", image_size).samples
        )
        held_out = held_out_keys() if held_out is None else check_held_out(held_out)
        self.stage = Stage(
            load_backend(check_name("backend", backend), image_size),
            families=find_families(families),
            rules=check_rules(rules),
            held_out=held_out,
        )
        self.action_view = make_view(check_name("action_view", action_view), self.stage.kinds)
        self.observer = Observer(check_name("observation", observation), self.stage.kinds, image_size)
        self.action_space = self.action_view.space
        self.observation_space = self.observer.space
        stopping = None
        if early_stopping is not None:
            stopping = EarlyStopping(load_set("validation", image_size).samples, early_stopping)
        self.scheduler = Scheduler(
            find_vlm(vlm, finetune_settings), schedule, held_out=held_out, early_stopping=stopping
        )
        self._begun = False
        self._episode = Episode()
        self._reasons: dict[str, int] = {}
        self._backend_name = backend
        self._painter: Painter | None = None
        self._window: Window | None = None

    # ------------------------------------------------------------------ the loop

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """With a seed: a new experiment. Without: the next episode. `options` are not used."""
        super().reset(seed=seed)
        if seed is not None or not self._begun:
            self._begin_experiment()
        self._episode = Episode()
        self.stage.set_scene(self.np_random)
        self._show()
        return self.observation(), self._info(0.0, 0.0, None)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One step of the loop: decode, place, capture, caption, pay; at the episode's end ask the VLM, and after
        E episodes teach it."""
        episode, scheduler = self._episode, self.scheduler
        if not self._begun or episode.step >= scheduler.schedule.steps_per_episode:
            raise gymnasium.error.ResetNeeded("the episode is over (or none was begun): call reset() before step()")
        decoded = self.action_view.decode(action, self.stage, self.np_random)
        outcome = _NO_SUCH_EDIT if decoded is None else self.stage.try_edit(decoded[0], self.np_random, decoded[1])
        scheduler.count_step(outcome.sample)

        intrinsic, extrinsic, verdict = self.intrinsic(outcome.reason), 0.0, None
        if outcome.reason is not None:
            self._reasons[outcome.reason.value] = self._reasons.get(outcome.reason.value, 0) + 1
        if outcome.sample is not None:
            verdict = scheduler.score(outcome.sample) if self.extrinsic.immediate else None
            extrinsic += self.extrinsic.step_reward(outcome.sample, verdict)
        episode.add(outcome, verdict)

        ended: EpisodeOutcome | None = None
        if episode.step == scheduler.schedule.steps_per_episode:
            ended = scheduler.end_episode(episode.samples, episode.scored)
            episode.end(ended.feedback)
            extrinsic += self.extrinsic.episode_reward(episode.samples, ended.feedback)
            if ended.report is not None:
                self.extrinsic.end_round(scheduler.vlm, ended.trained)
        self._show()
        info = self._info(intrinsic, extrinsic, ended)
        return self.observation(), float(intrinsic + extrinsic), False, ended is not None, info

    def observation(self) -> Any:
        """What the agent sees now, e.g. to go on after `load_state`."""
        return self.observer.observe(self.stage, self.scheduler, self._episode.step)

    def _begin_experiment(self) -> None:
        # The scheduler draws from its own generator: what trains must not depend on how the stage draws.
        scheduler_seed, reward_seed = (int(v) for v in self.np_random.integers(2**63, size=2))
        self.scheduler.begin_experiment(np.random.default_rng(scheduler_seed))
        self.extrinsic.begin_experiment(self.scheduler.vlm, reward_seed)
        old = self.stage
        self.stage = Stage(old.backend, families=old.families, rules=old.rules, held_out=old.held_out)  # from scene 0
        self._reasons = {}
        self._begun = True

    def _info(self, intrinsic: float, extrinsic: float, ended: EpisodeOutcome | None) -> dict[str, Any]:
        scheduler = self.scheduler
        report = None if ended is None else ended.report
        return {
            "n_generated": scheduler.n_generated,
            "n_trained": scheduler.n_trained,
            "n_steps": scheduler.n_steps,
            "n_episodes": scheduler.episode,
            "round": scheduler.round,
            "reasons": dict(self._reasons),
            "intrinsic": float(intrinsic),
            "extrinsic": float(extrinsic),
            "feedback": None if ended is None else self._episode.summary(ended.feedback),
            "finetune": None if report is None else report.as_dict(),
            "vlm_digest": scheduler.vlm_digest,
            "early_stopped": scheduler.early_stopped,
        } | self._episode.last_step()

    # ------------------------------------------------------------------ state

    def state(self) -> dict[str, Any]:
        """Everything that decides what happens next, at any step: JSON-ready values, numpy arrays and tensors.

        Raises `gymnasium.error.ResetNeeded` before the first `reset`.
        """
        if not self._begun:
            raise gymnasium.error.ResetNeeded("there is no state before the first reset()")
        return {
            "np_random": self.np_random.bit_generator.state,
            "stage": self.stage.state(),
            "scheduler": self.scheduler.state(),
            "extrinsic": self.extrinsic.state(),
            "reasons": dict(self._reasons),
            "episode": self._episode.state(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`, in an environment made with the same arguments.

        Gymnasium's wrappers want a `reset()` before the first `step`: call that first, then this on `unwrapped`.
        """
        self.np_random.bit_generator.state = state["np_random"]
        self.stage.load_state(state["stage"])
        self.scheduler.load_state(state["scheduler"])
        self.extrinsic.load_state(state["extrinsic"], self.scheduler.vlm)
        self._reasons = {str(reason): int(count) for reason, count in state["reasons"].items()}
        self._episode = Episode.from_state(state["episode"])
        self._begun = True

    # ------------------------------------------------------------------ rendering

    def render(self) -> Any:
        """`rgb_array`: (392, 320, 3) uint8. `human`: shows it in a window, returns None."""
        if self.render_mode is None:
            gymnasium.logger.warn("render() does nothing without a render_mode; make the environment with one")
            return None
        if self._painter is None:
            self._painter = Painter(self._backend_name)
        episode, arrangement = self._episode, self.stage.arrangement
        verdict = episode.verdict
        if verdict is None and episode.sample is not None:
            # Asked for the picture only: rewards and counts must not depend on who is watching.
            verdict = self.scheduler.vlm.evaluate([episode.sample])
        text = describe_step(arrangement.layout.key, episode.sample, episode.reason, verdict)
        picture = self._painter.draw(arrangement, text)
        if self.render_mode == "rgb_array":
            return picture
        if self._window is None:
            self._window = Window("RLS3 scene", int(self.metadata["render_fps"]))
        self._window.show(picture)
        return None

    def _show(self) -> None:
        if self.render_mode == "human":
            self.render()

    def close(self) -> None:
        """Free the backend and the window. Closing twice is fine."""
        self.stage.backend.close()
        if self._painter is not None:
            self._painter.close()
            self._painter = None
        if self._window is not None:
            self._window.close()
            self._window = None
