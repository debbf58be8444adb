"""What is installed is complete, light to import, and works from any directory."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
FOLDERS = {"rls3_gym": "rls3_gym", "rls3_agents": "agents", "rls3_registry": "registry"}
CORE: list[str] = PYPROJECT["project"]["dependencies"]
EXTRAS: dict[str, list[str]] = PYPROJECT["project"]["optional-dependencies"]

HEAVY = (
    "torch", "torchvision", "open_clip", "timm", "transformers", "stable_baselines3", "sb3_contrib", "tianshou",
    "matplotlib", "pandas", "scipy", "sklearn",
)  # fmt: skip
DISTRIBUTIONS = {  # import name -> distribution, where they differ
    "PIL": "pillow", "yaml": "pyyaml", "open_clip": "open_clip_torch", "stable_baselines3": "stable-baselines3",
    "sb3_contrib": "sb3-contrib", "sklearn": "scikit-learn", "google": "protobuf", "grpc": "grpcio",
}  # fmt: skip


def python(code: str, cwd: Path, **environment: str) -> str:
    """Standard output of `code` in a fresh interpreter, without this checkout on its path."""
    inherited = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=cwd, env=inherited | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def requirement_name(requirement: str) -> str:
    return re.split(r"[\[<>=!~; ]", requirement, maxsplit=1)[0].lower().replace("_", "-")


def third_party(folder: Path) -> dict[str, set[str]]:
    """Distribution -> files of `folder` that import it."""
    found: dict[str, set[str]] = {}
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [n.name for n in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            for root in {name.split(".")[0] for name in names} - set(sys.stdlib_module_names) - set(FOLDERS):
                name = DISTRIBUTIONS.get(root, root).lower().replace("_", "-")
                found.setdefault(name, set()).add(path.relative_to(ROOT).as_posix())
    return found


def test_import_is_light_and_registers_the_ids(tmp_path: Path) -> None:
    out = python(
        "import sys, rls3_gym, gymnasium;"
        f"print([m for m in {HEAVY!r} if m in sys.modules], 'RLS3Scene-v0' in gymnasium.registry)",
        tmp_path,
    )
    assert out == "[] True"


def test_listing_and_checking_yaml_is_light(tmp_path: Path) -> None:
    """Whoever looks a name up, or checks an experiment, waits for neither torch nor an RL library."""
    out = python(
        "import contextlib, io, json, sys\n"
        "import rls3_registry\n"
        "from rls3_agents.base import AGENTS\n"
        "from rls3_gym.backends.base import BACKENDS\n"
        "from rls3_gym.cli.app import main\n"
        "from rls3_gym.experiment.config import load_config\n"
        "from rls3_gym.loop.rewards.base import REWARDS\n"
        "from rls3_gym.vlm.base import VLMS\n"
        "with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.suppress(SystemExit):\n"
        "    main(['list', '--json'])\n"
        "found = [load_config(name).resolved() for name in rls3_registry.names('experiments')]\n"
        "found += [section.find(name) for section in (AGENTS, VLMS, BACKENDS, REWARDS) for name in section.names()]\n"
        "assert len(found) > 20 and len(json.loads(printed.getvalue())) > 5\n"
        f"print([module for module in {HEAVY!r} if module in sys.modules])",
        tmp_path,
    )
    assert out == "[]"


def test_every_imported_package_is_a_declared_dependency() -> None:
    declared = {requirement_name(r) for r in CORE}
    declared |= {requirement_name(r) for requirements in EXTRAS.values() for r in requirements}
    folders = [ROOT / folder for folder in (*FOLDERS.values(), "tests", "benchmarks", "examples")]
    beside = {path.stem.replace("_", "-") for folder in folders[-3:] for path in folder.rglob("*.py")}
    beside |= {path.name.replace("_", "-") for path in (ROOT / "tests").iterdir()}
    undeclared = {
        name: files
        for folder in folders
        for name, files in third_party(folder).items()
        if name not in declared | beside
    }
    assert undeclared == {}


def test_every_folder_with_code_is_a_declared_package() -> None:
    found = set()
    for package, folder in FOLDERS.items():
        for path in (ROOT / folder).rglob("*.py"):
            parts = path.parent.relative_to(ROOT / folder).parts
            found.add(".".join((package, *parts)))
    assert found == set(PYPROJECT["tool"]["setuptools"]["packages"])


def test_constraints_pin_all_declared_dependencies_and_nothing_else() -> None:
    lines = (ROOT / "requirements" / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    declared = {name for requirements in (CORE, *EXTRAS.values()) for name in map(requirement_name, requirements)}
    assert {requirement_name(name) for name in pins} == declared - {"rls3-gym", "setuptools"}
    found = {name: importlib.metadata.version(name).split("+")[0] for name in pins}
    assert found == pins


def test_an_extra_exists_for_code_that_imports_it() -> None:
    """`bench` and `dev` are what measurements and tests need."""
    used = {name for folder in FOLDERS.values() for name in third_party(ROOT / folder)}
    for extra in set(EXTRAS) - {"all", "bench", "dev"}:
        assert {requirement_name(requirement) for requirement in EXTRAS[extra]} & used, extra


def test_all_holds_every_extra_but_dev_and_one_that_needs_an_environment_of_its_own() -> None:
    (everything,) = EXTRAS["all"]
    inner = re.fullmatch(r"rls3_gym\[(.*)\]", everything)
    assert inner is not None
    assert set(inner[1].split(",")) == set(EXTRAS) - {"all", "dev", "rllib"}


def test_entry_points_name_classes_that_exist() -> None:
    points = importlib.metadata.entry_points(group="rls3_gym.agents")
    assert {point.name for point in points} >= {"random", "stratified", "sb3", "tianshou"}
    for point in (point for point in points if point.name != "rllib"):  # tests/test_rllib_agents.py has that one
        agent = point.load()
        assert agent.action_views, point.name
        assert all(callable(getattr(agent, method)) for method in ("learn", "act", "save", "load")), point.name


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from the checkout's files, in a copy so that no stale `build` folder is taken up."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE", *FOLDERS.values()):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source / name)
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(source / "dist"),
        str(source),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = (source / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder the wheel was installed into, apart from everything else."""
    target = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), str(wheel)]
    subprocess.run(command, check=True)
    return target


