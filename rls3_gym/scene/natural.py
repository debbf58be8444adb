"""Natural proposals: feasible edits as uniform actions would give them, for an agent to choose from.

Uniform edits are drawn in batches, and the first feasible ones are kept, each with the slot that its caption refers
to. So each proposal is an independent draw from what the random sampler makes, known before it is rendered: choosing
one of them at random is the random sampler.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from rls3_gym.scene.arrangement import SLOTS, Arrangement, Edit
from rls3_gym.scene.camera import FloatArray, camera_frame
from rls3_gym.scene.catalog import load_catalog
from rls3_gym.scene.feasibility import BoolArray, IntArray, clear_of_objects, rest_many
from rls3_gym.scene.relations import RELATIONS, Term, clear_indices
from rls3_gym.scene.rooms import Layout

PairRule = Callable[[str, str], bool]
"""Whether a caption may be about these two object kinds; always the same answer for the same two."""

MAX_TERMS = 3
TERMS_OF = np.array([[term in r.terms for term in Term] for r in RELATIONS], dtype=np.float32)
"""(26, 6): which terms each relation is described with."""
LENGTH_OF = np.array([[r.complexity == n + 1 for n in range(MAX_TERMS)] for r in RELATIONS], dtype=np.float32)
"""(26, 3): one-hot of each relation's number of terms."""
_DRAWN_PER_PROPOSAL = 6
_BATCHES = 40
_LOT_PER_PROPOSAL, _LOTS = 36, 6
"""Edits that a pool draws at once, enough for about twelve steps, and how often it draws for one step at the most."""
_SEEN_PER_PROPOSAL = 3
"""Of those that stand in the room, two thirds are feasible: so many are looked at together."""
_EVERY_SLOT = np.arange(SLOTS)[:, None]


class EditColumns(NamedTuple):
    """Edits as columns, (n,) each."""

    slots: IntArray
    kinds: IntArray
    """Index into the kinds that edits are drawn from."""
    at: FloatArray
    """(2, n): x and y."""
    levels: FloatArray
    yaws: FloatArray
    reference_draws: FloatArray
    """0..1: which of its possible references an edit takes."""

    def part(self, rows: IntArray | slice) -> EditColumns:
        """Some of the edits."""
        slots, kinds, at, levels, yaws, reference_draws = self
        return EditColumns(slots[rows], kinds[rows], at[:, rows], levels[rows], yaws[rows], reference_draws[rows])


@dataclass(frozen=True, eq=False)
class Standing:
    """n drawn edits whose objects may stand in the room where they come to rest, as far as the other objects are left
    out of it."""

    edits: EditColumns
    radii: FloatArray
    """(n,): of each object, meters."""
    heights: FloatArray
    """(n,): of each object, meters."""
    z: FloatArray
    """(n,): height at which each object comes to rest, meters."""
    bases: FloatArray
    """(3, n): there, in the camera frame, with the rounding of a frame's positions."""
    own: BoolArray
    """(slots, n): which slot each edit fills."""

    @cached_property
    def others(self) -> BoolArray:
        """(slots, n): which it does not."""
        return ~self.own


@dataclass(frozen=True, eq=False)
class Proposals:
    """n feasible edits in the order they were drawn, with what the caption of each would say. Rows are proposals."""

    arrangement: Arrangement
    """What they are edits of."""
    kinds: tuple[str, ...]
    """The kinds they were drawn from."""
    standing: Standing
    """The edits among which they are; most are never made, so an `Edit` is built when it is asked for."""
    rows: IntArray
    """(n,): which of these they are."""
    references: IntArray
    """(n,): slot of the object that the caption relates the edited one to."""
    relations: IntArray
    """(n,): the relation cell, an index into `RELATIONS`, of the edited object to the reference."""

    @cached_property
    def offsets(self) -> NDArray[np.float32]:
        """(n, 3): base of the edited object minus that of the reference, camera frame, meters."""
        offsets = self.standing.bases.T[self.rows] - _rounded_positions(self.arrangement)[self.references]
        return offsets.astype(np.float32)

    @property
    def terms(self) -> NDArray[np.float32]:
        """(n, 6): 1 for every term of the caption, in the order of `Term`."""
        return TERMS_OF[self.relations]

    @property
    def lengths(self) -> NDArray[np.float32]:
        """(n, 3): one-hot of the number of terms of the caption."""
        return LENGTH_OF[self.relations]

    @cached_property
    def edits(self) -> tuple[Edit, ...]:
        """All n edits."""
        return tuple(self.edit(row) for row in range(len(self)))

    def edit(self, row: int) -> Edit:
        """One of the edits."""
        drawn, at = self.standing.edits, self.rows[row]
        return Edit(
            slot=int(drawn.slots[at]),
            kind=self.kinds[drawn.kinds[at]],
            x=float(drawn.at[0, at]),
            y=float(drawn.at[1, at]),
            level=float(drawn.levels[at]),
            yaw=float(drawn.yaws[at]),
            reference=int(self.references[row]),
            found=(self.arrangement, float(self.standing.z[at])),
        )

    def __len__(self) -> int:
        return len(self.relations)


