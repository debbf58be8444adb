"""The pictures of docs/how_rewards_work.md: what every reward pays for the same samples, and what each cell is worth.

    .venv/bin/python docs/site/reward_pictures.py

All rewards look on at one run of uniform choices: two rounds of it, and then the episode that is shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

import rls3_registry
from rls3_gym.envs.scene_env import RLS3SceneEnv
from rls3_gym.evalsets.loader import load_set
from rls3_gym.loop.rewards.base import CellReward, make_extrinsic
from rls3_gym.sample import Sample
from rls3_gym.scene.relations import RELATIONS

OUT = Path(__file__).resolve().parents[1] / "images"
STEPS, ROUND, ROUNDS, SEED = 10, 200, 2, 3
DOTS = 110
"""Dots per inch: small files that can be read."""
Float = NDArray[np.float64]


@dataclass(frozen=True)
class Shown:
    """An episode, and what the rewards made of it."""

    samples: list[Sample]
    correct: list[bool]
    paid: dict[str, Float]
    """By reward: (STEPS,) what each step was paid."""
    worth: dict[str, Float]
    """By reward that pays by cell: (26,) what a sample of each is worth after the rounds."""


def show() -> Shown:
    """Two rounds of uniform choices, and the next episode that the VLM gets partly wrong; all rewards look on."""
    env = RLS3SceneEnv(steps_per_episode=STEPS, samples_per_round=ROUND, train_fraction=1.0, action_view="select")
    rng = np.random.default_rng(SEED)
    env.reset(seed=SEED)
    vlm, guide = env.scheduler.vlm, load_set("guide", env.loop.backend).samples
    rewards = {name: make_extrinsic(name, STEPS, lambda: guide) for name in rls3_registry.names("rewards")}
    for reward in rewards.values():
        reward.begin_experiment(vlm, SEED)
    trained: list[Sample] = []
    while True:
        last_episode = env.scheduler.round == ROUNDS
        samples: list[Sample] = []
        paid: dict[str, list[float]] = {name: [] for name in rewards}
        for _ in range(STEPS):
            proposals = env.loop.lane().proposals
            choice = None if proposals is None else proposals.relations
            env.step(int(rng.integers(env.action_space.n)))
            step = env.taken
            assert step is not None
            if step.sample is not None:
                samples.append(step.sample)
                answer = vlm.evaluate([step.sample])
                for name, reward in rewards.items():
                    paid[name].append(reward.step_reward(step.sample, answer if reward.immediate else None, choice))
        assert step.feedback is not None
        for name, reward in rewards.items():
            paid[name][-1] += reward.episode_reward(samples, step.feedback)
        if last_episode and len(samples) == STEPS and not step.feedback.pairwise.all():
            correct = [bool(right) for right in step.feedback.correct]
            by_cell = {name: reward for name, reward in rewards.items() if isinstance(reward, CellReward)}
            worth = {name: reward.worth() * reward._of_length for name, reward in by_cell.items()}
            return Shown(samples, correct, {name: np.array(values) for name, values in paid.items()}, worth)
        trained += samples
        if step.report is not None:
            for reward in rewards.values():
                reward.end_round(vlm, trained)
            trained = []
        env.reset()


def draw_episode(shown: Shown) -> Figure:
    """The pictures of the episode with their captions, and a table: rewards down, steps across."""
    figure = Figure(figsize=(13, 6.6), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=[1, 1.5])
    for axes, sample, right in zip(top.subplots(1, STEPS), shown.samples, shown.correct, strict=True):
        axes.imshow(sample.rgb)
        axes.set_axis_off()
        words = sample.caption.split()
        caption = "\n".join(" ".join(words[i : i + 3]) for i in range(0, len(words), 3))
        axes.set_title(caption, fontsize=6.5, color="#1b7f4b" if right else "#b3382c")
    paid = np.stack(list(shown.paid.values()))
    table(bottom.subplots(), paid, list(shown.paid), [f"step {i + 1}" for i in range(STEPS)], center=0.0)
    return figure


def draw_cells(worth: dict[str, Float]) -> Figure:
    """What a sample of each relation cell is worth, rewards down, cells across."""
    cells = ["\n".join(term.name.lower() for term in sorted(r.terms)) for r in RELATIONS]
    figure = Figure(figsize=(15, 0.6 * len(worth) + 1.4), layout="constrained")
    table(figure.subplots(), np.stack(list(worth.values())), list(worth), cells, center=0.35)
    return figure


def table(axes: Axes, values: Float, rows: list[str], columns: list[str], center: float) -> None:
    """Numbers on colors: red below `center`, blue above it."""
    reach = max(float(np.abs(values - center).max()), 1e-6)
    axes.imshow(
        values, cmap="RdBu", norm=TwoSlopeNorm(center, center - 1.6 * reach, center + 1.6 * reach), aspect="auto"
    )
    for (row, column), value in np.ndenumerate(values):
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=7.5)
    axes.set_xticks(range(len(columns)), columns, fontsize=7.5)
    axes.set_yticks(range(len(rows)), rows, fontsize=9)
    axes.tick_params(length=0)


def main() -> None:
    mpl.rcParams["font.family"] = "DejaVu Sans"
    shown = show()
    for name, figure in (("rewards_episode", draw_episode(shown)), ("rewards_cells", draw_cells(shown.worth))):
        path = OUT / f"{name}.png"
        figure.savefig(path, dpi=DOTS, metadata={"Software": None})
        print(path)


if __name__ == "__main__":
    main()
