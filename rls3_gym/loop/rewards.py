"""What a step is paid: an intrinsic part for feasible edits, an extrinsic part for what the VLM gets wrong.

Extrinsic rewards are chosen by name (`EXTRINSIC`). Except for `episode_error` they are paid at the step. The two that
pay for plain failure (`episode_error`, `sample_error`) begin at `MEAN_REWARD` a step, at chance, and fade as the VLM
learns. The others keep that mean all along: an error of a few per cent would drown in an agent's entropy term and in
the penalty for infeasible edits. What was seen in exploratory runs (few seeds each: directions, no claims):

- The failure of the single sample chases the VLM's antonym bias: a VLM that always says "left" makes an agent
  produce "right", then it turns round. Errors are therefore averaged over a cell and its antonym cells.
- Hard is not the same as learnable: plain failure draws an agent to left/right, which is learned last.
- Random actions seldom make "above" or "below"; a rarity weight on the cell's error raised their share.
- A cell's gain grows with its share of the batch; to point anywhere, progress has to be gain per trained sample.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from rls3_gym.loop.running_mean import RunningMean
from rls3_gym.sample import Sample
from rls3_gym.scene.arrangement import Reason
from rls3_gym.scene.relations import RELATIONS
from rls3_gym.vlm.base import VLM, Feedback
from rls3_registry.errors import UserError, unknown

Float = NDArray[np.float64]
CELLS = len(RELATIONS)

DEFAULT_EXTRINSIC = "cell_error"
"""The one that pays for what an agent seldom makes and the VLM still gets wrong.

Measured under SAC on `validation`, five paired seeds (`benchmarks/rewards.py`): no reward makes a better VLM than
uniform actions do by 1,500 trained samples, `reducible_error` makes a worse one (-2.7 points), and the others can't be
told apart. Among those this one moved the samples furthest towards what is rare, with the least spread
between seeds, and it needs neither a second model nor a call of the VLM at every step."""
MEAN_REWARD = 0.35
"""What a dense reward pays for a typical sample."""
REWARD_CAP = 1.2
"""No single step is paid more."""
CELL_RATE = 0.05
"""Weight of one sample in the running means per relation cell."""


def _antonym_matrix() -> Float:
    """(26, 26): row c averages over the cells that cell c turns into when any of its terms are flipped."""
    axes = [frozenset(term.axis for term in relation.terms) for relation in RELATIONS]
    same = np.array([[a == b for b in axes] for a in axes], dtype=np.float64)
    return np.asarray(same / same.sum(axis=1, keepdims=True))


ANTONYMS = _antonym_matrix()
"""`ANTONYMS @ per_cell` averages every cell with its antonym cells (2, 4 or 8 together)."""


@dataclass(frozen=True)
class IntrinsicReward:
    """Paid at every step for whether the edit was feasible; some reasons may cost more or less than others."""

    feasible: float = 0.0
    infeasible: float = -0.1
    by_reason: Mapping[Reason, float] = field(default_factory=dict)

    def __call__(self, reason: Reason | None) -> float:
        """The pay for a sample (`reason` None) or for the lack of one."""
        return self.feasible if reason is None else self.by_reason.get(reason, self.infeasible)


class ExtrinsicReward(Protocol):
    """Pay for samples the VLM needs. One lives as long as an environment; `begin_experiment` clears it."""

    immediate: ClassVar[bool]
    """Whether `step_reward` needs the VLM's feedback on the sample at once (one VLM call per sample instead of
    one per episode)."""

    def begin_experiment(self, vlm: VLM, seed: int) -> None:
        """Forget everything. `seed` fixes what is drawn from then on."""

    def end_round(self, vlm: VLM, trained: Sequence[Sample]) -> None:
        """`vlm` has just been taught `trained`."""

    def step_reward(self, sample: Sample, feedback: Feedback | None) -> float:
        """Paid at the step that made `sample`; `feedback` (of length 1) is given when `immediate`."""

    def episode_reward(self, samples: Sequence[Sample], feedback: Feedback) -> float:
        """Paid at the episode's last step, for all its samples."""

    def state(self) -> dict[str, Any]:
        """What a continued run needs: numpy arrays and JSON-ready values."""

    def load_state(self, state: Mapping[str, Any], vlm: VLM) -> None:
        """The inverse of `state`; `vlm` holds the weights of that moment already."""


class _Plain:
    """A reward without memory that pays nothing: what the others add to."""

    immediate: ClassVar[bool] = False

    def begin_experiment(self, vlm: VLM, seed: int) -> None:
        pass

    def end_round(self, vlm: VLM, trained: Sequence[Sample]) -> None:
        pass

    def step_reward(self, sample: Sample, feedback: Feedback | None) -> float:
        return 0.0

    def episode_reward(self, samples: Sequence[Sample], feedback: Feedback) -> float:
        return 0.0

    def state(self) -> dict[str, Any]:
        return {}

    def load_state(self, state: Mapping[str, Any], vlm: VLM) -> None:
        pass


