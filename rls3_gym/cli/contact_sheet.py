"""Contact sheets of the embedded world: layouts of every room family, and every object kind with its name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from rls3_gym.backends.base import SceneBackend, load_backend
from rls3_gym.runs.directory import replacing
from rls3_gym.scene.arrangement import SLOTS, ActiveObject, Arrangement
from rls3_gym.scene.catalog import ObjectKind, load_catalog
from rls3_gym.scene.layouts import family_names, layouts
from rls3_gym.scene.proposals import random_arrangement
from rls3_gym.scene.rooms import CameraPose, Finish, Layout, Light
from rls3_gym.stage import FeasibilityRules

ROOM_SIZE = 224
LAYOUTS = 5
"""Layouts shown of each family, with three objects in each."""
OBJECT_SIZE = 160
INSET = 48
"""Side of the small picture of a kind, pixels: about what is seen of an object that stands near the camera."""
COLUMNS = 7
GAP = 10
LABEL = 22
_SEED = 11
_SCENE_TRIES = 30
"""Scenes drawn for a layout until all three objects are in plain sight."""
_OBJECTS_TITLE = "Objects, and how a 64-pixel scene shows them close by (*: kept out of training)"
_PAPER, _INK = (250, 250, 248), (28, 32, 36)
_YAW = -0.7


@dataclass(frozen=True)
class _Tile:
    picture: Image.Image
    label: str


def write_gallery(out: Path, backend: str | None = None) -> Path:
    """Write one PNG with rooms of all families and all kinds, or with the rooms alone as a `backend` shows them: a
    registered name, a YAML file, or `module:Class`. Raises `UserError` for an unknown one, or when the picture can't be
    written."""
    parts = [_sheet("Rooms", _room_tiles(load_backend(backend or "embedded", ROOM_SIZE)), LAYOUTS, ROOM_SIZE)]
    if backend is None:
        parts.append(_sheet(_OBJECTS_TITLE, _object_tiles(), COLUMNS, OBJECT_SIZE))
    width = max(part.width for part in parts)
    sheet = Image.new("RGB", (width, sum(part.height for part in parts)), _PAPER)
    top = 0
    for part in parts:
        sheet.paste(part, (0, top))
        top += part.height
    with replacing(out) as temporary:
        sheet.save(temporary, format="PNG", optimize=True)
    return out


def _room_tiles(backend: SceneBackend) -> list[_Tile]:
    """Some training layouts of each family, each with three objects; the backend is closed afterwards."""
    rng = np.random.default_rng(_SEED)
    kinds = [kind.name for kind in load_catalog().training]
    rules = FeasibilityRules(min_visible=0.9)
    tiles = []
    for family in family_names():
        for layout in [room for room in layouts("train") if room.family == family][:LAYOUTS]:
            for _ in range(_SCENE_TRIES):
                scene = random_arrangement(rng, layout, kinds)
                backend.reset(scene, seed=layout.index)
                frame = backend.capture()
                if all(rules.visibility(frame, slot) is None for slot in range(SLOTS)):
                    break
            tiles.append(_Tile(Image.fromarray(frame.rgb), f"{family.replace('_', ' ')} {layout.index}"))
    backend.close()
    return tiles


def _object_tiles() -> list[_Tile]:
    """Every kind by itself on a plain floor, with a coarse picture of it in the corner."""
    from rls3_gym.backends.embedded.backend import EmbeddedBackend  # where there is no embreex this says what to do

    large, small = EmbeddedBackend({"supersampling": 3}, image_size=OBJECT_SIZE), EmbeddedBackend(image_size=INSET // 2)
    tiles = []
    for index, kind in enumerate(load_catalog().kinds):
        scene = Arrangement(_studio(kind, index), (ActiveObject(kind.name, (0.0, 0.0, 0.0), _YAW),))
        pictures = []
        for backend in (large, small):
            backend.reset(scene, seed=index)
            pictures.append(Image.fromarray(backend.capture().rgb))
        picture, inset = pictures[0], pictures[1].resize((INSET, INSET), Image.Resampling.NEAREST)
        picture.paste(_PAPER, (OBJECT_SIZE - INSET - 2, OBJECT_SIZE - INSET - 2, OBJECT_SIZE, OBJECT_SIZE))
        picture.paste(inset, (OBJECT_SIZE - INSET, OBJECT_SIZE - INSET))
        tiles.append(_Tile(picture, kind.name + (" *" if kind.held_out else "")))
    large.close()
    small.close()
    return tiles


def _studio(kind: ObjectKind, index: int) -> Layout:
    """An empty room whose camera looks at one object of `kind` at the origin, filling most of the picture."""
    fov, pitch = 24.0, np.radians(24.0)
    reach = float(np.hypot(kind.radius, kind.height / 2))
    away = 1.04 * reach / np.sin(np.radians(fov / 2))
    eye = (0.0, float(-away * np.cos(pitch)), float(kind.height / 2 + away * np.sin(pitch)))
    return Layout(
        family="studio", index=index, split="train",
        x0=-3.0, x1=3.0, y0=-3.0, y1=2.5, height=4.0, stage=(-1.0, 1.0, -1.0, 1.0),
        pieces=(), surfaces=(), solids=(),
        floor=Finish((0.72, 0.72, 0.70), None), walls=Finish((0.86, 0.87, 0.88), None),
        camera=CameraPose(eye, 0.0, float(-pitch), fov), light=Light((-1.2, -1.6, 2.6), 8.0, 0.42, (1.0, 0.98, 0.95)),
    )  # fmt: skip


def _sheet(title: str, tiles: Sequence[_Tile], columns: int, side: int) -> Image.Image:
    """Tiles in rows with a label under each, and a title above."""
    rows = ceil(len(tiles) / columns)
    head = 46
    sheet = Image.new("RGB", (columns * (side + GAP) + GAP, head + rows * (side + LABEL + GAP)), _PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, 14), title, fill=_INK, font=ImageFont.load_default(20))
    font = ImageFont.load_default(13)
    for i, tile in enumerate(tiles):
        x = GAP + (i % columns) * (side + GAP)
        y = head + (i // columns) * (side + LABEL + GAP)
        sheet.paste(tile.picture, (x, y))
        draw.text((x + 2, y + side + 3), tile.label, fill=_INK, font=font)
    return sheet
