"""The engine-free C# of unity_project, compiled by mono: it says what this package says."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import unity_vectors
from numpy.typing import NDArray

from rls3_gym.backends.embedded.furniture_meshes import build_room
from rls3_gym.backends.embedded.meshes import Mesh, Part
from rls3_gym.backends.embedded.textures import texture, texture_names
from rls3_gym.backends.embedded.tracer import Tracer
from rls3_gym.backends.unity.messages import CarryOut, Problem, Show, State, decode, encode
from rls3_gym.export.world import world_digest
from rls3_gym.scene.arrangement import Arrangement, Edit, place
from rls3_gym.scene.catalog import load_catalog
from rls3_gym.scene.layouts import draw_layout, family_names, layouts
from rls3_gym.scene.proposals import random_arrangement, random_edit

ROOT = Path(__file__).resolve().parent.parent
PROJECT = ROOT / "unity_project"
WORLD = PROJECT / "Assets/StreamingAssets/world.json"
CORE = PROJECT / "Assets/Rls3/Core"
CORE_TESTS = PROJECT / "Assets/Rls3/Tests/EditMode"
NUNIT = sorted(Path("/usr/lib/cli").glob("nunit.framework-*/nunit.framework.dll"))

pytestmark = pytest.mark.skipif(
    not (shutil.which("mcs") and shutil.which("nunit-console") and NUNIT),
    reason="needs mono's C# compiler and NUnit; on Debian: apt-get install mono-mcs nunit-console libnunit-cil-dev",
)


@dataclass(frozen=True)
class Built:
    """What mono has made of the sources."""

    folder: Path

    def compile(self, out: str, kind: str, sources: list[Path], *references: str) -> Path:
        """Compile C# as the newest that mono takes; a warning is an error."""
        target = self.folder / out
        given = [f"-r:{reference}" for reference in references]
        flags = [
            "-nologo",
            "-langversion:7.2",
            "-warnaserror",
            f"-target:{kind}",
            f"-out:{target}",
            f"-lib:{self.folder}",
        ]
        run(["mcs", *flags, *given, *map(str, sources)])
        return target


def run(command: list[str], **environment: str) -> str:
    """Standard output of a command; what it said, where it fails."""
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command[0]} failed:\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The core as a library."""
    made = Built(tmp_path_factory.mktemp("core"))
    made.compile("Rls3.Core.dll", "library", sorted(CORE.glob("*.cs")), "System.Numerics")
    return made


@pytest.fixture(scope="module")
def core_tests(built: Built) -> Path:
    """The NUnit tests of the core, which Unity's EditMode runs too."""
    return built.compile("Tests.dll", "library", sorted(CORE_TESTS.glob("*.cs")), "Rls3.Core.dll", str(NUNIT[-1]))


def nunit(tests: Path, vectors: Path) -> str:
    command = ["nunit-console", "-nologo", "-noshadow", f"-work={tests.parent}", str(tests)]
    return run(command, RLS3_VECTORS=str(vectors), RLS3_PROJECT=str(PROJECT))


@pytest.mark.parametrize("count", [100, pytest.param(2500, marks=pytest.mark.slow)])
def test_the_core_agrees_on_new_cases(core_tests: Path, tmp_path: Path, count: int) -> None:
    # In a process of its own: hypothesis draws constants from the modules that are loaded.
    tally = json.loads(run([sys.executable, unity_vectors.__file__, str(tmp_path), str(count)]))
    said = nunit(core_tests, tmp_path)
    for topic, cases in tally.items():
        assert f"{topic}: {cases} cases agree" in said
    assert sum(tally.values()) > 8 * count


def test_the_core_agrees_on_the_cases_that_are_kept(core_tests: Path) -> None:
    assert "Failures: 0" in nunit(core_tests, unity_vectors.KEPT)


def test_a_wrong_answer_fails(core_tests: Path, tmp_path: Path) -> None:
    shutil.copytree(unity_vectors.KEPT, tmp_path, dirs_exist_ok=True)
    file = tmp_path / "captions.txt"
    file.write_text(file.read_text(encoding="utf-8").replace("left", "right", 1), encoding="utf-8")
    with pytest.raises(AssertionError, match="captions"):
        nunit(core_tests, tmp_path)


@pytest.fixture(scope="module")
def player(built: Built) -> Path:
    """A program that answers exchanges as a player does, without an engine."""
    source = Path(__file__).with_name("unity_answers.cs")
    return built.compile("Answers.exe", "exe", [source], "Rls3.Core.dll")


