"""The RLS3 loop as a Gymnasium environment: one stage, one scheduler, and the VLM that learns inside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import gymnasium
import numpy as np

from rls3_gym.backends.loading import load_backend
from rls3_gym.envs.observations import Observer
from rls3_gym.envs.rendering import Painter, Verdict, Window
from rls3_gym.envs.views import make_view
from rls3_gym.evaluation.testset import held_out_keys, load_set
from rls3_gym.feedback import decode_feedback, encode_feedback, join_feedback, split_feedback
from rls3_gym.rewards import DEFAULT_EXTRINSIC, make_extrinsic, make_intrinsic
from rls3_gym.sample import Sample, decode_samples, encode_samples
from rls3_gym.scene.arrangement import Reason
from rls3_gym.scene.layouts import family_names
from rls3_gym.scheduler import EarlyStopping, EpisodeOutcome, Schedule, Scheduler
from rls3_gym.stage import FeasibilityRules, Outcome, Stage
from rls3_gym.vlm.base import VLM, Feedback
from rls3_gym.vlm.loading import load_vlm
from rls3_registry.errors import UserError, unknown

RENDER_MODES = ("rgb_array", "human")


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
    left to right and front to back; level chooses among the surfaces at that place, by height. Yaw (and what a view
    leaves open) is drawn by the environment's generator. See `rls3_gym.envs.views`.

    ## Observation space
    | `observation` | space | meaning |
    |---|---|---|
    | `state` | Box(-10, 10, (n,), float32) | room, surfaces, objects, step, the VLM's running errors; slices in `rls3_gym.envs.observations.StateView` |
    | `pixels` | Box(0, 255, (image_size, image_size, 3), uint8) | the camera picture of the scene as it stands |
    | `dict` | Dict(state, pixels) | both |

    ## Reward
    intrinsic + extrinsic; both are in `info`. Intrinsic: `intrinsic_feasible` or `intrinsic_infeasible` each step.
    Extrinsic (`rls3_gym.rewards`): `cell_error` (default), `cell_error_unweighted`, `sample_error`, `reducible_error` and
    `learning_progress` are paid at the step; `episode_error`, the paper's, at the episode's last step.

    ## Episode end
    `truncated` after `T` steps; never `terminated`. `reset(seed=s)` starts a new experiment: the VLM as it was given,
    an empty batch, all counters zero. `reset()` starts the next episode, in the next room family, and keeps the learning
    VLM; an unfinished episode is dropped: its samples count as generated, but do not train.

    ## Info (the same keys at every step and at reset)
    | key | value |
    |---|---|
    | `n_generated`, `n_trained`, `n_steps` | valid samples, trained samples, steps of this experiment |
    | `episode`, `round` | episodes ended, fine-tunings done |
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
    | `backend` | `"embedded"` | world that shows the scenes |
    | `families` | all | room families, cycled over the episodes |
    | `T` | 32 | steps of an episode |
    | `E` | 77 | episodes of a round (about 500 trained samples with the default eta) |
    | `eta` | 0.25 | share of an episode's samples that trains, in (0, 1] |
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

    metadata: ClassVar[dict[str, Any]] = {"render_modes": list(RENDER_MODES), "render_fps": 8}

    def __init__(
        self,
        *,
        vlm: str | VLM = "tiny",
        backend: str = "embedded",
        families: Sequence[str] | None = None,
        T: int = 32,
        E: int = 77,
        eta: float = 0.25,
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
        schedule = Schedule(T, E, eta, finetune)
        if isinstance(image_size, bool) or not isinstance(image_size, int) or not 16 <= image_size <= 512:
            raise UserError(f"image_size must be a whole number of pixels from 16 to 512, not {image_size!r}")
        if render_mode is not None and render_mode not in RENDER_MODES:
            raise unknown("render mode", str(render_mode), RENDER_MODES, "render_mode")
        self.render_mode = render_mode
        self.intrinsic = make_intrinsic(intrinsic_feasible, intrinsic_infeasible)
        self.extrinsic = make_extrinsic(extrinsic, T, lambda: load_set("guide", image_size).samples)
        held_out = held_out_keys() if held_out is None else frozenset(held_out)
        self.stage = Stage(
            load_backend(backend, image_size),
            families=_known_families(families),
            rules=FeasibilityRules() if rules is None else rules,
            held_out=held_out,
        )
        self.action_view = make_view(action_view, self.stage.kinds)
        self.observer = Observer(observation, self.stage.kinds, image_size)
        self.action_space = self.action_view.space
        self.observation_space = self.observer.space
        stopping = None
        if early_stopping is not None:
            stopping = EarlyStopping(load_set("validation", image_size).samples, early_stopping)
        self.scheduler = Scheduler(
            _the_vlm(vlm, finetune_settings), schedule, held_out=held_out, early_stopping=stopping
        )
        self._backend_name = backend
        self._painter: Painter | None = None
        self._window: Window | None = None
        self._begun = False
        self._reasons: dict[str, int] = {}
        self._clear_episode()

    # ------------------------------------------------------------------ the loop

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """With a seed: a new experiment. Without: the next episode. `options` are not used."""
        super().reset(seed=seed)
        if seed is not None or not self._begun:
            self._begin_experiment()
        self._clear_episode()
        self.stage.set_scene(self.np_random)
        if self.render_mode == "human":
            self.render()
        return self.observation(), self._info(0.0, 0.0, None)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One step of the loop: decode, place, capture, caption, pay; at the episode's end ask the VLM, and after
        E episodes teach it."""
        if not self._begun or self._step >= self.scheduler.schedule.T:
            raise gymnasium.error.ResetNeeded("the episode is over (or none was begun): call reset() before step()")
        decoded = self.action_view.decode(action, self.stage, self.np_random)
        if decoded is None:
            outcome = Outcome(None, Reason.NO_SUPPORT, None)
        else:
            edit, reference = decoded
            outcome = self.stage.try_edit(edit, self.np_random, reference)
        self._step += 1
        self.scheduler.count_step(outcome.sample)
        self._take_in(outcome)

        intrinsic = self.intrinsic(outcome.reason)
        extrinsic = 0.0
        if outcome.sample is not None:
            extrinsic = self.extrinsic.step_reward(outcome.sample, self._verdict)
        ended = None
        if self._step == self.scheduler.schedule.T:
            ended = self.scheduler.end_episode(self._samples, self._scored)
            extrinsic += self.extrinsic.episode_reward(self._samples, ended.feedback)
            if ended.report is not None:
                self.extrinsic.end_round(self.scheduler.vlm, ended.trained)
            if outcome.sample is not None:
                self._verdict = split_feedback(ended.feedback)[-1]

        if self.render_mode == "human":
            self.render()
        info = self._info(intrinsic, extrinsic, ended)
        return self.observation(), float(intrinsic + extrinsic), False, ended is not None, info

    def observation(self) -> Any:
        """What the agent sees now, e.g. to go on after `load_state`."""
        return self.observer.observe(self.stage, self.scheduler, self._step)

    def _begin_experiment(self) -> None:
        # The scheduler draws from its own generator: what trains must not depend on how the stage draws.
        scheduler_seed, reward_seed = (int(v) for v in self.np_random.integers(2**63, size=2))
        self.scheduler.begin_experiment(np.random.default_rng(scheduler_seed))
        self.extrinsic.begin_experiment(self.scheduler.vlm, reward_seed)
        stage = self.stage
        self.stage = Stage(stage.backend, families=stage.families, rules=stage.rules, held_out=stage.held_out)
        self._reasons = {}
        self._begun = True

    def _clear_episode(self) -> None:
        self._step = 0
        self._samples: list[Sample] = []
        self._scored: list[Feedback] = []
        self._sample: Sample | None = None
        self._reason: Reason | None = None
        self._verdict: Feedback | None = None

    def _take_in(self, outcome: Outcome) -> None:
        """Note a step's outcome; ask the VLM about its sample when the reward needs that at once."""
        self._sample, self._reason, self._verdict = outcome.sample, outcome.reason, None
        if outcome.reason is not None:
            self._reasons[outcome.reason.value] = self._reasons.get(outcome.reason.value, 0) + 1
        if outcome.sample is not None:
            self._samples.append(outcome.sample)
            if self.extrinsic.immediate:
                self._verdict = self.scheduler.score(outcome.sample)
                self._scored.append(self._verdict)

    def _info(self, intrinsic: float, extrinsic: float, ended: EpisodeOutcome | None) -> dict[str, Any]:
        scheduler, sample, verdict = self.scheduler, self._sample, self._verdict
        report = None if ended is None else ended.report
        asked = sample is not None and verdict is not None
        return {
            "n_generated": scheduler.n_generated,
            "n_trained": scheduler.n_trained,
            "n_steps": scheduler.n_steps,
            "episode": scheduler.episode,
            "round": scheduler.round,
            "feasible": sample is not None,
            "reason": "" if self._reason is None else self._reason.value,
            "reasons": dict(self._reasons),
            "intrinsic": float(intrinsic),
            "extrinsic": float(extrinsic),
            "sample": sample,
            "caption": "" if sample is None else sample.caption,
            "correct": bool(verdict.correct[0]) if asked else None,
            "margin": float(verdict.margin[0]) if asked else None,
            "hardest_negative": sample.negatives[int(verdict.hardest[0])].caption if asked else None,
            "feedback": None if ended is None else _summary(self._samples, ended.feedback),
            "finetune": None if report is None else report.as_dict(),
            "vlm_digest": scheduler.vlm_digest,
            "early_stopped": scheduler.early_stopped,
        }

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
            "step": self._step,
            "samples": encode_samples(self._samples),
            "scored": encode_feedback(join_feedback(self._scored)),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`, in an environment made with the same arguments.

        Gymnasium's wrappers want a `reset()` before the first `step`: call that first, then this on `unwrapped`.
        """
        self._clear_episode()
        self.np_random.bit_generator.state = state["np_random"]
        self.stage.load_state(state["stage"])
        self.scheduler.load_state(state["scheduler"])
        self.extrinsic.load_state(state["extrinsic"], self.scheduler.vlm)
        self._reasons = {str(reason): int(count) for reason, count in state["reasons"].items()}
        self._step = int(state["step"])
        self._samples = decode_samples(state["samples"])
        self._scored = split_feedback(decode_feedback(state["scored"]))
        self._begun = True

    # ------------------------------------------------------------------ rendering

    def render(self) -> Any:
        """`rgb_array`: (392, 320, 3) uint8. `human`: shows it in a window, returns None."""
        if self.render_mode is None:
            gymnasium.logger.warn("render() does nothing without a render_mode; make the environment with one")
            return None
        if self._painter is None:
            self._painter = Painter(self._backend_name)
        picture = self._painter.draw(self.stage.arrangement, self._verdict_text())
        if self.render_mode == "rgb_array":
            return picture
        if self._window is None:
            self._window = Window("RLS3 scene", int(self.metadata["render_fps"]))
        self._window.show(picture)
        return None

    def _verdict_text(self) -> Verdict:
        sample = self._sample
        if sample is None:
            room = self.stage.arrangement.layout.key
            return Verdict("", f"{room}: " + (f"no sample: {self._reason.value}" if self._reason else "new scene"), "neutral")
        # Asked for the picture only: kept out of the rewards, which may not depend on who is watching.
        verdict = self._verdict or self.scheduler.vlm.evaluate([sample])
        margin = float(verdict.margin[0])
        if verdict.correct[0]:
            return Verdict(sample.caption, f"VLM right, margin {margin:.1f}", "right")
        preferred = sample.negatives[int(verdict.hardest[0])].caption
        return Verdict(sample.caption, f"VLM wrong ({margin:.1f}): {preferred}", "wrong")

    def close(self) -> None:
        """Free the backend and the window. Closing twice is fine."""
        self.stage.backend.close()
        if self._painter is not None:
            self._painter.close()
            self._painter = None
        if self._window is not None:
            self._window.close()
            self._window = None


def _summary(samples: Sequence[Sample], feedback: Feedback) -> dict[str, Any]:
    """The episode's feedback for `info`."""
    n = len(samples)
    return {
        "accuracy": float(feedback.correct.mean()) if n else None,
        "pairwise": feedback.pairwise_accuracy if n else None,
        "n": n,
        "correct": [bool(c) for c in feedback.correct],
        "margin": [float(m) for m in feedback.margin],
        "hardest_negative": [s.negatives[int(i)].caption for s, i in zip(samples, feedback.hardest, strict=True)],
    }


def _known_families(families: Sequence[str] | None) -> tuple[str, ...]:
    if families is None:
        return family_names()
    if isinstance(families, str) or not families:
        raise UserError(f"families must be a list of room families ({', '.join(family_names())}), not {families!r}")
    for family in families:
        if family not in family_names():
            raise unknown("room family", str(family), family_names(), "families")
    return tuple(families)


def _the_vlm(vlm: str | VLM, finetune_settings: Mapping[str, Any] | None) -> VLM:
    if isinstance(vlm, str):
        return load_vlm(vlm, finetune_settings)
    if finetune_settings is not None:
        raise UserError("finetune_settings go with a VLM's name; a VLM object has its settings already")
    if not all(callable(getattr(vlm, method, None)) for method in ("evaluate", "finetune", "state", "load_state", "digest")):
        raise UserError(f"vlm must be a registered name, a path or a VLM, not {type(vlm).__name__}")
    return vlm
