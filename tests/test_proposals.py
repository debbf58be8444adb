"""Many edits at once: the same rules as one by one, natural proposals, the nearest free place, the floor plan."""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rls3_gym.backends.embedded.backend import EmbeddedBackend
from rls3_gym.scene.arrangement import RELEASE_HEIGHT, SLOTS, Arrangement, Edit, Reason, free_surfaces_at, place
from rls3_gym.scene.camera import CameraFrame
from rls3_gym.scene.catalog import ObjectKind, load_catalog
from rls3_gym.scene.feasibility import (
    PLAN_CELLS,
    SLIM_RADIUS,
    TYPICAL_HEIGHT,
    TYPICAL_RADIUS,
    floor_plan,
    nearest_free_place,
    place_many,
    stage_grid,
)
from rls3_gym.scene.layouts import draw_layout, family_names, layouts
from rls3_gym.scene.natural import ProposalPool, Proposals, Standing, natural_proposals
from rls3_gym.scene.proposals import random_arrangement, random_edit
from rls3_gym.scene.relations import RELATIONS, Term, margin_deg, relation
from rls3_gym.scene.splits import is_held_out_pair
from rls3_gym.stage import Stage

CATALOG = load_catalog()
KINDS = [k.name for k in CATALOG.training]
MARGIN = 4.0


def may_caption(kind_a: str, kind_b: str) -> bool:
    return not is_held_out_pair(kind_a, kind_b)


def from_a_pool(rng, arrangement, kinds, k, pair_rule, margin) -> Proposals:
    """As `natural_proposals`, from a new pool."""
    return ProposalPool(arrangement.layout, kinds, pair_rule, margin, (rng.integers(2**63), 0, 0)).take(arrangement, k)


SOURCES = pytest.mark.parametrize("propose", [natural_proposals, from_a_pool])


def edit_columns(edits: list[Edit]) -> tuple[np.ndarray, ...]:
    """The arguments of `place_many` after the arrangement."""
    kinds = [CATALOG[e.kind] for e in edits]
    columns = [[e.slot for e in edits], [k.radius for k in kinds], [k.height for k in kinds]]
    columns += [[[e.x for e in edits], [e.y for e in edits]], [e.level for e in edits]]
    return tuple(np.array(column) for column in columns)


def together(arrangement: Arrangement, edits: list[Edit]) -> list[float | None]:
    """The height at which each edit's object comes to stand; None for infeasible ones."""
    heights, feasible = place_many(arrangement, *edit_columns(edits))
    return [z if stands else None for z, stands in zip(heights.tolist(), feasible.tolist(), strict=True)]


def one_by_one(arrangement: Arrangement, edits: list[Edit]) -> list[float | None]:
    """The same, edit by edit."""
    placements = [(place(arrangement, edit).arrangement, edit.slot) for edit in edits]
    return [None if after is None else after.objects[slot].position[2] for after, slot in placements]


