"""Cases for the C# core of unity_project with the answers of this package: drawn by hypothesis, the same every time.

`python tests/unity_vectors.py` writes the few that are kept in the project, for whoever runs its tests inside Unity.
"""

from __future__ import annotations

import json
import math
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import rls3_registry
from rls3_gym.backends.embedded import meshes
from rls3_gym.backends.embedded.room_shapes import Shape
from rls3_gym.backends.unity.messages import Show, decode_command, encode
from rls3_gym.scene.arrangement import RELEASE_HEIGHT, SLOTS, ActiveObject, Arrangement, Edit, place
from rls3_gym.scene.camera import CameraFrame
from rls3_gym.scene.captions import describe
from rls3_gym.scene.catalog import load_catalog
from rls3_gym.scene.layouts import draw_layout, family_names
from rls3_gym.scene.proposals import random_arrangement
from rls3_gym.scene.relations import RELATIONS, margin_deg, relation
from rls3_gym.scene.rooms import CameraPose
from rls3_registry.errors import UserError

KEPT = Path(__file__).resolve().parent.parent / "unity_project/Assets/Rls3/Tests/EditMode/Vectors"
KEPT_CASES = 60
NEAR_BOUNDARY_DEG = 1e-9
"""Nearer than this to a boundary the last bit of an arc tangent decides, which differs between libraries of sines."""

ROOMS = [draw_layout(family, index) for family in family_names() for index in (0, 1, 7)]
KINDS = load_catalog().kinds
NAMES = [kind.name for kind in KINDS]


def compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def bits(number: float) -> int:
    return int(struct.unpack("<q", struct.pack("<d", number))[0])


def number_of(text: str) -> float:
    """The inverse of `bits`, from text."""
    return float(struct.unpack("<d", struct.pack("<q", int(text)))[0])


@dataclass(frozen=True)
class Topic:
    """One file of cases: how an input is drawn, and what this package answers to it."""

    draw: st.SearchStrategy[str]
    answer: Callable[[str], str]


# Numbers and JSON.
numbers = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(-10, 10),
    st.floats(-10, 10, width=32),
    st.integers(-(10**17), 10**17).map(float),
    st.tuples(st.integers(-9999, 9999), st.integers(-8, 20)).map(lambda pair: float(f"{pair[0]}e{pair[1]}")),
    st.integers(-1074, 1023).map(lambda power: math.ldexp(1.0, power)),
)
decimals = st.one_of(
    numbers.map(repr),
    st.tuples(st.integers(0, 10**40), st.integers(-60, 20)).map(lambda pair: f"-{pair[0]}e{pair[1]}"),
    # Halfway between two doubles, and a little to either side of it.
    st.tuples(st.integers(2**52, 2**53 - 1), st.sampled_from(["", ".0000000000000001", ".5"])).map(
        lambda pair: f"{2 * pair[0] + 1}{pair[1]}"
    ),
)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | numbers | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)

# Relations.
lengths = st.floats(-3, 3) | st.sampled_from([0.0, -0.0, 0.5, -0.5, 1.0, -1.0, 1e-3])
offsets = st.tuples(lengths, lengths, lengths).filter(
    lambda offset: not any(offset) or margin_deg(np.array(offset)) > NEAR_BOUNDARY_DEG
)


def relation_of(text: str) -> str:
    offset = np.array(json.loads(text), np.float64)
    if not offset.any():
        return "none"
    found = relation(offset)
    return f"{found.index} {found.complexity} {found.label}"


def caption_of(text: str) -> str:
    kind_a, index, kind_b = json.loads(text)
    return describe(kind_a, RELATIONS[index], kind_b)


