"""A tiny experiment on the real parts, and how its logs are compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

import rls3_registry
from rls3_agents.base import AGENTS
from rls3_gym.experiment.config import ExperimentConfig, parse_config
from rls3_gym.experiment.run import RunResult, resume, start
from rls3_gym.runs.directory import RunDirectory
from rls3_gym.runs.rows import SampleRow
from rls3_gym.runs.samples import SampleParts, read_samples

TINY: dict[str, Any] = {
    "name": "tiny",
    "environment": {"steps_per_episode": 6, "episodes_per_round": 3, "train_fraction": 1.0},
    "vlm": {"name": "tiny", "finetune": {"batch_size": 8, "epochs": 1.0}},
    "agent": "random",
    "budget": {"rounds": 3},
    "evaluation": {"sets": ["validation"], "items": 26},
    "images_per_round": 4,
    "threads": 1,  # runs in this process and in another are compared digit by digit
}
SAC: dict[str, Any] = {"name": "sb3/sac", "settings": {"learning_starts": 6, "batch_size": 8, "buffer_size": 64}}


def agents_here() -> list[str]:
    """The registered agents that can be made: RLlib's have an environment of their own (`make test-rllib`)."""
    return [name for name in rls3_registry.names("agents") if AGENTS.find(name)[1].plugin != "rllib"]


def tiny(**changes: Any) -> ExperimentConfig:
    """The tiny experiment with top-level sections replaced."""
    return parse_config({**TINY, **changes}, "tiny.yaml")


def tiny_file(folder: Path, **changes: Any) -> Path:
    file = folder / "tiny.yaml"
    file.write_text(yaml.safe_dump({**TINY, **changes}), encoding="utf-8")
    return file


def run(config: ExperimentConfig, out: Path) -> RunResult:
    return start(config, ["run", "tiny.yaml"], out)


def go_on(config: ExperimentConfig, out: Path) -> RunResult:
    return resume(config, out, ["run", "--resume", str(out)])


def rows(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def sample_rows(run_directory: Path) -> list[dict[str, Any]]:
    """The rows of the samples, as JSON has them."""
    found: list[dict[str, Any]] = json.loads(
        json.dumps([row.model_dump() for row in read_samples(RunDirectory(run_directory))])
    )
    return found


def write_sample_rows(run_directory: Path, contents: list[dict[str, Any]]) -> None:
    """Put other samples in place of those that are there."""
    directory = RunDirectory(run_directory)
    SampleParts(directory.sample_table).append([SampleRow(**content) for content in contents])


def metrics(run_directory: Path, row: str | None = None) -> list[dict[str, Any]]:
    """Rows of metrics.jsonl without figures of the machine: wall-clock times, speed, memory."""
    found = [content for content in rows(run_directory / "metrics.jsonl") if row in (None, content["row"])]
    return [{key: value for key, value in content.items() if not _is_of_the_machine(key)} for content in found]


def _is_of_the_machine(key: str) -> bool:
    return key.endswith("seconds") or key in ("images_per_second", "peak_memory")