def answers(player: Path, exchanges: list[dict[str, object]]) -> list[str]:
    lines = "".join(json.dumps(exchange) + "\n" for exchange in exchanges)
    done = subprocess.run(["mono", player, WORLD], input=lines, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


SEEN = {"visible": [1.0, 0.5, 0.125], "pixels": [40, 2, 0]}


def test_shown_scenes_are_answered_as_the_schema_says(player: Path) -> None:
    rng = np.random.default_rng(3)
    names = [kind.name for kind in load_catalog().kinds]
    rooms = [room for split in ("train", "validation", "test") for room in layouts(split)[::9]]
    scenes = [random_arrangement(rng, room, names) for room in rooms]
    shows = [Show.of(s, number=n, seed=n, quality="low", size=64) for n, s in enumerate(scenes, start=1)]
    said = answers(player, [{"command": encode(show), **SEEN} for show in shows])
    for scene, show, text in zip(scenes, shows, said, strict=True):
        state = decode(text)
        assert isinstance(state, State) and encode(state) == text
        assert (state.number, state.layout, state.size, state.quality) == (show.number, show.layout, 64, "low")
        assert state.player.world == world_digest(WORLD.read_text(encoding="utf-8"))
        positions = np.array([o.position for o in state.objects])
        assert np.allclose(positions, scene.camera_positions(), rtol=0, atol=1e-9)
        for seen, thing in zip(state.objects, scene.objects, strict=True):
            kind = load_catalog()[thing.kind]
            assert (seen.kind, seen.radius, seen.height) == (kind.name, kind.radius, kind.height)
            assert abs(seen.yaw - thing.yaw - scene.layout.camera.heading) < 1e-9
        assert [(o.visible, o.pixels) for o in state.objects] == [(1.0, 40), (0.5, 2), (0.125, 0)]


def test_edits_are_carried_out_and_refused_as_by_place(player: Path) -> None:
    rng = np.random.default_rng(8)
    names = [kind.name for kind in load_catalog().kinds]
    scene = random_arrangement(rng, layouts("train")[50], names)
    exchanges: list[dict[str, object]] = [
        {"command": encode(Show.of(scene, number=1, seed=0, quality="low", size=64)), **SEEN}
    ]
    expected = []
    for number in range(2, 60):
        edit: Edit = random_edit(rng, scene, names)
        action = [edit.slot, names.index(edit.kind), edit.x, edit.y, edit.level, edit.yaw]
        exchanges.append({"command": encode(CarryOut(number=number)), "action": action, **SEEN})
        placement = place(scene, edit)
        scene = placement.arrangement or scene
        expected.append((placement.reason, scene))
    _, *said = map(decode, answers(player, exchanges))
    assert {reason for reason, _ in expected} > {None}
    for state, (reason, after) in zip(said, expected, strict=True):
        assert isinstance(state, State) and state.edit is not None
        assert (state.edit.feasible, state.edit.reason) == (reason is None, reason)
        assert [o.kind for o in state.objects] == [o.kind for o in after.objects]
        assert np.allclose([o.position for o in state.objects], after.camera_positions(), rtol=0, atol=1e-9)


def test_what_a_player_refuses_is_an_error_of_the_schema(player: Path) -> None:
    scene = Arrangement(layouts("train")[0], ())
    show = encode(Show.of(scene, number=5, seed=0, quality="low", size=64))
    commands = {
        "schema": show.replace('"schema":1', '"schema":2'),
        "command": show.replace('"quality":"low"', '"quality":"lovely"'),
        "layout": show.replace(scene.layout.key, "kitchen/99"),
        "kind": show.replace('"objects":[]', '"objects":[{"kind":"unicorn","position":[0,0,0],"yaw":0}]'),
    }
    said = answers(player, [{"command": command, "visible": [], "pixels": []} for command in commands.values()])
    for problem, text in zip(commands, said, strict=True):
        found = decode(text)
        assert isinstance(found, Problem) and encode(found) == text
        assert (found.problem, found.number) == (problem, 5)


@pytest.mark.parametrize("family", family_names())
def test_a_room_of_the_player_looks_like_that_of_the_embedded_backend(built: Built, family: str) -> None:
    """Its meshes, traced: lengths are rounded to a tenth of a millimeter and colors to a thousandth."""
    program = built.folder / "Room.exe"
    if not program.exists():
        built.compile("Room.exe", "exe", [Path(__file__).with_name("unity_room.cs")], "Rls3.Core.dll")
    layout = draw_layout(family, 2)
    parts = [json.loads(line) for line in run(["mono", str(program), str(WORLD), layout.key]).splitlines()]
    images = {name: texture(name) for name in texture_names()}

    def picture(of: Sequence[Part]) -> NDArray[np.int64]:
        traced = Tracer(of, images, layout.camera, layout.light, 64, 2).trace([])
        return traced.rgb.astype(np.int64)

    ours, theirs = picture(build_room(layout)), picture([_part(part) for part in parts])
    different = (np.abs(ours - theirs) > 6).any(axis=-1)
    assert different.mean() < 0.005 and np.abs(ours - theirs).mean() < 0.2


def _part(part: dict[str, Any]) -> Part:
    vertices, normals, uv = (np.array(part[key], np.float32) for key in ("vertices", "normals", "uv"))
    mesh = Mesh(vertices, np.array(part["corners"], np.int32).reshape(-1, 3), normals, uv)
    return Part(mesh, tuple(part["color"]), part["texture"], part["specular"])
