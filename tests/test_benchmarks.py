"""The benchmarks run, in small, with the very options that the documents show; they print what they promise last."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from experiment_tools import run as make_run
from experiment_tools import tiny

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [
    "README.md",
    "CONTRIBUTING.md",
    "docs/results.md",
    "docs/unity.md",
    "rls3_gym/vlm/packaged/tiny/MODEL_CARD.md",
]
COMMAND = re.compile(r"`python (benchmarks/[^`]+)`")
IN_SMALL = {
    "benchmarks/tracer.py": ["--captures", "2"],
    "benchmarks/env_step.py": ["--episodes", "2"],
    "benchmarks/finetune.py": ["--samples", "64", "--repeats", "1"],
    "benchmarks/checkpoint.py": ["--model", "packaged:tiny", "--train", "visual.trunk.projection.*", "--samples", "20"],
    "benchmarks/report_size.py": ["--samples", "200", "--per-round", "50"],
    "benchmarks/vlm.py": [
        *("--model", "ViT-S-32-alt", "--items", "4", "--scored", "2", "--batch", "2"),
        *("--repeats", "1", "--epochs", "1", "--device", "cpu"),
    ],
    "benchmarks/other_backend.py": ["--rounds", "1", "--items", "51"],
    "benchmarks/unity_transport.py": ["--steps", "10"],
    "benchmarks/vector_env.py": ["--episodes", "1", "--lanes", "1", "2"],
    "benchmarks/teach.py": ["--seeds", "1", "--budgets", "500", "--processes", "1", "--out", "taught"],
    "benchmarks/same_samples.py": ["--shuffles", "2", "--sets", "validation", "--processes", "1"],
    "benchmarks/error_left.py": ["--set", "validation"],
    "benchmarks/steer.py": ["--pairs", "sb3/ppo:select", "--oracles", "vertical", "--seeds", "1", "--steps", "500"],
}


def shown() -> list[str]:
    """Uses of a benchmark in the documents."""
    found = {c.replace("\n", " ") for d in DOCUMENTS for c in COMMAND.findall((ROOT / d).read_text(encoding="utf-8"))}
    return sorted(found)


def test_the_documents_show_every_benchmark() -> None:
    all_of_them = {p.relative_to(ROOT).as_posix() for p in (ROOT / "benchmarks").glob("*.py")}
    assert {command.split()[0] for command in shown()} == all_of_them == set(IN_SMALL)


def run(command: str, cwd: Path) -> str:
    """What a benchmark prints when it is run in small; later options win over those of the command."""
    file, *options = shlex.split(command)
    words = [sys.executable, str(ROOT / file), *options, *IN_SMALL[file]]
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=False, env=os.environ)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("command", shown())
def test_benchmarks_run_as_the_documents_say(command: str, tmp_path: Path) -> None:
    if "RUN_DIR" in command:
        made = make_run(tiny(budget={"rounds": 2}), tmp_path / "made").directory
        command = command.replace("RUN_DIR", str(made))
    out = run(command, tmp_path)
    name = Path(command.split()[0]).stem
    if name == "teach":
        rows = json.loads((tmp_path / "taught" / "teaching.json").read_text(encoding="utf-8"))["rows"]
        assert {row["sampler"] for row in rows} == {"random", "stratified"}
    elif name == "same_samples":
        assert re.search(r"validation, points: .*noise floor \d+\.\d+  order is worth -?\d+\.\d+", out)
        assert re.search(r"taught, points: as made: mean \d+\.\d+", out)
    elif name == "error_left":
        tables = [line for line in out.splitlines() if not line.startswith(" ")]
        assert tables == [
            "all",
            "term",
            "length",
            "distance",
            "pixels",
            "clearness",
            "family",
            "layout",
            "kind",
            "pair",
        ]
        assert re.search(r"above +254 items  error +\d+\.\d %  \[", out)
    elif name == "steer":
        assert re.search(r"sb3/ppo +select +vertical seed 0 after +500: .*vertical \d\.\d+", out)
    elif name == "other_backend":
        assert re.search(r"taught in unity +\d+\.\d \(\d+\.\d\) +\d+\.\d", out)
    elif name == "report_size":
        assert re.search(r"report: \d+\.\d s \(.* of one core\), \d+ MB of memory", out)
    elif name == "vector_env":
        assert re.search(r"2 lanes: shared \d+ steps/s .* 2 processes .* memory \d\.\d+", out)
    else:
        assert re.search(r"ratio.* \d+\.\d+", out.strip().splitlines()[-1])


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("benchmarks/steer.py --pairs sb3/sac", "steer.py: --pairs sb3/sac: must be AGENT:VIEW"),
        ("benchmarks/steer.py --pairs sb3/sax:select", "steer.py: unknown agent 'sb3/sax'; did you mean 'sb3/sac'"),
        ("benchmarks/steer.py --pairs random:selekt", "steer.py: action_view: should be"),
        ("benchmarks/same_samples.py nowhere", "same_samples.py: nowhere: there is no such run directory"),
    ],
)
def test_a_benchmark_answers_a_mistake_in_one_line(command: str, message: str, tmp_path: Path) -> None:
    file, *options = shlex.split(command)
    words = [sys.executable, str(ROOT / file), *options]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1