def natural_proposals(
    rng: Generator,
    arrangement: Arrangement,
    kinds: Sequence[str],
    k: int,
    pair_rule: PairRule,
    margin_deg: float,
    slot: int | None = None,
) -> Proposals:
    """The first `k` feasible edits of a sequence drawn as `random_edit` draws, each with its reference slot.

    An edit is kept when `place` accepts it and its object may be captioned against at least one other slot: the pair
    rule allows the two kinds, and their relation is no nearer than the margin to a boundary. The reference is drawn
    uniformly from those slots. Whether the objects can be seen is known only after rendering.

    Args:
        rng: drawn from in batches, so how much depends on how many batches were needed.
        arrangement: the scene as it stands, all slots filled; every proposal is an edit of it.
        kinds: the object kinds to draw from; those in the other slots are left out.
        k: how many proposals.
        pair_rule: whether a caption may be about two kinds.
        margin_deg: least distance to a relation's boundary, degrees; 0 for no such rule.
        slot: the only slot to be edited; any when left out.

    Returns:
        `k` proposals, in the order they were drawn. Fewer, down to none at all, when 240 k draws gave fewer: the
        caller treats none as `Reason.NO_PLACE`.
    """
    kinds = tuple(kinds)
    may_caption = caption_table(pair_rule, kinds, arrangement)
    found: list[Proposals] = []
    missing = k
    for _ in range(_BATCHES):
        drawn = _draw(rng, arrangement, kinds, k * _DRAWN_PER_PROPOSAL, slot)
        standing = _standing(drawn, arrangement.layout, kinds)
        found.append(_proposals(standing, slice(None), arrangement, kinds, may_caption, margin_deg, missing))
        missing -= len(found[-1])
        if missing == 0:
            break
    return _joined(found)


class ProposalPool:
    """Natural proposals for one step after the other in a room, at a fraction of the cost of drawing them anew.

    Edits are drawn ahead, and what is the same for all steps is looked at for all of them together: furniture, walls
    and view. Every step takes the first that are feasible in the scene as it then stands; those that were passed over
    or taken are used up. So each step's proposals are what `natural_proposals` gives, where the objects of a scene are
    of different kinds: the first feasible ones of a sequence of uniform edits.
    """

    def __init__(
        self,
        layout: Layout,
        kinds: Sequence[str],
        pair_rule: PairRule,
        margin_deg: float,
        position: Sequence[int],
        slot: int | None = None,
    ) -> None:
        """Arguments as those of `natural_proposals`.

        Args:
            layout: the room; all scenes are in it.
            kinds: the object kinds to draw from.
            pair_rule: whether a caption may be about two kinds.
            margin_deg: least distance to a relation's boundary, degrees.
            position: where to begin: the seed, how many lots were drawn before, and how many edits of this one are used
                up; (seed, 0, 0) for a new pool. As `position` gives it.
            slot: the only slot to be edited; any when left out.
        """
        self.layout, self._kinds, self._slot = layout, tuple(kinds), slot
        self._pair_rule, self._margin_deg = pair_rule, margin_deg
        self._seed, self._lot, self._used = (int(number) for number in position)
        self._standing: Standing | None = None

    @property
    def position(self) -> tuple[int, int, int]:
        """What a pool needs to go on from here."""
        return self._seed, self._lot, self._used

    def take(self, arrangement: Arrangement, k: int) -> Proposals:
        """The next `k` proposals for an arrangement of the room; fewer, down to none at all, when 216 k draws gave
        fewer."""
        may_caption = caption_table(self._pair_rule, self._kinds, arrangement)
        found: list[Proposals] = []
        missing, lots = k, 0
        while missing and lots < _LOTS:
            standing = self._standing = self._standing or self._draw(k)
            some = slice(self._used, self._used + k * _SEEN_PER_PROPOSAL)
            found.append(_proposals(standing, some, arrangement, self._kinds, may_caption, self._margin_deg, missing))
            missing -= len(found[-1])
            self._used = some.stop if missing else int(found[-1].rows[-1]) + 1
            if self._used >= len(standing.z):
                self._standing, self._lot, self._used, lots = None, self._lot + 1, 0, lots + 1
        return _joined(found)

    def _draw(self, k: int) -> Standing:
        """A lot of edits, each distributed as `random_edit`'s but for the kinds: which of them stand in the scene, and
        may not be drawn, is not known yet."""
        rng = np.random.default_rng((self._seed, self._lot))
        count = k * _LOT_PER_PROPOSAL
        slots = rng.integers(SLOTS, size=count) if self._slot is None else np.full(count, self._slot)
        drawn = _columns(rng, self.layout, slots, rng.integers(len(self._kinds), size=count))
        return _standing(drawn, self.layout, self._kinds)


