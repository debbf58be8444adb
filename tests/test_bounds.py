"""No setting takes a number without bounds: a slip must not eat the memory, or end in a sum that is not a number."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import rls3_agents
import rls3_gym
from rls3_gym.cli.app import main
from rls3_gym.experiment.config import ExperimentConfig
from rls3_gym.study.study_config import StudyConfig
from rls3_registry.validation import Settings

ELSEWHERE = {"__main__", "leash", "rllib"}
"""What is run and not imported, or has an environment of its own."""


def descendants(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for child in model.__subclasses__():
        yield child
        yield from descendants(child)


def all_settings() -> list[type[BaseModel]]:
    for package in (rls3_gym, rls3_agents):
        folder = Path(str(package.__path__[0]))
        for file in folder.rglob("*.py"):
            parts = file.relative_to(folder).with_suffix("").parts
            if not ELSEWHERE & set(parts):
                importlib.import_module(".".join((package.__name__, *parts)).removesuffix(".__init__"))
    ours = (model for model in descendants(Settings) if model.__module__.startswith(("rls3_gym.", "rls3_agents.")))
    return [*dict.fromkeys(ours), ExperimentConfig, StudyConfig]


def unbounded(schema: Any, path: str) -> Iterator[str]:
    """The numbers of a JSON schema that lack a bound."""
    if isinstance(schema, list):
        for part in schema:
            yield from unbounded(part, path)
    elif isinstance(schema, dict):
        bounds = [{"minimum", "exclusiveMinimum"}, {"maximum", "exclusiveMaximum"}]
        if schema.get("type") in ("integer", "number") and not all(bound & set(schema) for bound in bounds):
            yield path
        for key, part in schema.items():
            yield from unbounded(part, f"{path}.{key}" if isinstance(part, dict) else path)


def test_every_number_in_settings_has_bounds() -> None:
    found = [line for model in all_settings() for line in unbounded(model.model_json_schema(), model.__name__)]
    assert not found, "\n".join(sorted(set(found)))


@pytest.mark.parametrize(
    "change",
    ["agent={name: sb3/recurrent_ppo, settings: {lstm_hidden_size: 1000000000}}",
     "agent={name: sb3/ppo, settings: {log_std_init: 1e30}}",
     "environment.intrinsic_feasible=1e30",
     "evaluation.items=1000000000000000"],
)  # fmt: skip
def test_a_number_that_no_one_means_is_one_line(
    change: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["run", "quickstart", "--set", change, "--out", str(tmp_path / "run")])
    said = capsys.readouterr().err
    assert "should be less than or equal to" in said and said.count("\n") == 1 and not (tmp_path / "run").exists()