class EpisodeError(_Plain):
    """The paper's: 1 - accuracy over the episode's samples, paid at its last step.

    Accuracy is pairwise (chance 0.5, as the paper's CLIP). Scale: `T` x 0.7, so that chance pays what
    `MEAN_REWARD` at every step would have.
    """

    def __init__(self, steps_per_episode: int) -> None:
        self.scale = 2 * MEAN_REWARD * steps_per_episode

    def episode_reward(self, samples: Sequence[Sample], feedback: Feedback) -> float:
        return self.scale * (1.0 - feedback.pairwise_accuracy) if len(feedback) else 0.0


class SampleError(_Plain):
    """The sample's own failure, paid at its step: the share of opposites that the VLM prefers, x 0.7."""

    immediate = True

    def step_reward(self, sample: Sample, feedback: Feedback | None) -> float:
        if feedback is None:
            raise ValueError("sample_error needs the feedback on each sample at its step")
        return 2 * MEAN_REWARD * (1.0 - float(feedback.pairwise[0]))


class CellError(_Plain):
    """The VLM's running error in the sample's relation cell, averaged over the cell and its antonym cells.

    With `rarity` it is weighted by sqrt(mean count / count) of those cells: what the agent seldom makes is
    worth more. Scale: over the samples that the agent makes, the mean pays `MEAN_REWARD`, however much the VLM has
    learned.
    """

    COUNT_KEPT = 0.9995  # counts fade over about 2,000 samples
    COUNT_PRIOR = 10.0  # added to every cell's count: the first samples of a run do not say what is rare
    FLOOR = 0.01  # below this mean error the scale is held: what is left is chance

    def __init__(self, rarity: bool = True) -> None:
        self.rarity = rarity
        self._error = RunningMean(CELLS, CELL_RATE, 0.5)
        self._counts: Float = np.zeros(CELLS)

    def begin_experiment(self, vlm: VLM, seed: int) -> None:
        self._error.clear()
        self._counts[:] = 0.0

    def step_reward(self, sample: Sample, feedback: Feedback | None) -> float:
        cell = sample.relation.index
        self._counts[cell] += 1
        worth = ANTONYMS @ self._error.values
        if self.rarity:
            made = self._counts + self.COUNT_PRIOR
            worth = worth * np.sqrt(made.mean() / (ANTONYMS @ made))
        pay = _share_of_mean(worth, cell, self.FLOOR, self._counts)
        self._counts *= self.COUNT_KEPT
        return pay

    def episode_reward(self, samples: Sequence[Sample], feedback: Feedback) -> float:
        self._error.add_all((s.relation.index for s in samples), 1.0 - feedback.pairwise)
        return 0.0

    def state(self) -> dict[str, Any]:
        return {"error": self._error.values.copy(), "counts": self._counts.copy()}

    def load_state(self, state: Mapping[str, Any], vlm: VLM) -> None:
        self._error.values[:] = state["error"]
        self._counts[:] = state["counts"]


class ReducibleError(_Plain):
    """How much surer a look-ahead copy is of the sample than the VLM itself: wrong now, but learnable.

    After each round a copy of the VLM is taught one round on the guide set (small, balanced, of its own: from
    training layouts, in neither the validation nor a test set). The difference of `p_opposite` between the two is
    kept as a running mean per cell and averaged over antonyms. Scale: the mean cell pays `MEAN_REWARD`.
    """

    FLOOR = 0.01  # below this mean difference the scale is held: nothing is left to tell cells apart by

    def __init__(self, guide: Sequence[Sample]) -> None:
        self._guide = guide
        self._gain = RunningMean(CELLS, CELL_RATE, 0.0)
        self._vlm: VLM | None = None
        self._ahead: VLM | None = None
        self._seed = 0
        self._rounds = 0

    def begin_experiment(self, vlm: VLM, seed: int) -> None:
        self._seed, self._rounds = seed, 0
        self._gain.clear()
        self._look_ahead(vlm)

    def end_round(self, vlm: VLM, trained: Sequence[Sample]) -> None:
        self._rounds += 1
        self._look_ahead(vlm)

    def _look_ahead(self, vlm: VLM) -> None:
        # Seeded by the round, not drawn: a resumed run makes the same copy from the same weights.
        self._ahead = copy.deepcopy(vlm)
        self._ahead.finetune(self._guide, np.random.default_rng([self._seed, self._rounds]))

    def step_reward(self, sample: Sample, feedback: Feedback | None) -> float:
        return _share_of_mean(ANTONYMS @ self._gain.values, sample.relation.index, self.FLOOR)

    def episode_reward(self, samples: Sequence[Sample], feedback: Feedback) -> float:
        if samples and self._ahead is not None:
            surer = self._ahead.evaluate(samples).p_opposite - feedback.p_opposite
            self._gain.add_all((s.relation.index for s in samples), surer.astype(np.float64))
        return 0.0

    def state(self) -> dict[str, Any]:
        return {"gain": self._gain.values.copy(), "seed": self._seed, "rounds": self._rounds}

    def load_state(self, state: Mapping[str, Any], vlm: VLM) -> None:
        self._gain.values[:] = state["gain"]
        self._seed, self._rounds = int(state["seed"]), int(state["rounds"])
        self._look_ahead(vlm)