def _joined(batches: Sequence[Proposals]) -> Proposals:
    """Proposals for the same arrangement, one batch after the other."""
    if len(batches) == 1:
        return batches[0]
    lots = [batch.standing for batch in batches]
    starts = np.cumsum([0, *(len(lot.z) for lot in lots)])
    columns = zip(*(lot.edits for lot in lots), strict=True)
    return Proposals(
        batches[0].arrangement,
        batches[0].kinds,
        Standing(
            EditColumns(*(np.concatenate(column, axis=-1) for column in columns)),
            np.concatenate([lot.radii for lot in lots]),
            np.concatenate([lot.heights for lot in lots]),
            np.concatenate([lot.z for lot in lots]),
            np.concatenate([lot.bases for lot in lots], axis=1),
            np.concatenate([lot.own for lot in lots], axis=1),
        ),
        np.concatenate([start + batch.rows for start, batch in zip(starts, batches, strict=False)]),
        np.concatenate([batch.references for batch in batches]),
        np.concatenate([batch.relations for batch in batches]),
    )


def _draw(
    rng: Generator, arrangement: Arrangement, kinds: tuple[str, ...], count: int, slot: int | None
) -> EditColumns:
    """`count` edits, each distributed as `random_edit`'s."""
    standing = [thing.kind for thing in arrangement.objects]
    options = [_open_kinds(kinds, (*standing[:s], *standing[s + 1 :])) for s in range(SLOTS)]
    table, sizes = np.array([order for order, _ in options]), [size for _, size in options]
    slots = rng.integers(SLOTS, size=count) if slot is None else np.full(count, slot)
    # One bound for all draws the same numbers as equal bounds do, in less time.
    picks = rng.integers(sizes[0], size=count) if len(set(sizes)) == 1 else rng.integers(np.array(sizes)[slots])
    return _columns(rng, arrangement.layout, slots, table[slots, picks])


@lru_cache(maxsize=4096)
def _open_kinds(kinds: tuple[str, ...], taken: tuple[str, ...]) -> tuple[IntArray, int]:
    """Indices of all kinds, first of those that may go into a slot when those in the others are `taken` (see
    `proposals.container`); and how many these are."""
    order = sorted(range(len(kinds)), key=lambda i: kinds[i] in taken)
    return np.array(order), sum(kind not in taken for kind in kinds)


def _columns(rng: Generator, layout: Layout, slots: IntArray, kinds: IntArray) -> EditColumns:
    """Edits of given slots and kinds; all else is drawn."""
    x0, x1, y0, y1 = layout.stage
    x, y, levels, yaws, reference_draws = rng.random((5, len(slots)))
    at = np.array((x0 + (x1 - x0) * x, y0 + (y1 - y0) * y))
    return EditColumns(slots, kinds, at, levels, 2 * np.pi * yaws, reference_draws)


