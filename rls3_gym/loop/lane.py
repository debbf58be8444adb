"""A lane: one stage, the generator it draws from, what it offers to choose from, and its current episode."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rls3_gym.loop.cells import CellRecord
from rls3_gym.sample import Sample, decode_samples, encode_items
from rls3_gym.scene.arrangement import SLOTS, Arrangement, Edit, Reason
from rls3_gym.scene.natural import ProposalPool, Proposals
from rls3_gym.scene.relation_pool import RelationPool
from rls3_gym.stage import Outcome, Stage
from rls3_gym.vlm.base import Feedback
from rls3_gym.vlm.feedback import decode_feedback, encode_feedback, join_feedback, split_feedback

NO_SUCH_EDIT = Outcome(None, Reason.NO_PLACE, None)
"""The outcome of an action that stands for no edit here."""


@dataclass
class Episode:
    """Grows by one outcome per step."""

    step: int = 0
    samples: list[Sample] = field(default_factory=list)
    scored: list[Feedback] = field(default_factory=list)
    """The VLM's feedback on each sample, where it was asked at the step; otherwise empty."""
    sample: Sample | None = None
    """Of the last step."""
    reason: Reason | None = None
    """Of the last step."""
    verdict: Feedback | None = None
    """On the last step's sample, once the VLM has been asked."""
    reward: float = 0.0
    """Of the last step."""

    def add(self, outcome: Outcome, verdict: Feedback | None) -> None:
        """Take in a step's outcome, with the feedback on its sample if it was asked for at once."""
        self.step += 1
        self.sample, self.reason, self.verdict = outcome.sample, outcome.reason, verdict
        if outcome.sample is not None:
            self.samples.append(outcome.sample)
        if verdict is not None:
            self.scored.append(verdict)

    def end(self, feedback: Feedback) -> None:
        """Take in the feedback on all samples."""
        if self.sample is not None:
            self.verdict = feedback[len(feedback) - 1 :]

    def last_step(self) -> dict[str, Any]:
        """What `info` says of the last step."""
        sample, verdict = self.sample, self.verdict
        facts: dict[str, Any] = {
            "feasible": sample is not None,
            "reason": "" if self.reason is None else self.reason.value,
            "caption": "" if sample is None else sample.caption,
            "cell": -1 if sample is None else sample.relation.index,
            "slot": -1 if sample is None else sample.slot_a,
            "reference": -1 if sample is None else sample.slot_b,
            "correct": -1,
            "margin": 0.0,
            "hardest_negative": "",
        }
        if sample is not None and verdict is not None:
            facts["correct"] = int(verdict.correct[0])
            facts["margin"] = float(verdict.margin[0])
            facts["hardest_negative"] = sample.negatives[int(verdict.hardest[0])].caption
        return facts

    def state(self) -> dict[str, Any]:
        """What the next steps need. What the last step gave is not part of it."""
        return {
            "step": self.step,
            "samples": encode_items(self.samples),
            "scored": encode_feedback(join_feedback(self.scored)),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Episode:
        """The inverse of `state`."""
        scored = split_feedback(decode_feedback(state["scored"]))
        return cls(step=int(state["step"]), samples=decode_samples(state["samples"]), scored=scored)


class Offer(Enum):
    """What a stage may offer to choose from at every step."""

    PROPOSALS = "proposals"
    BY_SLOT = "by_slot"
    """Proposals for each slot on its own."""
    RELATIONS = "relations"


class OnOffer(Protocol):
    """Which relations can be made."""

    @property
    def on_offer(self) -> NDArray[np.bool_]:
        """(slots, 26): whether some edit makes the object in a slot stand in a relation to another one."""


class Choices(Protocol):
    """Proposals, as far as they can be seen."""

    @property
    def relations(self) -> NDArray[np.int64]:
        """(n,): the relation cell that each of them makes."""

    def __len__(self) -> int:
        """n."""


class SeenLane(Protocol):
    """What can be seen of a lane, wherever its stage is: what observations, masks and pictures are made from."""

    episode: Episode
    cells: CellRecord

    @property
    def proposals(self) -> Choices | None:
        """With `Offer.PROPOSALS`: the edits there are to choose from."""

    @property
    def relations(self) -> OnOffer | None:
        """With `Offer.RELATIONS`: the relations there are to choose from."""

    @property
    def arrangement(self) -> Arrangement:
        """The scene as it stands."""

    @property
    def picture(self) -> NDArray[np.uint8]:
        """(n, n, 3) its picture."""

    def state(self) -> dict[str, Any]:
        """What the next steps need."""


@dataclass(frozen=True)
class Draws:
    """What was drawn on a lane before its offer: enough to draw the same offer again."""

    rng: Mapping[str, Any]
    """State of the generator."""
    pools: tuple[tuple[int, int, int], ...] = ()
    """Positions of the pools of proposals in the room."""


@dataclass
class Lane:
    """One of the places where a learning loop makes samples."""

    stage: Stage
    rng: np.random.Generator
    """What the stage and the action view draw from."""
    offer: Offer | None = None
    """What is drawn for every step, for the action view to choose from."""
    cells: CellRecord = field(default_factory=CellRecord)
    """What the scheduler knows of the relation cells; one for all lanes."""
    episode: Episode = field(default_factory=Episode)
    proposals: Proposals | None = None
    """With `Offer.PROPOSALS`: the edits there are to choose from."""
    by_slot: tuple[Proposals, ...] = ()
    """With `Offer.BY_SLOT`: for each slot, the edits there are to choose from."""
    relations: RelationPool | None = None
    """With `Offer.RELATIONS`: the relations there are to choose from."""
    _pools: tuple[ProposalPool, ...] = ()
    """What proposals in this room come from; one, or one for each slot."""
    _positions: tuple[tuple[int, int, int], ...] = ()
    """Of the pools, before the offer was drawn from them."""
    _rng_before: dict[str, Any] | None = None
    """State of the generator before the offer was drawn, where that has drawn from it."""

    @property
    def arrangement(self) -> Arrangement:
        """The scene as it stands."""
        return self.stage.arrangement

    @property
    def picture(self) -> NDArray[np.uint8]:
        """(n, n, 3) its picture."""
        return self.stage.frame.rgb

    def restart(self) -> None:
        """Nothing is on offer, and nothing drawn ahead."""
        self.proposals, self.by_slot, self.relations = None, (), None
        self._pools, self._positions, self._rng_before = (), (), None

    def draw_offer(self, k: int) -> None:
        """Draw what the next edit may be chosen from: `k` proposals, or all relations that are possible."""
        if self.offer is None:
            return
        if self._pools and self._pools[0].layout != self.arrangement.layout:
            self._pools = ()
        self._positions = tuple(pool.position for pool in self._pools)
        self._rng_before = None if self._pools else dict(self.rng.bit_generator.state)
        if self.offer is Offer.RELATIONS:
            self.relations = self.stage.relation_pool(self.rng)
            return
        self._pools = self._pools or tuple(
            self.stage.proposal_pool((int(self.rng.integers(2**63)), 0, 0), slot) for slot in self._slots
        )
        drawn = tuple(pool.take(self.arrangement, k) for pool in self._pools)
        if self.offer is Offer.BY_SLOT:
            self.by_slot = drawn
        else:
            self.proposals = drawn[0]

    def draw_again(self, draws: Draws, k: int) -> None:
        """Draw the offer for the current scene that was drawn there before, after these draws."""
        self.rng.bit_generator.state = draws.rng
        self._pools = tuple(
            self.stage.proposal_pool(position, slot) for position, slot in zip(draws.pools, self._slots, strict=False)
        )
        self.draw_offer(k)

    @property
    def _slots(self) -> tuple[int | None, ...]:
        """The slots that there are pools for; None: one for all."""
        return tuple(range(SLOTS)) if self.offer is Offer.BY_SLOT else (None,)

    def aside(self) -> Lane:
        """The same lane with a copy of its generator, to draw from without changing what comes next."""
        return replace(self, rng=copy.deepcopy(self.rng))

    def preview(self, edit: Edit | None) -> dict[str, Any]:
        """What an edit would give: `feasible`, `reason`, `caption`, `relation` (its label). Nothing is counted and
        the scene stays, but the generator is drawn from."""
        outcome = NO_SUCH_EDIT if edit is None else self.stage.preview(edit, self.rng)
        sample = outcome.sample
        return {
            "feasible": sample is not None,
            "reason": "" if outcome.reason is None else outcome.reason.value,
            "caption": "" if sample is None else sample.caption,
            "relation": "" if sample is None else sample.relation.label,
        }

    def state(self) -> dict[str, Any]:
        """What the next steps need. The offer is not kept: it is drawn again."""
        return lane_state(self.draws, self.stage.state(), self.episode)

    @property
    def draws(self) -> Draws:
        """What was drawn before the offer."""
        return Draws(self._rng_before or dict(self.rng.bit_generator.state), self._positions)

    def load_state(self, state: Mapping[str, Any], k: int) -> None:
        """The inverse of `state`; `k` as for `draw_offer`."""
        self.stage.load_state(state["stage"])
        self.episode = Episode.from_state(state["episode"])
        self.draw_again(draws_of(state), k)


def lane_state(draws: Draws, stage: Mapping[str, Any], episode: Episode) -> dict[str, Any]:
    """What the next steps on a lane need, wherever its stage is."""
    pools = [list(position) for position in draws.pools]
    return {"rng": dict(draws.rng), "pools": pools, "stage": dict(stage), "episode": episode.state()}


def draws_of(state: Mapping[str, Any]) -> Draws:
    """What was drawn before the offer, of a lane's state. Raises `ValueError` for one that no lane has given."""
    pools = tuple((int(seed), int(lot), int(used)) for seed, lot, used in state["pools"])
    if not all(0 <= number < 2**63 for position in pools for number in position):
        raise ValueError("a pool of proposals stands nowhere")
    return Draws(dict(state["rng"]), pools)