class LearningProgress(_Plain):
    """What a round gained in the sample's cell and its antonyms, per sample trained there.

    Gain is the rise of `p_opposite` on the guide set, which is not trained on. Until the first round, and when
    no cell gained anything, all cells pay the same. Scale: the mean cell pays `MEAN_REWARD`.
    """

    KEPT = 0.6  # weight of earlier rounds in a cell's gain
    PRIOR = 20.0  # added to the trained count: a cell hardly trained is not credited with others' progress

    def __init__(self, guide: Sequence[Sample]) -> None:
        self._guide = guide
        cells = np.array([s.relation.index for s in guide], dtype=np.int64)
        self._of_guide: Float = ANTONYMS[:, cells] / np.maximum(ANTONYMS[:, cells].sum(axis=1, keepdims=True), 1e-9)
        self._sureness: Float = np.zeros(CELLS)
        self._gain: Float = np.zeros(CELLS)

    def _measure(self, vlm: VLM) -> Float:
        """(26,) mean `p_opposite` on the guide's samples of each cell and its antonyms."""
        return self._of_guide @ vlm.evaluate(self._guide).p_opposite.astype(np.float64)

    def begin_experiment(self, vlm: VLM, seed: int) -> None:
        self._sureness = self._measure(vlm)
        self._gain = np.zeros(CELLS)

    def end_round(self, vlm: VLM, trained: Sequence[Sample]) -> None:
        sureness = self._measure(vlm)
        counts = np.bincount([s.relation.index for s in trained], minlength=CELLS).astype(np.float64)
        in_class = (ANTONYMS > 0) @ counts
        gain = np.maximum(0.0, sureness - self._sureness) / (in_class + self.PRIOR)
        self._gain = self.KEPT * self._gain + (1 - self.KEPT) * gain if self._gain.any() else gain
        self._sureness = sureness

    def step_reward(self, sample: Sample, feedback: Feedback | None) -> float:
        return _share_of_mean(self._gain, sample.relation.index, 1e-6)

    def state(self) -> dict[str, Any]:
        return {"sureness": self._sureness.copy(), "gain": self._gain.copy()}

    def load_state(self, state: Mapping[str, Any], vlm: VLM) -> None:
        self._sureness = np.array(state["sureness"], dtype=np.float64)
        self._gain = np.array(state["gain"], dtype=np.float64)


def _share_of_mean(per_cell: Float, cell: int, floor: float, frequency: Float | None = None) -> float:
    """`MEAN_REWARD` times a cell's value over the mean of all cells (weighted by `frequency`), 0..`REWARD_CAP`.

    Negative values count as 0; `floor` is the least mean that is divided by.
    """
    positive = np.maximum(0.0, per_cell)
    if not positive.any():
        return MEAN_REWARD
    mean = float(np.average(positive, weights=frequency))
    return float(min(REWARD_CAP, MEAN_REWARD * positive[cell] / max(floor, mean)))


EXTRINSIC: dict[str, Callable[[int, Callable[[], Sequence[Sample]]], ExtrinsicReward]] = {
    "episode_error": lambda steps, guide: EpisodeError(steps),
    "sample_error": lambda steps, guide: SampleError(),
    "cell_error": lambda steps, guide: CellError(),
    "cell_error_unweighted": lambda steps, guide: CellError(rarity=False),
    "reducible_error": lambda steps, guide: ReducibleError(guide()),
    "learning_progress": lambda steps, guide: LearningProgress(guide()),
}
"""Extrinsic rewards by name; each is made from T and a way to load the guide set."""


def make_extrinsic(name: str, steps_per_episode: int, guide: Callable[[], Sequence[Sample]]) -> ExtrinsicReward:
    """The extrinsic reward of that name. Raises `UserError` for an unknown one."""
    if name not in EXTRINSIC:
        raise unknown("extrinsic reward", str(name), EXTRINSIC, "extrinsic")
    return EXTRINSIC[name](steps_per_episode, guide)


def make_intrinsic(feasible: float, infeasible: float | Mapping[str, float]) -> IntrinsicReward:
    """The intrinsic reward; `infeasible` is one number, or numbers by reason (others keep the default).

    Raises `UserError` for a value that is not a number or an unknown reason.
    """
    default = IntrinsicReward()
    if not isinstance(infeasible, Mapping):
        return IntrinsicReward(_number("intrinsic_feasible", feasible), _number("intrinsic_infeasible", infeasible))
    by_reason: dict[Reason, float] = {}
    for name, value in infeasible.items():
        if name not in set(Reason):
            raise unknown("reason", str(name), [reason.value for reason in Reason], "intrinsic_infeasible")
        by_reason[Reason(name)] = _number(f"intrinsic_infeasible.{name}", value)
    return IntrinsicReward(_number("intrinsic_feasible", feasible), default.infeasible, by_reason)


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not np.isfinite(value):
        raise UserError(f"{name} must be a finite number, not {value!r}")
    return float(value)
