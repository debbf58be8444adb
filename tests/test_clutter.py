"""Clutter stands about in rooms, and changes nothing but the picture."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import gymnasium
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rls3_gym.backends.base import Frame, load_backend
from rls3_gym.backends.embedded.backend import EmbeddedBackend
from rls3_gym.backends.embedded.clutter import MOST_CLUTTER, room_clutter, shown_clutter
from rls3_gym.backends.embedded.rays import Camera
from rls3_gym.evalsets.specs import SETS_FOLDER, read_specs
from rls3_gym.scene import rules
from rls3_gym.scene.arrangement import Arrangement
from rls3_gym.scene.catalog import load_catalog
from rls3_gym.scene.layouts import layouts
from rls3_gym.scene.proposals import spread_arrangement
from rls3_registry.errors import UserError

KINDS = [kind.name for kind in load_catalog().kinds]
ROOMS = layouts("train") + layouts("validation") + layouts("test")


def cluttered(count: int, size: int = 48) -> EmbeddedBackend:
    return EmbeddedBackend({"supersampling": 1, "clutter": count}, image_size=size)


def picture(world: EmbeddedBackend, arrangement: Arrangement) -> Frame:
    world.reset(arrangement, seed=0)
    return world.capture()


def scene(seed: int) -> Arrangement:
    rng = np.random.default_rng(seed)
    return spread_arrangement(rng, ROOMS[int(rng.integers(len(ROOMS)))], KINDS)


@pytest.fixture(scope="module")
def plain() -> EmbeddedBackend:
    return cluttered(0)


@pytest.fixture(scope="module")
def full() -> EmbeddedBackend:
    return cluttered(8)


@given(seed=st.integers(0, 10_000))
def test_clutter_hides_no_active_object_and_moves_none(plain, full, seed):
    arrangement = scene(seed)
    without, with_clutter = picture(plain, arrangement), picture(full, arrangement)
    assert (without.ids == with_clutter.ids).all()
    for field in ("visible", "pixels", "positions"):
        assert (getattr(without, field) == getattr(with_clutter, field)).all(), field
    assert (without.rgb != with_clutter.rgb).any()


@given(seed=st.integers(0, 10_000))
def test_things_touch_neither_active_objects_nor_each_other(full, seed):
    arrangement, catalog = scene(seed), load_catalog()
    objects = full.movables(arrangement)
    shown = shown_clutter(arrangement, objects, Camera(arrangement.layout.camera), 8)
    assert len(shown) == 8
    sizes = {thing.movable: (thing.radius, thing.height) for thing in room_clutter(arrangement.layout)}
    cylinders = [(thing.position, *sizes[thing]) for thing in shown]
    cylinders += [(o.position, catalog[o.kind].radius, catalog[o.kind].height) for o in arrangement.objects]
    for number, one in enumerate(cylinders[:8]):
        for other in cylinders[number + 1 :]:
            assert rules.clear_of(*one, *other)


@pytest.mark.parametrize("room", ROOMS[::9], ids=lambda room: room.key)
def test_every_room_has_as_much_clutter_as_can_be_asked_for(room):
    things = room_clutter(room)
    assert len(things) >= 2 * MOST_CLUTTER
    for thing in things:
        x, y, z = thing.movable.position
        vertices = thing.movable.geometry.surfaces.vertices
        reach = np.hypot(vertices[:, 0], vertices[:, 1]).max()
        assert 0.95 * thing.radius < reach < thing.radius + 1e-6
        assert abs(vertices[:, 2].min()) < 1e-6 and abs(vertices[:, 2].max() - thing.height) < 1e-6
        assert any(abs(s.z - z) < 1e-9 and rules.carries(s, thing.radius, x, y) for s in room.surfaces)
        assert not any(
            rules.level_with(solid, z, z + thing.height) and rules.reaches_over(solid, thing.radius, x, y)
            for solid in room.solids
        )


def test_the_picture_is_that_of_tracing_everything_again():
    for seed in range(4):
        arrangement, world = scene(seed), cluttered(MOST_CLUTTER)
        shown, movables = picture(world, arrangement), world.movables(arrangement)
        tracer = world._tracer(arrangement.layout, 48)
        everything = tracer.trace_plain([*movables, *shown_clutter(arrangement, movables, tracer.camera, MOST_CLUTTER)])
        assert (shown.ids == np.where(everything.ids < 3, everything.ids, -1)).all()
        difference = np.abs(shown.rgb.astype(int) - everything.rgb)
        assert (difference > 1).mean() < 0.002


def test_clutter_is_the_same_in_every_process():
    code = (
        "from rls3_gym.backends.embedded.clutter import room_clutter\n"
        "from rls3_gym.scene.layouts import draw_layout\n"
        "print([(t.movable.position, t.movable.yaw, t.height) for t in room_clutter(draw_layout('bedroom', 3))])"
    )
    elsewhere = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    bedroom = next(room for room in ROOMS if room.key == "bedroom/3")
    assert elsewhere.strip() == str([(t.movable.position, t.movable.yaw, t.height) for t in room_clutter(bedroom)])


def test_the_fingerprint_names_the_clutter_and_nothing_else_changes_without_it():
    assert EmbeddedBackend({"clutter": 0}).fingerprint == EmbeddedBackend().fingerprint
    assert load_backend("embedded_cluttered", 64).fingerprint == f"{EmbeddedBackend().fingerprint}-clutter8"


@pytest.mark.parametrize("count", [-1, MOST_CLUTTER + 1, 2.5])
def test_a_wrong_number_of_things_is_named(count):
    with pytest.raises(UserError, match=r"settings\.clutter"):
        cluttered(count)


def test_items_of_the_evaluation_sets_can_be_read_in_clutter_as_without(plain, full):
    for spec in read_specs(SETS_FOLDER / "test.jsonl.gz")[::200]:
        without, with_clutter = picture(plain, spec.arrangement), picture(full, spec.arrangement)
        assert (without.visible == with_clutter.visible).all() and (without.pixels == with_clutter.pixels).all()


def test_the_same_actions_give_the_same_captions_of_other_pictures() -> None:
    captions, pictures = [], []
    for backend in ("embedded", "embedded_cluttered"):
        env: Any = gymnasium.make("rls3_gym:RLS3SceneFrozen-v0", backend=backend, steps_per_episode=12)
        env.reset(seed=3)
        infos = [env.step(action % 16)[4] for action in range(12)]
        captions.append([(info["caption"], info["reason"]) for info in infos])
        pictures.append(env.unwrapped.sample.rgb)
        env.close()
    assert captions[0] == captions[1] and sum(bool(caption) for caption, _ in captions[0]) >= 6
    assert (pictures[0] != pictures[1]).any()