@pytest.mark.slow
def test_the_wheel_holds_every_file_of_the_packages(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    for package, folder in FOLDERS.items():
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                assert f"{package}/{path.relative_to(ROOT / folder).as_posix()}" in inside, path


@pytest.mark.slow
def test_the_installed_wheel_works_from_another_directory(installed: Path, tmp_path: Path) -> None:
    out = python(
        "import rls3_gym, rls3_agents, rls3_registry, gymnasium\n"
        "print(rls3_gym.__file__, rls3_agents.__file__, rls3_registry.__file__, sep='\\n')\n"
        "assert 'tiny' in rls3_registry.names('vlms') and 'sb3/sac' in rls3_registry.names('agents')\n"
        "env = gymnasium.make('rls3_gym:RLS3Scene-v0')\n"
        "observation, info = env.reset(seed=3)\n"
        "for _ in range(3): env.step(env.action_space.sample())\n"
        "print(len(env.unwrapped.scheduler.vlm.digest()) > 0)",
        tmp_path,
        PYTHONPATH=str(installed),
    )
    *files, works = out.splitlines()
    assert all(Path(file).is_relative_to(installed) for file in files)
    assert works == "True"


@pytest.mark.slow
def test_the_installed_command_lists_agents_and_models(installed: Path, tmp_path: Path) -> None:
    environment = {"PYTHONPATH": str(installed)}
    out = python(
        "import sys; sys.argv = ['rls3', '--help']; from rls3_gym.cli.app import main; main()", tmp_path, **environment
    )
    for command in ("list", "run", "evaluate", "report", "gallery", "pretrain"):
        assert command in out
