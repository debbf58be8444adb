"""Stages in worker processes: the same results, nothing lost when a worker dies, nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium.utils.env_checker import data_equivalence
from numpy.testing import assert_equal
from test_vector_env import STEPS, make_vec, trace

from rls3_gym.loop.worker import NICE
from rls3_gym.loop.worker_lanes import WorkerLanes
from rls3_registry.errors import UserError


def pids(env: Any) -> list[int]:
    lanes = env.loop._lanes
    assert isinstance(lanes, WorkerLanes)
    return lanes.pids


def alive(pid: int) -> bool:
    """Whether a process is there and not a zombie."""
    try:
        return "(zombie)" not in Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return False


def wait_until_gone(numbers: list[int], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while any(alive(pid) for pid in numbers) and time.monotonic() < end:
        time.sleep(0.05)
    assert not [pid for pid in numbers if alive(pid)]


@pytest.mark.parametrize("view", ["select", "relation", "box"])
def test_the_number_of_workers_changes_nothing(view: str) -> None:
    runs = []
    for workers in (0, 1, 2):
        env = make_vec(3, action_view=view, observation="dict", steps_per_scene=3, workers=workers)
        runs.append(trace(env, 6, 2 * STEPS + 1))
        env.close()
    assert data_equivalence(runs[0], runs[1], exact=True) and data_equivalence(runs[0], runs[2], exact=True)


@pytest.mark.slow
@pytest.mark.parametrize("view", ["preference", "multi_discrete"])
def test_the_number_of_workers_changes_nothing_in_the_other_views(view: str) -> None:
    test_the_number_of_workers_changes_nothing(view)


@pytest.mark.slow
def test_workers_from_a_fork_server_give_the_same() -> None:
    runs = []
    for start in ("spawn", "forkserver"):
        env = make_vec(2, workers=2, worker_start=start)
        runs.append(trace(env, 6, STEPS + 1))
        env.close()
    assert data_equivalence(*runs, exact=True)


def test_a_worker_that_is_killed_is_named_and_replaced_without_losing_anything() -> None:
    env, undisturbed = make_vec(3, workers=2), make_vec(3)
    actions = [env.action_space.sample() for _ in range(3 * STEPS)]
    assert data_equivalence(env.reset(seed=8), undisturbed.reset(seed=8), exact=True)
    for step, action in enumerate(actions):
        if step in (2, STEPS - 1):  # in the middle of an episode, and before the step that ends it
            os.kill(pids(env)[0], signal.SIGKILL)
            wait_until_gone(pids(env)[:1])
            with pytest.warns(UserWarning, match=r"lanes 0, 2 was ended by signal 9"):
                result = env.step(action)
        else:
            result = env.step(action)
        assert data_equivalence(result[:4], undisturbed.step(action)[:4], exact=True)
    assert env.scheduler.round == undisturbed.scheduler.round > 0
    assert env.scheduler.vlm.digest() == undisturbed.scheduler.vlm.digest()
    env.close()


def test_a_state_can_be_loaded_with_another_number_of_workers() -> None:
    local, remote = make_vec(2), make_vec(2, workers=2)
    trace(local, 1, STEPS + 2)
    remote.load_state(local.state())
    for _ in range(STEPS):
        action = local.action_space.sample()
        assert data_equivalence(local.step(action)[:4], remote.step(action)[:4], exact=True)
    assert_equal(local.state()["lanes"], remote.state()["lanes"])  # which counts nan as equal
    remote.close()


def test_close_ends_the_workers_and_a_closed_environment_says_so() -> None:
    env = make_vec(2, workers=2)
    env.reset(seed=1)
    numbers = pids(env)
    assert len(numbers) == 2 and all(alive(pid) for pid in numbers)
    env.close()
    env.close()
    wait_until_gone(numbers)
    with pytest.raises(UserError, match="closed"):
        env.loop.begin_episode(0)


def test_workers_give_way_to_the_vlm_where_cores_are_too_few(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = os.getpriority(os.PRIO_PROCESS, 0)
    for cores, expected in ((2, min(19, mine + NICE)), (3, mine)):
        monkeypatch.setattr(os, "cpu_count", lambda cores=cores: cores)
        env = make_vec(2, workers=2)
        env.reset(seed=1)  # answered by now: they are up
        assert [os.getpriority(os.PRIO_PROCESS, pid) for pid in pids(env)] == [expected] * 2
        env.close()


def test_an_error_in_a_worker_reaches_the_caller_and_leaves_every_lane_where_it_was() -> None:
    env, undisturbed = make_vec(2, workers=2), make_vec(2)
    env.reset(seed=1)
    undisturbed.reset(seed=1)
    broken = env.loop.lanes[0].arrangement
    wrong = type(broken)(broken.layout, broken.objects[:2])
    with pytest.raises(UserError, match="3 objects"):
        env.reset(options={"arrangement": wrong})
    for _ in range(3):
        action = env.action_space.sample()
        assert data_equivalence(env.step(action)[:4], undisturbed.step(action)[:4], exact=True)
    env.close()


SCRIPT = """
import os, sys, time
import torch  # the script loads it; the workers must not
import gymnasium, rls3_gym
env = gymnasium.make_vec("RLS3SceneFrozen-v0", num_envs=2, workers=2, steps_per_episode=4)
env.reset(seed=0)
pids = env.loop._lanes.pids
for pid in pids:
    assert "libtorch" not in open(f"/proc/{pid}/maps").read(), "a worker has loaded torch"