def _standing(drawn: EditColumns, layout: Layout, kinds: tuple[str, ...]) -> Standing:
    """Those of the drawn edits whose objects may stand where they come to rest."""
    radii, heights = kind_sizes(kinds)[:, drawn.kinds]
    z, stands = rest_many(layout, radii, heights, drawn.at, drawn.levels)
    rows = stands.nonzero()[0]
    edits, z = drawn.part(rows), z[rows]
    bases = camera_frame(layout.camera).to_camera(np.array((*edits.at, z)).T)
    bases = np.ascontiguousarray(bases.astype(np.float32).T).astype(np.float64)
    return Standing(edits, radii[rows], heights[rows], z, bases, edits.slots == _EVERY_SLOT)


def _proposals(
    standing: Standing,
    some: slice,
    arrangement: Arrangement,
    kinds: tuple[str, ...],
    may_caption: BoolArray,
    margin_deg: float,
    most: int,
) -> Proposals:
    """The first of some edits that are feasible, at most `most`. `may_caption` is the pair rule, (slots, kinds)."""
    edits, radii, heights, z = standing.edits, standing.radii[some], standing.heights[some], standing.z[some]
    own, drawn_kinds = standing.own[:, some], edits.kinds[some]
    clear = clear_of_objects(arrangement, radii, heights, edits.at[:, some], z)
    clear &= drawn_kinds != _numbers_of(arrangement, kinds)[:, None]
    clear |= own
    offsets = standing.bases[:, None, some] - _rounded_positions(arrangement).T[:, :, None]
    # No offset of a feasible edit from an object in another slot is zero: it keeps clear of it.
    relations = clear_indices(offsets, margin_deg)
    possible = relations >= 0
    possible &= may_caption[:, drawn_kinds]
    possible &= standing.others[:, some]
    possible &= np.logical_and.reduce(clear)

    counts = possible.cumsum(axis=0)
    rows = counts[-1].nonzero()[0][:most]
    counts = counts[:, rows]
    references = (counts > edits.reference_draws[some][rows] * counts[-1]).argmax(axis=0)
    return Proposals(
        arrangement=arrangement,
        kinds=kinds,
        standing=standing,
        rows=rows + (some.start or 0),
        references=references,
        relations=relations[references, rows],
    )


def _numbers_of(arrangement: Arrangement, kinds: tuple[str, ...]) -> IntArray:
    """(slots,): which of the kinds the objects are; -1 for others."""
    numbers = _numbers(kinds)
    return np.array([numbers.get(thing.kind, -1) for thing in arrangement.objects])


@lru_cache(maxsize=64)
def _numbers(kinds: tuple[str, ...]) -> dict[str, int]:
    return {kind: number for number, kind in enumerate(kinds)}


def caption_table(pair_rule: PairRule, kinds: tuple[str, ...], arrangement: Arrangement) -> BoolArray:
    """(slots, kinds): whether a caption may be about each kind and the object in each slot."""
    return np.array([_partners(pair_rule, kinds, other.kind) for other in arrangement.objects])


@lru_cache(maxsize=512)
def _partners(pair_rule: PairRule, kinds: tuple[str, ...], other: str) -> BoolArray:
    """(kinds,): whether a caption may be about each kind and `other`."""
    return np.array([pair_rule(kind, other) for kind in kinds])


def offsets_from_objects(arrangement: Arrangement, points: FloatArray) -> FloatArray:
    """(n, 3) bases -> (n, slots, 3) camera-frame offsets from each object, with the rounding of a frame's positions."""
    bases = camera_frame(arrangement.layout.camera).to_camera(points).astype(np.float32).astype(np.float64)
    return bases[:, None] - _rounded_positions(arrangement)


def _rounded_positions(arrangement: Arrangement) -> FloatArray:
    """(slots, 3): bases in the camera frame, as a frame has them."""
    return arrangement.camera_positions().astype(np.float32).astype(np.float64)


@lru_cache(maxsize=64)
def kind_sizes(kinds: tuple[str, ...]) -> FloatArray:
    """(2, kinds): radius and height of each kind, meters."""
    found = [load_catalog()[kind] for kind in kinds]
    return np.array([[k.radius for k in found], [k.height for k in found]])
