"""What can be checked of unity_project without Unity: syntax, files, names, and that nothing in it is stale."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import tree_sitter_c_sharp
import unity_vectors
from tree_sitter import Language, Node, Parser

from rls3_gym.backends.unity import messages
from rls3_gym.export.world import world_digest, world_text

ROOT = Path(__file__).resolve().parent.parent
PROJECT = ROOT / "unity_project"
ASSETS = PROJECT / "Assets"
CORE = ASSETS / "Rls3/Core"
SOURCES = sorted(PROJECT.rglob("*.cs"))
PARSER = Parser(Language(tree_sitter_c_sharp.language()))

NEWER_THAN_CSHARP_9 = {
    "file_scoped_namespace_declaration", "raw_string_literal", "collection_expression", "list_pattern", "required",
    "global",
}  # fmt: skip
REFUSED_BY_MCS = {
    "local_function_statement", "switch_expression", "implicit_object_creation_expression", "record_declaration",
    "range_expression", "when_clause", "??=", "negated_pattern", "and_pattern", "or_pattern", "relational_pattern",
    "recursive_pattern", "init", "preproc_nullable",
}  # fmt: skip
OBSOLETE = re.compile(
    r"\b(?:FindObjectOfType|FindObjectsOfType|FindFirstObjectByType|Physics\.autoSimulation|UnityEngine\.WWW"
    r"|SideChannelsManager|VectorActionSize|SetResolutionWithRefreshRate)\b"
)
UNITYS_ASSEMBLIES = {"Unity.ML-Agents", "UnityEngine.TestRunner", "UnityEditor.TestRunner"}


def tool() -> ModuleType:
    """unity_project/write_metas.py."""
    spec = importlib.util.spec_from_file_location("write_metas", PROJECT / "write_metas.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def nodes(node: Node) -> Iterator[Node]:
    yield node
    for child in node.children:
        yield from nodes(child)


def parsed(path: Path) -> Node:
    return PARSER.parse(path.read_bytes()).root_node


def found_in(root: Node, kinds: set[str]) -> list[str]:
    """Constructs of these kinds, as `line: kind`; a using declaration and a nullable reference type are kinds, too."""
    found = []
    for node in nodes(root):
        kind = node.type
        if kind == "local_declaration_statement" and node.children[0].type == "using":
            kind = "using_declaration"
        if kind == "nullable_type" and node.children[0].text in (b"string", b"object"):
            kind = "nullable_reference"
        if kind in kinds:
            found.append(f"{node.start_point[0] + 1}: {kind}")
    return found


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def relative(path: Path) -> str:
    return path.relative_to(PROJECT).as_posix()


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_a_source_is_csharp_9(path: Path) -> None:
    root = parsed(path)
    wrong = [f"{n.start_point[0] + 1}: {n.type}" for n in nodes(root) if n.is_error or n.is_missing]
    assert wrong == []
    assert found_in(root, NEWER_THAN_CSHARP_9) == []
    primary = [n for n in nodes(root) if n.type in ("class_declaration", "struct_declaration")]
    assert not any(child.type == "parameter_list" for n in primary for child in n.children), "primary constructor"
    assert len(text_of(path).splitlines()) <= 400


def test_the_core_keeps_to_what_mono_takes_and_knows_no_engine() -> None:
    refused = REFUSED_BY_MCS | {"using_declaration", "nullable_reference"}
    checked = [*CORE.glob("*.cs"), *(ASSETS / "Rls3/Tests/EditMode").glob("*.cs")]
    assert {relative(p): bad for p in checked if (bad := found_in(parsed(p), refused))} == {}
    assert [relative(p) for p in checked if re.search(r"\bUnity(?:Engine|Editor)?\b\.?", without_comments(p))] == []


@pytest.mark.parametrize(
    "source",
    [
        "class A { void F() { int G() { return 1; } } }",
        "class A { int F(int x) => x switch { 1 => 2, _ => 3 }; }",
        "class A { A F() { A a = new(); return a; } }",
        "class A { void F() { using var x = G(); } }",
        'class A { void F(string s) { s ??= ""; } }',
        "class A { int F(int[] s) { return s[1..2]; } }",
        "record R(int X);",
        "class A { void F(object o) { switch (o) { case string s when s.Length > 1: break; } } }",
        "class A { string? S; }",
        "class A { bool F(object o) => o is not null; }",
    ],
)
def test_what_mono_refuses_is_found(source: str) -> None:
    root = PARSER.parse(source.encode()).root_node
    assert found_in(root, REFUSED_BY_MCS | {"using_declaration", "nullable_reference"})


def without_comments(path: Path) -> str:
    return re.sub(r"//[^\n]*", "", text_of(path))


def test_no_obsolete_or_build_only_trap_is_used() -> None:
    """`Shader.Find` of a built-in shader is null in a player, and its objects are pink."""
    for path in SOURCES:
        assert not OBSOLETE.search(without_comments(path)), relative(path)
        assert "Shader.Find" not in without_comments(path), relative(path)
        assert "CreatePrimitive" not in without_comments(path), relative(path)


def test_every_shader_is_our_own_and_is_there() -> None:
    shaders = {path.stem: text_of(path) for path in (ASSETS / "Rls3/Resources").glob("*.shader")}
    loaded = set(re.findall(r'Load\("(\w+)"\)', text_of(ASSETS / "Rls3/Runtime/Materials.cs")))
    assert loaded == set(shaders)
    for name, text in shaders.items():
        assert f'Shader "Rls3/{name.removeprefix("Rls3")}"' in text
        assert text.count("{") == text.count("}") and text.count("CGPROGRAM") + text.count("CGINCLUDE") == text.count(
            "ENDCG"
        )
        assert "Fallback" not in text and "UsePass" not in text


def test_every_asset_has_its_meta_file_and_the_reverse() -> None:
    metas = tool()
    assets = list(metas.assets())
    assert {metas.meta_of(path) for path in assets} == set(ASSETS.rglob("*.meta")), "run write_metas.py"
    for path in assets:
        lines = text_of(metas.meta_of(path)).splitlines()
        name = path.relative_to(PROJECT).as_posix()
        assert lines[:2] == ["fileFormatVersion: 2", f"guid: {hashlib.md5(name.encode()).hexdigest()}"], name
    assert max(Counter(metas.guid(path) for path in assets).values()) == 1


def test_assemblies_refer_to_each_other_by_names_that_exist() -> None:
    found: dict[str, dict[str, Any]] = {}
    for path in ASSETS.rglob("*.asmdef"):
        content = json.loads(text_of(path))
        assert content["name"] == path.stem
        found[content["name"]] = content
    assert set(found) == {"Rls3.Core", "Rls3.Unity", "Rls3.Editor", "Rls3.Tests.EditMode", "Rls3.Tests.PlayMode"}
    for content in found.values():
        assert set(content["references"]) <= set(found) | UNITYS_ASSEMBLIES
    assert found["Rls3.Core"]["noEngineReferences"] is True and found["Rls3.Core"]["references"] == []
    assert found["Rls3.Editor"]["includePlatforms"] == ["Editor"]
    for name in ("Rls3.Tests.EditMode", "Rls3.Tests.PlayMode"):
        assert found[name]["defineConstraints"] == ["UNITY_INCLUDE_TESTS"]
        assert found[name]["precompiledReferences"] == ["nunit.framework.dll"]


def test_sources_lie_in_the_assembly_of_their_namespace() -> None:
    spaces = {
        "Core": "Rls3.Core", "Runtime": "Rls3.Unity", "Editor": "Rls3.EditorTools", "Tests": "Rls3.Tests",
    }  # fmt: skip
    for path in SOURCES:
        folder = path.relative_to(ASSETS / "Rls3").parts[0]
        assert f"namespace {spaces[folder]}\n" in text_of(path), relative(path)


def test_components_lie_in_files_of_their_name() -> None:
    """Unity can't restore a component whose file has another name."""
    for path in SOURCES:
        for name in re.findall(r"class (\w+) : (?:MonoBehaviour|Agent|SensorComponent)\b", text_of(path)):
            assert path.stem == name


