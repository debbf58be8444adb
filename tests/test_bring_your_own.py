"""The files of the page "Bring your own" are complete: copied into an empty folder, they run."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from experiment_tools import sample_rows
from test_docs import labeled

from rls3_agents.base import make_agent
from rls3_gym.backends.base import load_backend
from rls3_gym.envs.scene_env import RLS3SceneEnv
from rls3_gym.envs.views import FEATURES
from rls3_gym.scene.relations import Term
from rls3_gym.vlm.loading import load_vlm

PAGE = labeled("docs/bring_your_own.md")
PLUGINS = ("reinforce", "pixel_vlm", "evening")
"""Those with a published contract."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, content in PAGE.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def rls3(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"RLS3_REGISTRY": "mine", "PYTHONPATH": "."}
    command = [sys.executable, "-m", "rls3_gym", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


class HeightPays(gymnasium.Env[Any, Any]):
    """Four proposals, of which one has the term "above" and is paid; as quick as an environment can be."""

    action_space = gymnasium.spaces.Discrete(4)
    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (4 * FEATURES,), np.float32)

    def __init__(self) -> None:
        self.paid: list[float] = []
        self.np_random = np.random.default_rng(0)

    def _observe(self) -> Any:
        self.terms = self.np_random.permutation(4) + 1
        return np.eye(FEATURES, dtype=np.float32)[self.terms].ravel()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        return self._observe(), {}

    def step(self, action: Any) -> Any:
        self.paid.append(float(self.terms[action] == Term.ABOVE))
        return self._observe(), self.paid[-1], False, False, {}


class Steps:
    """A monitor that is done after so many steps."""

    def __init__(self, env: HeightPays, steps: int) -> None:
        self.env, self.steps = env, steps
        self.logged: list[Mapping[str, float]] = []

    @property
    def done(self) -> bool:
        return len(self.env.paid) >= self.steps

    def safe_point(self, agent: Any) -> None:
        """Nothing to save."""

    def log(self, values: Mapping[str, float]) -> None:
        self.logged.append(values)


def test_the_learning_agent_of_the_page_learns_what_pays(folder: Path) -> None:
    env = HeightPays()
    monitor = Steps(env, 600)
    make_agent("reinforce.yaml", 0).learn(env, monitor)
    assert np.mean(env.paid[:10]) < 0.6 and np.mean(env.paid[-100:]) > 0.9
    assert monitor.logged[-1]["entropy"] < monitor.logged[0]["entropy"]


def test_the_reward_of_the_page_pays_and_continues(folder: Path) -> None:
    paid = []
    for _ in range(2):
        env = RLS3SceneEnv(extrinsic="surprise.yaml", steps_per_episode=6, finetune=False)
        env.reset(seed=3)
        paid.append([float(env.step(np.int64(i))[4]["extrinsic"]) for i in range(6)])
    assert paid[0] == paid[1] and len(set(paid[0])) > 2 and max(map(abs, paid[0])) <= 1
    reward: Any = env.loop.extrinsic
    reward.load_state({"mean": 5.0}, env.scheduler.vlm)
    assert reward.state() == {"mean": 5.0}


def test_the_vlm_and_the_backend_of_the_page_load(folder: Path) -> None:
    assert load_vlm("pixel_vlm.yaml").name == "pixel_vlm.yaml"
    assert load_backend("evening.yaml", 32).fingerprint == "evening-1 embedded-1-32px-2x"


@pytest.mark.slow
@pytest.mark.parametrize("name", PLUGINS)
def test_a_plugin_of_the_page_keeps_its_contract(name: str, folder: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"test_{name}.py"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_rooms_and_object_kinds_of_a_folder_of_ones_own_are_listed(folder: Path) -> None:
    listed = rls3(folder, "list", "--json")
    assert listed.returncode == 0, listed.stderr
    assert '"candy jar"' in listed.stdout and '"attic"' in listed.stdout and '"in_the_attic"' in listed.stdout


@pytest.mark.slow
def test_everything_of_the_page_runs_together(folder: Path) -> None:
    done = rls3(folder, "run", "in_the_attic", "--out", "run")
    assert done.returncode == 0, done.stderr
    samples = sample_rows(folder / "run")
    assert {row["family"] for row in samples} == {"attic"}
    assert any("candy jar" in row["caption"] for row in samples)
    assert '"row": "agent"' in (folder / "run" / "metrics.jsonl").read_text(encoding="utf-8")
