"""What a step is paid: an intrinsic part for feasible edits, an extrinsic part for what the VLM gets wrong.

Extrinsic rewards are plugins: one class and one YAML in `registry/rewards`. The two that pay for plain failure
(`episode_error`, `sample_error`) begin at `MEAN_REWARD` a step, at chance, and fade as the VLM learns. The others keep
that mean all along: an error of a few per cent would drown in an agent's entropy term and in the penalty for
infeasible edits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Protocol

import numpy as np
from pydantic import Field

from rls3_gym.loop.cells import Cells, Float
from rls3_gym.loop.selection import Guide
from rls3_gym.sample import Sample
from rls3_gym.scene.arrangement import Reason
from rls3_gym.scene.relations import RELATIONS
from rls3_gym.vlm.base import VLM, Feedback
from rls3_registry.errors import unknown
from rls3_registry.plugins import PluginSection, PluginSpec
from rls3_registry.validation import Settings, check

MEAN_REWARD = 0.35
"""What a dense reward pays for a typical sample."""
REWARD_CAP = 1.2
"""No single step is paid more."""
REMEMBERED = 8192
"""Captions, each with its room, that a reward remembers to tell what is a repeat."""


@dataclass(frozen=True)
class IntrinsicReward:
    """Paid at every step for whether the edit was feasible; some reasons may cost more or less than others."""

    feasible: float
    infeasible: float
    by_reason: Mapping[Reason, float] = field(default_factory=dict)

    def __call__(self, reason: Reason | None) -> float:
        """The pay for a sample (`reason` None) or for the lack of one."""
        return self.feasible if reason is None else self.by_reason.get(reason, self.infeasible)


DEFAULT_INFEASIBLE = -0.1
"""What an infeasible step costs where nothing else is said."""


def make_intrinsic(feasible: float, infeasible: float | Mapping[str, float]) -> IntrinsicReward:
    """The intrinsic reward; `infeasible` is one number, or numbers by reason (others cost `DEFAULT_INFEASIBLE`).

    Raises `UserError` for an unknown reason.
    """
    if not isinstance(infeasible, Mapping):
        return IntrinsicReward(feasible, infeasible)
    for name in infeasible:
        if name not in set(Reason):
            raise unknown("reason", str(name), [reason.value for reason in Reason], "intrinsic_infeasible")
    by_reason = {Reason(name): float(value) for name, value in infeasible.items()}
    return IntrinsicReward(feasible, DEFAULT_INFEASIBLE, by_reason)


class ExtrinsicReward(Protocol):
    """Pay for samples that the VLM needs. One lives as long as its learning loop; `begin_experiment` clears it.

    A plugin class is called as `Class(settings, steps_per_episode=..., guide=...)`; see `rls3_registry.plugins`.
    """

    immediate: ClassVar[bool]
    """Whether `step_reward` needs the VLM's feedback on the sample at its step (a VLM call every step instead of one
    an episode)."""

    def begin_experiment(self, vlm: VLM, seed: int) -> None:
        """Forget everything.

        Args:
            vlm: The VLM in its first state.
            seed: Fixes what is drawn from then on.
        """

    def end_round(self, vlm: VLM, trained: Sequence[Sample]) -> None:
        """Note that `vlm` has just been taught `trained`."""

    def step_reward(self, sample: Sample, feedback: Feedback | None, choice: Cells | None) -> float:
        """Pay at the step that made `sample`.

        Args:
            sample: What the step made.
            feedback: Of length 1, on the sample; None unless the reward is `immediate`.
            choice: (k,) relation cells of the proposals that the edit was chosen from; None where it was not.
        """

    def episode_reward(self, samples: Sequence[Sample], feedback: Feedback) -> float:
        """Pay at the episode's last step, for all its samples."""

    def state(self) -> dict[str, Any]:
        """What a continued run needs: numpy arrays and JSON-ready values."""

    def load_state(self, state: Mapping[str, Any], vlm: VLM) -> None:
        """The inverse of `state`; `vlm` holds the weights of that moment already."""


REWARDS: PluginSection[PluginSpec] = PluginSection(
    "rewards",
    "extrinsic reward",
    ("immediate", "begin_experiment", "end_round", "step_reward", "episode_reward", "state", "load_state"),
    PluginSpec,
)
DEFAULT_EXTRINSIC = "cell_error"
"""The one that pays for what an agent seldom makes and the VLM still gets wrong. Why: docs/results.md."""


def make_extrinsic(name: str, steps_per_episode: int, guide: Guide) -> ExtrinsicReward:
    """The extrinsic reward of that name: a registry name, a YAML file, or `module:Class`. Raises `UserError`."""
    made: ExtrinsicReward = REWARDS.create(name, steps_per_episode=steps_per_episode, guide=guide)
    return made


