"""The RLS3 loop as a Gymnasium environment: spaces around a learning loop with one lane."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from rls3_gym._compat.torch_fork import compute_alone_after_a_fork
from rls3_gym.envs.observations import Observer
from rls3_gym.envs.one_vlm import refuse_copies
from rls3_gym.envs.painter import Display
from rls3_gym.envs.settings import (
    RENDER_MODES,
    EnvironmentSettings,
    arrangement_option,
    check_held_out,
    check_render_mode,
    environment_settings,
    find_vlm,
    settings_table,
)
from rls3_gym.envs.views import VIEWS, ActionView
from rls3_gym.loop.learning_loop import LaneStep, LearningLoop
from rls3_gym.loop.scheduler import Scheduler
from rls3_gym.sample import Sample
from rls3_gym.stage import Stage
from rls3_gym.vlm.base import VLM


class RLS3SceneEnv(gymnasium.Env[Any, Any]):
    """An agent arranges objects in rooms so that a vision-language model learns from the pictures.

    Each step puts one of the three active objects somewhere (or swaps it for a kind from the container). A feasible
    edit gives one captioned picture, a *sample*. At the end of an episode of `steps_per_episode` steps the VLM is asked
    about the episode's samples; the agent is paid for what it gets wrong, and a random share `train_fraction` of them
    joins the batch. Once that holds `samples_per_round` samples, the VLM is fine-tuned on it, inside the step that ends
    the episode; then the loop continues with the updated VLM.

    ## Action space
    | `action_view` | space | meaning |
    |---|---|---|
    | `select` | Discrete(16) | the number of a proposal; the proposals are part of the observation |
    | `preference` | Box(-1, 1, (11,), float32) | weights over six terms, three caption lengths, scarcity and error: of the proposals the best-fitting is made |
    | `box` | Box(-1, 1, (5,), float32) | slot, kind, x, y, level: the paper's direct placement; (6,) with `choose_reference` |
    | `multi_discrete` | MultiDiscrete([3, kinds - 2, 12, 12, 4]) | slot, kind, x cell, y cell, level |
    | `relation` | Discrete(78) | slot x relation cell: put the slot in that relation to another object |

    Proposals are edits as uniform `box` actions would give them, drawn for every step, all geometrically feasible. Their
    features are the true geometry, the same that captions describe. In the other views: kinds are counted among those not standing in another slot; x and y span the floor plan of the current room's stage,
    left to right and front to back; level is the height the object is let go from (0 to 1.6 m): it comes to rest on the
    highest surface at that place which is not higher and has room. Yaw (and what a view
    leaves open) is drawn by the environment's generator. See `rls3_gym.envs.views`.

    ## Observation space
    | `observation` | space | meaning |
    |---|---|---|
    | `state` | Box(-10, 10, (n,), float32) | features of the proposals or relations, or, in views that place, room, surfaces and objects; always step, round, the VLM's running errors and what was made of late; slices in `rls3_gym.envs.observations.StateView` |
    | `pixels` | Box(0, 255, (image_size, image_size, 3), uint8) | the camera picture of the scene as it stands |
    | `dict` | Dict(state, pixels) | both |

    ## Reward
    intrinsic + extrinsic; both are in `info`. Intrinsic: `intrinsic_feasible` or `intrinsic_infeasible` each step.
    Extrinsic (`registry/rewards`): `cell_error` (default), `cell_error_unweighted`, `cell_error_short`, `rarity`,
    `sample_error`, `influence`, `reducible_error` and `learning_progress` are paid at the step; `episode_error`, the
    paper's, at the episode's last step. Those that pay by relation cell are centered: a sample earns what it is worth above an ordinary one.

    ## Starting state
    `reset(seed=s)` starts a new experiment: the VLM as it was given, an empty batch, all counters zero. `reset()` starts
    the next episode, in the next room family, and keeps the learning VLM; an unfinished episode is dropped: its samples
    count as generated, but do not train. `reset(options={"arrangement": ...})` starts the episode with a given scene: an
    `Arrangement`, or what its `encode()` gives.

    ## Episode end
    `truncated` after `steps_per_episode` steps; never `terminated`.

    ## Info
    Numbers, strings, arrays, and dictionaries of them: the same keys, types and shapes at every step and at reset, and
    nothing is None or NaN, so that libraries can put an info into a buffer. The sample itself is `env.unwrapped.sample`.

    | key | value |
    |---|---|
    | `n_generated`, `n_trained`, `n_steps` | valid samples, trained samples, steps of this experiment |
    | `n_episodes`, `round` | episodes ended, fine-tunings done (`episode` is a key that gymnasium and SB3 own) |
    | `feasible`, `reason` | whether the step gave a sample; else why not (a `Reason`'s value), otherwise "" |
    | `reasons` | infeasible steps of this experiment by reason, all reasons |
    | `intrinsic`, `extrinsic` | the two parts of the reward |
    | `caption`, `cell`, `slot`, `reference` | of the step's sample: its caption, the number of its relation cell, the slots of the object it is about and of the one that is related to; "" and -1 where there is none |
    | `correct`, `margin`, `hardest_negative` | the VLM's verdict on the sample: 1 right, 0 wrong; in logits; the false caption it likes best. -1, 0.0 and "" until it has been asked |
    | `feedback` | at the episode's last step, on its samples: `n`, how many; `accuracy` (strict), `pairwise`; `correct` (steps_per_episode,) int8 and `margin` (steps_per_episode,) float32, those of the samples first, then -1 and 0; `hardest_negative`, one caption a line. At other steps the same of no samples: `n` is 0 |
    | `finetune` | on the step that ended a round: `n_samples`, `optimizer_steps`, `loss_first`, `loss_last` (nats), `digest_before`, `digest_after`, `seconds`, `rolled_back` (why, or ""). At other steps `n_samples` is 0 |
    | `vlm_digest` | names the VLM's weights after this step |
    | `early_stopped` | whether early stopping has ended the fine-tuning |

    The VLM is asked once an episode, all samples together (`sample_error` and `influence` need each verdict at its
    step).

    ## Arguments
    | argument | default | meaning |
    |---|---|---|
    | `vlm` | `'tiny'` | registered name, YAML file, model folder, or run directory (`RUN`, `RUN@round`); or a `VLM`, which is then taught in place |
    | `finetune_settings` | `None` | settings that differ from the VLM's own (`rls3_gym.vlm.finetune_settings`) |
    | `held_out` | `None` | scene keys that must not train; such edits are infeasible (`held_out`); the evaluation sets' when left out |
    | `render_mode` | `None` | `"rgb_array"`: 320-pixel picture with caption and verdict; `"human"`: a window (pygame) |
    {settings}

    ## Ids
    `RLS3Scene-v0`, `RLS3SceneFrozen-v0` (`finetune=False`), `RLS3SceneSelect-v0`, `RLS3ScenePreference-v0`, `RLS3SceneBox-v0`,
    `RLS3SceneMultiDiscrete-v0`, `RLS3SceneRelation-v0`, `RLS3ScenePixels-v0`.

    `gymnasium.make_vec` of any of them gives `RLS3SceneVectorEnv`: many stages, one VLM. Several learning environments
    in a `SyncVectorEnv`, an `AsyncVectorEnv` or another library's vector wrapper are an error: each would teach a VLM of
    its own, and none of them would be the one that all samples taught. Frozen ones are fine.

    ## Versions
    - v0: first version.
    """  # noqa: E501

    metadata: dict[str, Any] = {"render_modes": list(RENDER_MODES), "render_fps": 8}

    def __init__(
        self,
        *,
        vlm: str | VLM = "tiny",
        finetune_settings: Mapping[str, Any] | None = None,
        held_out: Collection[str] | None = None,
        render_mode: str | None = None,
        **settings: Any,
    ) -> None:
        """See the class; `settings` are the fields of `EnvironmentSettings`.

        Raises `UserError`, one line, for an argument that is unknown or out of range.
        """
        self.settings = environment_settings(settings)
        compute_alone_after_a_fork()
        if self.settings.finetune:
            refuse_copies(self)
        self.render_mode = check_render_mode(render_mode)
        view = VIEWS[self.settings.action_view]
        self.loop = LearningLoop(
            find_vlm(vlm, finetune_settings), self.settings, held_out=check_held_out(held_out), offer=view.offer
        )
        self.action_view: ActionView = view(self.stage.kinds, self.settings)
        self.observer = Observer(self.settings, self.stage.kinds)
        self.action_space = self.action_view.space
        self.observation_space = self.observer.space
        self.taken: LaneStep | None = None
        """What the last step gave."""
        self._display = Display(self.render_mode, int(self.metadata["render_fps"]))

    def __setstate__(self, state: dict[str, Any]) -> None:
        """A copy or a pickle is one more environment."""
        self.__dict__.update(state)
        if self.settings.finetune:
            refuse_copies(self)

    @property
    def stage(self) -> Stage:
        """The one stage."""
        return self.loop.lane().stage

    @property
    def sample(self) -> Sample | None:
        """What the last step made; None where it made none, and after a reset."""
        return self.loop.lanes[0].episode.sample

    @property
    def scheduler(self) -> Scheduler:
        """Counts, batch and VLM."""
        return self.loop.scheduler

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """With a seed: a new experiment. Without: the next episode.

        Args:
            seed: Fixes everything that is drawn in the experiment.
            options: `arrangement`: the scene to begin with, instead of a random one.

        Raises:
            UserError: An option is unknown, or the arrangement is not feasible.
        """
        arrangement = arrangement_option(options or {})
        self.loop.check_scene(arrangement)
        super().reset(seed=seed)
        if seed is not None or not self.loop.begun:
            self.loop.begin_experiment([self.np_random])
        info = self.loop.begin_episode(arrangement=arrangement)
        self._display.follow(self.loop)
        return self.observation(), info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One step of the loop: decode, place, capture, caption, pay; at the episode's end ask the VLM, and at the
        round's end teach it."""
        self.loop.check_begun()
        taken = self.taken = self.loop.step({0: self.action_view.decode(action, self.loop.lane())})[0]
        self._display.follow(self.loop)
        return self.observation(), taken.reward, False, taken.ended, taken.info

    def preview(self, action: Any) -> dict[str, Any]:
        """What an action would give now: `feasible`, `reason`, `caption`, `relation`.

        Nothing is counted, the experiment's generators stay where they are, and the VLM is not asked.
        """
        self.loop.check_begun()
        aside = self.loop.lane().aside()
        return aside.preview(self.action_view.decode(action, aside))

    def action_masks(self) -> NDArray[np.bool_]:
        """(n,) which of the actions of a `Discrete` space are known to be feasible before acting, as far as geometry
        tells; sb3-contrib's MaskablePPO asks for it. Raises `UserError` in the other action views."""
        return self.action_view.masks(self.loop.lanes[0])

    def observation(self) -> Any:
        """What the agent sees now, e.g. to continue after `load_state`."""
        return self.observer.observe(self.loop.lanes[0], self.scheduler)

    def state(self) -> dict[str, Any]:
        """Everything that decides what happens next, at any step: JSON-ready values, numpy arrays and tensors.

        Raises `gymnasium.error.ResetNeeded` before the first `reset`.
        """
        return self.loop.state()

    def load_state(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`, in an environment made with the same arguments.

        Gymnasium's wrappers want a `reset()` before the first `step`: call that first, then this on `unwrapped`.
        """
        self.loop.lane().rng = self.np_random
        self.loop.load_state(state)

    def render(self) -> Any:
        """`rgb_array`: (392, 320, 3) uint8. `human`: shows it in a window, returns None."""
        return self._display.render(self.loop)

    def close(self) -> None:
        """Free the backend and the window. Closing twice is fine."""
        self.loop.close()
        self._display.close()


if RLS3SceneEnv.__doc__:  # absent under python -OO
    RLS3SceneEnv.__doc__ = RLS3SceneEnv.__doc__.replace(
        "{settings}", settings_table(EnvironmentSettings).replace("\n", "\n    ")
    )
