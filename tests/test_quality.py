"""Rules of the house that ruff, mypy and import-linter have no rule for."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import rls3_registry

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {"rls3_gym": ROOT / "rls3_gym", "rls3_agents": ROOT / "agents", "rls3_registry": ROOT / "registry"}
SOURCES = sorted(path for folder in PACKAGES.values() for path in folder.rglob("*.py"))
BESIDE = ("tests", "benchmarks", "examples")
EVERYTHING = SOURCES + [path for folder in BESIDE for path in sorted((ROOT / folder).rglob("*.py"))]

MAX_LINES = 400

EXPLICIT_NUMPY = {
    "BitGenerator", "Generator", "MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64", "SeedSequence", "default_rng",
}  # fmt: skip
"""What `numpy.random` offers that keeps no global state."""
MAY_USE_NUMPYS_GLOBAL_GENERATOR = {"agents/global_rng.py"}
"""RL libraries draw from it; here, and only here, it is swapped in and out."""


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def syntax(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def dotted(node: ast.AST) -> str:
    """`a.b.c` of an attribute chain; empty for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (owner := dotted(node.value)):
        return f"{owner}.{node.attr}"
    return ""


def aliases(tree: ast.AST) -> dict[str, str]:
    """Local name -> what it was imported as, so that `np.random` and `from numpy import random` look alike."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                found[name.asname or name.name.split(".")[0]] = name.name if name.asname else name.name.split(".")[0]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            for name in node.names:
                found[name.asname or name.name] = f"{node.module}.{name.name}"
    return found


def imports(tree: ast.AST) -> Iterator[str]:
    """Absolute name of every module imported anywhere in a file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module


def offences(tree: ast.AST, may_use_numpys_global_generator: bool = False) -> list[str]:
    """Hidden randomness, clocks as seeds and unsafe loading in one file, as `line: what`."""
    known = aliases(tree)
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name):
            parts = _full_name(node, known).split(".")
            global_numpy = parts[:2] == ["numpy", "random"] and len(parts) == 3 and parts[2] not in EXPLICIT_NUMPY
            if global_numpy and not may_use_numpys_global_generator:
                found.add(f"{node.lineno}: {'.'.join(parts)} keeps global state")
        if isinstance(node, ast.Call):
            found |= {f"{node.lineno}: {what}" for what in _bad_arguments(node, known)}
    return sorted(found)


def _full_name(node: ast.AST, known: dict[str, str]) -> str:
    head, _, rest = dotted(node).partition(".")
    return known.get(head, head) + (f".{rest}" if rest else "")


def _bad_arguments(node: ast.Call, known: dict[str, str]) -> Iterator[str]:
    name = _full_name(node.func, known)
    given = {keyword.arg: keyword.value for keyword in node.keywords}
    if name == "torch.load" and not _is_constant(given.get("weights_only"), True):
        yield "torch.load without weights_only=True"
    if name == "numpy.load" and "allow_pickle" in given and not _is_constant(given["allow_pickle"], False):
        yield "numpy.load with allow_pickle"
    if name == "numpy.random.default_rng" and not (node.args or node.keywords):
        yield "default_rng without a seed"
    seeds = [*node.args, *given.values()] if re.search(r"seed|rng|Generator|SeedSequence", name) else []
    seeds += [value for key, value in given.items() if key in ("seed", "random_state")]
    for inner in (inner for seed in seeds for inner in ast.walk(seed) if isinstance(inner, ast.Call)):
        call = _full_name(inner.func, known)
        if call.startswith(("time.", "datetime.")):
            yield f"seeds from the clock ({call})"


