"""Placing, proposing and staging: real rooms, the real tracer."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from env_parts import draw_samples

from rls3_gym.backends.embedded.backend import EmbeddedBackend
from rls3_gym.sample import decode_samples, encode_items
from rls3_gym.scene.arrangement import RELEASE_HEIGHT, SLOTS, Edit, Reason, free_surfaces_at, place
from rls3_gym.scene.captions import parse
from rls3_gym.scene.catalog import load_catalog
from rls3_gym.scene.layouts import draw_layout, family_names, layouts
from rls3_gym.scene.proposals import arrangement_for_relation, random_arrangement, random_edit, spread_arrangement
from rls3_gym.scene.relations import RELATIONS, relation
from rls3_gym.scene.splits import is_held_out_pair
from rls3_gym.stage import FeasibilityRules, Stage
from rls3_registry.errors import UserError

KINDS = [k.name for k in load_catalog().training]


@pytest.fixture(scope="module")
def backend():
    return EmbeddedBackend(image_size=64)


def samples(backend, count, seed=0):
    return draw_samples(Stage(backend, families=family_names()), count, np.random.default_rng(seed))


@pytest.mark.parametrize("family", family_names())
def test_random_arrangements_stand_on_surfaces_apart_from_each_other_and_in_view(family):
    rng = np.random.default_rng(1)
    catalog = load_catalog()
    for index in range(4):
        layout = draw_layout(family, index)
        for draw in (random_arrangement, spread_arrangement):
            arrangement = draw(rng, layout, KINDS)
            for a, thing in enumerate(arrangement.objects):
                x, y, z = thing.position
                assert any(abs(s.z - z) < 1e-9 for s in free_surfaces_at(layout, catalog[thing.kind], x, y))
                for other in arrangement.objects[:a]:
                    gap = np.hypot(x - other.position[0], y - other.position[1])
                    apart = gap >= catalog[thing.kind].radius + catalog[other.kind].radius
                    level = z != other.position[2]
                    assert apart or level


def test_an_object_let_go_low_does_not_reach_a_shelf_and_one_let_go_high_does():
    layout = next(
        room for room in layouts("train") if any(s.name in ("shelf", "sill", "mantel") for s in room.surfaces)
    )
    shelf = next(s for s in layout.surfaces if s.name in ("shelf", "sill", "mantel"))
    arrangement = random_arrangement(np.random.default_rng(0), layout, KINDS)
    kind = min(load_catalog().training, key=lambda k: (k.radius, k.height))
    x, y = (shelf.x0 + shelf.x1) / 2, (shelf.y0 + shelf.y1) / 2
    high = place(arrangement, Edit(0, kind.name, x, y, (shelf.z + 0.01) / RELEASE_HEIGHT, 0.0))
    low = place(arrangement, Edit(0, kind.name, x, y, (shelf.z - 0.05) / RELEASE_HEIGHT, 0.0))
    assert high.arrangement is not None and high.arrangement.objects[0].position[2] == shelf.z
    assert low.arrangement is None or low.arrangement.objects[0].position[2] < shelf.z


def test_an_edit_outside_the_stage_is_refused_with_its_reason():
    arrangement = random_arrangement(np.random.default_rng(0), layouts("train")[0], KINDS)
    placement = place(arrangement, Edit(0, KINDS[0], 50.0, 0.0, 0.5, 0.0))
    assert not placement.feasible and placement.reason is Reason.OUTSIDE_ROOM


def test_an_edit_onto_another_object_is_refused():
    rng = np.random.default_rng(3)
    arrangement = random_arrangement(rng, layouts("train")[0], KINDS)
    x, y, z = arrangement.objects[1].position
    placement = place(arrangement, Edit(0, arrangement.objects[0].kind, x, y, (z + 1e-3) / RELEASE_HEIGHT, 0.0))
    assert placement.reason in (Reason.OVERLAPS_OBJECT, Reason.NO_SUPPORT, Reason.OVERLAPS_FURNITURE)


def test_a_feasible_edit_gives_a_sample_whose_caption_is_true_and_an_infeasible_one_changes_nothing(backend):
    stage, rng = Stage(backend, families=family_names()), np.random.default_rng(0)
    stage.set_scene(rng)
    feasible = refused = 0
    for _ in range(150):
        before = stage.arrangement
        edit = stage.random_edit(rng)
        outcome = stage.try_edit(edit, rng)
        if outcome.sample is None:
            refused += 1
            assert outcome.reason is not None and stage.arrangement == before
            continue
        feasible += 1
        sample, positions = outcome.sample, stage.arrangement.camera_positions().astype(np.float32).astype(np.float64)
        a, b = sample.provenance["slot_a"], sample.provenance["slot_b"]
        assert a == edit.slot and stage.arrangement.objects[a].kind == edit.kind
        assert parse(sample.caption).relation == relation(positions[a] - positions[b])
        assert not is_held_out_pair(sample.kind_a, sample.kind_b)
    assert feasible > 20 and refused > 20


def test_captured_pairs_are_clearly_visible_and_unambiguous(backend):
    rules = FeasibilityRules()
    for sample in samples(backend, 60):
        a, b = sample.provenance["slot_a"], sample.provenance["slot_b"]
        for slot in (a, b):
            assert sample.provenance["visible"][slot] >= rules.min_visible
            assert sample.provenance["pixels"][slot] >= rules.min_pixels


def test_the_same_generator_gives_the_same_samples_byte_for_byte():
    first, second = (samples(EmbeddedBackend(image_size=64), 20, seed=5) for _ in range(2))
    assert [s.caption for s in first] == [s.caption for s in second]
    assert all((a.rgb == b.rgb).all() for a, b in zip(first, second, strict=True))


def test_a_stage_goes_on_from_its_state_as_if_it_had_not_stopped(backend):
    stage, rng = Stage(backend, families=family_names()), np.random.default_rng(2)
    for _ in range(3):
        stage.set_scene(rng)
    other = Stage(EmbeddedBackend(image_size=64), families=family_names())
    other.load_state(stage.state())
    assert other.arrangement == stage.arrangement
    assert (other.frame.rgb == stage.frame.rgb).all()
    one, two = np.random.default_rng(9), np.random.default_rng(9)
    assert stage.set_scene(one) == other.set_scene(two)


def test_families_are_cycled_over_the_scenes(backend):
    stage, rng = Stage(backend, families=("bedroom", "kitchen")), np.random.default_rng(0)
    assert [stage.set_scene(rng).layout.family for _ in range(4)] == ["bedroom", "kitchen", "bedroom", "kitchen"]


@pytest.mark.parametrize("wanted", RELATIONS, ids=lambda r: r.label)
def test_every_relation_cell_can_happen(wanted):
    rng = np.random.default_rng(wanted.index)
    for layout in layouts("train") * 3:
        found = arrangement_for_relation(rng, layout, KINDS, wanted)
        if found is not None:
            a, b = found.camera_positions()[:2]
            assert relation(a - b) == wanted
            return
    pytest.fail(f"no training layout has room for {wanted.label}")


def test_what_a_relation_pool_offers_is_what_its_edits_give(backend):
    stage, rng, checked, turned = Stage(backend, families=family_names()), np.random.default_rng(0), 0, 0
    while checked < 40 or not turned:
        stage.set_scene(rng)
        pool = stage.relation_pool(rng)
        slot, cell = int(rng.integers(SLOTS)), int(rng.integers(26))
        edits = list(pool.edits(rng, slot, cell))
        assert bool(edits) == pool.on_offer[slot, cell]
        for edit in edits[:1] + edits[-1:]:
            assert place(stage.arrangement, edit).feasible
            sample = stage.preview(edit, rng).sample
            if sample is not None:
                assert (sample.relation.index, sample.slot_a) == (cell, slot)
                assert edit.turned == (edit.slot != slot)
                checked += 1
                turned += edit.turned


def test_a_scene_of_a_held_out_set_is_refused(backend):
    stage, rng = Stage(backend, families=family_names()), np.random.default_rng(0)
    stage.set_scene(rng)
    while True:
        edit = random_edit(rng, stage.arrangement, KINDS)
        placement = place(stage.arrangement, edit)
        if placement.arrangement is not None:
            break
    stage.held_out = frozenset({placement.arrangement.key})
    assert stage.try_edit(edit, rng).reason is Reason.HELD_OUT


def test_a_room_in_which_nothing_can_be_seen_is_a_clear_error(backend):
    rules = FeasibilityRules(min_pixels=4000)
    stage = Stage(backend, families=("kitchen",), rules=rules)
    with pytest.raises(UserError, match=r"room kitchen/\d+: no feasible scene"):
        stage.set_scene(np.random.default_rng(0))


@pytest.mark.parametrize("picture", ["broken", "huge"])
def test_a_picture_of_a_checkpoint_that_cannot_be_read_is_a_value_error(backend, picture):
    state = encode_items(samples(backend, 1))
    png = bytearray(state["png"].tobytes())
    if picture == "broken":
        png[:8] = b"notapng!"
    else:
        png[16:24] = (60_000).to_bytes(4, "big") * 2
        png[29:33] = zlib.crc32(png[12:29]).to_bytes(4, "big")
    with pytest.raises(ValueError, match="picture"):
        decode_samples(state | {"png": np.frombuffer(bytes(png), np.uint8)})


def test_samples_come_back_from_a_checkpoint_as_they_were(backend):
    before = samples(backend, 5)
    after = decode_samples(encode_items(before))
    for a, b in zip(before, after, strict=True):
        assert (a.rgb == b.rgb).all()
        assert (a.caption, a.negatives, a.relation, a.provenance) == (b.caption, b.negatives, b.relation, b.provenance)