@pytest.mark.parametrize("family", family_names())
def test_many_edits_at_once_have_the_outcomes_they_have_one_by_one(family: str) -> None:
    rng = np.random.default_rng(0)
    reasons: Counter[Reason | None] = Counter()
    for layout in [room for room in layouts("train") if room.family == family][:8]:
        arrangement = random_arrangement(rng, layout, KINDS)
        x0, x1, y0, y1 = layout.stage
        edits = [random_edit(rng, arrangement, KINDS) for _ in range(400)]
        edits += [
            replace(e, x=rng.uniform(x0 - 0.1, x1 + 0.1), y=rng.uniform(y0, y1 + 0.1), level=rng.uniform(-0.1, 1.2))
            for e in edits[:200]
        ]
        assert together(arrangement, edits) == one_by_one(arrangement, edits)
        reasons.update(place(arrangement, edit).reason for edit in edits)
    physical = {Reason.OUTSIDE_ROOM, Reason.NO_SUPPORT, Reason.OVERLAPS_FURNITURE, Reason.OVERLAPS_OBJECT}
    assert set(reasons) == {None, Reason.OUT_OF_VIEW} | physical


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_the_outcomes_are_the_same_where_things_just_touch(data: st.DataObject) -> None:
    """Places and levels at which one of the rules is about to change its mind, in rooms with and without a floor."""
    layout = draw_layout(data.draw(st.sampled_from(family_names())), data.draw(st.integers(0, 7)))
    arrangement = random_arrangement(np.random.default_rng(data.draw(st.integers(0, 99))), layout, KINDS)
    kind = CATALOG[data.draw(st.sampled_from(KINDS))]
    surfaces = layout.surfaces[data.draw(st.integers(0, 1)) :]
    clearance = data.draw(st.sampled_from([layout.height, kind.height, kind.height - 0.01]))
    layout = replace(
        layout,
        x0=data.draw(st.sampled_from([layout.x0, layout.stage[0]])),
        y1=data.draw(st.sampled_from([layout.y1, layout.stage[3]])),
        surfaces=tuple(replace(s, clearance=min(s.clearance, clearance)) for s in surfaces),
        solids=data.draw(st.sampled_from([layout.solids, ()])),
    )
    arrangement = replace(arrangement, layout=layout)
    rectangles = [*layout.surfaces, *layout.solids]
    gaps = (0.0, kind.radius, -kind.radius, kind.radius / 2, -kind.radius / 2)
    reach = [kind.radius + CATALOG[o.kind].radius for o in arrangement.objects]
    xs = [e + gap for r in rectangles for e in (r.x0, r.x1) for gap in gaps] + [*layout.stage[:2]]
    ys = [e + gap for r in rectangles for e in (r.y0, r.y1) for gap in gaps] + [*layout.stage[2:]]
    xs += [o.position[0] + d for o, d in zip(arrangement.objects, reach, strict=True)] + [layout.x0 + kind.radius]
    ys += [o.position[1] for o in arrangement.objects] + [layout.y1 - kind.radius]
    levels = [(s.z + nudge) / RELEASE_HEIGHT for s in layout.surfaces for nudge in (0.0, 1e-9, -1e-9)]
    place_of = st.tuples(st.integers(0, 2), st.sampled_from(xs), st.sampled_from(ys), st.sampled_from(levels))
    drawn = data.draw(st.lists(place_of, min_size=20, max_size=20))
    edits = [Edit(slot, kind.name, x, y, level, 0.0) for slot, x, y, level in drawn]
    assert together(arrangement, edits) == one_by_one(arrangement, edits)


@given(st.integers(0, 27), st.sampled_from(family_names()), st.integers(0, 1000))
def test_distances_along_the_camera_axes_are_those_that_the_projection_is_made_of(index, family, seed) -> None:
    frame = CameraFrame(draw_layout(family, index).camera)
    points = np.random.default_rng(seed).uniform(-2, 3, (20, 3))
    right, up, forward = frame.along_axes(*points.T)
    x, y, distance = frame.project(points).T
    ahead = forward > 0.01
    assert np.allclose(forward, distance)
    assert np.allclose((x * forward * frame.half_width)[ahead], right[ahead])
    assert np.allclose((y * forward * frame.half_width)[ahead], -up[ahead])
    assert all(
        frame.along_axes(*p) == (r, u, f) for p, r, u, f in zip(points.tolist(), right, up, forward, strict=True)
    )


@SOURCES
@pytest.mark.parametrize("inside", [0, 1, 2, 3])
def test_proposals_take_any_kind_that_stands_in_no_other_slot(inside: int, propose) -> None:
    """Whether or not the objects of the scene are of the kinds that edits are drawn from."""
    rng = np.random.default_rng(inside)
    arrangement = random_arrangement(rng, draw_layout("kitchen", 0), KINDS)
    standing = [thing.kind for thing in arrangement.objects]
    container = standing[:inside] + [kind for kind in KINDS if kind not in standing][:4]
    taken = {slot: {k for s, k in enumerate(standing) if s != slot} for slot in range(SLOTS)}
    seen = {slot: set() for slot in range(SLOTS)}
    for _ in range(20):
        for edit in propose(rng, arrangement, container, 16, lambda a, b: True, MARGIN).edits:
            seen[edit.slot].add(edit.kind)
    assert seen == {slot: set(container) - taken[slot] for slot in range(SLOTS)}


