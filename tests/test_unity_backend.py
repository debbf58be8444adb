"""The Unity backend through the stand-in player, which speaks the real protocol: the same world to everything above."""

from __future__ import annotations

import copy
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from env_parts import make_env
from gymnasium.utils.env_checker import data_equivalence
from unity_player.launch import stand_in
from unity_player.look import OTHER

from rls3_gym.backends.base import Frame, load_backend
from rls3_gym.backends.embedded.backend import EmbeddedBackend
from rls3_gym.backends.unity.backend import UnityBackend
from rls3_gym.backends.unity.contract import PlayerContract
from rls3_gym.backends.unity.settings import VARIABLE
from rls3_gym.scene.arrangement import Arrangement
from rls3_gym.scene.catalog import load_catalog
from rls3_gym.scene.layouts import draw_layout
from rls3_gym.scene.proposals import random_arrangement
from rls3_registry.errors import UserError

QUICK = {"start_timeout": 60.0, "step_timeout": 20.0}


@pytest.fixture(scope="module", autouse=True)
def starts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The player that `backend: unity` finds; the file that it adds its process number to when it starts."""
    folder = tmp_path_factory.mktemp("player")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, str(stand_in(folder, starts=str(folder / "starts"))))
        yield folder / "starts"


def players(starts: Path) -> list[int]:
    return [int(line) for line in starts.read_text(encoding="utf-8").split()] if starts.exists() else []


def alive(pid: int) -> bool:
    try:
        return "(zombie)" not in Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return False


def wait_until_gone(numbers: list[int], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while any(map(alive, numbers)) and time.monotonic() < end:
        time.sleep(0.05)
    assert not [pid for pid in numbers if alive(pid)]


def scenes(count: int, family: str = "kitchen") -> list[Arrangement]:
    kinds = [kind.name for kind in load_catalog().training]
    rng = np.random.default_rng(3)
    return [random_arrangement(rng, draw_layout(family, index), kinds) for index in range(count)]


def same(one: Frame, other: Frame, of: tuple[str, ...] = tuple(f.name for f in fields(Frame))) -> bool:
    """Depth travels in whole millimeters."""
    return all(np.allclose(getattr(one, f), getattr(other, f), rtol=0, atol=6e-4 * (f == "depth")) for f in of)


class TestUnity(PlayerContract):
    backend = "unity"


def trace(env: Any, steps: int) -> list[Any]:
    """All that an agent, and whoever looks at a picture, gets to see."""
    found = [env.reset(seed=5), env.render()]
    env.action_space.seed(5)
    for number in range(steps):
        found.append(env.step(env.action_space.sample()))
        over = found[-1][3]
        if number % 4 == 0:
            found.append(env.render())
        if over:
            found.append(env.reset())
    for item in found:
        if isinstance(item, tuple) and isinstance(item[-1].get("finetune"), dict):
            item[-1]["finetune"].pop("seconds")
    return found


@pytest.mark.parametrize("steps", [7, pytest.param(26, marks=pytest.mark.slow)])
def test_the_environment_is_the_same_to_an_agent_and_needs_one_player(steps: int, starts: Path) -> None:
    """Observations, rewards, infos and rendered pictures: an episode with the VLM's verdict; two rounds of teaching."""
    before = len(players(starts))
    traces = []
    for backend in ("unity", "embedded"):
        env = make_env(backend=backend, observation="dict", steps_per_scene=3, render_mode="rgb_array")
        traces.append(trace(env, steps))
        env.close()
    assert data_equivalence(traces[0], traces[1], exact=True)
    (player,) = players(starts)[before:]
    wait_until_gone([player])


def test_a_player_that_dies_is_replaced_and_the_run_goes_on_with_the_same_pictures(
    tmp_path: Path, starts: Path
) -> None:
    before = len(players(starts))
    fault = ("--fault", "die", "--at", "4", "--once", str(tmp_path / "died"))
    world = UnityBackend({**QUICK, "restarts": 1, "extra_args": fault, "log_folder": str(tmp_path)})
    with pytest.warns(UserWarning, match=r"exit code 3.*started again \(1 of 1\)"):
        shown = [show(world, scene) for scene in scenes(4)]
    plain = EmbeddedBackend()
    assert all(same(frame, show(plain, scene)) for frame, scene in zip(shown, scenes(4), strict=True))
    first, second = players(starts)[before:]
    assert len(list(tmp_path.glob("player-*.log"))) == 2  # kept where the settings name a folder
    world.close()
    wait_until_gone([first, second])


