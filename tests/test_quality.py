"""Rules of the house that ruff, mypy and import-linter do not know."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import rls3_registry

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {"rls3_gym": ROOT / "rls3_gym", "rls3_agents": ROOT / "agents", "rls3_registry": ROOT / "registry"}
SOURCES = sorted(path for folder in PACKAGES.values() for path in folder.rglob("*.py"))
EVERYTHING = SOURCES + sorted((ROOT / "tests").rglob("*.py")) + sorted((ROOT / "benchmarks").rglob("*.py"))

MAX_LINES = 400

EXPLICIT_NUMPY = {
    "BitGenerator", "Generator", "MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64", "SeedSequence", "default_rng",
}  # fmt: skip
"""What `numpy.random` offers that keeps no global state."""
GLOBAL_TORCH = {"manual_seed", "seed", "initial_seed", "set_rng_state", "get_rng_state"}
"""`torch.X` and `torch.random.X` that act on the global generator."""
MAY_TOUCH_GLOBAL_GENERATORS = {"agents/global_rng.py"}
"""RL libraries draw from torch's and numpy's global generators; here, and only here, they are swapped in and out."""
UNSAFE_MODULES = {"random", "uuid", "secrets", "pickle", "cPickle", "dill", "shelve", "marshal", "cloudpickle"}
UNSAFE_CALLS = {
    "yaml.load", "yaml.full_load", "yaml.unsafe_load", "os.urandom",
    "joblib.load", "pandas.read_pickle", "eval", "exec",
}  # fmt: skip


def identify(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


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


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and absolute name of every module imported anywhere in a file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.lineno, node.module


def forked_lines(tree: ast.AST) -> set[int]:
    """Lines inside `with torch.random.fork_rng(...)`, which hands torch's generator back as it found it."""
    blocks = [node for node in ast.walk(tree) if isinstance(node, ast.With)]
    forked = [b for b in blocks if any("fork_rng" in ast.unparse(item.context_expr) for item in b.items)]
    return {line for block in forked for line in range(block.lineno, (block.end_lineno or block.lineno) + 1)}


def offences(source: str, may_touch_global_generators: bool = False) -> list[str]:
    """Uses of hidden randomness, clocks as seeds and unsafe loading in one source text, as `line: what`."""
    tree = ast.parse(source)
    known = aliases(tree)
    used = {name for node in ast.walk(tree) if (name := dotted(node)).startswith("pickle.")}
    unsafe = UNSAFE_MODULES - ({"pickle"} if used == {"pickle.UnpicklingError"} else set())
    found = [f"{line}: imports {name}" for line, name in imports(tree) if name.split(".")[0] in unsafe]
    forked = forked_lines(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name) and (name := dotted(node)):
            head, _, rest = name.partition(".")
            name = known.get(head, head) + (f".{rest}" if rest else "")
            allowed = may_touch_global_generators or (node.lineno in forked and name == "torch.manual_seed")
            found += [f"{node.lineno}: {what}" for what in _global_state(name, allowed)]
        if isinstance(node, ast.Call):
            found += [f"{node.lineno}: {what}" for what in _unsafe_call(node, known)]
    return sorted(set(found))


def _global_state(name: str, allowed: bool) -> Iterator[str]:
    parts = name.split(".")
    if allowed:
        return
    if parts[:2] == ["numpy", "random"] and len(parts) == 3 and parts[2] not in EXPLICIT_NUMPY:
        yield f"{name} keeps global state"
    if parts[0] == "torch" and parts[-1] in GLOBAL_TORCH and parts[1:-1] in ([], ["random"], ["cuda"]):
        yield f"{name} keeps global state"


def _unsafe_call(node: ast.Call, known: dict[str, str]) -> Iterator[str]:
    head, _, rest = dotted(node.func).partition(".")
    name = known.get(head, head) + (f".{rest}" if rest else "")
    given = {keyword.arg: keyword.value for keyword in node.keywords}
    if name in UNSAFE_CALLS:
        yield f"calls {name}"
    if name == "torch.load" and not _is_constant(given.get("weights_only"), True):
        yield "torch.load without weights_only=True"
    if name == "numpy.load" and "allow_pickle" in given and not _is_constant(given["allow_pickle"], False):
        yield "numpy.load with allow_pickle"
    if name == "numpy.random.default_rng" and not (node.args or node.keywords):
        yield "default_rng without a seed"
    seeds = [*node.args, *given.values()] if re.search(r"seed|rng|Generator|SeedSequence", name) else []
    seeds += [value for key, value in given.items() if key in ("seed", "random_state")]
    for inner in (inner for seed in seeds for inner in ast.walk(seed)):
        call = dotted(inner.func) if isinstance(inner, ast.Call) else ""
        head, _, rest = call.partition(".")
        if f"{known.get(head, head)}.{rest}".startswith(("time.", "datetime.")):
            yield f"seeds from the clock ({call})"


