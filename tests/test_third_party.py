"""A package of somebody else's: installed, it is used by name, and it runs the published contracts on itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import rls3_registry
from rls3_gym.evaluation.vlm_contract import VlmContract
from rls3_registry.errors import UserError

FILES = {
    "pyproject.toml": """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "shed"
version = "1.0"
[project.entry-points."rls3_gym.agents"]
shed_agent = "shed.parts:LastAgent"
[project.entry-points."rls3_gym.vlms"]
shed_vlm = "shed.parts:SecondVlm"
[project.entry-points."rls3_gym.rewards"]
shed_reward = "shed.parts:Flat"
[project.entry-points."rls3_gym.backends"]
shed_backend = "shed.parts:DimBackend"
[project.entry-points."rls3_gym.registry"]
shed = "shed:names"
[tool.setuptools]
packages = ["shed"]
[tool.setuptools.package-data]
shed = ["names/**/*.yaml"]
""",
    "shed/__init__.py": "",
    "shed/parts.py": '''
"""One of everything."""
from dataclasses import replace

from pydantic import Field
from rls3_agents.samplers.scripted import ScriptedAgent
from rls3_gym.backends.embedded.backend import EmbeddedBackend
from rls3_gym.loop.rewards.base import SilentReward
from rls3_gym.vlm.open_clip.adapter import OpenClipVLM
from rls3_registry.validation import Settings, check


class LastSettings(Settings):
    chance: float = Field(ge=0, le=1)


class LastAgent(ScriptedAgent):
    """Takes the last proposal, or any other."""

    name = "last"
    action_views = ("select",)

    def __init__(self, settings, *, seed):
        self.chance = check(LastSettings, settings, section="settings").chance
        super().__init__(seed=seed)

    def choose(self, space):
        last = self.rng.random() < self.chance
        return space.start + (space.n - 1 if last else int(self.rng.integers(space.n)))


class SecondVlm(OpenClipVLM):
    """The packaged one under another name."""


class DimBackend(EmbeddedBackend):
    """The embedded world, at half the light."""

    @property
    def fingerprint(self):
        return "dim " + super().fingerprint

    def capture(self, size=None):
        frame = super().capture(size)
        return replace(frame, rgb=frame.rgb // 2)


class Flat(SilentReward):
    """Pays every sample alike."""

    def step_reward(self, sample, feedback, choice):
        return 0.5
''',
    "shed/names/agents/last.yaml": "plugin: shed_agent\ndescription: The last one.\nsettings: {chance: 0.7}\n",
    "shed/names/vlms/second.yaml": (
        "plugin: shed_vlm\nsettings: {model: 'packaged:tiny', device: cpu}\n"
        "finetune: {train: ['text.*', logit_scale]}\n"
    ),
    "shed/names/rewards/flat.yaml": "plugin: shed_reward\n",
    "shed/names/backends/dim.yaml": "plugin: shed_backend\nsettings: {supersampling: 1}\n",
    "shed/names/experiments/try_shed.yaml": """
description: everything of the shed
agent: last
vlm: {name: second, finetune: {epochs: 1.0}}
environment: {backend: dim, extrinsic: flat, families: [shed], steps_per_episode: 10, samples_per_round: 16}
budget: {rounds: 1}
evaluation: {sets: [validation], items: 36}
images_per_round: 2
""",
    "test_shed.py": """
from rls3_agents.contract import AgentContract
from rls3_gym.backends.contract import BackendContract
from rls3_gym.evaluation.vlm_contract import VlmContract


class TestLast(AgentContract):
    agent = "last"


class TestSecond(VlmContract):
    vlm = "second"
    finetune = {"epochs": 2.0}


class TestDim(BackendContract):
    backend = "dim"
""",
}


class TestTiny(VlmContract):
    """The packaged VLM keeps the contract itself."""

    vlm = "tiny"


def in_another_python(code: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, cwd=folder, env=os.environ | environment, capture_output=True, text=True, check=False
    )


def write(folder: Path) -> Path:
    """The package's sources, with a room of its own: the kitchen under another name."""
    for name, content in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    room = rls3_registry.path_of("rooms", "kitchen").read_text(encoding="utf-8")
    (folder / "shed" / "names" / "rooms").mkdir()
    (folder / "shed" / "names" / "rooms" / "shed.yaml").write_text(room, encoding="utf-8")
    return folder