def test_the_manifest_asks_for_an_ml_agents_with_channels_first_pictures() -> None:
    packages = json.loads(text_of(PROJECT / "Packages/manifest.json"))["dependencies"]
    assert packages["com.unity.ml-agents"].startswith("4.0.")
    modules = {"imageconversion", "imgui", "jsonserialize", "physics"}
    assert {f"com.unity.modules.{name}" for name in modules} <= set(packages)
    assert re.fullmatch(r"m_EditorVersion: 6000\.0\.\d+f\d+\n", text_of(PROJECT / "ProjectSettings/ProjectVersion.txt"))


def test_everything_is_text_of_a_reasonable_size() -> None:
    for path in (path for path in PROJECT.rglob("*") if path.is_file() and "__pycache__" not in path.parts):
        content = path.read_bytes()
        assert len(content) < 2_000_000 and b"\r" not in content, relative(path)
        assert not content.startswith(b"version https://git-lfs"), relative(path)
        content.decode("utf-8")


def test_the_world_file_is_what_the_registry_says() -> None:
    kept = text_of(ASSETS / "StreamingAssets/world.json")
    command = "rls3 export-world --out unity_project/Assets/StreamingAssets/world.json"
    assert kept == world_text(), f"the world has changed: {command}"
    assert kept.isascii() and re.fullmatch(r"[0-9a-f]{16}", world_digest(kept))


def test_the_kept_cases_are_what_this_package_says() -> None:
    assert {path.stem for path in unity_vectors.KEPT.glob("*.txt")} == set(unity_vectors.TOPICS)
    for name, topic in unity_vectors.TOPICS.items():
        for line in text_of(unity_vectors.KEPT / f"{name}.txt").rstrip("\n").split("\n"):
            drawn, _, answer = line.partition("\t")
            said = topic.answer(drawn)
            if name in ("margins", "cameras", "meshes"):
                assert json.loads(said) == pytest.approx(json.loads(answer), abs=1e-6), name
            else:
                assert said == answer, f"{name}: python tests/unity_vectors.py"
    assert sum(path.stat().st_size for path in unity_vectors.KEPT.iterdir()) < 300_000


def test_both_sides_use_the_same_names() -> None:
    protocol = text_of(CORE / "Messages.cs")
    constants = dict(re.findall(r'public const \w+ (\w+) = "?([^";]+)"?;', protocol))
    assert constants == {
        "Schema": str(messages.SCHEMA),
        "Channel": messages.CHANNEL,
        "Behavior": messages.BEHAVIOR,
        "CameraSensor": messages.CAMERA_SENSOR,
        "IdsSensor": messages.IDS_SENSOR,
        "DepthSensor": messages.DEPTH_SENSOR,
        "PositionsSensor": messages.POSITIONS_SENSOR,
        "NumberRange": str(messages.NUMBER_RANGE),
    }
