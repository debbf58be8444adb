"""Object kinds: every registered file is sound, says its true size, and has a name that captions can carry."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

import rls3_registry
from rls3_gym.backends.embedded import meshes
from rls3_gym.backends.embedded.meshes import Mesh
from rls3_gym.backends.embedded.objects import build_object, load_object
from rls3_gym.scene.captions import describe, parse
from rls3_gym.scene.relations import RELATIONS
from rls3_registry.errors import UserError

SLUGS = rls3_registry.names("objects")
SPECS = {slug: rls3_registry.load("objects", slug) for slug in SLUGS}
NAMES = [spec["name"] for spec in SPECS.values()]
PAPER = {
    "green cup", "small pot", "purple bowl", "orange plate", "blue vase", "yellow bowl", "blender", "wine bottle",
    "bird sculpture",
}  # fmt: skip


def flaws(mesh: Mesh) -> list[str]:
    """What is wrong with a mesh: its triangles need an area, its normals length 1 and their triangle's side."""
    if mesh.faces.min() < 0 or mesh.faces.max() >= len(mesh.vertices):
        return ["a triangle names a vertex that does not exist"]
    corners = mesh.vertices[mesh.faces].astype(np.float64)
    facing = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    used = mesh.normals[mesh.faces]
    checks = {
        "float32": mesh.vertices.dtype == mesh.normals.dtype == mesh.uv.dtype == np.float32,
        "int32 faces": mesh.faces.dtype == np.int32,
        "finite": np.isfinite(mesh.vertices).all() and np.isfinite(mesh.uv).all(),
        "triangles with an area": (np.linalg.norm(facing, axis=1) > 0).all(),
        "normals of length 1": np.allclose(np.linalg.norm(used, axis=-1), 1.0, atol=1e-4, rtol=1e-7),
        "normals that look outwards": (np.einsum("fi,fki->fk", facing, used) > 0).all(),
    }
    return [f"not {check}" for check, holds in checks.items() if not holds]


def volume(mesh: Mesh) -> float:
    """What a closed mesh encloses; negative when it is turned inside out."""
    a, b, c = mesh.vertices[mesh.faces].astype(np.float64).transpose(1, 0, 2)
    return float((a * np.cross(b, c)).sum() / 6)


def test_a_kind_is_sound_and_as_large_as_its_file_says() -> None:
    wrong = []
    for slug, spec in SPECS.items():
        parts = load_object(spec["name"])
        vertices = np.concatenate([part.mesh.vertices for part in parts])
        radius, height = np.hypot(vertices[:, 0], vertices[:, 1]).max(), vertices[:, 2].max()
        checks = {
            "the file's name": spec["name"].replace(" ", "_") == slug,
            "stands at z = 0": vertices[:, 2].min() == pytest.approx(0.0, abs=2e-3),
            "radius": radius <= spec["radius"] <= 1.02 * radius and 0.10 <= spec["radius"] <= 0.19,
            "height": spec["height"] == pytest.approx(height, rel=0.02) and 0.10 <= spec["height"] <= 0.42,
            "at most 3000 triangles": sum(len(part.mesh.faces) for part in parts) <= 3000,
        }
        wrong += [f"{slug}: {check}" for check, holds in checks.items() if not holds]
        wrong += [f"{slug}: {flaw}" for part in parts for flaw in flaws(part.mesh)]
    assert wrong == []


def test_parts_that_look_alike_are_one_mesh() -> None:
    for name in NAMES:
        surfaces = [(part.color, part.texture, part.specular) for part in load_object(name)]
        assert len(surfaces) == len(set(surfaces))


def test_names_are_distinct_and_can_be_parsed() -> None:
    assert len(set(NAMES)) == len(NAMES)
    for name in NAMES:
        assert name == name.strip().lower() and "," not in name and "." not in name
        assert not {"a", "an", "the", "is", "and", "of", "to", "in"} & set(name.split())
        for other in NAMES:
            if other != name:
                assert not other.startswith(name) and not other.endswith(name)
                assert parse(describe(name, RELATIONS[0], other)).kind_b == other


def test_the_papers_kinds_and_enough_others_are_there() -> None:
    held_out = {spec["name"] for spec in SPECS.values() if spec["held_out"]}
    trainable = set(NAMES) - held_out
    assert trainable >= PAPER
    assert len(trainable) >= 24 and len(held_out) >= 4
    known = {word for name in trainable for word in name.split()}
    for name in held_out:
        assert set(name.split()) <= known, f"{name} has a word that no trainable kind teaches"


