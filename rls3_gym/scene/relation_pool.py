"""The relations that moving one object can make in a scene, and edits that make them.

For every slot, places are drawn: some uniformly over the surfaces of the room, more above and below the other
objects, where the rare vertical relations are. The feasible ones show which relations are possible.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from rls3_gym.scene.arrangement import RELEASE_HEIGHT, SLOTS, Arrangement, Edit
from rls3_gym.scene.camera import FloatArray
from rls3_gym.scene.feasibility import BoolArray, IntArray, object_columns, place_many
from rls3_gym.scene.natural import PairRule, caption_table, kind_sizes, offsets_from_objects
from rls3_gym.scene.proposals import container, random_points
from rls3_gym.scene.relations import RELATIONS, clear_indices, relation_indices
from rls3_gym.scene.sight import boxes_of, hidden, points_of

CELLS = len(RELATIONS)
_ANYWHERE = 320
"""Places drawn for each slot over all surfaces."""
_NEAR = 160
"""Places drawn for each slot around the other objects."""
_SPREAD = 0.35
"""How far around them: standard deviation along x and y, meters."""


@dataclass(frozen=True, eq=False)
class RelationPool:
    """Feasible edits, n of them; `cells` says which relation each makes."""

    slots: IntArray
    """(n,) the slot whose object is moved."""
    kinds: IntArray
    """(n,) index into the kinds the pool was drawn from."""
    points: FloatArray
    """(n, 3) where its base comes to stand, meters."""
    yaws: FloatArray
    """(n,) radians."""
    cells: IntArray
    """(n, slots) relation cell of the moved object to that of each other slot; -1 where they may not be captioned."""
    turned: IntArray
    """(n, slots) relation cell of each other slot's object to the moved one; -1 likewise."""
    anywhere: BoolArray
    """(n,) whether the place was drawn over all surfaces."""
    names: tuple[str, ...]
    """The kinds the pool was drawn from."""

    @property
    def on_offer(self) -> BoolArray:
        """(slots, 26): whether some edit makes the object in a slot stand in a relation to another one."""
        offer = np.zeros((SLOTS, CELLS), np.bool_)
        for other in range(SLOTS):
            held = self.cells[:, other] >= 0
            offer[self.slots[held], self.cells[held, other]] = True
            offer[other, self.turned[held, other]] = True
        return offer

    def edits(self, rng: Generator, slot: int, cell: int) -> Iterator[Edit]:
        """Edits after which the object in `slot` stands in relation `cell` to another one; none when not possible.

        Those that move the object in `slot` come first, and of them those to places over all surfaces; then those that
        move another one instead. Otherwise the order is random.
        """
        own = (self.slots[:, None] == slot) & (self.cells == cell)
        other = np.zeros_like(own)
        other[:, slot] = self.turned[:, slot] == cell
        anywhere = self.anywhere[:, None]
        for options in (own & anywhere, own & ~anywhere, other):
            rows, partners = np.nonzero(options)
            for chosen in rng.permutation(len(rows)):
                row = int(rows[chosen])
                yield self._edit(row, int(partners[chosen]), turned=int(self.slots[row]) != slot)

    def _edit(self, row: int, partner: int, turned: bool) -> Edit:
        x, y, z = (float(v) for v in self.points[row])
        return Edit(
            slot=int(self.slots[row]),
            kind=self.names[self.kinds[row]],
            x=x,
            y=y,
            level=min(1.0, (z + 1e-3) / RELEASE_HEIGHT),
            yaw=float(self.yaws[row]),
            reference=partner,
            turned=turned,
        )


