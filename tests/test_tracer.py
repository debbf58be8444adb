"""The embedded tracer: its fast path draws what a plain retrace draws, and the picture is right."""

from __future__ import annotations

import hashlib
import importlib.util
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

import rls3_registry
from rls3_gym.backends.embedded import meshes, rays
from rls3_gym.backends.embedded.furniture_meshes import build_room
from rls3_gym.backends.embedded.meshes import Part
from rls3_gym.backends.embedded.movable_layer import MovableLayer
from rls3_gym.backends.embedded.objects import load_object
from rls3_gym.backends.embedded.rays import Camera
from rls3_gym.backends.embedded.shading import to_linear
from rls3_gym.backends.embedded.textures import texture, texture_names
from rls3_gym.backends.embedded.tracer import (
    STATIC_IDS,
    LayerCache,
    Movable,
    ObjectGeometry,
    Traced,
    Tracer,
    prepare_object,
)
from rls3_gym.scene.camera import CameraFrame
from rls3_gym.scene.catalog import load_catalog
from rls3_gym.scene.layouts import draw_layout
from rls3_gym.scene.rooms import CameraPose, Layout, Light
from rls3_registry.errors import UserError

FAMILIES = tuple(rls3_registry.names("rooms"))
PLAIN_LIGHT = Light(position=(0.0, -1.0, 2.4), intensity=7.0, ambient=0.3, color=(1.0, 0.95, 0.9))
FORWARD = CameraPose(eye=(0.0, -2.0, 1.2), heading=0.0, pitch=-0.2, fov_deg=60.0)


@cache
def geometry(kind: str) -> ObjectGeometry:
    return prepare_object(load_object(kind))


def real_room(family: str, size: int, supersampling: int) -> tuple[Layout, Tracer]:
    layout = draw_layout(family, 0)
    textures = {name: texture(name) for name in texture_names()}
    return layout, Tracer(build_room(layout), textures, layout.camera, layout.light, size, supersampling)


def reach(kind: ObjectGeometry) -> float:
    """Radius of a circle about the origin that holds the footprint, meters."""
    return float(np.hypot(*np.maximum(kind.high, -kind.low)[:2]))


def clear(first: Movable, second: Movable) -> bool:
    """Whether two footprints are clear of each other."""
    (x, y, _), (u, v, _) = first.position, second.position
    return bool(np.hypot(x - u, y - v) >= 0.999 * (reach(first.geometry) + reach(second.geometry)))


def arrangement(rng: np.random.Generator, layout: Layout, count: int) -> list[Movable]:
    """Objects on surfaces that do not touch: in pairs that hide or shade each other, and some out of view."""
    kinds = [kind.name for kind in load_catalog().kinds]
    movables: list[Movable] = []
    while len(movables) < count:
        surface = layout.surfaces[rng.integers(len(layout.surfaces))]
        kind = geometry(kinds[rng.integers(len(kinds))])
        x, y = rng.uniform(surface.x0, surface.x1), rng.uniform(surface.y0, surface.y1)
        if movables and rng.random() < 0.4:
            apart = reach(kind) + reach(movables[-1].geometry) + rng.uniform(0.0, 0.1)
            angle = rng.uniform(-np.pi, np.pi)
            x = movables[-1].position[0] + apart * np.cos(angle)
            y = movables[-1].position[1] + apart * np.sin(angle)
        if rng.random() < 0.15:
            x = rng.choice([layout.x0, layout.x1]) * rng.uniform(0.8, 2.5)
        movable = Movable(kind, (float(x), float(y), surface.z), float(rng.uniform(-np.pi, np.pi)))
        if all(clear(movable, other) for other in movables):
            movables.append(movable)
    return movables


def open_room(
    *solids: Part, size: int = 64, supersampling: int = 1, light: Light = PLAIN_LIGHT, specular: float = 0.0
) -> Tracer:
    floor = Part(meshes.box((8.0, 8.0, 0.1)).moved(z=-0.1), (0.8, 0.7, 0.6), None, specular)
    return Tracer([floor, *solids], {}, FORWARD, light, size, supersampling)