class NoSettings(Settings):
    """Of a reward with nothing to set."""


class SilentReward:
    """A reward without memory that pays nothing: what the others add to."""

    immediate: ClassVar[bool] = False
    settings_model: ClassVar[type[Settings]] = NoSettings

    def __init__(self, settings: Mapping[str, Any], *, steps_per_episode: int, guide: Guide) -> None:
        self.settings: Any = check(self.settings_model, settings, section="settings")

    def begin_experiment(self, vlm: VLM, seed: int) -> None:
        pass

    def end_round(self, vlm: VLM, trained: Sequence[Sample]) -> None:
        pass

    def step_reward(self, sample: Sample, feedback: Feedback | None, choice: Cells | None) -> float:
        return 0.0

    def episode_reward(self, samples: Sequence[Sample], feedback: Feedback) -> float:
        return 0.0

    def state(self) -> dict[str, Any]:
        return {}

    def load_state(self, state: Mapping[str, Any], vlm: VLM) -> None:
        pass


def shares_of_mean(per_cell: Float, floor: float, frequency: Float | None = None) -> Float:
    """(26,) `MEAN_REWARD` times each cell's value over the mean of all cells, 0..`REWARD_CAP`.

    Args:
        per_cell: (26,) values; negative ones count as 0. When none is above 0, all cells pay `MEAN_REWARD`.
        floor: The least mean that is divided by.
        frequency: (26,) weights of the mean; equal when left out.
    """
    positive = np.maximum(0.0, per_cell)
    if not positive.any():
        return np.full(len(per_cell), MEAN_REWARD)
    if frequency is None:
        mean = float(positive.mean())
    else:
        mean = float((positive * frequency).sum()) / float(frequency.sum())
    return np.minimum(REWARD_CAP, MEAN_REWARD * positive / max(floor, mean))


Weight = Annotated[float, Field(ge=0, le=10)]
_LENGTHS = np.array([len(relation.terms) for relation in RELATIONS])


class CellRewardSettings(Settings):
    """Of a reward that pays by relation cell."""

    centered: bool = Field(strict=True)
    """Whether a sample is paid what it is worth above an ordinary one, so that being feasible does not outbid being
    worth something. The ordinary worth is the mean over the proposals the edit was chosen from; where there were none,
    `MEAN_REWARD`."""
    length_weights: Annotated[tuple[Weight, Weight, Weight], Field(strict=False)] = (1.0, 1.0, 1.0)
    """What a cell's worth is multiplied by when its caption has one, two or three terms."""
    repeat_weight: Annotated[float, Field(ge=0, le=1)] = 0.5
    """What a sample's worth is multiplied by when a picture of the same room has had the same caption before: too alike
    to teach as much again."""


class CellReward(SilentReward):
    """Pays a sample at its step for the relation cell it is in. Subclasses say what the cells are worth."""

    settings_model: ClassVar[type[Settings]] = CellRewardSettings

    def worth(self) -> Float:
        """(26,) what a sample of each cell is worth now, `MEAN_REWARD` on the average."""
        raise NotImplementedError

    def __init__(self, settings: Mapping[str, Any], *, steps_per_episode: int, guide: Guide) -> None:
        super().__init__(settings, steps_per_episode=steps_per_episode, guide=guide)
        self._seen: dict[str, None] = {}
        self._of_length: Float = np.take(self.settings.length_weights, _LENGTHS - 1)

    def begin_experiment(self, vlm: VLM, seed: int) -> None:
        self._seen.clear()

    def step_reward(self, sample: Sample, feedback: Feedback | None, choice: Cells | None) -> float:
        worth = self.worth() * self._of_length
        ordinary = 0.0
        if self.settings.centered:
            ordinary = MEAN_REWARD if choice is None else float(worth[choice].sum()) / len(choice)
        weight = self.settings.repeat_weight if self._is_repeat(sample) else 1.0
        return weight * float(worth[sample.relation.index]) - ordinary

    def _is_repeat(self, sample: Sample) -> bool:
        """Whether a picture of the room has had the caption before; from now on it has."""
        what = f"{sample.arrangement.layout.key} {sample.caption}"
        known = what in self._seen
        self._seen[what] = None
        if len(self._seen) > REMEMBERED:
            del self._seen[next(iter(self._seen))]
        return known

    def state(self) -> dict[str, Any]:
        return {"seen": list(self._seen)}

    def load_state(self, state: Mapping[str, Any], vlm: VLM) -> None:
        self._seen = dict.fromkeys(str(what) for what in state["seen"])