def relation_pool(
    rng: Generator,
    arrangement: Arrangement,
    kinds: Sequence[str],
    pair_rule: PairRule,
    margin_deg: float,
    min_visible: float,
) -> RelationPool:
    """Draw edits and find the relations that they make.

    Args:
        rng: Drawn from; always the same number of draws.
        arrangement: The scene as it stands, all slots filled.
        kinds: The object kinds to draw from; those in the other slots are left out.
        pair_rule: Whether a caption may be about two kinds.
        margin_deg: Least distance to a relation's boundary, degrees; 0 for no such rule.
        min_visible: Share of both objects that must be in sight; held against an estimate (see `sight.py`).

    Returns:
        The feasible ones of the edits that were drawn.
    """
    names = tuple(kinds)
    points, picks, slots = [], [], []
    for slot in range(SLOTS):
        options = np.array([names.index(kind) for kind in container(arrangement, slot, names)])
        points += [random_points(rng, arrangement.layout, _ANYWHERE), _near_others(rng, arrangement, slot)]
        picks.append(options[rng.integers(len(options), size=_ANYWHERE + _NEAR)])
        slots.append(np.full(_ANYWHERE + _NEAR, slot))
    point, kind, moved = np.concatenate(points), np.concatenate(picks), np.concatenate(slots)
    yaws = rng.uniform(0, 2 * np.pi, len(point))
    anywhere = np.tile(np.arange(_ANYWHERE + _NEAR) < _ANYWHERE, SLOTS)

    radii, heights = kind_sizes(names)[:, kind]
    levels = np.minimum(1.0, (point[:, 2] + 1e-3) / RELEASE_HEIGHT)
    z, feasible = place_many(arrangement, moved, radii, heights, point[:, :2].T, levels)
    kept = np.flatnonzero(feasible & (np.abs(z - point[:, 2]) < 1e-6))
    point, kind, moved = point[kept], kind[kept], moved[kept]

    offsets = offsets_from_objects(arrangement, point)
    cells = clear_indices(np.moveaxis(offsets, -1, 0), margin_deg)
    held = cells >= 0
    held &= caption_table(pair_rule, names, arrangement).T[kind]
    held &= moved[:, None] != np.arange(SLOTS)
    held &= _in_sight(arrangement, moved, point.T, radii[kept], heights[kept], min_visible)
    turned = relation_indices(-offsets).reshape(-1, SLOTS)
    return RelationPool(
        slots=moved,
        kinds=kind,
        points=point,
        yaws=yaws[kept],
        cells=np.where(held, cells, -1),
        turned=np.where(held, turned, -1),
        anywhere=anywhere[kept],
        names=names,
    )


def _in_sight(
    arrangement: Arrangement, moved: IntArray, bases: FloatArray, radii: FloatArray, heights: FloatArray, least: float
) -> BoolArray:
    """(n, slots) whether the camera sees so much of the moved object, and of the one in each slot, as far as boxes
    tell; `bases` (3, n)."""
    layout = arrangement.layout
    eye = np.array(layout.camera.eye)
    other_radii, other_heights, *places = object_columns(arrangement)
    others = np.array(places), other_radii, other_heights
    solids = np.array([(s.x0, s.y0, s.z0, s.x1, s.y1, s.z1) for s in layout.solids]).reshape(-1, 6).T[:, :, None, None]
    other_boxes = (corner[:, :, None, None] for corner in boxes_of(*others))
    # (..., points, n)
    points = points_of(eye, bases, radii, heights)[:, None]
    by_others = hidden(eye, points, *other_boxes)
    by_others &= (moved != np.arange(SLOTS)[:, None])[:, None]  # the moved object leaves its place
    covered = hidden(eye, points, solids[:3], solids[3:]).any(axis=0) | by_others.any(axis=0)
    other_points = points_of(eye, *others).swapaxes(1, 2)[..., None]
    by_moved = hidden(eye, other_points, *(corner[:, None, None] for corner in boxes_of(bases, radii, heights)))
    return np.asarray((covered.mean(axis=0) <= 1 - least) & (by_moved.mean(axis=1) <= 1 - least)).T


def _near_others(rng: Generator, arrangement: Arrangement, slot: int) -> FloatArray:
    """(n, 3) places about the objects in the other slots, each on a surface drawn from those of the room."""
    bases = np.array([o.position for i, o in enumerate(arrangement.objects) if i != slot])
    about = bases[rng.integers(len(bases), size=_NEAR), :2] + rng.normal(0.0, _SPREAD, (_NEAR, 2))
    heights = np.array([surface.z for surface in arrangement.layout.surfaces])
    return np.column_stack([about, heights[rng.integers(len(heights), size=_NEAR)]])