def _is_constant(node: ast.AST | None, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def test_no_hidden_randomness_and_no_unsafe_loading() -> None:
    found = {
        relative(path): bad
        for path in SOURCES
        if (bad := offences(syntax(path), relative(path) in MAY_USE_NUMPYS_GLOBAL_GENERATOR))
    }
    assert found == {}


SEEN_HERE = [
    "import numpy as np; np.random.rand(3)",
    "import numpy as np; np.random.seed(0)",
    "import numpy as np; draw = np.random.RandomState",
    "from numpy import random as r; r.normal()",
    "from numpy.random import rand; rand()",
    "import numpy as np; np.random.default_rng()",
    "import numpy as np, time; np.random.default_rng(int(time.time()))",
    "from time import time_ns; env.reset(seed=time_ns())",
    "import torch; torch.load(path)",
    "import torch; torch.load(path, weights_only=False)",
    "import numpy as np; np.load(path, allow_pickle=True)",
]
ALLOWED_HERE = [
    "import numpy as np; np.random.default_rng(3); np.random.Generator(np.random.PCG64(1))",
    "import torch; torch.load(path, weights_only=True)",
    "import time; start = time.perf_counter()",
    "rng.random(); env.reset(seed=3)",
]


def test_what_is_looked_for_is_found_and_nothing_else() -> None:
    assert [line for line in SEEN_HERE if not offences(ast.parse(line))] == []
    assert [line for line in ALLOWED_HERE if offences(ast.parse(line))] == []


SEEN_BY_RUFF = [
    "import random",
    "import secrets",
    "import uuid",
    "from os import urandom",
    "import numpy as np; np.random.rand(3)",
    "import torch; torch.manual_seed(0)",
    "from torch.random import manual_seed",
    "import torch; state = torch.get_rng_state",
    "import torch; torch.cuda.seed()",
    "import pickle",
    "from pickle import loads",
    "import cPickle",
    "import cloudpickle",
    "import dill",
    "import shelve",
    "import marshal",
    "import joblib; joblib.load(path)",
    "import pandas as pd; pd.read_pickle(path)",
    "import yaml; yaml.load(text, yaml.SafeLoader)",
    "import yaml; yaml.unsafe_load(text)",
    "import yaml; yaml.full_load(text)",
    "eval(text)",
    "exec(text)",
]
ALLOWED_BY_RUFF = [
    "import torch; g = torch.Generator().manual_seed(3)",
    "from rls3_agents.samplers import random",
    "import numpy as np; np.random.default_rng(3).random()",
]
BANS = "NPY002|S102|S301|S302|S307|S506|TID251"


def test_ruff_finds_what_its_configuration_bans() -> None:
    source = "\n".join(SEEN_BY_RUFF + ALLOWED_BY_RUFF) + "\n"
    command = [sys.executable, "-m", "ruff", "check", "--output-format=concise", "--stdin-filename=rls3_gym/x.py", "-"]
    said = subprocess.run(command, cwd=ROOT, input=source, capture_output=True, text=True, check=False).stdout
    found = {int(line) for line in re.findall(rf"^rls3_gym/x\.py:(\d+):\d+: (?:{BANS}) ", said, re.MULTILINE)}
    assert found == set(range(1, len(SEEN_BY_RUFF) + 1)), said


def test_nothing_is_exempt_from_a_ban_by_a_comment() -> None:
    exempt = re.compile(rf"noqa:[^#\n]*\b(?:{BANS})\b")
    assert [relative(path) for path in EVERYTHING if exempt.search(path.read_text(encoding="utf-8"))] == []


def test_a_file_holds_one_idea() -> None:
    lengths = {relative(path): len(path.read_text(encoding="utf-8").splitlines()) for path in EVERYTHING}
    long = {path: lines for path, lines in lengths.items() if lines > MAX_LINES}
    assert long == {}, f"more than {MAX_LINES} lines: what second idea does each hold?"


MACHINE_PATH = re.compile(r"(?<![\w./])/(?:root|home|Users|work|workspace|opt|mnt|data|scratch|tmp)/\w")
TEXT_SUFFIXES = {".py", ".md", ".toml", ".yaml", ".yml", ".txt", ".json", ".jsonl", ".html", ".cfg", ".ini", ""}


def tracked_texts() -> list[Path]:
    skipped = {"build", "dist", "runs", "bench-out", "__pycache__", "node_modules"}

    def is_ours(name: str) -> bool:
        hidden = name.startswith(".") and name != ".ci"
        return not hidden and name not in skipped and not name.endswith(".egg-info")

    found = []
    for folder, inside, files in os.walk(ROOT):
        inside[:] = filter(is_ours, inside)  # so that what others make and remove meanwhile is not looked at
        found += [Path(folder, name) for name in files if is_ours(name) and Path(name).suffix in TEXT_SUFFIXES]
    return sorted(path for path in found if path.is_file() and path.stat().st_size < 2_000_000)


def test_no_text_names_a_place_on_one_machine() -> None:
    found = {}
    for path in tracked_texts():
        if path == Path(__file__).resolve():
            continue
        hits = MACHINE_PATH.findall(path.read_text(encoding="utf-8", errors="replace"))
        if hits:
            found[relative(path)] = hits[:3]
    assert found == {}


SCENE_MAY_IMPORT = {"numpy", "pydantic", "yaml", "rls3_registry", "rls3_gym"}


def test_the_scene_is_numpy_and_yaml_only() -> None:
    """import-linter can forbid modules by name, but not all except some."""
    found = {}
    for path in sorted(PACKAGES["rls3_gym"].joinpath("scene").rglob("*.py")):
        roots = {name.split(".")[0] for name in imports(syntax(path))}
        if more := roots - set(sys.stdlib_module_names) - SCENE_MAY_IMPORT:
            found[relative(path)] = more
    assert found == {}


def test_every_module_has_its_floor() -> None:
    """import-linter checks only the modules that its layers name."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    (floors,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    named = set(re.findall(r"rls3_\w+(?:\.\w+)?", " ".join(floors)))
    modules = {
        f"rls3_gym.{path.stem}"
        for path in PACKAGES["rls3_gym"].iterdir()
        if (path.suffix == ".py" and path.stem != "__init__") or (path / "__init__.py").exists()
    }
    assert modules | {"rls3_agents", "rls3_registry"} == named


def test_every_registered_yaml_loads() -> None:
    sections = sorted(p.name for p in rls3_registry.ROOT.iterdir() if p.is_dir() and not p.name.startswith("_"))
    names = {section: rls3_registry.names(section) for section in sections}
    assert [section for section in sections if not names[section]] == []
    empty = [
        f"{section}/{name}" for section in sections for name in names[section] if not rls3_registry.load(section, name)
    ]
    assert empty == []


def test_yaml_files_have_one_suffix() -> None:
    assert not list(rls3_registry.ROOT.rglob("*.yml"))
