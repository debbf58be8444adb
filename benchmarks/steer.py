"""Can an agent be steered? Static oracles pay for relation cells; no VLM is asked or taught.

    python benchmarks/steer.py                                    # all oracles, views and agents; almost an hour
    python benchmarks/steer.py --pairs sb3/sac:preference --oracles vertical --seeds 1
    python benchmarks/steer.py --pairs sb3/sac:box+snap+choose_reference --oracles vertical
    python benchmarks/steer.py --pairs sb3/ppo_select:select+proposals=8 --oracles inverse_frequency
    python benchmarks/steer.py --pairs sb3/maskable_ppo+ent_coef=0.01+n_steps=128:relation

Where an oracle that always says the same cannot move an agent, no VLM will. For each agent, view and oracle: what the
samples of a window of 500 steps are like after 500, 1,000, 2,000 and 5,000 steps, beside what uniform actions give and
the best that can be reached: by looking at all that is on offer and taking what pays most.

- `vertical` pays 1 for a sample with above or below in its caption.
- `inverse_frequency` pays what uniform actions seldom make: the inverse of the share that they give a cell and its
  antonyms, at most 6 times the mean.
- `histogram` pays a cell by the share it should have (equal shares for captions of one, two and three terms, and within
  each for all cells) over the share it has had of late.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
import yaml
from numpy.typing import NDArray

from rls3_agents.base import SamplerAgent, make_agent
from rls3_gym.envs.scene_env import RLS3SceneEnv
from rls3_gym.evalsets.builder import cell_counts
from rls3_gym.loop.cells import ANTONYMS, Cells
from rls3_gym.loop.lane import Lane
from rls3_gym.loop.rewards.base import CellReward, CellRewardSettings
from rls3_gym.loop.running_mean import RunningMean
from rls3_gym.sample import CaptionItem, Sample
from rls3_gym.scene.relations import RELATIONS
from rls3_gym.vlm.base import Feedback, FineTuneReport
from rls3_registry.errors import UserError, one_line_errors

Float = NDArray[np.float64]
MARKS = (500, 1000, 2000, 5000)
WINDOW = 500
PAIRS = (
    "sb3/sac:preference", "sb3/tqc:preference", "tianshou/sac:preference", "sb3/ppo_select:select", "sb3/ppo:select",
    "sb3/dqn:select", "sb3/ppo_relation:relation", "sb3/maskable_ppo:relation", "sb3/ppo:relation", "sb3/dqn:relation",
    "sb3/sac:box", "sb3/sac:box+snap+choose_reference", "sb3/ppo:box",
)  # fmt: skip
ORACLES = ("vertical", "inverse_frequency", "histogram")
VERTICAL = np.array([float(relation.vertical != 0) for relation in RELATIONS])
TARGET = np.array(cell_counts(7800), np.float64) / 7800
# Shares that uniform box actions give the cells: 20,000 samples of the training rooms.
NATURAL_FILE = Path(__file__).parent / "results" / "natural_cells.json"


def natural_shares() -> Float:
    """(26,) shares of the cells in what uniform actions make; measured once, then read from its file."""
    if not NATURAL_FILE.is_file():
        env = make_env("select", "vertical", centered=False)
        env.reset(seed=99)
        rng, counts = np.random.default_rng(99), np.zeros(len(RELATIONS))
        while counts.sum() < 20_000:
            *_, ended, info = env.step(rng.integers(env.action_space.n))
            if info["feasible"]:
                counts[info["cell"]] += 1
            if ended:
                env.reset()
        NATURAL_FILE.parent.mkdir(exist_ok=True)
        NATURAL_FILE.write_text(json.dumps({"counts": counts.astype(int).tolist()}) + "\n", encoding="utf-8")
    counts = np.array(json.loads(NATURAL_FILE.read_text(encoding="utf-8"))["counts"], np.float64)
    return np.asarray(counts / counts.sum())


class OracleSettings(CellRewardSettings):
    oracle: str


class Oracle(CellReward):
    """Pays cells by a rule that never asks the VLM."""

    settings_model = OracleSettings

    def begin_experiment(self, vlm: Any, seed: int) -> None:
        self._made = RunningMean(len(RELATIONS), 0.005, 1 / len(RELATIONS))

    def worth(self) -> Float:
        if self.settings.oracle == "vertical":
            return VERTICAL
        if self.settings.oracle == "inverse_frequency":
            inverse = 1 / (ANTONYMS @ natural_shares() + 1e-3)
            return np.asarray(np.minimum(6.0, inverse / np.average(inverse, weights=natural_shares())))
        return np.asarray(np.minimum(4.0, TARGET / np.maximum(self._made.values, 1e-3)))

    def step_reward(self, sample: Sample, feedback: Feedback | None, choice: Cells | None) -> float:
        self._made.add_all(range(len(RELATIONS)), (np.arange(len(RELATIONS)) == sample.relation.index).astype(float))
        worth = self.worth()
        ordinary = 0.0
        if self.settings.centered:
            ordinary = float(worth[choice].mean()) if choice is not None else float(worth @ natural_shares())
        return float(worth[sample.relation.index]) - ordinary


class NobodyVLM:
    """Stands where a VLM would: it is right about nothing and learns nothing."""

    name, image_size = "nobody", 64

    def evaluate(self, items: Sequence[CaptionItem]) -> Feedback:
        n = len(items)
        zeros = np.zeros(n, np.float32)
        return Feedback(np.zeros(n, np.bool_), zeros, np.zeros((n, 6), np.float32), zeros, np.zeros(n, np.int64), zeros,
                        zeros, zeros)  # fmt: skip

    def finetune(self, items: Sequence[CaptionItem], rng: np.random.Generator) -> FineTuneReport:
        raise NotImplementedError

    def state(self) -> dict[str, Any]:
        return {}

    def load_state(self, state: Any) -> None:
        pass

    def digest(self) -> str:
        return "nobody"


def name_and_settings(text: str) -> tuple[str, dict[str, Any]]:
    """`name+key+other=2` -> the name, and `{"key": True, "other": 2}`."""
    name, *given = text.split("+")
    settings = (setting.partition("=") for setting in given)
    return name, {key: yaml.safe_load(value) if equals else True for key, equals, value in settings}


def checked(pair: str) -> str:
    """A pair as it was given. Raises `UserError` for one that can't be run, before anything is."""
    agent, colon, view = pair.partition(":")
    if not colon:
        raise UserError(f"--pairs {pair}: must be AGENT:VIEW, as {PAIRS[0]}")
    name, settings = name_and_settings(agent)
    make_agent(name, 0, overrides=settings)
    make_env(view, "vertical").close()
    return pair


