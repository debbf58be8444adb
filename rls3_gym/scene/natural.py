"""Natural proposals: feasible edits as uniform actions would give them, for an agent to choose from.

Uniform edits are drawn in batches, and the first feasible ones are kept, each with the slot that its caption refers
to. So each proposal is an independent draw from what the random sampler makes, known before it is rendered: choosing
one of them at random is the random sampler.
"""

from __future__ import annotations

import sys
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
from rls3_gym.scene.feasibility import BoolArray, IntArray, place_many
from rls3_gym.scene.relations import RELATIONS, Term, indices_and_margins

PairRule = Callable[[str, str], bool]
"""Whether a caption may be about these two object kinds; always the same answer for the same two."""

MAX_TERMS = 3
TERMS_OF = np.array([[term in r.terms for term in Term] for r in RELATIONS], dtype=np.float32)
"""(26, 6): which terms each relation is described with."""
LENGTH_OF = np.array([[r.complexity == n + 1 for n in range(MAX_TERMS)] for r in RELATIONS], dtype=np.float32)
"""(26, 3): one-hot of each relation's number of terms."""
_DRAWN_PER_PROPOSAL = 6
_BATCHES = 40
_EVERY_SLOT = np.arange(SLOTS)


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


@dataclass(frozen=True, eq=False)
class Proposals:
    """n feasible edits in the order they were drawn, with what the caption of each would say. Rows are proposals."""

    arrangement: Arrangement
    """What they are edits of."""
    drawn: EditColumns
    """The edits among which the proposals are; most are never made, so an `Edit` is built when it is asked for."""
    rows: IntArray
    """(n,): which of the drawn edits the proposals are."""
    kinds: tuple[str, ...]
    """The kinds the edits were drawn from."""
    references: IntArray
    """(n,): slot of the object that the caption relates the edited one to."""
    heights: FloatArray
    """(n,): height at which each object comes to rest, meters."""
    relations: IntArray
    """(n,): the relation cell, an index into `RELATIONS`, of the edited object to the reference."""
    offsets: NDArray[np.float32]
    """(n, 3): base of the edited object minus that of the reference, camera frame, meters."""

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
        drawn, at = self.drawn, self.rows[row]
        return Edit(
            slot=int(drawn.slots[at]),
            kind=self.kinds[drawn.kinds[at]],
            x=float(drawn.at[0, at]),
            y=float(drawn.at[1, at]),
            level=float(drawn.levels[at]),
            yaw=float(drawn.yaws[at]),
            reference=int(self.references[row]),
            found=(self.arrangement, float(self.heights[row])),
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
        found.append(_proposals(drawn, arrangement, kinds, may_caption, margin_deg, missing))
        missing -= len(found[-1])
        if missing == 0:
            break
    return found[0] if len(found) == 1 else _joined(found)


def _joined(batches: Sequence[Proposals]) -> Proposals:
    """Proposals of the same kinds, one batch after the other."""
    columns = zip(*(batch.drawn for batch in batches), strict=True)
    starts = np.cumsum([0, *(len(batch.drawn.slots) for batch in batches)])
    return Proposals(
        batches[0].arrangement,
        EditColumns(*(np.concatenate(column, axis=-1) for column in columns)),
        np.concatenate([start + batch.rows for start, batch in zip(starts, batches, strict=False)]),
        batches[0].kinds,
        np.concatenate([batch.references for batch in batches]),
        np.concatenate([batch.heights for batch in batches]),
        np.concatenate([batch.relations for batch in batches]),
        np.concatenate([batch.offsets for batch in batches]),
    )


def _draw(
    rng: Generator, arrangement: Arrangement, kinds: tuple[str, ...], count: int, slot: int | None
) -> EditColumns:
    """`count` edits, each distributed as `random_edit`'s."""
    taken = _taken(arrangement, kinds)
    sizes = [len(kinds) - len(numbers) for numbers in taken]
    x0, x1, y0, y1 = arrangement.layout.stage
    slots = rng.integers(SLOTS, size=count) if slot is None else np.full(count, slot)
    # One bound for all draws the same numbers as equal bounds do, in less time.
    picks = rng.integers(sizes[0], size=count) if len(set(sizes)) == 1 else rng.integers(np.array(sizes)[slots])
    uniform = rng.random((5, count))
    for number in _columns(taken)[:, slots]:
        picks += picks >= number  # of the kinds that are not taken, ascending, to the number among all
    return EditColumns(
        slots=slots,
        kinds=picks,
        at=np.array(((x0,), (y0,))) + np.array(((x1 - x0,), (y1 - y0,))) * uniform[:2],
        levels=uniform[2],
        yaws=2 * np.pi * uniform[3],
        reference_draws=uniform[4],
    )


def _taken(arrangement: Arrangement, kinds: tuple[str, ...]) -> list[list[int]]:
    """For each slot, which of the kinds stand in the other slots, ascending: they may not go into this one (see
    `proposals.container`)."""
    numbers = _numbers(kinds)
    standing = [numbers.get(thing.kind) for thing in arrangement.objects]
    return [
        sorted({number for other, number in enumerate(standing) if other != slot and number is not None})
        for slot in range(SLOTS)
    ]


def _columns(taken: list[list[int]]) -> IntArray:
    """(most, slots): the numbers of each slot, and where it has fewer a number above all."""
    most = max(map(len, taken))
    return np.array([numbers + [sys.maxsize] * (most - len(numbers)) for numbers in taken], dtype=np.int64).T


@lru_cache(maxsize=64)
def _numbers(kinds: tuple[str, ...]) -> dict[str, int]:
    return {kind: number for number, kind in enumerate(kinds)}


def _proposals(
    drawn: EditColumns,
    arrangement: Arrangement,
    kinds: tuple[str, ...],
    may_caption: BoolArray,
    margin_deg: float,
    most: int,
) -> Proposals:
    """The first of the edits that are feasible, at most `most`. `may_caption` is the pair rule, (kinds, slots)."""
    radii, heights = kind_sizes(kinds)[:, drawn.kinds]
    z, possible = place_many(arrangement, drawn.slots, radii, heights, drawn.at, drawn.levels)
    feasible = possible.nonzero()[0]
    offsets = offsets_from_objects(arrangement, np.concatenate((drawn.at, z[None])).T[feasible])
    # No offset from an object in another slot is zero: a feasible edit keeps clear of it.
    relations, margins = (column.reshape(-1, SLOTS) for column in indices_and_margins(offsets))
    possible = margins >= margin_deg
    possible &= drawn.slots[feasible, None] != _EVERY_SLOT
    possible &= may_caption[drawn.kinds[feasible]]

    counts = possible.cumsum(axis=1)
    rows = counts[:, -1].nonzero()[0][:most]
    kept, counts = feasible[rows], counts[rows]
    references = (counts > (drawn.reference_draws[kept] * counts[:, -1])[:, None]).argmax(axis=1)
    return Proposals(
        arrangement=arrangement,
        drawn=drawn,
        rows=kept,
        kinds=kinds,
        references=references,
        heights=z[kept],
        relations=relations[rows, references],
        offsets=offsets[rows, references].astype(np.float32),
    )


def caption_table(pair_rule: PairRule, kinds: tuple[str, ...], arrangement: Arrangement) -> BoolArray:
    """(kinds, slots): whether a caption may be about each kind and the object in each slot."""
    return np.array([_partners(pair_rule, kinds, other.kind) for other in arrangement.objects]).T


@lru_cache(maxsize=512)
def _partners(pair_rule: PairRule, kinds: tuple[str, ...], other: str) -> BoolArray:
    """(kinds,): whether a caption may be about each kind and `other`."""
    return np.array([pair_rule(kind, other) for kind in kinds])


def offsets_from_objects(arrangement: Arrangement, points: FloatArray) -> FloatArray:
    """(n, 3) bases -> (n, slots, 3) camera-frame offsets from each object, with the rounding of a frame's positions."""
    bases = camera_frame(arrangement.layout.camera).to_camera(points).astype(np.float32).astype(np.float64)
    others = arrangement.camera_positions().astype(np.float32).astype(np.float64)
    return bases[:, None] - others


@lru_cache(maxsize=64)
def kind_sizes(kinds: tuple[str, ...]) -> FloatArray:
    """(2, kinds): radius and height of each kind, meters."""
    found = [load_catalog()[kind] for kind in kinds]
    return np.array([[k.radius for k in found], [k.height for k in found]])
