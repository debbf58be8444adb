"""Keys that have another name now are answered with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import rls3_registry
from rls3_agents.base import make_agent
from rls3_gym.backends.embedded.objects import build_object
from rls3_gym.experiment.config import load_config
from rls3_gym.scene.families import read_family
from rls3_gym.vlm.base import VLMS
from rls3_gym.vlm.loading import load_vlm
from rls3_registry.errors import UserError


def an_object(file: Path) -> None:
    build_object(rls3_registry.load_file(file), str(file))


def a_room(file: Path) -> None:
    read_family(file, "kitchen")


def an_agent(file: Path) -> None:
    make_agent(str(file), seed=0)


def a_vlm(file: Path) -> None:
    VLMS.find(str(file))


def a_taught_vlm(file: Path) -> None:
    load_vlm(str(file))


def an_experiment(file: Path) -> None:
    load_config(str(file))


@pytest.mark.parametrize(
    ("read", "registered", "old", "new"),
    [
        (an_object, "objects/yellow_bowl", "parts.0.colour", "color"),
        (a_room, "rooms/kitchen", "floors.0.colour", "color"),
        (a_room, "rooms/kitchen", "light.colour", "color"),
        (a_room, "rooms/kitchen", "pieces.counter.0.colours", "colors"),
        (an_experiment, "experiments/paper", "environment.T", "steps_per_episode"),
        (an_experiment, "experiments/paper", "environment.E", "episodes_per_round"),
        (an_experiment, "experiments/paper", "environment.eta", "train_fraction"),
        (an_agent, "agents/sb3/sac", "settings.target_entropy", "target_entropy_per_dim"),
        (an_agent, "agents/sb3/crossq", "settings.target_entropy", "target_entropy_per_dim"),
        (an_agent, "agents/tianshou/sac", "settings.target_entropy", "target_entropy_per_dim"),
        (an_agent, "agents/sb3/sac", "adapter", "plugin"),
        (a_taught_vlm, "vlms/tiny", "finetune.contrastive_weight", "loss_weights.contrastive"),
        (a_taught_vlm, "vlms/tiny", "finetune.hard_negative_weight", "loss_weights.hard_negative"),
    ],
)
def test_a_key_of_an_earlier_version_is_answered_with_its_new_name(
    tmp_path: Path, read: Callable[[Path], None], registered: str, old: str, new: str
) -> None:
    section, _, name = registered.partition("/")
    content: Any = rls3_registry.load(section, name)
    *outer, last = old.split(".")
    node = content
    for step in outer:
        node = node[int(step) if step.isdigit() else step]
    node[last] = 1
    file = tmp_path / "old.yaml"
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    with pytest.raises(UserError) as caught:
        read(file)
    assert str(caught.value) == f"{file}: {old!r} is now called {new!r}"


def test_a_section_that_never_had_the_key_is_not_told_of_a_new_name(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text("agent: random\nbudget: {rounds: 1, colour: 3}\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"unknown key 'budget.colour' \(keys here: n_generated, rounds\)$"):
        load_config(str(file))
