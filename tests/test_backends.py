"""What every backend must do: all in `registry/backends` are put through it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import world_pictures
from PIL import Image

import rls3_registry
from rls3_gym.backends.base import load_backend
from rls3_gym.backends.embedded.backend import EmbeddedBackend
from rls3_gym.scene.arrangement import Arrangement
from rls3_gym.scene.catalog import load_catalog
from rls3_gym.scene.layouts import draw_layout
from rls3_gym.scene.proposals import random_arrangement
from rls3_registry.errors import UserError
from rls3_registry.validation import Settings, check

SIZE = 64


@pytest.fixture(scope="module", params=rls3_registry.names("backends"))
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


def test_a_capture_of_another_size_shows_the_same_scene(backend, arrangement):
    backend.reset(arrangement, seed=0)
    small, large = backend.capture(), backend.capture(2 * SIZE)
    assert large.rgb.shape == (2 * SIZE, 2 * SIZE, 3)
    assert np.allclose(large.visible, small.visible, atol=0.15)
    assert (backend.capture().rgb == small.rgb).all()


def test_a_fingerprint_names_backend_size_and_settings(backend):
    prints = {
        backend.fingerprint,
        EmbeddedBackend(image_size=32).fingerprint,
        EmbeddedBackend({"supersampling": 1}, image_size=SIZE).fingerprint,
    }
    assert len(prints) == 3
    assert load_backend("embedded", SIZE).fingerprint == EmbeddedBackend(image_size=SIZE).fingerprint


def test_the_world_looks_as_its_version_did() -> None:
    """Whoever changes what is shown raises `WORLD_VERSION`. Other processors may round a few pixels otherwise."""
    kept = np.asarray(Image.open(world_pictures.SHEET)).astype(np.float64)
    difference = np.abs(kept - world_pictures.draw())
    assert difference.mean() < 0.2 and (difference > 16).mean() < 0.002


class NightSettings(Settings):
    brightness: float


class NightBackend(EmbeddedBackend):
    """A backend of somebody else's."""

    def __init__(self, settings, *, image_size: int) -> None:
        super().__init__(image_size=image_size)
        self.brightness = check(NightSettings, settings, section="settings").brightness


def test_a_backend_may_be_a_yaml_file_with_a_class_of_ones_own(tmp_path):
    file = tmp_path / "night.yaml"
    file.write_text("plugin: test_backends:NightBackend\nsettings: {brightness: 0.2}\n", encoding="utf-8")
    made = load_backend(str(file), 32)
    assert (type(made).__name__, made.image_size, made.brightness) == ("NightBackend", 32, 0.2)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            "plugin: test_backends:NightBackend\nsettings: {brightnes: 0.2}",
            "unknown key 'settings.brightnes'; did you mean 'brightness'",
        ),
        (
            "plugin: embedded\nsettings: {supersampling: abc}",
            "settings.supersampling: should be a valid integer, not 'abc'",
        ),
        ("plugin: embeded", "unknown backend 'embeded'; did you mean 'embedded'"),
        ("plugin: test_backends:SIZE", "has no class 'SIZE'"),
        ("plugin: rls3_gym.scene.arrangement:Edit", "is no backend; it lacks reset, apply"),
        ("plugin: nowhere:Backend", "cannot be imported: No module named 'nowhere'"),
        ("plugn: embedded", "unknown key 'plugn'; did you mean 'plugin'"),
    ],
)
def test_a_mistake_in_a_backends_yaml_is_named(tmp_path, content, said):
    file = tmp_path / "mine.yaml"
    file.write_text(content + "\n", encoding="utf-8")
    with pytest.raises(UserError, match=said) as mistake:
        load_backend(str(file), 32)
    assert "\n" not in str(mistake.value)