def make_env(view: str, oracle: str, centered: bool = True) -> RLS3SceneEnv:
    name, options = name_and_settings(view)
    env = RLS3SceneEnv(vlm=NobodyVLM(), finetune=False, action_view=name, extrinsic="steer:DefaultOracle", **options)  # type: ignore[arg-type]
    env.loop.extrinsic = Oracle({"oracle": oracle, "centered": centered}, steps_per_episode=32, guide=lambda: ())
    return env


class DefaultOracle(Oracle):
    """Named where an environment asks for a reward; replaced before it is used."""

    def __init__(self, settings: Any, **given: Any) -> None:
        super().__init__({"oracle": "vertical", "centered": True}, **given)


class Watch(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Notes the cell of every sample, -1 for a step without one; also the monitor of the agent."""

    def __init__(self, env: gymnasium.Env[Any, Any], steps: int, seed: int) -> None:
        super().__init__(env)
        self.cells: list[int] = []
        self._steps, self._seed = steps, seed

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        return self.env.reset(seed=None if self.cells else self._seed, options=options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        result = self.env.step(action)
        info = result[4]
        self.cells.append(info["cell"])
        return result

    @property
    def done(self) -> bool:
        return len(self.cells) >= self._steps

    def safe_point(self, agent: SamplerAgent) -> None:
        pass

    def log(self, values: Mapping[str, float]) -> None:
        pass


def describe(cells: Sequence[int], worth: Float) -> dict[str, float]:
    """What a stretch of steps gave: valid share, vertical share, effective cells, lengths, pay of a step."""
    made = np.array([cell for cell in cells if cell >= 0], np.int64)
    share = np.bincount(made, minlength=len(RELATIONS)) / max(1, len(made))
    lengths = [sum(share[r.index] for r in RELATIONS if r.complexity == n) for n in (1, 2, 3)]
    present = share[share > 0]
    return {
        "valid": len(made) / len(cells),
        "vertical": float(share @ VERTICAL),
        "effective_cells": float(np.exp(-(present * np.log(present)).sum())),
        "one_term": lengths[0], "two_terms": lengths[1], "three_terms": lengths[2],
        "pay": float(worth[made].sum()) / len(cells),
    }  # fmt: skip


def worth_of(oracle: str) -> Float:
    reward = Oracle({"oracle": oracle, "centered": False}, steps_per_episode=32, guide=lambda: ())
    reward.begin_experiment(None, 0)
    return reward.worth() if oracle != "histogram" else TARGET / np.maximum(natural_shares(), 1e-3)


def learn(job: tuple[str, str, int, int]) -> dict[str, Any]:
    """One agent in one view under one oracle."""
    pair, oracle, seed, steps = job
    torch.set_num_threads(1)
    name, view = pair.split(":")
    env = Watch(make_env(view, oracle), steps, seed)
    agent, settings = name_and_settings(name)
    make_agent(agent, seed, overrides=settings).learn(env, env)
    marks = {m: describe(env.cells[m - WINDOW : m], worth_of(oracle)) for m in MARKS if m <= steps}
    return {"agent": name, "view": view, "oracle": oracle, "seed": seed, "after": marks}


def reference(job: tuple[str, str, str]) -> dict[str, Any]:
    """What uniform actions, or actions that take the best on offer, give in a view."""
    who, view, oracle = job
    env = Watch(make_env(view, oracle), 1500, 7)
    env.reset()
    rng = np.random.default_rng(7)
    env.action_space.seed(7)
    lane, reward = env.unwrapped.loop.lane(), env.unwrapped.loop.extrinsic
    while not env.done:
        action = env.action_space.sample() if who == "uniform" else best_action(view, lane, reward.worth(), rng)
        if env.step(action)[3]:
            env.reset()
    return {"agent": who, "view": view, "oracle": oracle, "after": {"any": describe(env.cells, worth_of(oracle))}}


def best_action(view: str, lane: Lane, worth: Float, rng: np.random.Generator) -> Any:
    """The action that promises most; of equal ones any."""
    name, _ = name_and_settings(view)
    if name == "relation":
        offered = lane.relations.on_offer.ravel()  # type: ignore[union-attr]
        scores = np.where(offered, np.tile(worth, 3), -1.0)
        return int(rng.choice(np.flatnonzero(scores == scores.max())))
    proposals = lane.proposals if lane.proposals is not None else lane.stage.proposals(rng, 64)
    scores = worth[proposals.relations]
    row = int(rng.choice(np.flatnonzero(scores == scores.max())))
    if name == "select":
        return row
    if name == "preference":
        from rls3_gym.envs.views import FEATURES, RELATION_FEATURES, proposal_features

        weights = np.zeros(FEATURES, np.float32)
        weights[:RELATION_FEATURES] = proposal_features(proposals, lane.cells)[row, :RELATION_FEATURES]
        return weights
    edit, stage = proposals.edits[row], lane.stage
    x0, x1, y0, y1 = stage.arrangement.layout.stage
    from rls3_gym.scene.proposals import container

    options = container(stage.arrangement, edit.slot, stage.kinds)
    kind = 2 * (options.index(edit.kind) + 0.5) / len(options) - 1
    place = [2 * (edit.x - x0) / (x1 - x0) - 1, 2 * (edit.y - y0) / (y1 - y0) - 1, 2 * edit.level - 1]
    numbers = [2 * (edit.slot + 0.5) / 3 - 1, kind, *place]
    if "choose_reference" in view:
        others = [slot for slot in range(3) if slot != edit.slot]
        numbers.append(2 * (others.index(edit.reference) + 0.5) / len(others) - 1)
    return np.array(numbers, np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", nargs="+", default=list(PAIRS), help="agent:view, each with settings as +key=value")
    parser.add_argument("--oracles", nargs="+", default=list(ORACLES), choices=ORACLES)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=2000, help="of each run; the box views get 5,000")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    arguments = parser.parse_args()
    pairs = [checked(pair) for pair in arguments.pairs]
    natural_shares()
    views = sorted({pair.split(":")[1] for pair in pairs})
    references = [(who, view, oracle) for who in ("uniform", "best") for view in views for oracle in arguments.oracles]
    jobs = [
        (pair, oracle, seed, max(arguments.steps, 5000 if ":box" in pair and arguments.steps == 2000 else 0))
        for pair in pairs for oracle in arguments.oracles
        for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    ]  # fmt: skip
    rows = []
    with multiprocessing.get_context("spawn").Pool(arguments.processes) as pool:
        for part, work in ((references, reference), (jobs, learn)):
            for row in pool.imap(work, part):
                rows.append(row)
                for mark, found in row["after"].items():
                    numbers = "  ".join(f"{key} {value:.2f}" for key, value in found.items())
                    print(f"{row['agent']:>15} {row['view']:>11} {row['oracle']:>17} seed {row.get('seed', '-')} "
                          f"after {mark!s:>5}: {numbers}", flush=True)  # fmt: skip
    if arguments.json:
        arguments.json.write_text(json.dumps(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    with one_line_errors("steer.py"):
        main()