@SOURCES
@pytest.mark.parametrize("family", family_names())
def test_natural_proposals_are_feasible_edits_with_a_clear_reference(family: str, propose) -> None:
    rng = np.random.default_rng(1)
    for index in range(6):
        arrangement = random_arrangement(rng, draw_layout(family, index), KINDS)
        proposals = propose(rng, arrangement, KINDS, 8, may_caption, MARGIN)
        assert len(proposals) == 8
        assert proposals.terms.shape == (8, 6) and proposals.lengths.shape == (8, 3)
        for row, edit in enumerate(proposals.edits):
            after = place(arrangement, replace(edit, found=None)).arrangement
            assert after is not None and after == place(arrangement, edit).arrangement
            reference = proposals.edits[row].reference
            assert reference != edit.slot
            assert may_caption(edit.kind, after.objects[reference].kind)
            a, b = after.camera_positions()[[edit.slot, reference]]
            assert np.allclose(proposals.offsets[row], a - b, atol=1e-6)
            assert margin_deg(a - b) >= MARGIN - 1e-4
            truth = relation(a - b)
            assert RELATIONS[proposals.relations[row]] == truth
            assert [Term(t) for t in np.flatnonzero(proposals.terms[row])] == sorted(truth.terms)
            assert proposals.lengths[row].tolist() == [float(truth.complexity == n) for n in (1, 2, 3)]


def test_a_proposal_is_looked_at_again_in_any_other_arrangement() -> None:
    rng = np.random.default_rng(3)
    arrangement = random_arrangement(rng, draw_layout("kitchen", 0), KINDS)
    reasons = set()
    for edit in natural_proposals(rng, arrangement, KINDS, 64, may_caption, MARGIN).edits:
        other = random_arrangement(rng, arrangement.layout, KINDS)
        assert place(other, edit) == place(other, replace(edit, found=None))
        reasons.add(place(other, edit).reason)
    assert Reason.OVERLAPS_OBJECT in reasons and None in reasons


@pytest.mark.parametrize("slot", [None, 1])
def test_a_pool_gives_the_first_feasible_of_the_edits_it_draws_step_by_step(slot: int | None, monkeypatch) -> None:
    """Held against the rules of one edit, in scenes that change, over more than one lot."""
    drawn: list[Edit] = []
    draw = ProposalPool._draw

    def noted(pool: ProposalPool, k: int) -> Standing:
        lot = draw(pool, k)
        rows, none = np.arange(len(lot.z)), np.zeros(len(lot.z), np.int64)
        drawn.extend(Proposals(scene, tuple(KINDS), lot, rows, none, none).edits)
        return lot

    monkeypatch.setattr(ProposalPool, "_draw", noted)
    rng = np.random.default_rng(5)
    scene = random_arrangement(rng, draw_layout("living_room", 3), KINDS)
    pool, passed = ProposalPool(scene.layout, KINDS, may_caption, MARGIN, (7, 0, 0), slot), 0
    for _ in range(40):
        proposals = pool.take(scene, 4)
        wanted = [e.slot for e in proposals.edits], [(e.x, e.y, e.kind, e.yaw) for e in proposals.edits]
        first: list[Edit] = []
        while len(first) < 4:
            edit = replace(drawn[passed], found=None, reference=None)
            passed += 1
            others = [thing for s, thing in enumerate(scene.objects) if s != edit.slot]
            after = place(scene, edit).arrangement
            if after is None or edit.kind in [thing.kind for thing in others]:
                continue
            offsets = after.camera_positions()[edit.slot] - after.camera_positions()
            if any(
                s != edit.slot and margin_deg(offset) >= MARGIN and may_caption(edit.kind, after.objects[s].kind)
                for s, offset in enumerate(offsets)
            ):
                first.append(edit)
        assert ([e.slot for e in first], [(e.x, e.y, e.kind, e.yaw) for e in first]) == wanted
        assert slot is None or set(wanted[0]) == {slot}
        scene = place(scene, proposals.edits[int(rng.integers(4))]).arrangement
    assert pool.position[1] >= 1


def test_a_pool_goes_on_from_its_position() -> None:
    rng = np.random.default_rng(0)
    scenes = [random_arrangement(rng, draw_layout("kitchen", 1), KINDS) for _ in range(60)]
    pool = ProposalPool(scenes[0].layout, KINDS, may_caption, MARGIN, (11, 0, 0))
    for before, after in zip(scenes, scenes[1:], strict=False):
        pool.take(before, 4)
        other = ProposalPool(scenes[0].layout, KINDS, may_caption, MARGIN, pool.position)
        assert other.take(after, 4).edits == copy.deepcopy(pool).take(after, 4).edits
    assert pool.position[1] >= 1


