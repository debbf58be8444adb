"""Rooms: every layout of every family offers what the stage needs, and mistakes in YAML are named."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import yaml

import rls3_registry
from rls3_gym.backends.embedded.furniture_meshes import build_room
from rls3_gym.backends.embedded.textures import SIZE, texture, texture_names
from rls3_gym.scene.families import read_family
from rls3_gym.scene.layouts import MIN_CLEARANCE, draw_layout, family_names, layouts, load_family
from rls3_gym.scene.rooms import Layout, Split
from rls3_gym.scene.splits import SPLITS
from rls3_registry.errors import UserError

FAMILIES = ("bedroom", "country_kitchen", "dining_room", "kitchen", "living_room")
ALL = [draw_layout(family, index) for family in FAMILIES for index in range(load_family(family).sizes.total)]
RADIUS, HEIGHT = 0.12, 0.25
"""A middling object, metres."""


def _spots(room: Layout, surface: int, count: int = 60) -> list[tuple[float, float, float]]:
    """Places on a surface where a middling object touches no solid and no wall."""
    s = room.surfaces[surface]
    rng = np.random.default_rng(surface)
    free = []
    for x, y in zip(rng.uniform(s.x0, s.x1, count), rng.uniform(s.y0, s.y1, count), strict=True):
        if y + RADIUS > room.y1:
            continue
        touched = any(
            o.x0 - RADIUS < x < o.x1 + RADIUS
            and o.y0 - RADIUS < y < o.y1 + RADIUS
            and o.z0 < s.z + HEIGHT
            and o.z1 > s.z + 1e-6
            for o in room.solids
        )
        if not touched:
            free.append((float(x), float(y), s.z))
    return free


def _in_view(room: Layout, points: np.ndarray) -> np.ndarray:
    """Which points (n, 3) fall inside the picture."""
    heading, pitch = room.camera.heading, room.camera.pitch
    forward = np.array([math.sin(heading) * math.cos(pitch), math.cos(heading) * math.cos(pitch), math.sin(pitch)])
    right = np.array([math.cos(heading), -math.sin(heading), 0.0])
    up = np.cross(right, forward)
    offset = points - np.array(room.camera.eye)
    reach = offset @ forward * math.tan(math.radians(room.camera.fov_deg) / 2)
    return (np.abs(offset @ right) < reach) & (np.abs(offset @ up) < reach)


def _unhidden(room: Layout, points: np.ndarray) -> np.ndarray:
    """Which points (n, 3) the camera sees past the solids (slab test of the segment against every box)."""
    eye = np.array(room.camera.eye)
    ray = points - eye
    clear = np.ones(len(points), bool)
    for o in room.solids:
        low, high = np.array([o.x0, o.y0, o.z0]), np.array([o.x1, o.y1, o.z1])
        near, far = np.sort([(low - eye) / ray, (high - eye) / ray], axis=0)
        enter, leave = near.max(1), far.min(1)
        clear &= ~((enter < leave) & (leave > 0) & (enter < 1))
    return clear


def test_the_five_families_are_registered() -> None:
    assert set(FAMILIES) <= set(family_names())
    assert load_family("country_kitchen").display == "country kitchen"


@pytest.mark.parametrize("room", ALL, ids=lambda room: room.key)
def test_surfaces_lie_in_the_stage_at_three_heights_or_more(room: Layout) -> None:
    x0, x1, y0, y1 = room.stage
    assert room.x0 < x0 and x1 < room.x1 and room.y0 < y0 and y1 < room.y1
    assert room.surfaces[0].name == "floor" and room.surfaces[0].z == 0.0
    heights = sorted(s.z for s in room.surfaces)
    assert len([1 for a, b in zip(heights, heights[1:], strict=False) if b - a > 0.05]) + 1 >= 3
    for s in room.surfaces:
        assert x0 <= s.x0 < s.x1 <= x1 and y0 <= s.y0 < s.y1 <= y1
        assert s.clearance >= MIN_CLEARANCE and s.z + s.clearance <= room.height + 1e-9


@pytest.mark.parametrize("room", ALL, ids=lambda room: room.key)
def test_every_surface_has_room_for_an_object(room: Layout) -> None:
    free = [len(_spots(room, k)) for k in range(len(room.surfaces))]
    assert free[0] >= 12, "too little free floor"
    assert all(free), [s.name for s, n in zip(room.surfaces, free, strict=True) if n == 0]


@pytest.mark.parametrize("family", FAMILIES)
def test_most_places_are_in_the_picture_and_not_behind_furniture(family: str) -> None:
    for room in (r for r in ALL if r.family == family):
        spots = [p for k in range(len(room.surfaces)) for p in _spots(room, k)]
        middle = np.array(spots) + (0.0, 0.0, HEIGHT / 2)
        seen = _in_view(room, middle)
        assert seen.mean() > 0.6, room.key
        assert _unhidden(room, middle)[seen].mean() > 0.6, room.key


@pytest.mark.parametrize("family", FAMILIES)
def test_a_layout_depends_on_family_and_index_only(family: str) -> None:
    first = draw_layout(family, 3)
    draw_layout.cache_clear()
    draw_layout(family, 4)
    assert draw_layout(family, 3) == first
    assert draw_layout(family, 4) != first


def test_splits_share_no_layout_and_cover_all() -> None:
    keys = {split: [room.key for room in layouts(split)] for split in SPLITS}
    together = [key for split in SPLITS for key in keys[split]]
    assert len(together) == len(set(together))
    assert {room.key for room in ALL} <= set(together)
    for family in FAMILIES:
        assert load_family(family).sizes.total >= 8
        for split in SPLITS:
            assert any(key.startswith(f"{family}/") for key in keys[split])


@pytest.mark.parametrize("split", SPLITS)
def test_layouts_carry_their_split(split: Split) -> None:
    assert all(room.split == split for room in layouts(split))


@pytest.mark.parametrize("room", ALL, ids=lambda room: room.key)
def test_a_room_builds_with_known_textures_and_few_triangles(room: Layout) -> None:
    parts = build_room(room)
    assert {p.texture for p in parts if p.texture} <= set(texture_names())
    assert sum(len(p.mesh.faces) for p in parts) < 10_000
    for part in parts:
        assert np.isfinite(part.mesh.vertices).all()
        assert np.allclose(np.linalg.norm(part.mesh.normals, axis=1), 1.0, atol=1e-3)


@pytest.mark.parametrize("room", ALL[::7], ids=lambda room: room.key)
def test_what_is_drawn_stays_near_what_is_in_the_way(room: Layout) -> None:
    """Tops of surfaces are where the drawn furniture is: a ray down from above meets them at their height."""
    from embreex.mesh_construction import TriangleMesh
    from embreex.rtcore_scene import EmbreeScene

    scene = EmbreeScene()
    parts = build_room(room)
    kept = [TriangleMesh(scene, p.mesh.vertices.astype(np.float32), p.mesh.faces) for p in parts]
    for s in room.surfaces[1:]:
        center = np.array([[(s.x0 + s.x1) / 2, (s.y0 + s.y1) / 2, s.z + 0.2]], np.float32)
        hit = scene.run(center, np.array([[0, 0, -1]], np.float32), output=1)
        assert hit["geomID"][0] >= 0
        assert abs(float(hit["tfar"][0]) - 0.2) < 0.02, s.name
    assert len(kept) == len(parts)


@pytest.mark.parametrize("name", texture_names())
def test_textures_are_pale_images(name: str) -> None:
    image = texture(name)
    assert image.shape == (SIZE, SIZE, 3) and image.dtype == np.uint8
    assert image.mean() > 175
    assert np.array_equal(image, texture(name))


def test_an_unknown_texture_says_what_was_near() -> None:
    with pytest.raises(UserError, match="wood"):
        texture("woood")


@pytest.fixture
def kitchen_file(tmp_path: Path) -> Path:
    path = tmp_path / "kitchen.yaml"
    path.write_text(rls3_registry.path_of("rooms", "kitchen").read_text(encoding="utf-8"), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("keys", "value", "expected"),
    [
        (("pieces", "counter", 0, "widht"), 1.0, r"pieces\.counter\.0\.widht.*'width'"),
        (("pieces", "counter", 0, "type"), "conter", r"pieces\.counter\.0.*'counter'"),
        (("pieces", "counter", 0, "options"), {"dors": [1]}, r"pieces\.counter\.0.*'doors'"),
        (("camera", "x"), [1.0, -1.0], r"camera\.x.*low to high"),
        (("mirrored",), 2, r"mirrored"),
        (("pieces", "shelf", 0, "at"), "countr", r"pieces\.shelf\.at.*'counter'"),
    ],
)
def test_a_wrong_key_or_value_is_named_with_its_file(
    kitchen_file: Path, keys: tuple[str | int, ...], value: object, expected: str
) -> None:
    content = yaml.safe_load(kitchen_file.read_text(encoding="utf-8"))
    place = content
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    kitchen_file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    with pytest.raises(UserError, match=expected) as caught:
        read_family(kitchen_file, "kitchen")
    assert str(kitchen_file) in str(caught.value)


def test_an_unknown_family_or_index_is_a_user_error() -> None:
    with pytest.raises(UserError, match="kitchen"):
        draw_layout("kichen", 0)
    with pytest.raises(UserError, match=r"0\.\.27"):
        draw_layout("kitchen", 28)
