"""Many players behind one VLM, a whole experiment, and what shows the evaluation sets: all through the stand-in."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from experiment_tools import metrics
from gymnasium.utils.env_checker import data_equivalence
from test_unity_backend import alive, wait_until_gone
from test_vector_env import make_vec, trace
from unity_player.launch import stand_in
from unity_player.look import OTHER

from rls3_gym.backends.unity.settings import VARIABLE
from rls3_gym.cli.app import main
from rls3_gym.evalsets import loader
from rls3_registry.errors import UserError

pytestmark = pytest.mark.slow
ITEMS = 60
DIES_AT = 20
"""While the agent learns; the evaluation sets are known by then."""


@pytest.fixture
def starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The player that `backend: unity` finds; the file that it adds its process number to when it starts."""
    file = tmp_path / "starts"
    monkeypatch.setenv(VARIABLE, str(stand_in(tmp_path / "player", starts=str(file))))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield file
    wait_until_gone(players(file))


def players(starts: Path) -> list[int]:
    return [int(line) for line in starts.read_text(encoding="utf-8").split()] if starts.exists() else []


@pytest.fixture
def short_sets() -> Iterator[None]:
    """A share of each packaged set: what is measured is beside the point here."""
    whole, kept = loader._specs.__wrapped__, (loader.set_hash, loader.held_out_keys)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loader, "_loaded", {})
        patch.setattr(loader, "_specs", lambda name: whole(name)[:: max(1, len(whole(name)) // ITEMS)])
        for of_whole_sets in kept:
            of_whole_sets.cache_clear()
        yield
    for of_short_sets in kept:
        of_short_sets.cache_clear()


def vector(backend: str, workers: int = 0) -> Any:
    return make_vec(2, backend=backend, observation="dict", steps_per_scene=3, workers=workers)


@pytest.mark.parametrize("workers", [0, 2])
def test_lanes_have_players_of_their_own_and_give_what_embedded_ones_give(starts: Path, workers: int) -> None:
    env = vector("unity", workers)
    found = trace(env, 6, 9)
    assert len(players(starts)) == 2 and all(map(alive, players(starts)))
    env.close()
    wait_until_gone(players(starts))
    plain = vector("embedded")
    assert data_equivalence(found, trace(plain, 6, 9), exact=True)
    plain.close()


def test_a_worker_that_is_killed_takes_its_player_along_and_another_goes_on(starts: Path) -> None:
    env, plain = vector("unity", 2), vector("embedded")
    for each in (env, plain):
        each.reset(seed=6)
        each.action_space.seed(6)
    os.kill(env.loop._lanes.pids[0], signal.SIGKILL)
    with pytest.warns(UserWarning, match="it is started again where its stages stood"):
        steps = [each.step(each.action_space.sample()) for each in (env, plain)]
    assert data_equivalence(steps[0], steps[1], exact=True)
    assert len(players(starts)) == 3
    env.close()
    plain.close()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_player_that_fails_in_a_lane_is_named_and_nothing_is_counted(
    tmp_path: Path, starts: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.setenv(VARIABLE, str(stand_in(tmp_path, "bad", fault="truncate", at=16, starts=str(starts))))
    env = vector("unity", workers)
    counts: list[int] = []
    with pytest.raises(UserError, match="bad.x86_64: picture 'camera': it is no complete PNG"):
        env.reset(seed=6)
        env.action_space.seed(6)
        while True:
            counts.append(env.loop.scheduler.n_steps)
            env.step(env.action_space.sample())
    assert env.loop.scheduler.n_steps == counts[-1]
    env.close()


def experiment(folder: Path, backend: str) -> Path:
    content = {
        "name": "through_it",
        "environment": {"backend": backend, "steps_per_episode": 8, "episodes_per_round": 2, "train_fraction": 1.0,
                        "early_stopping": 5},
        "vlm": {"name": "tiny", "finetune": {"batch_size": 8, "epochs": 1.0}},
        "agent": {"name": "sb3/ppo", "settings": {"n_steps": 16, "batch_size": 16}},
        "budget": {"rounds": 2},
        "evaluation": {"sets": ["test"], "items": ITEMS},
        "images_per_round": 4,
        "threads": 1,
    }  # fmt: skip
    file = folder / f"experiment_{Path(backend).stem}.yaml"
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    return file


@pytest.mark.usefixtures("short_sets")
def test_an_experiment_is_the_same_but_for_the_name_of_its_world(
    tmp_path: Path, starts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """PPO, two rounds, evaluation, early stopping; one player shows all of it, and another goes on where one dies."""
    died, dies = tmp_path / "died", tmp_path / "dies.yaml"
    player = stand_in(tmp_path, fault="die", at=DIES_AT, once=str(died))
    dies.write_text(f"plugin: unity\nsettings: {{file_name: '{player}', restarts: 1}}\n", encoding="utf-8")
    rows = []
    for backend in ("unity", "embedded", str(dies)):
        out = tmp_path / "runs" / Path(backend).stem
        with pytest.raises(SystemExit) as end:
            main(["run", str(experiment(tmp_path, backend)), "--out", str(out), "--json"])
        assert end.value.code == 0
        assert json.loads(capsys.readouterr().out)["stopped"] is False  # nothing else is printed there
        rows.append(metrics(out))
    assert len(players(starts)) == 1
    worlds = [{row.pop("backend") for row in found if "backend" in row} for found in rows]
    assert worlds[0] == {"unity-stand-in-1-plain-embree-embedded1-high-64px"} != worlds[1]
    assert died.exists() and worlds[2] == worlds[0]
    assert rows[0] == rows[1] == rows[2] and sum(row["row"] == "evaluation" for row in rows[0]) == 3


@pytest.mark.usefixtures("short_sets", "starts")
def test_a_vlm_is_judged_in_another_world(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(VARIABLE, str(stand_in(tmp_path / "other", look=OTHER)))

    def measured(*arguments: str) -> dict[str, Any]:
        with pytest.raises(SystemExit) as end:
            main(["evaluate", "--items", str(ITEMS), "--json", *arguments])
        assert end.value.code == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    here, there = measured(), measured("--backend", "unity")
    assert here["vlm_digest"] == there["vlm_digest"] and here["set_hash"] == there["set_hash"]
    assert here["backend"].startswith("embedded") and OTHER.name in there["backend"]
    changed = [key for key in here if here[key] != there[key] and key != "backend"]
    assert changed  # the pictures are others