def test_a_proposal_becomes_the_sample_it_promised_or_is_hidden() -> None:
    stage, rng = Stage(EmbeddedBackend(image_size=64), families=family_names()), np.random.default_rng(0)
    made = 0
    for _ in range(40):
        stage.set_scene(rng)
        proposals = natural_proposals(rng, stage.arrangement, KINDS, 8, may_caption, MARGIN)
        row = int(rng.integers(len(proposals)))
        edit, reference = proposals.edits[row], proposals.edits[row].reference
        outcome = stage.try_edit(edit, rng)
        if outcome.sample is None:
            assert outcome.reason in (Reason.HIDDEN, Reason.TOO_SMALL)
            continue
        made += 1
        assert outcome.sample.relation.index == proposals.relations[row]
        assert (outcome.sample.provenance["slot_a"], outcome.sample.provenance["slot_b"]) == (edit.slot, reference)
    assert made >= 25


def natural_sample(propose, rng: np.random.Generator, arrangement: Arrangement) -> tuple[Edit, int, int]:
    """An edit, its reference slot and its relation cell: one proposal chosen without looking."""
    proposals = propose(rng, arrangement, KINDS, 8, may_caption, MARGIN)
    row = int(rng.integers(len(proposals)))
    return proposals.edits[row], proposals.edits[row].reference, int(proposals.relations[row])


def rejection_sample(rng: np.random.Generator, arrangement: Arrangement) -> tuple[Edit, int, int]:
    """The same from uniform edits one by one, until one is feasible and has a reference."""
    while True:
        edit = random_edit(rng, arrangement, KINDS)
        after = place(arrangement, edit).arrangement
        if after is None:
            continue
        positions = after.camera_positions()
        offsets = {s: positions[edit.slot] - positions[s] for s in range(SLOTS) if s != edit.slot}
        clear = [
            s for s, o in offsets.items() if margin_deg(o) >= MARGIN and may_caption(edit.kind, after.objects[s].kind)
        ]
        if clear:
            reference = clear[int(rng.integers(len(clear)))]
            return edit, reference, relation(offsets[reference]).index


def chi_square(first: list[int], second: list[int]) -> tuple[float, int]:
    """Statistic and degrees of freedom for two samples of equal size from the same categories."""
    size = max(*first, *second) + 1
    a, b = np.bincount(first, minlength=size), np.bincount(second, minlength=size)
    often = a + b >= 10
    a, b = np.append(a[often], a[~often].sum()), np.append(b[often], b[~often].sum())
    used = a + b > 0
    return float((((a - b) ** 2)[used] / (a + b)[used]).sum()), int(used.sum()) - 1


@SOURCES
@pytest.mark.parametrize("room", ["kitchen/0", "living_room/3"])
def test_choosing_a_proposal_without_looking_is_the_random_sampler(room: str, propose) -> None:
    layout = next(layout for layout in layouts("train") if layout.key == room)
    arrangement = random_arrangement(np.random.default_rng(0), layout, KINDS)
    x0, x1, y0, y1 = layout.stage
    draws = [
        [draw(rng, arrangement) for _ in range(2000)]
        for draw, rng in (
            (partial(natural_sample, propose), np.random.default_rng(1)),
            (rejection_sample, np.random.default_rng(2)),
        )
    ]
    views = {
        "relation": lambda e, r, cell: cell,
        "slots": lambda e, r, cell: e.slot * SLOTS + r,
        "kind": lambda e, r, cell: KINDS.index(e.kind),
        "place": lambda e, r, cell: int((e.x - x0) / (x1 - x0) * 6) * 6 + int((e.y - y0) / (y1 - y0) * 6),
        "level": lambda e, r, cell: int(e.level * 10),
        "yaw": lambda e, r, cell: int(e.yaw / (2 * np.pi) * 8),
    }
    for name, view in views.items():
        statistic, freedom = chi_square(*([view(*sample) for sample in samples] for samples in draws))
        assert statistic < freedom + 3 * np.sqrt(2 * freedom), name


