"""Rooms: every layout of every family offers what the stage needs, and mistakes in YAML are named."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import yaml

import rls3_registry
from rls3_gym.backends.embedded.furniture_meshes import build_room
from rls3_gym.backends.embedded.textures import SIZE, texture, texture_names
from rls3_gym.scene.families import read_family
from rls3_gym.scene.layouts import MIN_CLEARANCE, draw_layout, family_names, layouts, load_family
from rls3_gym.scene.rooms import Layout
from rls3_gym.scene.splits import SPLITS
from rls3_registry.errors import UserError

FAMILIES = ("bedroom", "country_kitchen", "dining_room", "kitchen", "living_room")
ALL = [draw_layout(family, index) for family in FAMILIES for index in range(load_family(family).sizes.total)]
RADIUS, HEIGHT = 0.12, 0.25
"""A middling object, meters."""


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


def test_surfaces_lie_in_the_stage_at_three_heights_or_more() -> None:
    wrong = []
    for room in ALL:
        x0, x1, y0, y1 = room.stage
        if not (room.x0 < x0 and x1 < room.x1 and room.y0 < y0 and y1 < room.y1):
            wrong.append(f"{room.key}: the stage leaves the room")
        if room.surfaces[0].name != "floor" or room.surfaces[0].z != 0.0:
            wrong.append(f"{room.key}: the first surface is not the floor")
        heights = sorted(s.z for s in room.surfaces)
        if sum(b - a > 0.05 for a, b in pairwise(heights)) + 1 < 3:
            wrong.append(f"{room.key}: fewer than three heights")
        for s in room.surfaces:
            if not (x0 <= s.x0 < s.x1 <= x1 and y0 <= s.y0 < s.y1 <= y1):
                wrong.append(f"{room.key}: {s.name} leaves the stage")
            if s.clearance < MIN_CLEARANCE or s.z + s.clearance > room.height + 1e-9:
                wrong.append(f"{room.key}: {s.name} has a clearance of {s.clearance}")
    assert wrong == []


def test_every_surface_has_room_for_an_object() -> None:
    wrong = []
    for room in ALL:
        free = [len(_spots(room, k)) for k in range(len(room.surfaces))]
        if free[0] < 12:
            wrong.append(f"{room.key}: too little free floor ({free[0]} of 60 places)")
        wrong += [f"{room.key}: no place on {s.name}" for s, n in zip(room.surfaces, free, strict=True) if n == 0]
    assert wrong == []


def test_most_places_are_in_the_picture_and_not_behind_furniture() -> None:
    wrong = []
    for room in ALL:
        spots = [p for k in range(len(room.surfaces)) for p in _spots(room, k)]
        middle = np.array(spots) + (0.0, 0.0, HEIGHT / 2)
        seen = _in_view(room, middle)
        if not seen.mean() > 0.6:
            wrong.append(f"{room.key}: {seen.mean():.0%} in the picture")
        if not (clear := _unhidden(room, middle)[seen].mean()) > 0.6:
            wrong.append(f"{room.key}: {clear:.0%} not behind furniture")
    assert wrong == []


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


def test_layouts_carry_their_split() -> None:
    assert [room.key for split in SPLITS for room in layouts(split) if room.split != split] == []


def test_a_room_builds_with_known_textures_and_few_triangles() -> None:
    wrong = []
    for room in ALL:
        parts = build_room(room)
        unknown = {p.texture for p in parts if p.texture} - set(texture_names())
        wrong += [f"{room.key}: unknown texture {name}" for name in sorted(unknown)]
        if (faces := sum(len(p.mesh.faces) for p in parts)) >= 10_000:
            wrong.append(f"{room.key}: {faces} triangles")
        if not all(np.isfinite(p.mesh.vertices).all() for p in parts):
            wrong.append(f"{room.key}: a vertex that is not finite")
        if not all(np.allclose(np.linalg.norm(p.mesh.normals, axis=1), 1.0, atol=1e-3) for p in parts):
            wrong.append(f"{room.key}: a normal whose length is not 1")
    assert wrong == []


def test_furniture_is_drawn_where_its_surfaces_are() -> None:
    """A ray down from above the middle of a surface meets the drawn furniture at the surface's height."""
    from embreex.mesh_construction import TriangleMesh
    from embreex.rtcore_scene import EmbreeScene

    wrong = []
    for room in ALL[::7]:
        scene = EmbreeScene()
        parts = build_room(room)
        kept_alive = [TriangleMesh(scene, p.mesh.vertices.astype(np.float32), p.mesh.faces) for p in parts]
        for s in room.surfaces[1:]:
            center = np.array([[(s.x0 + s.x1) / 2, (s.y0 + s.y1) / 2, s.z + 0.2]], np.float32)
            hit = scene.run(center, np.array([[0, 0, -1]], np.float32), output=1)
            if hit["geomID"][0] < 0 or abs(float(hit["tfar"][0]) - 0.2) >= 0.02:
                wrong.append(f"{room.key}: {s.name}")
        assert len(kept_alive) == len(parts)
    assert wrong == []


def test_textures_are_pale_images() -> None:
    wrong = []
    for name in texture_names():
        image = texture(name)
        if image.shape != (SIZE, SIZE, 3) or image.dtype != np.uint8:
            wrong.append(f"{name}: {image.dtype} {image.shape}")
        if image.mean() <= 175:
            wrong.append(f"{name}: mean {image.mean():.0f}")
        if not np.array_equal(image, texture(name)):
            wrong.append(f"{name}: differs from one call to the next")
    assert wrong == []


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


@pytest.mark.parametrize(
    ("number", "said"), [("1.0e+308", "room.half_width.*should be less than or equal to 1000"), (".nan", "nan is not")]
)
def test_numbers_of_a_room_have_bounds(tmp_path: Path, number: str, said: str) -> None:
    text = rls3_registry.path_of("rooms", "kitchen").read_text(encoding="utf-8")
    changed = re.sub(r"half_width: \[[^]]*\]", f"half_width: [{number}, {number}]", text, count=1)
    (tmp_path / "hall.yaml").write_text(changed, encoding="utf-8")
    with pytest.raises(UserError, match=said):
        read_family(tmp_path / "hall.yaml", "hall")
