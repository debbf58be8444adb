"""What the documents show is true: commands exist, snippets run, examples work."""

from __future__ import annotations

import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import gymnasium
import pytest
import typer
import yaml
from experiment_tools import agents_here, tiny
from experiment_tools import run as run_experiment
from suite_files import WRITERS

import rls3_registry
from rls3_agents.base import SamplerAgent, make_agent
from rls3_gym.backends.base import load_backend
from rls3_gym.cli.app import app
from rls3_gym.envs.views import VIEWS
from rls3_gym.experiment.config import load_config, parse_config
from rls3_gym.export.dataset import FORMATS
from rls3_gym.export.dataset_card import FIELDS, LOADING
from rls3_gym.runs.directory import RunDirectory
from rls3_gym.study.study_config import load_study
from rls3_gym.vlm.loading import load_vlm
from rls3_gym.vlm.open_clip.adapter import OpenClipFineTuneSettings
from rls3_gym.vlm.open_clip.weights import OpenClipSettings
from rls3_registry.errors import UserError
from rls3_registry.plugins import PluginSpec
from rls3_registry.validation import RENAMED, check

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [
    "README.md",
    "CONTRIBUTING.md",
    *sorted(p.relative_to(ROOT).as_posix() for p in (ROOT / "docs").glob("*.md")),
]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LABEL = re.compile(r"^# file: (\S+)\n")
LINK = re.compile(r"!?\[[^\]]*\]\(([^)#:]+)\)")


