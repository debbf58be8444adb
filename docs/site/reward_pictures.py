"""The pictures of docs/how_rewards_work.md: what every reward pays for the same samples, and what each cell is worth.

    .venv/bin/python docs/site/reward_pictures.py

Every reward is shown the same run of uniform choices, two rounds of it and then an episode: a few minutes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

import rls3_registry
from rls3_gym.envs.scene_env import RLS3SceneEnv
from rls3_gym.loop.rewards.base import CellReward
from rls3_gym.sample import Sample
from rls3_gym.scene.relations import RELATIONS

OUT = Path(__file__).resolve().parents[1] / "images"
STEPS, ROUND, ROUNDS, SEED = 10, 200, 2, 3
DOTS = 110
"""Dots per inch: small files that can be read."""
Float = NDArray[np.float64]


@dataclass(frozen=True)
class Shown:
    """What a reward made of the episode."""

    samples: list[Sample]
    correct: list[bool]
    paid: Float
    """(STEPS,) the extrinsic part of each step's reward."""
    worth: Float | None
    """(26,) what a sample of each cell is worth after the rounds; None for a reward that does not pay by cell."""


def show(name: str) -> Shown:
    """Two rounds of uniform choices under a reward, and the next episode."""
    env = RLS3SceneEnv(extrinsic=name, steps_per_episode=STEPS, samples_per_round=ROUND, action_view="select")
    rng = np.random.default_rng(SEED)
    env.reset(seed=SEED)
    ended: Any = False
    info: dict[str, Any] = {}
    paid: list[float] = []
    while env.scheduler.round < ROUNDS or not (ended and len(paid) == STEPS):
        if ended:
            env.reset()
            paid = []
        _, _, _, ended, info = env.step(int(rng.integers(env.action_space.n)))
        paid.append(float(info["extrinsic"]))
        if env.scheduler.round < ROUNDS:
            continue
        if info["finetune"]["n_samples"]:
            paid = []  # the episode that ended the last round: the next one is shown
    samples = list(env.loop.lanes[0].episode.samples)
    correct = [bool(right) for right in info["feedback"]["correct"][: len(samples)]]
    reward = env.loop.extrinsic
    return Shown(samples, correct, np.array(paid), reward.worth() if isinstance(reward, CellReward) else None)


def draw_episode(found: dict[str, Shown]) -> Figure:
    """The pictures of the episode with their captions, and a table: rewards down, steps across."""
    first = next(iter(found.values()))
    figure = Figure(figsize=(13, 6.6), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=[1, 1.5])
    for axes, sample, right in zip(top.subplots(1, len(first.samples)), first.samples, first.correct, strict=True):
        axes.imshow(sample.rgb)
        axes.set_axis_off()
        words = sample.caption.split()
        caption = "\n".join(" ".join(words[i : i + 3]) for i in range(0, len(words), 3))
        axes.set_title(caption, fontsize=6.5, color="#1b7f4b" if right else "#b3382c")
    paid = np.stack([shown.paid for shown in found.values()])
    table(bottom.subplots(), paid, list(found), [f"step {i + 1}" for i in range(STEPS)], center=0.0)
    return figure


def draw_cells(found: dict[str, Shown]) -> Figure:
    """What a sample of each relation cell is worth, rewards down, cells across."""
    worth = {name: shown.worth for name, shown in found.items() if shown.worth is not None}
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
    found = {name: show(name) for name in rls3_registry.names("rewards")}
    for name, figure in (("rewards_episode", draw_episode(found)), ("rewards_cells", draw_cells(found))):
        path = OUT / f"{name}.png"
        figure.savefig(path, dpi=DOTS, metadata={"Software": None})
        print(path)


if __name__ == "__main__":
    main()
