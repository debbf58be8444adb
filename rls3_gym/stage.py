"""A stage: one room with its active objects, camera and backend. An edit goes in, a captioned sample or a
reason why there is none comes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.random import Generator
from pydantic import ConfigDict, Field

from rls3_gym.backends.base import Frame, SceneBackend
from rls3_gym.sample import Sample, make_sample
from rls3_gym.scene.arrangement import SLOTS, Arrangement, Edit, Reason, check, free_surfaces_at, place
from rls3_gym.scene.catalog import load_catalog
from rls3_gym.scene.layouts import layouts
from rls3_gym.scene.natural import ProposalPool, Proposals, natural_proposals
from rls3_gym.scene.proposals import random_arrangement, random_edit
from rls3_gym.scene.relation_pool import RelationPool, relation_pool
from rls3_gym.scene.relations import margin_deg
from rls3_gym.scene.rooms import Layout, Split
from rls3_gym.scene.splits import any_pair, may_train
from rls3_registry.errors import UserError, unknown
from rls3_registry.validation import Settings

_SCENE_TRIES = 60


class FeasibilityRules(Settings):
    """What a sample must meet beyond geometry."""

    model_config = ConfigDict(strict=True, use_attribute_docstrings=True)

    min_visible: float = Field(0.5, ge=0, le=1)
    """Share of an object's own pixels that must be seen."""
    min_pixels: int = Field(8, ge=0, le=64 * 64)
    """Pixels of an object that must be seen, in a 64-pixel picture (scaled with the picture's area)."""
    reject_ambiguous: bool = True
    """Refuse pairs near a sector boundary, so that a sampler can't earn reward with ambiguous captions."""
    ambiguity_margin_deg: float = Field(4.0, ge=0, le=22)
    """Pairs nearer to a boundary than this are ambiguous, degrees."""

    def visibility(self, seen: Frame | Sample, slot: int) -> Reason | None:
        """Why the object in `slot` can't be seen well enough in a picture; None when it can."""
        if seen.visible[slot] < self.min_visible:
            return Reason.HIDDEN
        if seen.pixels[slot] * (64 / seen.rgb.shape[0]) ** 2 < self.min_pixels:
            return Reason.TOO_SMALL
        return None


@dataclass(frozen=True, eq=False)
class Outcome:
    """The result of an edit: a sample, or the reason why there is none."""

    sample: Sample | None
    reason: Reason | None
    frame: Frame | None


