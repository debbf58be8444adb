"""On a Ray cluster of two nodes on this machine: stages, a frozen VLM, runs of a study."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest
import yaml
from experiment_tools import TINY, metrics, run, tiny
from gymnasium.utils.env_checker import data_equivalence
from test_study_run import write_study
from test_vector_env import STEPS, make_vec, trace
from test_vector_workers import alive, pids, wait_until_gone

pytest.importorskip("ray", reason="needs the extra ray, which make test and CI install")
pytestmark = pytest.mark.slow

VLM_ON_RAY = {"vlm": {"name": "tiny", "actor": "ray"}}
FROZEN: dict[str, Any] = {
    "environment": {"finetune": False, "steps_per_episode": 6},
    "budget": {"n_generated": 12},
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes with a CPU each. Programs find it by `RAY_ADDRESS`."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    nodes.add_node(num_cpus=1)
    os.environ["RAY_ADDRESS"] = nodes.address
    try:
        yield nodes
    finally:
        del os.environ["RAY_ADDRESS"]
        nodes.shutdown()


def python(code: str, **more: Any) -> subprocess.Popen[str]:
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", code], **pipes, **more)


@pytest.mark.parametrize("view", ["select", "relation", "box"])
def test_stages_on_actors_give_the_same_to_the_byte(cluster: Any, view: str) -> None:
    runs = []
    for workers in (0, "ray"):
        env = make_vec(3, action_view=view, observation="dict", steps_per_scene=3, workers=workers)
        runs.append(trace(env, 6, 2 * STEPS + 1))
        env.close()
    assert data_equivalence(*runs, exact=True)


def test_an_actor_that_is_killed_is_named_and_replaced_without_losing_anything(cluster: Any) -> None:
    env, undisturbed = make_vec(3, workers="ray"), make_vec(3)
    actions = [env.action_space.sample() for _ in range(3 * STEPS)]
    assert data_equivalence(env.reset(seed=8), undisturbed.reset(seed=8), exact=True)
    for step, action in enumerate(actions):
        if step in (2, STEPS - 1):  # in the middle of an episode, and before the step that ends it
            os.kill(pids(env)[1], signal.SIGKILL)
            with pytest.warns(UserWarning, match=r"the worker of lane 1 has died"):
                result = env.step(action)
        else:
            result = env.step(action)
        assert data_equivalence(result[:4], undisturbed.step(action)[:4], exact=True)
    assert env.scheduler.round == undisturbed.scheduler.round > 0
    assert env.scheduler.vlm.digest() == undisturbed.scheduler.vlm.digest()
    numbers = pids(env)
    env.close()
    wait_until_gone(numbers)


ALONE = """
import os, subprocess, gymnasium, rls3_gym
env = gymnasium.make_vec("RLS3SceneFrozen-v0", num_envs=2, workers="ray", steps_per_episode=4)
env.reset(seed=0)
env.step(env.action_space.sample())
assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
print(*env.loop._lanes.pids, flush=True)
if LAST == "close":
    env.close()
    import ray
    assert not ray.is_initialized()
elif LAST == "kill":
    os.kill(os.getpid(), 9)
"""


def descendants(mark: str) -> list[int]:
    """Processes that were started by one with this in its environment."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if f"STARTED_BY={mark}".encode() in (path / "environ").read_bytes():
                found.append(int(path.name))
        except OSError:
            continue
    return found


@pytest.mark.parametrize("last", ["close", "exit", "kill"])
def test_ray_that_was_started_for_an_environment_ends_with_it(last: str, tmp_path: Path) -> None:
    """Without a cluster; whatever ends the program."""
    mark = str(tmp_path)
    script = python(f"LAST = {last!r}\n{ALONE}", env={**os.environ, "RAY_ADDRESS": "local", "STARTED_BY": mark})
    said, errors = script.communicate(timeout=300)
    assert len(said.split()) == 2, errors
    assert script.returncode == (-9 if last == "kill" else 0), errors
    until = monotonic() + 180  # two helpers of Ray's own take a minute to notice that their parent was killed
    while descendants(mark) and monotonic() < until:
        sleep(0.2)
    assert descendants(mark) == []


SHARING = """
import sys
from rls3_gym.runs.shared_vlm import SharedVLM
vlm = SharedVLM("tiny")
print(vlm._lease.actor.tell("pid").wait(), vlm.digest(), flush=True)
sys.stdin.read()
"""


def test_programs_share_a_vlm_which_ends_with_the_last_of_them(cluster: Any) -> None:
    programs = [python(SHARING, stdin=subprocess.PIPE) for _ in range(2)]
    said = []
    for program in programs:
        assert program.stdout is not None
        said.append(program.stdout.readline().split())
    assert said[0] == said[1], programs[0].stderr
    pid = int(said[0][0])
    programs[0].communicate()
    sleep(2)
    assert alive(pid)
    programs[1].communicate()
    wait_until_gone([pid], 90)  # a program whose farewell was lost counts as gone after a minute