def block(width: float, depth: float, height: float) -> ObjectGeometry:
    return prepare_object([Part(meshes.box((width, depth, height)), (0.2, 0.4, 0.9))])


def same(first: Traced, second: Traced) -> bool:
    return all(
        getattr(first, name).tobytes() == getattr(second, name).tobytes()
        for name in ("rgb", "ids", "depth", "visible", "pixels")
    )


def assert_agree(fast: Traced, plain: Traced) -> None:
    np.testing.assert_array_equal(fast.ids, plain.ids)
    np.testing.assert_allclose(fast.depth, plain.depth, atol=1e-4, rtol=0)
    difference = np.abs(fast.rgb.astype(int) - plain.rgb.astype(int)).max(axis=2)
    assert (difference > 8).mean() <= 0.001
    np.testing.assert_array_equal(fast.visible, plain.visible)
    np.testing.assert_array_equal(fast.pixels, plain.pixels)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("size", "supersampling"), [(64, 2), (96, 1), (40, 3)])
def test_the_fast_path_draws_what_a_plain_retrace_draws(family: str, size: int, supersampling: int) -> None:
    layout, tracer = real_room(family, size, supersampling)
    rng = np.random.default_rng([FAMILIES.index(family), size])
    seen = []
    for count in (1, 3, 3, 5, 6, 6):
        movables = arrangement(rng, layout, count)
        fast = tracer.trace(movables)
        assert_agree(fast, tracer.trace_plain(movables))
        seen.append(fast.visible)
    shares = np.concatenate(seen)
    assert (shares == 1).any(), "no arrangement had an object in full view"
    assert (shares < 1).any(), "no arrangement had a hidden object"


def test_the_paths_agree_at_224_pixels() -> None:
    layout, tracer = real_room("kitchen", 224, 1)
    rng = np.random.default_rng(5)
    for _ in range(4):
        movables = arrangement(rng, layout, 5)
        assert_agree(tracer.trace(movables), tracer.trace_plain(movables))


def test_an_edit_gives_the_picture_that_a_fresh_tracer_gives() -> None:
    layout, tracer = real_room("bedroom", 48, 2)
    rng = np.random.default_rng(1)
    movables = arrangement(rng, layout, 4)
    for step in range(6):
        movables[step % 4] = arrangement(rng, layout, 1)[0]
        edited = tracer.trace(movables)
        assert same(edited, tracer.trace(movables))
        assert same(edited, real_room("bedroom", 48, 2)[1].trace(movables))


def test_an_edit_traces_the_moved_object_alone_whatever_others_draw_in_the_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layout, tracer = real_room("bedroom", 48, 2)
    rng, traced, trace = np.random.default_rng(1), [], MovableLayer.trace
    monkeypatch.setattr(MovableLayer, "trace", lambda *given: traced.append(given[0]) or trace(*given))
    mine, others = LayerCache(), LayerCache()
    scene = arrangement(rng, layout, 3)
    tracer.trace(scene, mine)
    assert traced == scene
    for _ in range(4):
        edit = arrangement(rng, layout, 1)[0]
        tracer.trace(arrangement(rng, layout, 3), others)
        traced.clear()
        tracer.trace([scene[0], edit, scene[2]], mine)
        assert traced == [edit]
        tracer.trace(scene, mine)  # the edit came to nothing
        assert traced == [edit]


def test_the_order_of_movables_changes_only_their_numbers() -> None:
    layout, tracer = real_room("living_room", 64, 2)
    movables = arrangement(np.random.default_rng(3), layout, 4)
    there, back = tracer.trace(movables), tracer.trace(movables[::-1])
    np.testing.assert_array_equal(there.rgb, back.rgb)
    np.testing.assert_array_equal(there.visible, back.visible[::-1])
    np.testing.assert_array_equal(there.ids == 0, back.ids == 3)


def picture_hash(seed: int) -> str:
    layout, tracer = real_room("dining_room", 32, 2)
    rng = np.random.default_rng(seed)
    digest = hashlib.sha256()
    for _ in range(3):
        traced = tracer.trace(arrangement(rng, layout, 3))
        for array in (traced.rgb, traced.ids, traced.depth, traced.visible, traced.pixels):
            digest.update(array.tobytes())
    return digest.hexdigest()


