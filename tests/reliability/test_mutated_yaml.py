"""Two thousand YAML files that somebody else, or a slip of the hand, has changed: read, or refused in one line."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from limits import TookTooLong, processor_seconds
from mutations import mutated

import rls3_registry
from rls3_agents.base import AGENTS, make_agent
from rls3_gym.backends.base import load_backend
from rls3_gym.backends.embedded.objects import build_object
from rls3_gym.experiment.config import ExperimentSource
from rls3_gym.loop.rewards.base import REWARDS
from rls3_gym.scene.families import read_family
from rls3_gym.study.study_config import load_study
from rls3_gym.vlm.base import VLMS
from rls3_gym.vlm.open_clip.adapter import OpenClipFineTuneSettings
from rls3_gym.vlm.open_clip.weights import OpenClipSettings
from rls3_gym.vlm.transformers.settings import TransformersFineTuneSettings, TransformersSettings
from rls3_registry.errors import LONGEST, UserError, shown
from rls3_registry.validation import check

SECONDS = 10.0
"""Of processor time, for one file: many times what any of them needs."""


def experiment(path: Path) -> None:
    ExperimentSource(str(path)).config().resolved()


def agent(path: Path) -> None:
    make_agent(str(path), 0)


def vlm(path: Path) -> None:
    """All but building the model, which takes its weights."""
    _, spec = VLMS.find(str(path))
    models: dict[str, tuple[type[Any], type[Any]]] = {
        "open_clip": (OpenClipSettings, OpenClipFineTuneSettings),
        "transformers": (TransformersSettings, TransformersFineTuneSettings),
    }
    if spec.plugin in models:
        settings, finetune = models[spec.plugin]
        check(settings, spec.settings, str(path), section="settings")
        check(finetune, spec.finetune, str(path), section="finetune")


def reward(path: Path) -> None:
    REWARDS.create(str(path), steps_per_episode=4, guide=lambda: ())


def backend(path: Path) -> None:
    load_backend(str(path), 64).close()


def room(path: Path) -> None:
    read_family(path, "mutated")


def thing(path: Path) -> None:
    build_object(rls3_registry.load_file(path), str(path))


def study(path: Path) -> None:
    load_study(str(path)).check_arms()


LOADERS: dict[str, Callable[[Path], None]] = {
    "experiments": experiment,
    "agents": agent,
    "vlms": vlm,
    "rewards": reward,
    "backends": backend,
    "rooms": room,
    "objects": thing,
    "studies": study,
}


def files(n: int, seed: int) -> Iterator[tuple[str, str, bytes]]:
    """`n` changed files: the section, the name and the content of each. Sections take turns."""
    rng = np.random.default_rng(seed)
    for i in range(n):
        section = list(LOADERS)[i % len(LOADERS)]
        names = rls3_registry.names(section)
        name = names[int(rng.integers(len(names)))]
        yield section, name, mutated(rls3_registry.path_of(section, name).read_bytes(), rng)


def try_out(n: int, seed: int, path: Path) -> dict[str, int]:
    """How many of the files could be read, and how many were refused; anything else fails."""
    came, failures = {"read": 0, "refused": 0}, []
    for number, (section, name, content) in enumerate(files(n, seed)):
        path.write_bytes(content)
        try:
            with processor_seconds(SECONDS):
                LOADERS[section](path)
            came["read"] += 1
        except UserError as error:
            if "\n" in str(error) or len(str(error)) > LONGEST:
                failures.append(f"{number}, {section}/{name}: a message of {len(str(error))} characters")
            came["refused"] += 1
        except (Exception, TookTooLong) as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            failures.append(f"{number}, {section}/{name}: {shown(error)} in {place.filename}:{place.lineno}")
    assert not failures, "\n".join(failures)
    return came


def test_forty_changed_files_are_read_or_refused(tmp_path: Path) -> None:
    came = try_out(40, 1, tmp_path / "file.yaml")
    assert came["refused"] > 10


@pytest.mark.slow
def test_two_thousand_changed_files_are_read_or_refused(tmp_path: Path) -> None:
    came = try_out(2000, 0, tmp_path / "file.yaml")
    assert came["read"] > 100 and came["refused"] > 1000


def test_every_section_of_the_registry_has_its_loader() -> None:
    assert set(LOADERS) == {path.name for path in rls3_registry.ROOT.iterdir() if path.is_dir()} - {"__pycache__"}


def test_what_is_changed_is_settled_by_the_seed() -> None:
    assert list(files(30, 5)) == list(files(30, 5)) != list(files(30, 6))
    assert AGENTS.names()
