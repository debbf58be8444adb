"""What every backend must do: all that `rls3_gym.backends.loading` knows by name are put through it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rls3_gym.backends.loading import BACKENDS, load_backend
from rls3_gym.scene.arrangement import Arrangement
from rls3_gym.scene.catalog import load_catalog
from rls3_gym.scene.layouts import draw_layout
from rls3_gym.scene.proposals import random_arrangement

SIZE = 64


@pytest.fixture(scope="module", params=BACKENDS)
def backend(request):
    made = load_backend(request.param, SIZE)
    yield made
    made.close()


@pytest.fixture
def arrangement():
    kinds = [k.name for k in load_catalog().training]
    return random_arrangement(np.random.default_rng(4), draw_layout("kitchen", 0), kinds)


def test_a_frame_has_the_documented_shapes_and_types(backend, arrangement):
    backend.reset(arrangement, seed=0)
    frame = backend.capture()
    assert frame.rgb.shape == (SIZE, SIZE, 3) and frame.rgb.dtype == np.uint8
    assert frame.ids.shape == frame.depth.shape == (SIZE, SIZE)
    assert frame.ids.dtype == np.int16 and frame.depth.dtype == np.float32
    assert frame.visible.shape == frame.pixels.shape == (3,) and frame.positions.shape == (3, 3)
    assert set(np.unique(frame.ids)) <= {-1, 0, 1, 2}
    assert ((frame.visible >= 0) & (frame.visible <= 1)).all()


def test_positions_are_those_of_the_arrangement_in_the_camera_frame(backend, arrangement):
    backend.reset(arrangement, seed=0)
    assert np.allclose(backend.capture().positions, arrangement.camera_positions(), atol=1e-3)


def test_ids_show_every_object_about_where_it_projects(backend, arrangement):
    from rls3_gym.scene.camera import CameraFrame

    backend.reset(arrangement, seed=0)
    frame = backend.capture()
    camera = CameraFrame(arrangement.layout.camera)
    for slot, thing in enumerate(arrangement.objects):
        if frame.visible[slot] < 0.9 or frame.pixels[slot] < 8:
            continue
        rows, columns = np.nonzero(frame.ids == slot)
        middle = np.array(thing.position) + [0, 0, load_catalog()[thing.kind].height / 2]
        x, y, _ = (camera.project(middle) + 1) / 2 * SIZE
        assert abs(columns.mean() - x) < 4 and abs(rows.mean() - y) < 4


def test_the_same_arrangement_gives_the_same_bytes_whatever_came_before(backend, arrangement):
    backend.reset(arrangement, seed=0)
    first = backend.capture()
    first_object = arrangement.objects[0]
    x, y, z = first_object.position
    moved = replace(first_object, position=(x, y - 0.05, z), yaw=1.0)
    backend.apply(Arrangement(arrangement.layout, (moved, *arrangement.objects[1:])))
    assert (backend.capture().rgb != first.rgb).any()
    backend.apply(arrangement)
    again = backend.capture()
    for name in ("rgb", "ids", "depth", "visible", "pixels", "positions"):
        assert (getattr(again, name) == getattr(first, name)).all(), name


def test_depth_is_smaller_on_a_nearer_object(backend, arrangement):
    backend.reset(arrangement, seed=0)
    frame = backend.capture()
    seen = [slot for slot in range(3) if (frame.ids == slot).sum() >= 8]
    distance = [np.linalg.norm(frame.positions[slot]) for slot in seen]
    depth = [np.median(frame.depth[frame.ids == slot]) for slot in seen]
    for a in range(len(seen)):
        for b in range(len(seen)):
            if distance[a] + 0.5 < distance[b]:
                assert depth[a] < depth[b]
    assert np.allclose(depth, distance, atol=0.5)