def test_an_unknown_kind_names_the_nearest() -> None:
    with pytest.raises(UserError, match="blue vase"):
        load_object("blue vaze")


def _spec() -> dict[str, Any]:
    return copy.deepcopy(SPECS["yellow_bowl"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.update(heigth=0.2), r"file: unknown key 'heigth'; did you mean 'height'"),
        (lambda s: s.pop("name"), "file: name: is missing"),
        (
            lambda s: s["parts"][0].update(profle=[]),
            r"file: unknown key 'parts.0.profle'; did you",
        ),
        (lambda s: s["parts"][1].update(shape="ball"), "file: parts.1: .*'ball'.*'sphere'"),
        (lambda s: s["parts"][1].update(color=[1, 0, 300]), "file: parts.1.color.2: .*less than or equal to 1"),
        (lambda s: s["parts"][1].update(profile=[[0, 0]]), "file: parts.1.profile: .*at least 2"),
        (lambda s: s["parts"][1].update(profile=[[1, 1], [1, 1]]), "file: parts.1: a profile needs at least two"),
        (lambda s: s["parts"][1].update(scale=-1), "file: parts.1: a scale must be positive"),
        (lambda s: s.update(parts=[]), "file: parts: "),
        (lambda s: s.update(radius=0.1), "file: radius is 0.1 m but the parts reach 0.17"),
        (lambda s: s.update(height=0.3), "file: height is 0.3 m but the parts are 0.15"),
        (lambda s: s["parts"][0].update(translate=[0, 0, -0.1]), r"file: parts reach 0.1000 m below z = 0"),
    ],
)
def test_a_wrong_file_is_an_error_that_names_the_key(change: Any, message: str) -> None:
    spec = _spec()
    change(spec)
    with pytest.raises(UserError, match=message):
        build_object(spec, "file")


CLOSED = {
    "lathe": (meshes.lathe([(0, 0), (0.1, 0), (0.1, 0.2), (0, 0.2)], 64), np.pi * 0.01 * 0.2),
    "pyramid": (meshes.lathe([(0, 0), (0.1, 0), (0, 0.3)], 4, smooth=False), 0.02 * 0.1),
    "cylinder": (meshes.cylinder(0.1, 0.2, segments=64), np.pi * 0.01 * 0.2),
    "cone": (meshes.cylinder(0.1, 0.3, top_radius=0, segments=64), np.pi * 0.01 * 0.1),
    "box": (meshes.box((0.1, 0.2, 0.3)), 0.006),
    "sphere": (meshes.sphere((0.1, 0.2, 0.3), 64), 4 / 3 * np.pi * 0.006),
    "torus": (meshes.torus(0.2, 0.05, plane="xz", segments=64), 2 * np.pi**2 * 0.2 * 0.05**2 * 0.9),
    "tube": (meshes.tube([(0, 0, 0), (0.2, 0, 0), (0.4, 0, 0)], 0.05, 64), np.pi * 0.0025 * 0.4),
    "bent tube": (meshes.tube([(0, 0, 0), (0, 0.2, 0), (0, 0.2, 0.2)], 0.02, 64), np.pi * 0.0004 * 0.4),
}


@pytest.mark.parametrize("shape", CLOSED)
def test_a_closed_shape_looks_outwards_and_encloses_its_volume(shape: str) -> None:
    mesh, expected = CLOSED[shape]
    assert flaws(mesh) == []
    assert volume(mesh) == pytest.approx(expected, rel=0.04)


def test_corners_stay_sharp_and_curves_are_smooth() -> None:
    tin = meshes.cylinder(0.1, 0.2)
    assert np.allclose(np.sort(np.abs(tin.normals), axis=1)[:, :2].min(axis=1), 0, atol=1e-6)
    assert np.all((np.abs(tin.normals[:, 2]) < 1e-6) | (np.abs(tin.normals[:, 2]) > 1 - 1e-6))
    ball = meshes.sphere((0.2, 0.2, 0.2), 24)
    np.testing.assert_allclose(ball.normals, ball.vertices / 0.2, atol=0.01)


def test_transform_scales_then_turns_then_moves() -> None:
    rod = meshes.transform(meshes.box((1, 1, 1)), translate=(0, 0, 5), rotate_deg=(0, 90, 0), scale=(0.1, 0.2, 3))
    assert flaws(rod) == []
    np.testing.assert_allclose(rod.vertices.min(0), (0, -0.1, 4.95), atol=1e-6)
    np.testing.assert_allclose(rod.vertices.max(0), (3, 0.1, 5.05), atol=1e-6)
