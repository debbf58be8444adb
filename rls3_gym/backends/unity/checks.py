"""From a player's answer to a frame: nothing that contradicts itself, or the command, becomes one."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rls3_gym.backends.base import Frame
from rls3_gym.backends.unity.connection import LineError, Observation, picture
from rls3_gym.backends.unity.messages import (
    CAMERA_SENSOR,
    DEPTH_SENSOR,
    IDS_SENSOR,
    NO_DEPTH,
    NUMBER_RANGE,
    POSITIONS_SENSOR,
    POSITIONS_SIZE,
    Show,
    State,
)
from rls3_gym.scene.arrangement import Arrangement
from rls3_gym.scene.camera import camera_frame
from rls3_gym.scene.catalog import load_catalog
from rls3_gym.scene.layouts import draw_layout, family_names
from rls3_gym.scene.proposals import random_arrangement

FAR = 1e4
"""Depth where nothing is, meters; as in the embedded world."""
_ID_COLORS = (0xFF0000, 0x00FF00, 0x0000FF)
_POSITION_TOLERANCE, _SAME_POSITION, _YAW_TOLERANCE, _SIZE_TOLERANCE = 2e-3, 1e-3, 2e-3, 1e-3
_PIXELS_SHARE, _PIXELS = 0.25, 8
"""By how much the pixels that a player counts may differ from those in its ids picture, which has no anti-aliasing."""
_WHERE_IT_PROJECTS = 0.1
"""Of the picture's side: how far from its projection an object may appear in the ids picture."""


def check_scene(state: State, command: Show, arrangement: Arrangement) -> None:
    """Raises `LineError` unless the player shows what the command said, objects where they were put."""
    for name in ("layout", "size", "quality"):
        asked, shown = getattr(command, name), getattr(state, name)
        if asked != shown:
            raise LineError(f"it shows {name} {shown!r} and was asked for {asked!r}")
    kinds = [o.kind for o in arrangement.objects]
    if [seen.kind for seen in state.objects] != kinds:
        raise LineError(f"it shows {[seen.kind for seen in state.objects]} and was asked for {kinds}")
    expected = arrangement.camera_positions() if kinds else np.zeros((0, 3))
    heading = arrangement.layout.camera.heading
    for seen, thing, position in zip(state.objects, arrangement.objects, expected, strict=True):
        off = float(np.abs(np.array(seen.position) - position).max())
        if off > _POSITION_TOLERANCE:
            raise LineError(f"the {thing.kind} stands {off:.3f} m from where it was put")
        if abs(math.remainder(seen.yaw - thing.yaw - heading, math.tau)) > _YAW_TOLERANCE:
            raise LineError(f"the {thing.kind} has yaw {seen.yaw:.3f} in the camera frame, not as it was put")


def frame_of(state: State, observation: Observation) -> Frame:
    """The frame. Raises `LineError` when the message, the vector and the pictures do not fit together."""
    _check_sizes(state)
    positions = np.array([seen.position for seen in state.objects], np.float32).reshape(-1, 3)
    _check_vector(state, positions, observation)
    rgb, coded, distance = (
        _picture(observation, name, state.size) for name in (CAMERA_SENSOR, IDS_SENSOR, DEPTH_SENSOR)
    )
    if (rgb == rgb[0, 0]).all():
        raise LineError("its camera picture is one single color")
    ids = _ids(coded)
    pixels = np.array([seen.pixels for seen in state.objects], np.int32)
    for slot, (seen, count) in enumerate(zip(state.objects, pixels, strict=True)):
        counted = int(np.count_nonzero(ids == slot))
        if abs(counted - int(count)) > _PIXELS + _PIXELS_SHARE * max(counted, int(count)):
            raise LineError(f"it says that {count} pixels show the {seen.kind}, and its ids picture has {counted}")
    return Frame(
        rgb=rgb, ids=ids, depth=_depth(distance), pixels=pixels, positions=positions,
        visible=np.array([seen.visible for seen in state.objects], np.float32),
    )  # fmt: skip


def _check_sizes(state: State) -> None:
    catalog = load_catalog()
    for seen in state.objects:
        kind = catalog[seen.kind]
        if abs(seen.radius - kind.radius) + abs(seen.height - kind.height) > _SIZE_TOLERANCE:
            raise LineError(
                f"its {seen.kind} has radius {seen.radius} and height {seen.height}, the registry's {kind.radius} and "
                f"{kind.height}: it was built with another world file"
            )