def hashes_here_and_in_workers(method: str) -> tuple[list[str], list[str]]:
    here = [picture_hash(7), picture_hash(8)]
    with multiprocessing.get_context(method).Pool(2) as pool:
        return here, pool.map_async(picture_hash, [7, 8, 7, 8], chunksize=1).get(timeout=120)


@pytest.mark.parametrize("method", sorted({"spawn", "fork"} & set(multiprocessing.get_all_start_methods())))
def test_worker_processes_give_the_same_bytes(method: str) -> None:
    # From a process of its own: here, other tests have left threads, and a fork may find a lock held by one of them.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        here, there = process.submit(hashes_here_and_in_workers, method).result(timeout=240)
    assert there == here + here
    assert here[0] != here[1]


def test_a_scene_without_movables_is_the_room() -> None:
    tracer = open_room()
    empty = tracer.trace([])
    assert_agree(empty, tracer.trace_plain([]))
    assert set(np.unique(empty.ids)) == {-1, STATIC_IDS}
    assert empty.visible.shape == empty.pixels.shape == (0,)
    assert (empty.depth[empty.ids == -1] == 1e4).all()


@pytest.mark.parametrize("position", [(0.0, -6.0, 0.5), (9.0, 0.0, 0.5), (0.0, -2.0, 5.0)])
def test_an_object_out_of_view_has_visibility_zero(position: tuple[float, float, float]) -> None:
    tracer = open_room()
    movables = [Movable(block(0.3, 0.3, 0.3), position, 0.4)]
    traced = tracer.trace(movables)
    assert traced.visible.tolist() == [0.0]
    assert traced.pixels.tolist() == [0]
    assert (traced.ids != 0).all()
    assert_agree(traced, tracer.trace_plain(movables))


def test_the_camera_may_stand_inside_an_objects_box() -> None:
    tracer = open_room()
    movables = [Movable(block(0.5, 0.5, 0.5), (0.0, -2.0, 0.95), 0.0)]
    traced = tracer.trace(movables)
    assert (traced.ids == 0).all()
    assert_agree(traced, tracer.trace_plain(movables))


def test_visibility_is_the_share_of_own_pixels_that_nothing_hides() -> None:
    tracer = open_room(supersampling=1)
    behind = Movable(block(0.4, 0.4, 0.4), (0.0, 1.0, 0.0), 0.2)
    before = Movable(block(0.3, 0.1, 0.5), (0.1, 0.3, 0.0), 0.0)
    alone = tracer.trace([behind])
    both = tracer.trace([behind, before])
    own = int((alone.ids == 0).sum())
    left = int((both.ids == 0).sum())
    assert alone.visible.tolist() == [1.0]
    assert 0 < left < own
    assert both.pixels.tolist() == [left, int((both.ids == 1).sum())]
    np.testing.assert_allclose(both.visible, [left / own, 1.0])


def test_visible_pixels_are_counted_at_the_output_resolution() -> None:
    movables = [Movable(block(0.6, 0.6, 0.6), (0.0, 0.5, 0.0), 0.5)]
    coarse, fine = (open_room(supersampling=n).trace(movables) for n in (1, 4))
    assert abs(int(coarse.pixels[0]) - int(fine.pixels[0])) <= 0.05 * coarse.pixels[0]


def test_furniture_hides_objects() -> None:
    screen = Part(meshes.box((2.0, 0.1, 1.5)), (0.5, 0.5, 0.5))
    traced = open_room(screen).trace([Movable(block(0.2, 0.2, 0.2), (0.0, 0.6, 0.0), 0.0)])
    assert traced.visible.tolist() == [0.0]
    assert (traced.ids == STATIC_IDS + 1).any()