def _is_constant(node: ast.AST | None, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


@pytest.mark.parametrize("path", SOURCES, ids=identify)
def test_no_hidden_randomness_and_no_unsafe_loading(path: Path) -> None:
    free = identify(path) in MAY_TOUCH_GLOBAL_GENERATORS
    assert offences(path.read_text(encoding="utf-8"), free) == []


@pytest.mark.parametrize(
    "line",
    [
        "import random",
        "import uuid; uuid.uuid4()",
        "import numpy as np; np.random.rand(3)",
        "import numpy as np; np.random.seed(0)",
        "from numpy import random as r; r.normal()",
        "from numpy.random import rand; rand()",
        "import numpy as np; np.random.default_rng()",
        "import numpy as np, time; np.random.default_rng(int(time.time()))",
        "import torch; torch.manual_seed(0)",
        "from torch.random import manual_seed; manual_seed(0)",
        "import pickle",
        "import pickle; pickle.loads(data); pickle.UnpicklingError",
        "import yaml; yaml.load(text)",
        "import torch; torch.load(path)",
        "import torch; torch.load(path, weights_only=False)",
        "import numpy as np; np.load(path, allow_pickle=True)",
    ],
)
def test_the_lint_sees(line: str) -> None:
    assert offences(line)


@pytest.mark.parametrize(
    "line",
    [
        "import numpy as np; np.random.default_rng(3); np.random.Generator(np.random.PCG64(1))",
        "import torch; g = torch.Generator(); g.manual_seed(3)",
        "import torch; torch.load(path, weights_only=True)",
        "import torch\nwith torch.random.fork_rng(devices=[]):\n    torch.manual_seed(3)",
        "import pickle\ntry:\n    f()\nexcept pickle.UnpicklingError:\n    pass",
        "import time; start = time.perf_counter()",
        "rng.random(); env.reset(seed=3)",
    ],
)
def test_the_lint_lets_pass(line: str) -> None:
    assert offences(line) == []


@pytest.mark.parametrize("path", EVERYTHING, ids=identify)
def test_a_file_holds_one_idea(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_LINES, f"{lines} lines: what second idea does it hold?"


MACHINE_PATH = re.compile(r"(?<![\w./])/(?:root|home|Users|work|workspace|opt|mnt|data|scratch|tmp)/\w")
TEXT_SUFFIXES = {".py", ".md", ".toml", ".yaml", ".yml", ".txt", ".json", ".jsonl", ".html", ".cfg", ".ini", ""}


def tracked_texts() -> list[Path]:
    skipped = {"build", "dist", "runs", "bench-out", "__pycache__", "node_modules"}
    return sorted(
        path
        for path in ROOT.rglob("*")
        if path.is_file()
        and path.suffix in TEXT_SUFFIXES
        and path.stat().st_size < 2_000_000
        and not any(
            part in skipped or (part.startswith(".") and part != ".ci") for part in path.relative_to(ROOT).parts
        )
        and not any(part.endswith(".egg-info") for part in path.parts)
    )


def test_no_text_names_a_place_on_one_machine() -> None:
    found = {}
    for path in tracked_texts():
        if path == Path(__file__).resolve():
            continue
        hits = MACHINE_PATH.findall(path.read_text(encoding="utf-8", errors="replace"))
        if hits:
            found[identify(path)] = hits[:3]
    assert found == {}


SCENE_MAY_IMPORT = {"numpy", "pydantic", "yaml", "rls3_registry", "rls3_gym"}


@pytest.mark.parametrize("path", sorted(PACKAGES["rls3_gym"].joinpath("scene").rglob("*.py")), ids=identify)
def test_the_scene_is_numpy_and_yaml_only(path: Path) -> None:
    roots = {name.split(".")[0] for _, name in imports(ast.parse(path.read_text(encoding="utf-8")))}
    assert roots - set(sys.stdlib_module_names) <= SCENE_MAY_IMPORT


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


def sections() -> list[str]:
    return sorted(p.name for p in rls3_registry.ROOT.iterdir() if p.is_dir() and not p.name.startswith("_"))


@pytest.mark.parametrize("section", sections())
def test_every_registered_yaml_loads(section: str) -> None:
    names = rls3_registry.names(section)
    assert names
    for name in names:
        assert rls3_registry.load(section, name), f"{section}/{name} is empty"


def test_yaml_files_have_one_suffix() -> None:
    assert not list(rls3_registry.ROOT.rglob("*.yml"))