# Scenes.
@st.composite
def scenes(draw: st.DrawFn) -> str:
    """A room with objects in it and an edit: anywhere, on a surface and a little beyond its edge, or by an object."""
    room = draw(st.sampled_from(ROOMS))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    arrangement = Arrangement(room, random_arrangement(rng, room, NAMES).objects[: draw(st.integers(0, SLOTS))])
    kind, slot = draw(st.sampled_from(KINDS)), int(rng.integers(max(1, len(arrangement.objects))))
    level = draw(st.sampled_from([-0.01, 0.0, 0.3, 0.6, 1.0, rng.random(), rng.random()]))
    x0, x1, y0, y1 = room.stage
    x, y = rng.uniform(x0 - 0.1, x1 + 0.1), rng.uniform(y0 - 0.1, y1 + 0.1)
    match draw(st.sampled_from(["anywhere", "surface", "object"])):
        case "surface":
            surface = room.surfaces[int(rng.integers(len(room.surfaces)))]
            share = st.floats(-0.05, 1.05) | st.sampled_from([0.0, 0.5, 1.0])
            x = surface.x0 + draw(share) * (surface.x1 - surface.x0)
            y = surface.y0 + draw(share) * (surface.y1 - surface.y0)
            level = (surface.z + draw(st.sampled_from([0.0, 0.01, 0.3]))) / RELEASE_HEIGHT
        case "object" if arrangement.objects:
            x, y, z = arrangement.objects[-1].position
            x, y, level = x + rng.uniform(-0.4, 0.4), y + rng.uniform(-0.4, 0.4), (z + 0.01) / RELEASE_HEIGHT
    row = [slot, kind.name, float(x), float(y), float(level), float(rng.uniform(0, 7))]
    return compact({"layout": room.key, "objects": arrangement.encode()["objects"], "edit": row})


def feasibility_of(text: str) -> str:
    case = json.loads(text)
    slot, kind, x, y, level, yaw = case["edit"]
    family, index = case["layout"].split("/")
    objects = tuple(ActiveObject(k, (a, b, c), turn) for k, a, b, c, turn in case["objects"])
    placement = place(Arrangement(draw_layout(family, int(index)), objects), Edit(slot, kind, x, y, level, yaw))
    if placement.arrangement is None:
        assert placement.reason is not None
        return placement.reason.value
    placed = placement.arrangement.objects[min(slot, len(objects))]
    return f"feasible {compact(placed.position)} {placed.yaw!r}"


poses = st.builds(
    CameraPose,
    eye=st.tuples(st.floats(-3, 3), st.floats(-3, 3), st.floats(0, 3)),
    heading=st.floats(-3, 3),
    pitch=st.floats(-1, 1),
    fov_deg=st.floats(20, 90),
)


def camera_of(text: str) -> str:
    case = json.loads(text)
    pose = CameraPose(**{**case["camera"], "eye": tuple(case["camera"]["eye"])})
    return compact(CameraFrame(pose).to_camera(case["point"]).tolist())


# Messages.
objects = st.fixed_dictionaries(
    {"kind": st.text(max_size=12), "position": st.tuples(lengths, lengths, lengths), "yaw": st.floats(-7, 7)}
)
shows = st.builds(
    lambda **fields: Show.model_validate({"schema": 1, "type": "show", **fields}),
    number=st.integers(1, 2**40),
    layout=st.sampled_from([room.key for room in ROOMS]) | st.text(max_size=9),
    seed=st.integers(0, 2**62),
    camera=poses.map(lambda p: {"eye": p.eye, "heading": p.heading, "pitch": p.pitch, "fov_deg": p.fov_deg}),
    quality=st.sampled_from(["low", "medium", "high"]),
    size=st.integers(1, 1024),
    objects=st.lists(objects, max_size=SLOTS).map(tuple),
)


@st.composite
def commands(draw: st.DrawFn) -> str:
    """A command, and mostly one that has something wrong."""
    if draw(st.integers(0, 3)) == 0:
        return compact({"schema": 1, "type": "edit", "number": draw(st.integers(-1, 9) | st.just(1.5))})
    text = encode(draw(shows))
    content = json.loads(text)
    where = draw(st.sampled_from([content, content["camera"], *content["objects"]]))
    key = draw(st.sampled_from(sorted(where)))
    match draw(st.sampled_from(["nothing", "nothing", "missing", "more", "other", "cut"])):
        case "missing":
            del where[key]
        case "more":
            where["more"] = 1
        case "other":
            where[key] = draw(st.sampled_from([None, True, "x", -1, 2.5, [], [1, 2, 3, 4], {}]))
        case "cut":
            return text[: draw(st.integers(0, len(text) - 1))]
    return compact(content)


def command_of(text: str) -> str:
    """`show` and the same command again, `edit` and its number, or the problem and the number."""
    number, schema = 0, None
    try:
        content = json.loads(text)
        if isinstance(content, dict):
            found = content.get("number")
            number = max(found, 0) if type(found) is int else 0
            schema = content.get("schema")
            if "schema" in content and not (type(schema) is int and schema == 1):
                return f"schema {number}"
    except ValueError:
        pass
    try:
        command = decode_command(text)
    except UserError:
        return f"command {number}"
    return f"show {encode(command)}" if isinstance(command, Show) else f"edit {command.number}"