def test_proposals_depend_on_the_generator_alone() -> None:
    arrangement = random_arrangement(np.random.default_rng(0), layouts("train")[0], KINDS)
    one, two = (
        natural_proposals(np.random.default_rng(7), arrangement, KINDS, 8, may_caption, MARGIN) for _ in range(2)
    )
    assert one.edits == two.edits
    for name in ("relations", "offsets"):
        assert getattr(one, name).tobytes() == getattr(two, name).tobytes()


@SOURCES
def test_a_scene_without_a_feasible_edit_has_no_proposals(propose) -> None:
    arrangement = random_arrangement(np.random.default_rng(0), layouts("train")[0], KINDS)
    none = propose(np.random.default_rng(0), arrangement, KINDS, 8, lambda a, b: False, MARGIN)
    assert len(none) == 0
    assert none.offsets.shape == (0, 3) and none.terms.shape == (0, 6) and none.lengths.shape == (0, 3)


@pytest.mark.parametrize("family", family_names())
def test_the_nearest_free_place_is_free_and_no_grid_point_is_nearer(family: str) -> None:
    rng = np.random.default_rng(4)
    moved = 0
    for index in range(4):
        arrangement = random_arrangement(rng, draw_layout(family, index), KINDS)
        grid = np.stack(stage_grid(arrangement.layout), axis=1)
        for _ in range(5):
            edit = random_edit(rng, arrangement, KINDS)
            found = nearest_free_place(arrangement, edit.slot, edit.kind, edit.x, edit.y, edit.level)
            assert found is not None
            assert place(arrangement, replace(edit, x=found[0], y=found[1])).feasible
            if place(arrangement, edit).feasible:
                assert found == (edit.x, edit.y)
                continue
            moved += 1
            distances = np.hypot(*(grid - (edit.x, edit.y)).T)
            nearer = grid[distances < np.hypot(found[0] - edit.x, found[1] - edit.y) - 1e-9]
            assert not any(place(arrangement, replace(edit, x=x, y=y)).feasible for x, y in nearer.tolist())
    assert moved > 5


def test_there_is_no_nearest_place_where_nothing_is_free() -> None:
    arrangement = random_arrangement(np.random.default_rng(0), layouts("train")[0], KINDS)
    below_the_floor = -0.1
    assert nearest_free_place(arrangement, 0, arrangement.objects[0].kind, 0.0, 1.0, below_the_floor) is None


def test_the_grid_covers_the_stage_edges_included() -> None:
    for layout in layouts("train")[::20]:
        x, y = stage_grid(layout)
        assert (x.min(), x.max(), y.min(), y.max()) == layout.stage
        for axis in (np.unique(x), np.unique(y)):
            assert np.diff(axis).max() <= 0.025 + 1e-9


@pytest.mark.parametrize("family", family_names())
def test_the_floor_plan_says_where_a_cell_carries_an_object_and_how_much_of_its_floor_is_blocked(family: str) -> None:
    layout = draw_layout(family, 1)
    plan = floor_plan(layout)
    assert plan.shape == (PLAN_CELLS, PLAN_CELLS, 2) and plan.dtype == np.float32
    assert not plan.flags.writeable and floor_plan(layout) is plan
    slim, typical = (ObjectKind("", "", radius, TYPICAL_HEIGHT, False) for radius in (SLIM_RADIUS, TYPICAL_RADIUS))
    x0, x1, y0, y1 = layout.stage
    shares = (np.arange(4) + 0.5) / 4
    for row in range(PLAN_CELLS):
        for column in range(PLAN_CELLS):
            xs = x0 + (column + shares) / PLAN_CELLS * (x1 - x0)
            ys = y0 + (row + shares) / PLAN_CELLS * (y1 - y0)
            points = [(float(x), float(y)) for x in xs for y in ys]
            heights = [s.z for x, y in points for s in free_surfaces_at(layout, slim, x, y)]
            blocked = [all(s.z > 0 for s in free_surfaces_at(layout, typical, x, y)) for x, y in points]
            assert plan[row, column, 0] == pytest.approx(max(heights, default=0.0))
            assert plan[row, column, 1] == pytest.approx(np.mean(blocked))
    assert plan[..., 0].max() > 0 and 0 < plan[..., 1].mean() < 1