def test_a_run_with_a_shared_vlm_is_the_same_run_even_when_its_actor_is_killed(cluster: Any, tmp_path: Path) -> None:
    from rls3_gym.runs.shared_vlm import SharedVLM

    run(tiny(**FROZEN), tmp_path / "own")
    run(tiny(**FROZEN, **VLM_ON_RAY), tmp_path / "first")
    held = SharedVLM("tiny")
    pid = held._lease.actor.tell("pid").wait()
    os.kill(pid, signal.SIGKILL)
    run(tiny(**FROZEN, **VLM_ON_RAY), tmp_path / "second")
    held.close()
    own = metrics(tmp_path / "own")
    assert metrics(tmp_path / "first") == own and metrics(tmp_path / "second") == own


def study(folder: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "rls3_gym", "study", "mini.yaml", *words]
    return subprocess.Popen(
        command, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, process_group=0
    )


def wait_for(pattern: str, folder: Path, process: subprocess.Popen[str], seconds: float = 240) -> Path:
    until = monotonic() + seconds
    while monotonic() < until and process.poll() is None:
        if found := sorted(folder.glob(pattern)):
            return found[0]
        sleep(0.05)
    process.kill()
    raise AssertionError(f"no {pattern}: {process.communicate()[1]}")


def test_a_node_that_dies_costs_a_run_what_it_did_since_its_last_checkpoint(cluster: Any, tmp_path: Path) -> None:
    """Two runs on two nodes, one of which is killed; both come out as when they are made here."""
    # Long enough that neither has ended when the node does.
    arms = {"random": {"agent": "random"}, "stratified": {"agent": "stratified"}}
    write_study(tmp_path, arms=arms, seeds={"count": 1}, set={"budget": {"n_generated": 400}})
    here = study(tmp_path, "--out", "here", "--results", "here-results")
    _, said = here.communicate(timeout=400)
    assert here.returncode == 0, said
    there = study(tmp_path, "--on", "ray", "--out", "there", "--results", "there-results")
    for arm in arms:
        wait_for(f"there/{arm}-seed0/checkpoints/0*", tmp_path, there)
    before = scratch_folders()
    (doomed,) = cluster.worker_nodes
    cluster.remove_node(doomed, allow_graceful=False)
    cluster.add_node(num_cpus=1)  # its run goes on there, or on the head
    _, said = there.communicate(timeout=400)
    assert there.returncode == 0, said
    for arm in arms:
        assert metrics(tmp_path / "there" / f"{arm}-seed0") == metrics(tmp_path / "here" / f"{arm}-seed0")
    until = monotonic() + 20
    while scratch_folders() & before and monotonic() < until:
        sleep(0.1)
    assert before and not scratch_folders() & before
    assert "goes on from its last checkpoint" in said


def test_runs_on_ray_may_have_their_stages_and_their_vlm_there_too(cluster: Any, tmp_path: Path) -> None:
    agent = {"name": "sb3/ppo", "settings": {"n_steps": 12, "batch_size": 6}}
    environment = {**FROZEN["environment"], "num_envs": 2}
    run(tiny(agent=agent, environment=environment, budget=FROZEN["budget"]), tmp_path / "here")
    content = {**TINY, "agent": agent, "environment": {**environment, "workers": "ray"}, **VLM_ON_RAY}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump({**content, "budget": FROZEN["budget"]}), encoding="utf-8")
    mini = {"experiment": "tiny.yaml", "arms": {"ppo": {}}, "seeds": {"count": 1}, "at": {"n_generated": [6]}}
    (tmp_path / "mini.yaml").write_text(yaml.safe_dump({**mini, "sets": ["validation"]}), encoding="utf-8")
    there = study(tmp_path, "--on", "ray", "--out", "there")
    _, said = there.communicate(timeout=400)
    assert there.returncode == 0, said
    assert metrics(tmp_path / "there" / "ppo-seed0") == metrics(tmp_path / "here")


def scratch_folders() -> set[Path]:
    import tempfile

    return set(Path(tempfile.gettempdir()).glob("rls3-study-*"))


def test_ctrl_c_saves_what_is_under_way_and_the_next_call_goes_on(cluster: Any, tmp_path: Path) -> None:
    one = {"arms": {"random": {"agent": "random"}}, "seeds": {"count": 1}, "set": {"budget": {"n_generated": 150}}}
    write_study(tmp_path, **one)
    before = scratch_folders()
    there = study(tmp_path, "--on", "ray")
    wait_for("runs/studies/mini/random-seed0/checkpoints/0*", tmp_path, there)
    os.killpg(there.pid, signal.SIGINT)  # as the terminal does
    _, said = there.communicate(timeout=120)
    assert there.returncode == 0 and "random seed 0: saved" in said, said
    assert "continue with: rls3 study mini.yaml --on ray" in said
    assert scratch_folders() <= before
    again = study(tmp_path, "--on", "ray")
    _, said = again.communicate(timeout=400)
    assert again.returncode == 0, said
    made = tmp_path / "runs" / "studies" / "mini" / "random-seed0"
    assert "--resume" in (made / "command.txt").read_text(encoding="utf-8")
    shutil.rmtree(tmp_path / "results")
    whole = study(tmp_path, "--out", "whole")
    assert whole.communicate(timeout=400) and whole.returncode == 0
    assert metrics(made) == metrics(tmp_path / "whole" / "random-seed0")
    assert (made / "config.yaml").read_bytes() == (tmp_path / "whole" / "random-seed0" / "config.yaml").read_bytes()