# Meshes.
boxes = st.tuples(*(st.tuples(st.floats(-1, 0), st.floats(0.1, 1)) for _ in range(3))).map(
    lambda sides: tuple(round(end, 4) for side in sides for end in side)
)
room_shapes = st.one_of(
    boxes.map(lambda box: {"shape": "slab", "box": box}),
    boxes.map(lambda box: {"shape": "slab", "box": box, "pattern": [0.7, 1.3]}),
    st.tuples(boxes, st.floats(0.1, 0.6), st.integers(3, 14)).map(
        lambda drawn: {"shape": "cushion", "box": drawn[0], "roundness": round(drawn[1], 3), "across": drawn[2]}
    ),
)
object_shapes = st.sampled_from(
    [
        {key: value for key, value in part.items() if key not in ("color", "texture", "specular")}
        for slug in rls3_registry.names("objects")
        for part in rls3_registry.load("objects", slug)["parts"]
    ]
)


def mesh_of(text: str) -> str:
    """Numbers of vertices and triangles, and sums over vertices and corners in which every one has its weight."""
    sizes = json.loads(text)
    name = sizes.pop("shape")
    placed = {key: sizes.pop(key) for key in ("translate", "rotate_deg", "scale") if key in sizes}
    around = sizes.pop("around", 1)
    if name in ("slab", "cushion"):
        mesh = Shape(name, sizes).mesh()
    else:
        one = meshes.transform(getattr(meshes, name)(**sizes), **placed)
        turns = [360.0 * turn / around for turn in range(around)]
        mesh = meshes.join([meshes.transform(one, rotate_deg=(0.0, 0.0, turn)) for turn in turns])
    count, corners = len(mesh.vertices), mesh.faces.ravel().astype(np.float64)
    rows = np.concatenate([mesh.vertices, mesh.normals, mesh.uv], axis=1).astype(np.float64)
    weights = (1 + np.arange(count) % 13) / count
    order = (corners * (1 + np.arange(len(corners)) % 3)).sum() / len(corners)
    return compact([count, len(mesh.faces), *(weights @ rows).tolist(), float(order)])


TOPICS: dict[str, Topic] = {
    "numbers": Topic(numbers.map(lambda n: str(bits(n))), lambda text: repr(number_of(text))),
    "decimals": Topic(decimals, lambda text: str(bits(float(text)))),
    "json": Topic(values.map(lambda v: json.dumps(v, ensure_ascii=False)), lambda text: compact(json.loads(text))),
    "relations": Topic(offsets.map(compact), relation_of),
    "margins": Topic(
        offsets.filter(any).map(compact), lambda text: compact([margin_deg(np.array(json.loads(text), np.float64))])
    ),
    "captions": Topic(
        st.tuples(
            st.sampled_from(NAMES),
            st.integers(0, len(RELATIONS) - 1),
            st.sampled_from(NAMES),
        ).map(compact),
        caption_of,
    ),
    "cameras": Topic(
        st.tuples(poses, st.tuples(lengths, lengths, lengths)).map(
            lambda pair: compact({"camera": vars(pair[0]), "point": pair[1]})
        ),
        camera_of,
    ),
    "feasibility": Topic(scenes(), feasibility_of),
    "commands": Topic(commands(), command_of),
    "meshes": Topic(st.one_of(object_shapes, room_shapes).map(compact), mesh_of),
}


def inputs(draw: st.SearchStrategy[str], count: int) -> list[str]:
    """`count` different inputs, about: hypothesis repeats itself now and then."""
    found: dict[str, None] = {}

    @settings(
        derandomize=True, database=None, max_examples=count, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(draw)
    def collect(text: str) -> None:
        found[text] = None

    collect()
    return list(found)


def write(folder: Path, count: int) -> dict[str, int]:
    """Write every topic's file; how many cases each has."""
    folder.mkdir(parents=True, exist_ok=True)
    tally = {}
    for name, topic in TOPICS.items():
        drawn = inputs(topic.draw, count)
        text = "".join(f"{one}\t{topic.answer(one)}\n" for one in drawn)
        (folder / f"{name}.txt").write_text(text, encoding="utf-8", newline="\n")
        tally[name] = len(drawn)
    return tally


if __name__ == "__main__":
    print(json.dumps(write(*((Path(sys.argv[1]), int(sys.argv[2])) if len(sys.argv) > 1 else (KEPT, KEPT_CASES)))))