named = [line.split()[-1] for line in open("/proc/self/maps") if "/dev/shm/" in line and "(deleted)" not in line]
print(*pids)
print(*named, flush=True)
"""


@pytest.mark.parametrize("end", ["exit", "exception", "interrupt", "kill"])
def test_nothing_is_left_however_the_program_ends(end: str) -> None:
    """The script has no `if __name__ == "__main__"`, and loads torch."""
    last = {"exit": "", "exception": "raise RuntimeError('stop')"}.get(
        end, "while True: env.step(env.action_space.sample())"
    )
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    script = subprocess.Popen([sys.executable, "-c", SCRIPT + last], start_new_session=True, **pipes)
    assert script.stdout is not None
    numbers = [int(word) for word in script.stdout.readline().split()]
    assert len(numbers) == 2
    names = script.stdout.readline().split()
    if end == "interrupt":
        time.sleep(0.3)
        os.killpg(script.pid, signal.SIGINT)  # as Ctrl-C: to all processes of the group
    elif end == "kill":
        script.kill()
    _, said = script.communicate(timeout=60)
    wait_until_gone([script.pid, *numbers])
    assert (script.returncode == 0) == (end == "exit"), said
    assert "resource_tracker" not in said
    assert not [name for name in names if os.path.exists(name)]


def test_an_interrupted_step_can_be_taken_again() -> None:
    env, undisturbed = make_vec(2, workers=1), make_vec(2)
    env.reset(seed=1)
    undisturbed.reset(seed=1)
    actions = [env.action_space.sample() for _ in range(3)]
    lanes = env.loop._lanes
    receive = lanes._answer

    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    lanes._answer = interrupted  # type: ignore[method-assign, union-attr]
    with pytest.raises(KeyboardInterrupt):
        env.step(actions[0])
    lanes._answer = receive  # type: ignore[method-assign, union-attr]
    for action in actions:
        assert data_equivalence(env.step(action)[:4], undisturbed.step(action)[:4], exact=True)
    env.close()


def test_a_reset_after_an_interrupted_step_begins_the_next_episodes() -> None:
    env, undisturbed = make_vec(2, workers=1), make_vec(2)
    env.reset(seed=1)
    undisturbed.reset(seed=1)

    def interrupted() -> None:
        raise KeyboardInterrupt

    env.loop._score_ahead = interrupted  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        env.step(env.action_space.sample())
    del env.loop._score_ahead
    assert data_equivalence(env.reset(), undisturbed.reset(), exact=True)
    action = env.action_space.sample()
    assert data_equivalence(env.step(action)[:4], undisturbed.step(action)[:4], exact=True)
    env.close()


def test_pictures_of_a_worker_are_those_of_the_process() -> None:
    env, local = (make_vec(2, "RLS3ScenePixels-v0", workers=workers, render_mode="rgb_array") for workers in (1, 0))
    rows = [e.reset(seed=2)[0] for e in (env, local)]
    np.testing.assert_array_equal(*rows)
    action = env.action_space.sample()
    env.step(action)
    local.step(action)
    drawn = [e.render() for e in (env, local)]
    assert drawn[0] is not None and drawn[1] is not None
    np.testing.assert_array_equal(np.stack(drawn[0]), np.stack(drawn[1]))
    env.close()