def test_a_copy_has_a_player_of_its_own_only_when_it_needs_one(starts: Path) -> None:
    before = len(players(starts))
    copy.deepcopy(load_backend("unity", 64)).close()
    assert len(players(starts)) == before


def show(world: Any, scene: Arrangement) -> Frame:
    world.reset(scene, seed=0)
    frame: Frame = world.capture()
    return frame


PROGRAM = """
import gc, os, signal, sys, time
import numpy as np
from rls3_gym.backends.base import load_backend
from rls3_gym.scene.layouts import draw_layout
from rls3_gym.scene.proposals import random_arrangement
world = load_backend("unity", 32)
kinds = ["blender", "football", "globe"]
signal.signal(signal.SIGINT, signal.default_int_handler)
world.reset(random_arrangement(np.random.default_rng(0), draw_layout("kitchen", 0), kinds), seed=0)
"""
SHOWN = "print('shown', flush=True)\n"
ENDS = {
    "killed": "time.sleep(60)",
    "interrupted": "try:\n    print('shown', flush=True)\n    while True: world.capture()\n"
    "except KeyboardInterrupt:\n    print('stopped', flush=True)",
    "without_close": "",
    "raises": "raise RuntimeError",
    "collected": "del world; gc.collect(); print('collected', flush=True); time.sleep(60)",
}


@pytest.mark.parametrize("end", [*["killed"], *(pytest.param(e, marks=pytest.mark.slow) for e in list(ENDS)[1:])])
def test_no_player_is_left_behind_however_the_program_ends(end: str, starts: Path) -> None:
    before = len(players(starts))
    text = PROGRAM + ("" if end == "interrupted" else SHOWN) + ENDS[end]
    program = subprocess.Popen(
        [sys.executable, "-c", text], stdout=subprocess.PIPE, text=True, stderr=subprocess.DEVNULL
    )
    assert program.stdout is not None
    assert program.stdout.readline() == "shown\n"
    (player,) = players(starts)[before:]
    if end == "killed":
        program.kill()
    if end == "interrupted":
        time.sleep(0.3)
        program.send_signal(signal.SIGINT)
        assert program.stdout.readline() == "stopped\n"
    if end == "collected":
        assert program.stdout.readline() == "collected\n"
        wait_until_gone([player], 10)
        program.kill()
    program.wait(20)
    wait_until_gone([player], 10)


@pytest.mark.slow
def test_the_world_may_look_otherwise_and_says_so(tmp_path: Path) -> None:
    other = UnityBackend({**QUICK, "file_name": str(stand_in(tmp_path, look=OTHER))})
    plain = EmbeddedBackend()
    for scene in scenes(2):
        there, here = show(other, scene), show(plain, scene)
        assert same(there, here, ("ids", "depth", "visible", "pixels", "positions"))
        assert np.abs(there.rgb.astype(int) - here.rgb).mean() > 10
    assert other.fingerprint != load_backend("unity", 64).fingerprint
    other.close()


@pytest.mark.slow
def test_a_player_of_an_older_unity_package_states_shapes_in_the_other_order(tmp_path: Path) -> None:
    older = UnityBackend({**QUICK, "file_name": str(stand_in(tmp_path, layout="hwc"))})
    (scene,) = scenes(1)
    assert same(show(older, scene), show(EmbeddedBackend(), scene))
    older.close()


@pytest.mark.slow
def test_a_player_that_will_not_end_is_killed_with_all_it_has_started(tmp_path: Path) -> None:
    file, numbers = tmp_path / "stubborn.x86_64", tmp_path / "numbers"
    file.write_text(
        f'#!/bin/sh\ntrap "" TERM\necho $$ > {numbers}\nsleep 300 &\necho $! >> {numbers}\nwait\nsleep 300\n'
    )
    file.chmod(0o755)
    with pytest.raises(UserError, match="it did not answer in time"):
        _ = UnityBackend({"file_name": str(file), "start_timeout": 10.0}).fingerprint
    found = players(numbers)
    assert len(found) == 2
    wait_until_gone(found, 10)