def text(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def blocks(document: str, language: str) -> list[str]:
    return [body for found, body in FENCE.findall(text(document)) if found == language]


def labeled(document: str) -> dict[str, str]:
    """Name -> content of the blocks that begin with `# file: NAME`."""
    found = {}
    for _, body in FENCE.findall(text(document)):
        if label := LABEL.match(body):
            found[label[1]] = body[label.end() :]
    return found


def commands(document: str, program: str) -> list[str]:
    """Uses of a program, in shell blocks and in inline code."""
    shell = (block.replace("\\\n", " ") for block in blocks(document, "bash"))
    lines = [line.split("#")[0] for block in shell for line in block.splitlines()]
    lines += re.findall(r"`([^`\n]+)`", FENCE.sub("", text(document)).replace("\n", " "))
    parts = (part.strip() for line in lines for part in line.split("&&"))
    return sorted({part for part in parts if part == program or part.startswith(program + " ")})


def python(code: str, cwd: Path) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("document", DOCUMENTS)
def test_make_targets_exist(document: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for command in commands(document, "make"):
        assert {word for word in command.split()[1:] if "=" not in word} <= targets, command


@pytest.mark.parametrize(
    ("target", "does"),
    [
        ("help", "make quickstart"),
        ("-n quickstart", "rls3 run quickstart"),
        ("-n test", "-m pytest"),
        ("-n bench", "benchmarks/$name.py"),
    ],
)
def test_make_targets_do_what_the_readme_says(target: str, does: str) -> None:
    done = subprocess.run(["make", *target.split()], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert does in done.stdout


@pytest.mark.parametrize("document", DOCUMENTS)
def test_rls3_commands_parse(document: str) -> None:
    known = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for command in commands(document, "rls3"):
        _, *words = shlex.split(command)
        if not words or words[0] == "...":
            continue
        assert words[0] in known, command
        if len(words) == 1:
            continue  # speaks of the command
        parameters = known[words[0]].make_context(words[0], [w.replace("DIR", ".") for w in words[1:]]).params
        changes = [c for c in parameters.get("set_") or [] if not c.endswith(".yaml")]
        if words[0] == "run" and parameters["experiment"] is not None:
            config = load_config(parameters["experiment"], changes, parameters["seed"])
            assert config.agent.name in rls3_registry.names("agents"), command


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str) -> None:
    for target in LINK.findall(text(document)):
        assert (ROOT / document).parent.joinpath(target).exists(), target


def test_the_readme_names_every_target_a_stranger_needs() -> None:
    assert {"make quickstart", "make test", "make help"} <= set(commands("README.md", "make"))


def test_the_python_example_of_the_readme_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = blocks("README.md", "python")
    (tmp_path / "example.py").write_text(example, encoding="utf-8")
    runpy.run_path(str(tmp_path / "example.py"))
    out = capsys.readouterr().out
    assert out.count("the VLM was right about") == 2
    assert "The " in out


def test_the_experiment_of_the_readme_is_valid() -> None:
    (example,) = blocks("README.md", "yaml")
    assert parse_config({"name": "readme", **yaml.safe_load(example)}, "README.md").agent.name == "tianshou/sac"


def test_the_readme_lists_every_environment_id() -> None:
    from rls3_gym.registration import ENV_IDS

    assert set(re.findall(r"^\| `(RLS3\w+-v\d)`", text("README.md"), re.MULTILINE)) == set(ENV_IDS)


def test_the_readme_lists_every_action_view_with_the_algorithms_that_take_it() -> None:
    rows = re.findall(r"^\| `(\w+)`(?: \(default\))? \|.*\|.*\| (.*) \|$", text("README.md"), re.MULTILINE)
    algorithms = {view: said for view, said in rows if view != "action_view"}
    assert list(algorithms) == list(VIEWS)
    algorithms["box"] = algorithms["box"].replace("as `preference`", algorithms["preference"])
    takers: dict[str, set[str]] = {view: set() for view in VIEWS}
    for name in agents_here():
        for view in make_agent(name, 0).action_views:
            takers[view].add(name)
    for view, said in algorithms.items():
        learning = {
            name.split("/")[1].removesuffix(f"_{view}").replace("_", "") for name in takers[view] if "/" in name
        }
        assert {name.lower() for name in re.findall(r"\b[A-Z]\w+", said)} == learning, view
        assert set(re.findall(r"`([\w/]+)`", said)) <= takers[view], view


@pytest.mark.parametrize("module", ["open_clip", "torchvision"])
def test_the_remedy_of_the_readme_for_torchvision_works(module: str, tmp_path: Path) -> None:
    (remedy,) = re.findall(r"`(from rls3_gym\._compat [^`]+)`", text("README.md"))
    python(f"{remedy}; import {module}", tmp_path)


def test_the_floors_of_the_architecture_are_those_of_the_import_contract() -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (contract,) = (c for c in pyproject["tool"]["importlinter"]["contracts"] if c["type"] == "layers")
    checked = [re.findall(r"[\w.]+", layer) for layer in contract["layers"]]
    (block,) = blocks("docs/architecture.md", "")
    shown = [re.findall(r"(\w+?)(?:/|\.py)", line.split("  ")[0]) for line in block.splitlines()]
    package = {"agents": "rls3_agents", "registry": "rls3_registry"}
    assert [[package.get(name, f"rls3_gym.{name}") for name in line] for line in shown] == checked


def test_the_architecture_names_every_file_of_a_run() -> None:
    found = re.findall(r"^\| (`.*?) \|", text("docs/architecture.md"), re.MULTILINE)
    for part in vars(RunDirectory(Path("run"))).values():
        assert part == Path("run") or part.relative_to("run").as_posix() in " ".join(found), part


def test_the_changelog_names_every_key_that_has_a_new_name() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| `([\w.]+)`", text("CHANGELOG.md"), re.MULTILINE))
    assert RENAMED.items() <= rows.items()


def test_the_form_of_a_plugin_in_contributing_is_the_one_that_is_checked() -> None:
    form = yaml.safe_load(blocks("CONTRIBUTING.md", "yaml")[0])
    assert form.keys() == PluginSpec.model_fields.keys()
    assert check(PluginSpec, form).plugin == "module:Class"


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    """The files of CONTRIBUTING.md, those of the registry in a copy of it."""
    shutil.copytree(rls3_registry.ROOT, tmp_path / "registry", ignore=shutil.ignore_patterns("__pycache__", "*.py"))
    for name, content in labeled("CONTRIBUTING.md").items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    return tmp_path


class Steps:
    """A monitor that is done after twelve steps."""

    taken = -1
    """The first safe point comes before the first step."""

    @property
    def done(self) -> bool:
        return self.taken >= 12

    def safe_point(self, agent: SamplerAgent) -> None:
        self.taken += 1

    def log(self, values: Mapping[str, float]) -> None:
        """Nothing to write."""


def frozen_env() -> gymnasium.Env[Any, Any]:
    env = gymnasium.make("rls3_gym:RLS3SceneRelation-v0", steps_per_episode=6, finetune=False)
    env.reset(seed=3)
    return env


def test_the_agent_of_contributing_samples(examples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(examples)
    monkeypatch.syspath_prepend(examples)
    agent, again = (make_agent("touring.yaml", seed) for seed in (3, 4))
    start = agent.turn  # type: ignore[attr-defined]
    agent.learn(frozen_env(), Steps())
    agent.save(Path("saved"))
    again.load(Path("saved"))
    assert again.turn == agent.turn == start + 12 * 5  # type: ignore[attr-defined]


@pytest.mark.slow
def test_the_agent_of_contributing_keeps_the_contract(examples: Path) -> None:
    some = "same_seed or every_view or continue_equals or unknown_setting"  # each runs the agent; all takes minutes
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", some, "test_touring.py"]
    done = subprocess.run(command, cwd=examples, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "4 passed" in done.stdout


def test_the_algorithm_of_contributing_is_an_agent(examples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(examples)
    assert "multi_discrete" in make_agent("small_ppo.yaml", 3).action_views


def test_the_reward_of_contributing_pays(examples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(examples)
    monkeypatch.syspath_prepend(examples)
    env = gymnasium.make("rls3_gym:RLS3Scene-v0", steps_per_episode=8, episodes_per_round=1, extrinsic="undecided.yaml")
    env.reset(seed=3)
    infos = [env.step(env.action_space.sample())[4] for _ in range(8)]
    assert all((info["extrinsic"] > 0) == info["feasible"] and info["extrinsic"] <= 0.7 for info in infos)
    assert any(info["feasible"] for info in infos)


def test_the_evaluation_of_contributing_scores_a_picture(examples: Path) -> None:
    picture = ROOT / "docs" / "images" / "gallery.png"
    command = [sys.executable, "my_pictures.py", str(picture)]
    done = subprocess.run(command, cwd=examples, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"correct: (True|False) margin: -?\d+\.\d+\n", done.stdout)


def test_the_vlms_of_contributing_load(examples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(examples)
    assert load_vlm("tiny_text.yaml").name == "tiny_text.yaml"
    with pytest.raises(UserError, match="checkpoints/vit_b_32.pt"):
        load_vlm("vit_b_32.yaml")


def test_the_settings_of_the_page_about_vlms_are_valid_and_all_there() -> None:
    for body in blocks("docs/vlms.md", "yaml"):
        written = yaml.safe_load(body)
        written = written.get("vlm", written)
        check(OpenClipSettings, written["settings"])
        check(OpenClipFineTuneSettings, written["finetune"])
    named = set(re.findall(r"`(\w+)`", text("docs/vlms.md")))
    assert {*OpenClipSettings.model_fields, *OpenClipFineTuneSettings.model_fields} <= named


def test_the_backend_of_contributing_loads(examples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(examples)
    assert load_backend("quick.yaml", 32).settings.supersampling == 1  # type: ignore[attr-defined]


def test_the_object_and_the_room_of_contributing_can_be_shown(examples: Path) -> None:
    out = python(
        """
from pathlib import Path
import numpy as np
import rls3_registry
rls3_registry.ROOT = Path("registry").resolve()
from rls3_gym.backends.embedded.backend import EmbeddedBackend
from rls3_gym.scene.layouts import draw_layout
from rls3_gym.scene.proposals import random_arrangement
rng = np.random.default_rng(5)
backend = EmbeddedBackend(image_size=64)
for index in range(12):
    layout = draw_layout("study", index)
    arrangement = random_arrangement(rng, layout, ("red mug", "blender", "football"))
    backend.reset(arrangement, seed=index)
    frame = backend.capture()
    slot = [o.kind for o in arrangement.objects].index("red mug")
    print(layout.split, int(frame.pixels[slot]))
""",
        examples,
    )
    rows = [line.split() for line in out.splitlines()]
    assert [split for split, _ in rows] == ["train"] * 8 + ["validation"] * 2 + ["test"] * 2
    assert max(int(pixels) for _, pixels in rows) > 20


def standing_for_dir(command: str, taught_run: Path, tmp_path: Path) -> Iterator[Path]:
    """What each `DIR` of a command stands for: a complete run, one that was cut off, or a suite's files."""
    if "--suite whatsup_a" in command:
        yield WRITERS["whatsup_a"](tmp_path / "data")
    elif "--resume" in command:
        cut_off = Path(shutil.copytree(taught_run, tmp_path / "run"))
        checkpoints = sorted((cut_off / "checkpoints").iterdir())
        for checkpoint in checkpoints[1:]:  # that of the round before the last is left
            shutil.rmtree(checkpoint)
        yield cut_off
    else:
        yield taught_run
        yield run_experiment(tiny(agent="stratified"), tmp_path / "other").directory


@pytest.mark.slow
@pytest.mark.parametrize("command", commands("README.md", "rls3"))
def test_rls3_commands_of_the_readme_run(command: str, taught_run: Path, tmp_path: Path) -> None:
    folders = standing_for_dir(command, taught_run, tmp_path)
    words = [str(next(folders)) if word == "DIR" else word for word in shlex.split(command)[1:]]
    if words[0] == "study":
        words.append("--dry-run")  # hours of runs; studies have tests of their own
    script = Path(sys.executable).parent / "rls3"
    done = subprocess.run([script, *words], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_page_on_exports_loads_as_the_cards_do_and_describes_every_field() -> None:
    """The examples are those of the cards, which tests/test_export_samples.py runs."""
    assert [block.strip() for block in blocks("docs/export.md", "python")] == list(LOADING.values())
    fields = {f"| `{name.replace(', ', '`, `')}` | {meaning} |" for name, meaning in FIELDS.items()}
    assert fields <= set(text("docs/export.md").splitlines())
    assert re.findall(r"^\| `(\w+)` \| .* \| .* \|$", text("docs/export.md"), re.MULTILINE) == list(FORMATS)


def test_the_study_of_the_page_on_carry_over_is_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "carry_over.yaml").write_text(labeled("docs/carry_over.md")["carry_over.yaml"], encoding="utf-8")
    WRITERS["whatsup_a"](tmp_path / "benchmarks" / "whatsup")
    study = load_study("carry_over.yaml")
    study.check_arms()
    for arm in study.arms:
        evaluation = study.experiment_of(arm, 0).evaluation
        assert [(suite.name, str(suite.data)) for suite in evaluation.suites] == [("whatsup_a", "benchmarks/whatsup")]
        assert evaluation.forgetting


SITE = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))


def pages_of(nav: Any) -> Iterator[str]:
    """All files that the navigation of the site names."""
    for entry in nav:
        for target in entry.values():
            yield from [target] if isinstance(target, str) else pages_of(target)


def test_every_document_is_in_the_navigation_of_the_site() -> None:
    written = {path.name for path in (ROOT / "docs").glob("*.md")}
    assert written <= set(pages_of(SITE["nav"]))


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    command = ["make", "docs", f"VENV={sys.prefix}", "-o", f"{sys.prefix}/.install"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    built = ROOT / "build" / "site"
    for name in rls3_registry.names("agents"):
        assert (built / "agents" / name / "index.html").is_file(), name
    assert "rls3_gym:RLS3SceneBox-v0" in (built / "environments" / "RLS3SceneBox-v0" / "index.html").read_text("utf-8")