def test_a_folder_of_ones_own_adds_to_the_registry(tmp_path: Path) -> None:
    names = write(tmp_path) / "shed" / "names"
    said = in_another_python(
        "import rls3_registry\n"
        "from rls3_gym.scene.layouts import family_names, draw_layout\n"
        "print('shed' in family_names(), draw_layout('shed', 0).key, rls3_registry.path_of('agents', 'last').name)",
        tmp_path,
        RLS3_REGISTRY=str(names),
    )
    assert said.stdout.split() == ["True", "shed/0", "last.yaml"], said.stderr


def test_an_object_is_shown_whatever_its_file_is_called(tmp_path: Path) -> None:
    (tmp_path / "objects" / "mine").mkdir(parents=True)
    mine = tmp_path / "objects" / "mine" / "cup_2.yaml"
    spec = rls3_registry.path_of("objects", "blue_cup").read_text(encoding="utf-8")
    mine.write_text(spec.replace("name: blue cup", "name: tall cup"), encoding="utf-8")
    show = "from rls3_gym.backends.embedded.objects import load_object; print(load_object('tall cup')[0].color)"
    said = in_another_python(show, tmp_path, RLS3_REGISTRY=str(tmp_path))
    assert said.stdout.startswith("("), said.stderr
    mine.write_text(spec, encoding="utf-8")
    said = in_another_python(show, tmp_path, RLS3_REGISTRY=str(tmp_path))
    theirs = rls3_registry.path_of("objects", "blue_cup")
    assert f"{theirs} and {mine}: have the same name 'blue cup'; give one of them another" in said.stderr


def test_what_is_listed_is_the_name_that_commands_take(tmp_path: Path) -> None:
    for section, name in (("experiments", "quickstart"), ("studies", "samplers")):
        (tmp_path / section / "mine").mkdir(parents=True)
        text = rls3_registry.path_of(section, name).read_text(encoding="utf-8")
        (tmp_path / section / "mine" / "fast.yaml").write_text(f"name: other\n{text}", encoding="utf-8")
        command = f"import sys; from rls3_gym.cli.app import main; main(['list', {section!r}, '--json'])"
        said = in_another_python(command, tmp_path, RLS3_REGISTRY=str(tmp_path))
        assert "mine/fast" in {row["name"] for row in json.loads(said.stdout)}, said.stderr


@pytest.mark.parametrize("what", ["missing", "taken"])
def test_a_wrong_folder_is_one_line(tmp_path: Path, what: str) -> None:
    if what == "taken":
        (tmp_path / "agents").mkdir()
        (tmp_path / "agents" / "random.yaml").write_text("plugin: random\n", encoding="utf-8")
    folder = tmp_path if what == "taken" else tmp_path / "nowhere"
    code = "from rls3_gym.__main__ import main; import sys; sys.argv = ['rls3', 'list', 'agents']; main()"
    said = in_another_python(code, tmp_path, RLS3_REGISTRY=str(folder))
    assert said.returncode != 0 and "Traceback" not in said.stderr
    assert ("the name 'random' of agents is taken" if what == "taken" else "there is no such folder") in said.stderr


@pytest.mark.slow
def test_an_installed_package_is_used_by_name_and_keeps_the_contracts(tmp_path: Path) -> None:
    """Installed into a folder of its own, which joins the path: pip leaves its entry points there."""
    target = tmp_path / "site"
    source = write(tmp_path / "source")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--target", str(target)]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(source)], check=True, capture_output=True)
    here = os.environ | {"PYTHONPATH": str(target)}

    def rls3(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "rls3_gym", *arguments]
        return subprocess.run(command, cwd=tmp_path, env=here, capture_output=True, text=True, check=False)

    listed = rls3("list", "agents", "--json")
    assert listed.returncode == 0 and '"last"' in listed.stdout, listed.stderr
    run = rls3("run", "try_shed", "--out", "run")
    assert run.returncode == 0, run.stderr
    assert "registry " in (tmp_path / "run" / "environment.txt").read_text(encoding="utf-8")
    again = rls3("evaluate", "--vlm", "run", "--set", "validation", "--items", "36", "--json")
    assert again.returncode == 0, again.stderr

    (tmp_path / "test_shed.py").write_text(FILES["test_shed.py"], encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_shed.py"]
    done = subprocess.run(command, cwd=tmp_path, env=here, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_an_unknown_name_lists_what_others_have_registered(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown agent"):
        rls3_registry.path_of("agents", "shedd")
