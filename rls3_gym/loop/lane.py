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
from rls3_gym.scene.natural import Proposals
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
    _before_offer: dict[str, Any] = field(default_factory=dict)

    @property
    def arrangement(self) -> Arrangement:
        """The scene as it stands."""
        return self.stage.arrangement

    @property
    def picture(self) -> NDArray[np.uint8]:
        """(n, n, 3) its picture."""
        return self.stage.frame.rgb

    def restart(self, rng_state: Mapping[str, Any]) -> None:
        """Draw from where a generator stood; nothing is on offer."""
        self.rng.bit_generator.state = rng_state
        self.proposals, self.relations, self._before_offer = None, None, {}

    def draw_offer(self, k: int) -> None:
        """Draw what the next edit may be chosen from: `k` proposals, or all relations that are possible."""
        if self.offer is None:
            return
        self._before_offer = dict(self.rng.bit_generator.state)
        if self.offer is Offer.PROPOSALS:
            self.proposals = self.stage.proposals(self.rng, k)
        elif self.offer is Offer.BY_SLOT:
            self.by_slot = tuple(self.stage.proposals(self.rng, k, slot) for slot in range(SLOTS))
        else:
            self.relations = self.stage.relation_pool(self.rng)

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
        """What the next steps need. The offer is not kept: it is drawn again from the same generator state."""
        return {"rng": self.rng_state, "stage": self.stage.state(), "episode": self.episode.state()}

    @property
    def rng_state(self) -> dict[str, Any]:
        """Of the generator, as it was before the offer was drawn."""
        return self._before_offer or dict(self.rng.bit_generator.state)

    def load_state(self, state: Mapping[str, Any], k: int) -> None:
        """The inverse of `state`; `k` as for `draw_offer`."""
        self.rng.bit_generator.state = state["rng"]
        self.stage.load_state(state["stage"])
        self.episode = Episode.from_state(state["episode"])
        self.draw_offer(k)
