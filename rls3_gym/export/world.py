"""The world as one JSON text that another engine builds the same rooms and objects from: the Unity player loads it.

What decides feasibility (surfaces, solids, cameras, sizes of kinds) is written to the last bit; what is only looked at
is rounded to a tenth of a millimeter. Meters, world frame, z up; angles in degrees where a key says so, else radians.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import rls3_registry
from rls3_gym.backends.embedded.backend import WORLD_VERSION
from rls3_gym.backends.embedded.furniture_meshes import furniture, shell
from rls3_gym.backends.embedded.objects import load_object
from rls3_gym.backends.embedded.room_shapes import Shape, ShapedPart, turn_deg
from rls3_gym.backends.embedded.textures import texture_names
from rls3_gym.scene import captions, relations, rules
from rls3_gym.scene.arrangement import RELEASE_HEIGHT, SLOTS
from rls3_gym.scene.catalog import ObjectKind, load_catalog
from rls3_gym.scene.layouts import layouts
from rls3_gym.scene.rooms import Color, Layout, Piece
from rls3_gym.scene.splits import SPLITS

FORMAT = "rls3-world"
FORMAT_VERSION = 1
"""Raised when a reader of the text has to change."""
_LENGTH_DECIMALS = 4
_COLOR_DECIMALS = 3


def world() -> dict[str, Any]:
    """The layouts of all splits by `Layout.key`, the object kinds, and the constants of the rules. JSON-ready."""
    rooms = [layout for split in SPLITS for layout in layouts(split)]
    return {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "world": WORLD_VERSION,
        "constants": _constants(),
        "phrases": captions.phrases(),
        "textures": texture_names(),
        "kinds": [_kind(kind) for kind in load_catalog().kinds],
        "layouts": {layout.key: _layout(layout) for layout in rooms},
    }


def world_text() -> str:
    """`world` as text: one kind or layout a line, the same bytes on every machine."""
    return _lines(world()) + "\n"


def world_digest(text: str) -> str:
    """Names a world: a player and this package must hold the same one."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _constants() -> dict[str, float]:
    return {
        "slots": SLOTS,
        "elevation_band_deg": relations.ELEVATION_BAND_DEG,
        "vertical_cone_deg": relations.VERTICAL_CONE_DEG,
        "sector_deg": relations.SECTOR_DEG,
        "release_height": RELEASE_HEIGHT,
        "view_limit": rules.VIEW_LIMIT,
        "nearest": rules.NEAREST,
        "overhang": rules.OVERHANG,
        "contact": rules.CONTACT,
    }


def _kind(kind: ObjectKind) -> dict[str, Any]:
    load_object(kind.name)  # checks the file
    parts = rls3_registry.load("objects", kind.slug)["parts"]
    return {
        "name": kind.name,
        "held_out": kind.held_out,
        "radius": kind.radius,
        "height": kind.height,
        "parts": parts,
    }


def _layout(room: Layout) -> dict[str, Any]:
    camera, light = room.camera, room.light
    return {
        "split": room.split,
        "bounds": [room.x0, room.x1, room.y0, room.y1, room.height],
        "stage": room.stage,
        "camera": {
            "eye": camera.eye,
            "heading": camera.heading,
            "pitch": camera.pitch,
            "fov_deg": camera.fov_deg,
        },
        "light": {
            "position": light.position,
            "intensity": light.intensity,
            "ambient": light.ambient,
            "color": light.color,
        },
        "surfaces": [[s.name, s.x0, s.x1, s.y0, s.y1, s.z, s.clearance] for s in room.surfaces],
        "solids": [[s.x0, s.x1, s.y0, s.y1, s.z0, s.z1] for s in room.solids],
        "shell": _parts(shell(room)),
        "pieces": [_piece(piece) for piece in room.pieces],
    }


def _piece(piece: Piece) -> dict[str, Any]:
    at = [_rounded(v, _LENGTH_DECIMALS) for v in (piece.x, piece.y, piece.z)]
    return {"type": piece.type, "at": at, "turn_deg": turn_deg(piece), "parts": _parts(furniture(piece))}


def _parts(parts: Iterable[ShapedPart]) -> list[dict[str, Any]]:
    """Parts in the form of those of `registry/objects`, except that shapes which look alike are one part, and that
    plain boxes have a list of their own: they are many."""
    looks: dict[tuple[Color, float, str | None], list[Shape]] = {}
    for part in parts:
        looks.setdefault((part.color, part.specular, part.texture), []).extend(part.shapes)
    found = []
    for (color, specular, texture), shapes in looks.items():
        part_of: dict[str, Any] = {"color": _rounded(color, _COLOR_DECIMALS), "specular": specular}
        if texture is not None:
            part_of["texture"] = texture
        plain = [shape for shape in shapes if shape.name == "slab" and "pattern" not in shape.arguments]
        if plain:
            part_of["boxes"] = [_rounded(shape.arguments["box"], _LENGTH_DECIMALS) for shape in plain]
        if others := [_shape(shape) for shape in shapes if shape not in plain]:
            part_of["shapes"] = others
        found.append(part_of)
    return found


def _shape(shape: Shape) -> dict[str, Any]:
    placed: dict[str, Any] = {"translate": shape.translate, "rotate_deg": shape.rotate_deg}
    placed = {key: _rounded(value, _LENGTH_DECIMALS) for key, value in placed.items() if any(value)}
    scale = {"scale": shape.scale} if shape.scale != 1.0 else {}
    sizes: dict[str, Any] = _rounded(shape.arguments, _LENGTH_DECIMALS)
    return {"shape": shape.name} | sizes | placed | scale


def _rounded(value: Any, decimals: int) -> Any:
    """Every float in a nest of mappings and sequences, rounded; -0 and whole numbers become plain integers."""
    if isinstance(value, Mapping):
        return {key: _rounded(inner, decimals) for key, inner in value.items()}
    if isinstance(value, float):
        rounded = round(value, decimals)
        return int(rounded) if rounded == int(rounded) else rounded
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [_rounded(inner, decimals) for inner in value]
    return value


def _lines(content: dict[str, Any]) -> str:
    """JSON with a line for every kind and every layout, so that a change of one shows as one."""

    def compact(value: Any) -> str:
        return json.dumps(value, separators=(",", ":"), allow_nan=False)

    rows = []
    for key, value in content.items():
        if key == "kinds":
            inner = ",\n".join(compact(kind) for kind in value)
            rows.append(f"{compact(key)}:[\n{inner}\n]")
        elif key == "layouts":
            inner = ",\n".join(f"{compact(name)}:{compact(room)}" for name, room in value.items())
            rows.append(f"{compact(key)}:{{\n{inner}\n}}")
        else:
            rows.append(f"{compact(key)}:{compact(value)}")
    return "{\n" + ",\n".join(rows) + "\n}"
