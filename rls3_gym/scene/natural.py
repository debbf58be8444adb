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
from rls3_gym.scene.feasibility import BoolArray, IntArray, place_many
from rls3_gym.scene.relations import RELATIONS, Term, margins_deg, relation_indices

PairRule = Callable[[str, str], bool]
"""Whether a caption may be about these two object kinds; always the same answer for the same two."""

MAX_TERMS = 3
TERMS_OF = np.array([[term in r.terms for term in Term] for r in RELATIONS], dtype=np.float32)
"""(26, 6): which terms each relation is described with."""
LENGTH_OF = np.array([[r.complexity == n + 1 for n in range(MAX_TERMS)] for r in RELATIONS], dtype=np.float32)
"""(26, 3): one-hot of each relation's number of terms."""
_DRAWN_PER_PROPOSAL = 6
_BATCHES = 40


class EditColumns(NamedTuple):
    """Edits as columns, (n,) each."""

    slots: IntArray
    kinds: IntArray
    """Index into the kinds that edits are drawn from."""
    x: FloatArray
    y: FloatArray
    levels: FloatArray
    yaws: FloatArray
    reference_draws: FloatArray
    """0..1: which of its possible references an edit takes."""

    def take(self, rows: IntArray) -> EditColumns:
        """Some of the edits."""
        return EditColumns._make(column[rows] for column in self)


@dataclass(frozen=True, eq=False)
class Proposals:
    """n feasible edits in the order they were drawn, with what the caption of each would say. Rows are proposals."""

    columns: EditColumns
    """The edits; most are looked at and never made, so an `Edit` is built when it is asked for."""
    kinds: tuple[str, ...]
    """The kinds the edits were drawn from."""
    references: IntArray
    """(n,): slot of the object that the caption relates the edited one to."""
    relations: IntArray
    """(n,): the relation cell, an index into `RELATIONS`, of the edited object to the reference."""
    heights: FloatArray
    """(n,): height of the surface the object comes to rest on, meters."""
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
        columns = self.columns
        return Edit(
            slot=int(columns.slots[row]),
            kind=self.kinds[columns.kinds[row]],
            x=float(columns.x[row]),
            y=float(columns.y[row]),
            level=float(columns.levels[row]),
            yaw=float(columns.yaws[row]),
            reference=int(self.references[row]),
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
    columns = zip(*(batch.columns for batch in batches), strict=True)
    return Proposals(
        EditColumns(*(np.concatenate(column) for column in columns)),
        batches[0].kinds,
        np.concatenate([batch.references for batch in batches]),
        np.concatenate([batch.relations for batch in batches]),
        np.concatenate([batch.heights for batch in batches]),
        np.concatenate([batch.offsets for batch in batches]),
    )


def _draw(
    rng: Generator, arrangement: Arrangement, kinds: tuple[str, ...], count: int, slot: int | None
) -> EditColumns:
    """`count` edits, each distributed as `random_edit`'s."""
    standing = [thing.kind for thing in arrangement.objects]
    options = [_open_kinds(kinds, (*standing[:s], *standing[s + 1 :])) for s in range(SLOTS)]
    sizes = np.array([len(of_slot) for of_slot in options])
    x0, x1, y0, y1 = arrangement.layout.stage
    slots = rng.integers(SLOTS, size=count) if slot is None else np.full(count, slot)
    picks = rng.integers(sizes[slots])
    return EditColumns(
        slots=slots,
        kinds=np.concatenate(options)[(np.cumsum(sizes) - sizes)[slots] + picks],
        x=rng.uniform(x0, x1, count),
        y=rng.uniform(y0, y1, count),
        levels=rng.random(count),
        yaws=rng.uniform(0, 2 * np.pi, count),
        reference_draws=rng.random(count),
    )


@lru_cache(maxsize=4096)
def _open_kinds(kinds: tuple[str, ...], taken: tuple[str, ...]) -> IntArray:
    """Indices of the kinds that may go into a slot when those in the others are `taken`; see `proposals.container`."""
    return np.array([i for i, kind in enumerate(kinds) if kind not in taken])


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
    z, codes = place_many(arrangement, drawn.slots, radii, heights, drawn.x, drawn.y, drawn.levels)
    feasible = np.flatnonzero(codes < 0)
    offsets = offsets_from_objects(arrangement, np.stack([drawn.x, drawn.y, z], axis=1)[feasible])
    clear = (margins_deg(offsets) >= margin_deg).reshape(-1, SLOTS) & offsets.any(axis=2)
    elsewhere = drawn.slots[feasible, None] != np.arange(SLOTS)
    possible = elsewhere & may_caption[drawn.kinds[feasible]] & clear

    rows = np.flatnonzero(possible.any(axis=1))[:most]
    kept, possible = feasible[rows], possible[rows]
    nth = np.floor(drawn.reference_draws[kept] * possible.sum(axis=1))
    references = (possible.cumsum(axis=1) > nth[:, None]).argmax(axis=1)
    offsets = offsets[rows, references]
    return Proposals(
        columns=drawn.take(kept),
        kinds=kinds,
        references=references,
        relations=relation_indices(offsets),
        heights=z[kept],
        offsets=offsets.astype(np.float32),
    )


def caption_table(pair_rule: PairRule, kinds: tuple[str, ...], arrangement: Arrangement) -> BoolArray:
    """(kinds, slots): whether a caption may be about each kind and the object in each slot."""
    return np.stack([_partners(pair_rule, kinds, other.kind) for other in arrangement.objects], axis=1)


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