def test_the_screen_box_holds_every_pixel_of_an_object() -> None:
    layout = draw_layout("country_kitchen", 0)
    camera, size = Camera(layout.camera), 96
    directions = camera.rays(size, 1)
    rng = np.random.default_rng(2)
    for movable in arrangement(rng, layout, 40):
        surfaces = movable.surfaces()
        scene = rays.TriangleScene(surfaces.vertices, rays.triples(surfaces.faces))
        hit = scene.closest(camera.eye, directions.reshape(3, -1)).rays
        y0, y1, x0, x1 = camera.screen_box(movable.box_corners(), size)
        assert (((hit // size) >= y0) & ((hit // size) < y1) & ((hit % size) >= x0) & ((hit % size) < x1)).all()


def test_objects_shade_the_room_and_each_other() -> None:
    tracer = open_room()
    low = Movable(block(0.5, 0.5, 0.2), (0.0, 0.6, 0.0), 0.0)
    roof = Movable(block(0.6, 0.6, 0.02), (0.0, -0.35, 1.5), 0.0)
    alone, shaded = tracer.trace([low]), tracer.trace([low, roof])
    for surface in (0, STATIC_IDS):
        both = (alone.ids == surface) & (shaded.ids == surface)
        darker = shaded.rgb[both].astype(int).sum(axis=1) < alone.rgb[both].astype(int).sum(axis=1) - 60
        assert darker.any()


def test_furniture_and_the_object_itself_shade_an_object() -> None:
    top = Movable(block(0.5, 0.5, 0.2), (0.0, 0.6, 0.0), 0.0)
    roof = Part(meshes.box((0.6, 0.6, 0.02)).moved(y=-0.35, z=1.5), (0.5, 0.5, 0.5))
    free, under = open_room().trace([top]), open_room(roof).trace([top])
    both = (free.ids == 0) & (under.ids == 0)
    assert (under.rgb[both].astype(int).sum(axis=1) < free.rgb[both].astype(int).sum(axis=1) - 60).any()
    table = prepare_object(
        [
            Part(meshes.box((0.8, 0.8, 0.05)).moved(z=0.5), (0.9, 0.9, 0.9)),
            Part(meshes.box((0.8, 0.8, 0.02)), (0.9, 0.9, 0.9)),
        ]
    )
    traced = open_room(size=128).trace([Movable(table, (0.0, 1.0, 0.0), 0.0)])
    brightness = traced.rgb[traced.ids == 0].astype(int).sum(axis=1)
    assert brightness.min() < 0.75 * brightness.max()


def test_a_surface_reflects_the_light_that_the_model_says() -> None:
    tracer = open_room(size=65, specular=0.3)
    traced = tracer.trace([])
    row, column = 50, 20
    ray = tracer.camera.rays(65, 1)[:, row, column, 0].astype(float)
    point = np.array(FORWARD.eye) + ray * (FORWARD.eye[2] / -ray[2])
    to_light = np.array(PLAIN_LIGHT.position) - point
    distance = np.linalg.norm(to_light)
    half = to_light / distance - ray
    cosine = to_light[2] / distance
    albedo, color = to_linear(np.array([0.8, 0.7, 0.6])), np.array(PLAIN_LIGHT.color)
    diffuse = albedo * (PLAIN_LIGHT.ambient + PLAIN_LIGHT.intensity * cosine / (1 + distance**2) * color)
    expected = diffuse + 0.3 * (half[2] / np.linalg.norm(half)) ** 48 * color
    assert expected.max() < 1
    np.testing.assert_allclose(to_linear(traced.rgb[row, column] / 255.0), expected, atol=0.01)


def test_the_lights_color_tints_the_picture() -> None:
    red = open_room(light=replace(PLAIN_LIGHT, color=(1.0, 0.0, 0.0), ambient=0.0)).trace([])
    lit = red.rgb[red.ids == STATIC_IDS]
    assert lit[:, 0].max() > 100
    assert lit[:, 1:].max() == 0


def test_depth_is_the_distance_along_the_ray() -> None:
    tracer = open_room()
    traced = tracer.trace([])
    floor = traced.ids == STATIC_IDS
    down = -tracer.camera.rays(64, 1)[2, :, :, 0]
    np.testing.assert_allclose(traced.depth[floor] * down[floor], FORWARD.eye[2], atol=1e-5)


def test_supersampling_softens_edges_only() -> None:
    movables = [Movable(block(0.5, 0.5, 0.5), (0.0, 0.5, 0.0), 0.5)]
    sharp, soft = (open_room(supersampling=n).trace(movables) for n in (1, 2))
    close = np.abs(sharp.rgb.astype(int) - soft.rgb.astype(int)).max(axis=2) <= 4
    assert 0.9 < close.mean() < 1.0


@pytest.mark.parametrize("heading", [0.0, 0.5, -2.0])
def test_an_object_appears_where_the_camera_projects_it(heading: float) -> None:
    pose = replace(FORWARD, heading=heading)
    along = np.array([np.sin(heading), np.cos(heading), 0.0])
    right = np.array([np.cos(heading), -np.sin(heading), 0.0])
    place = np.array(pose.eye) + 2.5 * along + 0.4 * right - [0, 0, 0.8]
    floor = Part(meshes.box((20.0, 20.0, 0.1)).moved(z=-0.1), (0.5, 0.5, 0.5))
    tracer = Tracer([floor], {}, pose, PLAIN_LIGHT, 128, 1)
    traced = tracer.trace([Movable(block(0.1, 0.1, 0.1), (place[0], place[1], place[2] - 0.05), 0.3)])
    rows, columns = np.nonzero(traced.ids == 0)
    x, y, depth = CameraFrame(pose).project(place)
    np.testing.assert_allclose([x, y], [(columns.mean() + 0.5) / 64 - 1, (rows.mean() + 0.5) / 64 - 1], atol=0.03)
    assert x > 0
    np.testing.assert_allclose(CameraFrame(pose).to_camera(place), [0.4, -0.8, 2.5])
    np.testing.assert_allclose(depth, 2.5 * np.cos(-0.2) - 0.8 * np.sin(-0.2))


def test_a_point_behind_the_camera_has_a_negative_distance() -> None:
    assert CameraFrame(FORWARD).project([0.0, -4.0, 1.2])[2] < 0


def test_yaw_turns_counter_clockwise_seen_from_above() -> None:
    arm = prepare_object([Part(meshes.box((0.1, 0.1, 0.1)).moved(x=0.5), (0.5, 0.5, 0.5))])
    corners = Movable(arm, (1.0, 2.0, 3.0), np.pi / 2).box_corners()
    np.testing.assert_allclose(corners.mean(axis=0), [1.0, 2.5, 3.05], atol=1e-5)


def test_textures_are_multiplied_by_the_color() -> None:
    stripes = np.full((256, 256, 3), 255, np.uint8)
    stripes[:, 128:] = 0
    part = Part(meshes.box((8.0, 8.0, 0.1)).moved(z=-0.1), (1.0, 0.0, 0.0), "stripes", 0.0)
    traced = Tracer([part], {"stripes": stripes}, FORWARD, PLAIN_LIGHT, 64, 1).trace([])
    floor = traced.rgb[traced.ids == STATIC_IDS]
    assert floor[:, 1:].max() == 0
    assert floor[:, 0].min() == 0
    assert floor[:, 0].max() > 100


def test_an_unknown_texture_is_named_with_what_was_near() -> None:
    part = Part(meshes.box((1.0, 1.0, 1.0)), (1.0, 1.0, 1.0), "wod")
    with pytest.raises(UserError, match="unknown texture 'wod'.*'wood'"):
        Tracer([part], {"wood": texture("wood")}, FORWARD, PLAIN_LIGHT, 16, 1)


def test_wrong_arguments_are_named() -> None:
    part = Part(meshes.box((1.0, 1.0, 1.0)), (1.0, 1.0, 1.0))
    with pytest.raises(UserError, match="'small' is uint8"):
        Tracer([part], {"small": np.zeros((4, 4, 3), np.uint8)}, FORWARD, PLAIN_LIGHT, 16, 1)
    with pytest.raises(UserError, match="supersampling 0"):
        Tracer([part], {}, FORWARD, PLAIN_LIGHT, 16, 0)
    with pytest.raises(UserError, match="field of view"):
        Tracer([part], {}, replace(FORWARD, fov_deg=180.0), PLAIN_LIGHT, 16, 1)


def test_a_machine_without_embree_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "embreex.rtcore_scene", None)
    spec = importlib.util.spec_from_file_location("embree_without_wheel", rays.__file__)
    assert spec is not None
    assert spec.loader is not None
    with pytest.raises(UserError, match="embreex.*Linux x86-64.*another backend"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