def _check_vector(state: State, positions: NDArray[np.float32], observation: Observation) -> None:
    vector = observation.vectors.get(POSITIONS_SENSOR)
    if vector is None or vector.shape != (POSITIONS_SIZE,):
        raise LineError(f"it has no sensor {POSITIONS_SENSOR!r} of {POSITIONS_SIZE} numbers")
    if not np.isfinite(vector).all():
        raise LineError(f"its sensor {POSITIONS_SENSOR!r} has numbers that are none")
    told = np.zeros(POSITIONS_SIZE, np.float32)
    told[0] = state.number % NUMBER_RANGE
    told[1 : 1 + positions.size] = positions.ravel()
    if np.abs(vector - told).max() > _SAME_POSITION:
        raise LineError("its message and its vector are not of the same moment")


def _picture(observation: Observation, name: str, size: int) -> NDArray[np.uint8]:
    found: Any = observation.pictures.get(name)
    if found is None:
        has = ", ".join(sorted(observation.pictures)) or "none"
        raise LineError(f"it has no PNG sensor {name!r}; it has {has}")
    shown = picture(found)
    if shown.shape != (size, size, 3):
        raise LineError(f"picture {name!r} is {shown.shape[1]} x {shown.shape[0]}, not {size} x {size}")
    return shown


def _ids(coded: NDArray[np.uint8]) -> NDArray[np.int16]:
    red, green, blue = (coded[..., channel].astype(np.uint32) for channel in range(3))
    colors = red << 16 | green << 8 | blue
    ids = np.full(colors.shape, -1, np.int16)
    known = int(np.count_nonzero(colors == 0))
    for slot, color in enumerate(_ID_COLORS):
        here = colors == color
        ids[here] = slot
        known += int(np.count_nonzero(here))
    if known < colors.size:
        raise LineError("its ids picture has colors that stand for nothing: anti-aliased, lit or converted")
    return ids


def _depth(coded: NDArray[np.uint8]) -> NDArray[np.float32]:
    if coded[..., 2].any():
        raise LineError("its depth picture has blue in it: anti-aliased, lit or converted")
    millimeters = coded[..., 0].astype(np.int32) * 256 + coded[..., 1]
    if (millimeters == millimeters[0, 0]).all():
        raise LineError("its depth picture is the same everywhere")
    meters = (millimeters / 1e3).astype(np.float32)
    meters[millimeters == NO_DEPTH] = FAR
    return meters


def self_test_scenes() -> tuple[Arrangement, Arrangement]:
    """Two scenes in different rooms, with different objects."""
    kinds = [kind.name for kind in load_catalog().training]
    rng = np.random.default_rng(0)
    one, other = (random_arrangement(rng, draw_layout(family, 0), kinds) for family in family_names()[:2])
    return one, other


def check_self_test(scenes: tuple[Arrangement, Arrangement], frames: tuple[Frame, Frame]) -> None:
    """Raises `LineError` for pictures that repeat, or that do not show objects where they project to."""
    if (frames[0].rgb == frames[1].rgb).all():
        raise LineError("start-up test: two different scenes have the same picture")
    if (frames[0].depth == frames[1].depth).all():
        raise LineError("start-up test: two different scenes have the same depth picture")
    for scene, frame in zip(scenes, frames, strict=True):
        camera, size = camera_frame(scene.layout.camera), len(frame.ids)
        for slot, thing in enumerate(scene.objects):
            if frame.visible[slot] < 0.9 or frame.pixels[slot] < _PIXELS:
                continue
            rows, columns = np.nonzero(frame.ids == slot)
            if not len(rows):
                raise LineError(f"start-up test: the {thing.kind} is not in the ids picture")
            middle = np.array(thing.position) + [0, 0, load_catalog()[thing.kind].height / 2]
            x, y, _ = (camera.project(middle) + 1) / 2 * size
            off = max(abs(float(columns.mean()) - x), abs(float(rows.mean()) - y)) / size
            if off > _WHERE_IT_PROJECTS:
                raise LineError(
                    f"start-up test: the {thing.kind} is {off:.0%} of the picture away from where it should be; is the "
                    "picture mirrored or upside down?"
                )
