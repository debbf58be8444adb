"""The tests that every backend has to pass, for a pytest suite of its own.

from rls3_gym.backends.contract import BackendContract

class TestMine(BackendContract):
    backend = "mine.yaml"
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from typing import ClassVar

import numpy as np
import pytest

from rls3_gym.backends.base import Frame, SceneBackend, load_backend
from rls3_gym.scene.arrangement import SLOTS, Arrangement
from rls3_gym.scene.camera import CameraFrame
from rls3_gym.scene.catalog import load_catalog
from rls3_gym.scene.layouts import draw_layout
from rls3_gym.scene.proposals import random_arrangement

SIZE = 64
"""Side of the pictures, pixels."""


class BackendContract:
    """Subclass it and set `backend`; a class whose name begins with Test is collected by pytest."""

    backend: ClassVar[str]
    """Registry name, path of a YAML file, or `module:Class`."""

    @pytest.fixture(scope="class")
    @classmethod
    def world(cls) -> Iterator[SceneBackend]:
        """The backend; one for all tests, because some take long to start."""
        made = load_backend(cls.backend, SIZE)
        yield made
        made.close()

    @pytest.fixture
    def arrangement(self) -> Arrangement:
        """Three objects in a kitchen."""
        kinds = [kind.name for kind in load_catalog().training]
        found = random_arrangement(np.random.default_rng(4), draw_layout("kitchen", 0), kinds)
        assert found is not None
        return found

    def capture(self, world: SceneBackend, arrangement: Arrangement) -> Frame:
        """A picture of a scene that was newly set up."""
        world.reset(arrangement, seed=0)
        return world.capture()

    def test_a_frame_has_the_documented_shapes_and_types(self, world: SceneBackend, arrangement: Arrangement) -> None:
        frame = self.capture(world, arrangement)
        assert frame.rgb.shape == (SIZE, SIZE, 3) and frame.rgb.dtype == np.uint8
        assert frame.ids.shape == frame.depth.shape == (SIZE, SIZE)
        assert frame.ids.dtype == np.int16 and frame.depth.dtype == np.float32
        assert frame.visible.shape == frame.pixels.shape == (SLOTS,) and frame.positions.shape == (SLOTS, 3)
        assert set(np.unique(frame.ids)) <= {-1, *range(SLOTS)}
        assert ((frame.visible >= 0) & (frame.visible <= 1)).all()

    def test_positions_are_those_of_the_arrangement_in_the_camera_frame(
        self, world: SceneBackend, arrangement: Arrangement
    ) -> None:
        frame = self.capture(world, arrangement)
        assert np.allclose(frame.positions, arrangement.camera_positions(), atol=1e-3)

    def test_ids_show_every_object_about_where_it_projects(self, world: SceneBackend, arrangement: Arrangement) -> None:
        frame = self.capture(world, arrangement)
        camera = CameraFrame(arrangement.layout.camera)
        for slot, thing in enumerate(arrangement.objects):
            if frame.visible[slot] < 0.9 or frame.pixels[slot] < 8:
                continue
            rows, columns = np.nonzero(frame.ids == slot)
            middle = np.array(thing.position) + [0, 0, load_catalog()[thing.kind].height / 2]
            x, y, _ = (camera.project(middle) + 1) / 2 * SIZE
            assert abs(columns.mean() - x) < 4 and abs(rows.mean() - y) < 4, thing.kind

    def test_the_same_arrangement_gives_the_same_bytes_whatever_came_before(
        self, world: SceneBackend, arrangement: Arrangement
    ) -> None:
        first = self.capture(world, arrangement)
        thing, *others = arrangement.objects
        x, y, z = thing.position
        moved = replace(thing, position=(x, y - 0.05, z), yaw=1.0)
        world.apply(Arrangement(arrangement.layout, (moved, *others)))
        assert (world.capture().rgb != first.rgb).any()
        world.apply(arrangement)
        again = world.capture()
        for field in fields(Frame):
            assert (getattr(again, field.name) == getattr(first, field.name)).all(), field.name

    def test_depth_is_smaller_on_a_nearer_object(self, world: SceneBackend, arrangement: Arrangement) -> None:
        frame = self.capture(world, arrangement)
        seen = [slot for slot in range(SLOTS) if (frame.ids == slot).sum() >= 8]
        distance = [float(np.linalg.norm(frame.positions[slot])) for slot in seen]
        depth = [float(np.median(frame.depth[frame.ids == slot])) for slot in seen]
        assert np.allclose(depth, distance, atol=0.5)
        for a in range(len(seen)):
            for b in range(len(seen)):
                if distance[a] + 0.5 < distance[b]:
                    assert depth[a] < depth[b]

    def test_a_capture_of_another_size_shows_the_same_scene(
        self, world: SceneBackend, arrangement: Arrangement
    ) -> None:
        small, large = self.capture(world, arrangement), world.capture(2 * SIZE)
        assert large.rgb.shape == (2 * SIZE, 2 * SIZE, 3)
        assert np.allclose(large.visible, small.visible, atol=0.15)
        assert (world.capture().rgb == small.rgb).all()

    def test_the_fingerprint_is_the_same_for_the_same_world_and_names_the_size(self, world: SceneBackend) -> None:
        same, other = load_backend(self.backend, SIZE), load_backend(self.backend, SIZE // 2)
        try:
            assert same.fingerprint == world.fingerprint != other.fingerprint
        finally:
            same.close()
            other.close()

    def test_closing_twice_is_fine(self) -> None:
        made = load_backend(self.backend, SIZE)
        made.close()
        made.close()