class Stage:
    """One active scene. Generators are handed in; the stage holds no randomness of its own."""

    def __init__(
        self,
        backend: SceneBackend,
        *,
        families: Sequence[str],
        split: Split = "train",
        kinds: Sequence[str] | None = None,
        rules: FeasibilityRules = FeasibilityRules(),  # noqa: B008  frozen
        held_out: frozenset[str] = frozenset(),
    ) -> None:
        """`families` are cycled; `kinds` defaults to the training kinds; scenes in `held_out` are refused.

        On training layouts the object pairs of the test set are never captioned (`scene/splits.py`).
        """
        self.backend = backend
        self.split = split
        self.families = tuple(families)
        self.kinds = tuple(kinds) if kinds is not None else tuple(k.name for k in load_catalog().training)
        self.rules = rules
        self.held_out = held_out
        self._may_caption = may_train if split == "train" else any_pair
        self._layouts: dict[str, list[Layout]] = {
            family: [room for room in layouts(split) if room.family == family] for family in self.families
        }
        for family, found in self._layouts.items():
            if not found:
                raise UserError(f"room family {family!r} has no layout in split {split!r}")
        self._scenes = 0
        self._arrangement: Arrangement | None = None
        self._frame: Frame | None = None

    @property
    def arrangement(self) -> Arrangement:
        """The current arrangement. Raises `RuntimeError` before the first `set_scene`."""
        if self._arrangement is None:
            raise RuntimeError("no scene is set; call set_scene first")
        return self._arrangement

    @property
    def frame(self) -> Frame:
        """The picture of the current arrangement (captured when first asked for)."""
        if self._frame is None:
            self.backend.apply(self.arrangement)
            self._frame = self.backend.capture()
        return self._frame

    def restart(self, first: int = 0) -> None:
        """Return to the state before the first scene: the cycle of families starts over, with family number `first`."""
        self._scenes, self._arrangement, self._frame = first, None, None

    def set_arrangement(self, arrangement: Arrangement) -> None:
        """Show a given arrangement; the cycle of families stays where it is. Raises as `check_arrangement`."""
        self.check_arrangement(arrangement)
        self._show(arrangement)

    def check_arrangement(self, arrangement: Arrangement) -> None:
        """Raise `UserError` when an object in a given arrangement is unknown, overlaps something, floats, or can't be
        seen well enough. The scene stays as it is."""
        catalog = load_catalog()
        if len(arrangement.objects) != SLOTS:
            raise UserError(f"arrangement: needs {SLOTS} objects, not {len(arrangement.objects)}")
        for slot, thing in enumerate(arrangement.objects):
            if thing.kind not in self.kinds:
                raise unknown("object kind", thing.kind, self.kinds, f"arrangement: slot {slot}")
            kind, (x, y, z) = catalog[thing.kind], thing.position
            reason = check(arrangement, slot, thing, kind)
            if reason is None and not any(
                abs(s.z - z) < 1e-3 for s in free_surfaces_at(arrangement.layout, kind, x, y)
            ):
                reason = Reason.NO_SUPPORT
            if reason is not None:
                raise UserError(f"arrangement: slot {slot} ({thing.kind}) is not feasible: {reason.value}")
        self.backend.reset(arrangement, seed=arrangement.layout.index)
        self.backend.apply(arrangement)
        frame = self.backend.capture()
        if self.has_scene:
            self.show_again()
        for slot in range(SLOTS):
            hidden = self.rules.visibility(frame, slot)
            if hidden is not None:
                raise UserError(f"arrangement: slot {slot} is not seen well enough: {hidden.value}")

    def set_scene(self, rng: Generator) -> Arrangement:
        """Go to the next family of the cycle: a random layout of the split, three random objects in sight.

        Raises `UserError` naming the layout when no such scene is found.
        """
        rooms = self._layouts[self.families[self._scenes % len(self.families)]]
        layout = rooms[int(rng.integers(len(rooms)))]
        self._scenes += 1
        for attempt in range(_SCENE_TRIES):
            arrangement = random_arrangement(rng, layout, self.kinds)
            if attempt == 0:
                self.backend.reset(arrangement, seed=layout.index)
            self.backend.apply(arrangement)
            frame = self.backend.capture()
            if all(self.rules.visibility(frame, slot) is None for slot in range(SLOTS)):
                self._arrangement, self._frame = arrangement, frame
                return arrangement
        raise UserError(
            f"room {layout.key}: no feasible scene in {_SCENE_TRIES} tries: objects are always hidden or too small; "
            "loosen min_visible or min_pixels, or change the room's YAML"
        )

    def try_edit(self, edit: Edit, rng: Generator) -> Outcome:
        """Carry out an edit and caption the edited object against another active one.

        The arrangement changes only when there is a sample. See `preview` for what is drawn.
        """
        outcome = self.preview(edit, rng)
        if outcome.sample is not None:
            self._arrangement, self._frame = outcome.sample.arrangement, outcome.frame
        return outcome

    def preview(self, edit: Edit, rng: Generator) -> Outcome:
        """What an edit would give. The scene stays as it is.

        The caption relates the edited object to the one in `edit.reference`, or to one drawn with `rng` from those
        that are in sight and not ambiguous.
        """
        placement = place(self.arrangement, edit)
        if placement.arrangement is None:
            return Outcome(None, placement.reason, None)
        arrangement = placement.arrangement
        if arrangement.key in self.held_out:
            return Outcome(None, Reason.HELD_OUT, None)
        self.backend.apply(arrangement)
        frame = self.backend.capture()
        kinds = [o.kind for o in arrangement.objects]
        reference = self._reference(frame, kinds, edit.slot, edit.reference, rng)
        if isinstance(reference, Reason):
            return Outcome(None, reason=reference, frame=None)
        pair = (reference, edit.slot) if edit.turned else (edit.slot, reference)
        return Outcome(make_sample(arrangement, frame, *pair), None, frame)

    def random_edit(self, rng: Generator) -> Edit:
        """An edit drawn uniformly: what a uniform `box` action means."""
        return random_edit(rng, self.arrangement, self.kinds)

    def proposals(self, rng: Generator, k: int, slot: int | None = None) -> Proposals:
        """`k` edits as uniform `box` actions would give them, all geometrically feasible, each with its reference; of
        one slot, where that is given."""
        return natural_proposals(rng, self.arrangement, self.kinds, k, self._may_caption, self._margin_deg, slot)

    def proposal_pool(self, position: Sequence[int], slot: int | None = None) -> ProposalPool:
        """Proposals as those of `proposals`, for one step after the other in the room of the current scene, drawn
        ahead; `position` as for `ProposalPool`."""
        layout, rule = self.arrangement.layout, self._may_caption
        return ProposalPool(layout, self.kinds, rule, self._margin_deg, position, slot)

    @property
    def _margin_deg(self) -> float:
        return self.rules.ambiguity_margin_deg if self.rules.reject_ambiguous else 0.0

    def relation_pool(self, rng: Generator) -> RelationPool:
        """The relations that moving one object can make here, and edits that make them."""
        rule, least = self._may_caption, self.rules.min_visible
        return relation_pool(rng, self.arrangement, self.kinds, rule, self._margin_deg, least)

    def _reference(
        self, frame: Frame, kinds: Sequence[str], slot: int, wanted: int | None, rng: Generator
    ) -> int | Reason:
        hidden = self.rules.visibility(frame, slot)
        if hidden is not None:
            return hidden
        others = [s for s in range(SLOTS) if s != slot] if wanted is None else [wanted]
        others = [s for s in others if self._may_caption(kinds[slot], kinds[s])]
        if not others:
            return Reason.HELD_OUT
        seen = [s for s in others if self.rules.visibility(frame, s) is None]
        if not seen:
            return Reason.HIDDEN
        clear = [s for s in seen if not self.is_ambiguous(frame, slot, s)] if self.rules.reject_ambiguous else seen
        if not clear:
            return Reason.AMBIGUOUS
        return clear[0] if len(clear) == 1 else clear[int(rng.integers(len(clear)))]

    def is_ambiguous(self, frame: Frame, slot_a: int, slot_b: int) -> bool:
        """Whether the pair's relation is within the ambiguity margin of another one."""
        offset = frame.offset(slot_a, slot_b)
        return not any(offset) or margin_deg(offset) < self.rules.ambiguity_margin_deg

    @property
    def has_scene(self) -> bool:
        """Whether there is a current arrangement."""
        return self._arrangement is not None

    @property
    def scenes(self) -> int:
        """The scene cycle's position."""
        return self._scenes

    def state(self) -> dict[str, Any]:
        """JSON-ready: the scene cycle's position and the current arrangement."""
        return {"scenes": self._scenes, "arrangement": self.arrangement.encode()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`; the picture is taken again and is the same."""
        self._scenes = int(state["scenes"])
        self._show(Arrangement.decode(state["arrangement"]))

    def show_again(self) -> None:
        """Put the current arrangement back into the backend after it has shown something else."""
        self._show(self.arrangement)

    def _show(self, arrangement: Arrangement) -> None:
        """Make an arrangement the current one; its picture is taken when first asked for."""
        self._arrangement, self._frame = arrangement, None
        self.backend.reset(arrangement, seed=arrangement.layout.index)
