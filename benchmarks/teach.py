"""Can the packaged CLIP be taught, on layouts it has never seen? Fine-tuned on `stratified` and on `random` samples.

    python benchmarks/teach.py                  # 3 seeds, up to 8,000 trained samples; about 15 minutes on two cores
    python benchmarks/teach.py --vlm FOLDER --seeds 1 --budgets 2000

Every captured sample trains, in rounds of 500, with the fine-tuning settings of the VLM's YAML. Judged on the
balanced held-out test set. Writes `teaching.json` to --out; beside the packaged weights it renews their model card.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rls3_agents.base import make_agent
from rls3_gym.backends.embedded.backend import EmbeddedBackend
from rls3_gym.envs.settings import EnvironmentSettings
from rls3_gym.envs.views import VIEWS
from rls3_gym.evalsets.loader import held_out_keys, load_set
from rls3_gym.evaluation.metrics import accuracy_table, presence_accuracy
from rls3_gym.loop.lane import Lane
from rls3_gym.pretraining.card import MEASURED_FILE, TEACHING_FILE, write_card
from rls3_gym.sample import Sample
from rls3_gym.scene.layouts import family_names
from rls3_gym.stage import Stage
from rls3_gym.vlm.loading import load_vlm
from rls3_gym.vlm.open_clip.weights import PACKAGED
from rls3_registry.errors import one_line_errors

ROUND = 500
SCENE = 10
"""Steps from one scene to the next."""


def samples_of(sampler: str, seed: int) -> Iterator[Sample]:
    """The endless stream of samples that an agent makes: `random`, or `stratified` over term x complexity."""
    rng = np.random.default_rng([seed, 11])
    agent = make_agent(sampler, seed)
    name = agent.action_views[0]
    settings = EnvironmentSettings(action_view=name)
    stage = Stage(EmbeddedBackend(image_size=64), families=family_names(), held_out=held_out_keys())
    view = VIEWS[name](stage.kinds, settings)
    lane = Lane(stage, rng, view.offer)
    if view.offer is not None:
        agent.masks = lambda: view.masks(lane)
    for step in itertools.count():
        if step % SCENE == 0:
            stage.set_scene(rng)
        lane.draw_offer(settings.proposals)
        edit = view.decode(agent.choose(view.space), lane)
        outcome = stage.try_edit(edit, rng) if edit else None
        sample = None if outcome is None else outcome.sample
        agent.on_step({"feasible": sample is not None, "sample": sample})
        if sample is not None:
            yield sample


def teach(job: tuple[str, str, int, tuple[int, ...]]) -> list[dict[str, Any]]:
    """One sampler, one seed: a row per budget."""
    vlm_name, sampler, seed, budgets = job
    torch.set_num_threads(1)
    vlm = load_vlm(vlm_name)
    order = np.random.default_rng([seed, 12])
    stream, rows, trained = samples_of(sampler, seed), [], 0
    while trained < max(budgets):
        report = vlm.finetune([next(stream) for _ in range(ROUND)], order)
        trained += ROUND
        if report.rolled_back:
            print(f"{sampler} seed {seed}: round rolled back, {report.rolled_back}", flush=True)
        if trained in budgets:
            accuracy = accuracy_table(vlm, load_set("test").samples).as_dict()
            natural = accuracy_table(vlm, load_set("test_natural").samples).as_dict()
            row = {
                "sampler": sampler,
                "seed": seed,
                "n_trained": trained,
                "pairwise": accuracy["pairwise_accuracy"],
                "by_term": accuracy["by_term"],
                "natural": natural["pairwise_accuracy"],
                "presence": presence_accuracy(vlm, load_set("presence").items),
            }
            rows.append(row)
            print(json.dumps(row), flush=True)
    return rows


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean and spread over seeds for each sampler and budget."""
    table = []
    for sampler, n in sorted({(r["sampler"], r["n_trained"]) for r in rows}, key=lambda k: (k[0] != "stratified", k)):
        chosen = [r for r in rows if (r["sampler"], r["n_trained"]) == (sampler, n)]
        terms = {t: float(np.mean([r["by_term"][t] for r in chosen])) for t in chosen[0]["by_term"]}
        worst = min(terms, key=lambda t: terms[t])
        scores = [r["pairwise"] for r in chosen]
        table.append(
            {
                "sampler": sampler,
                "n_trained": n,
                "mean": float(np.mean(scores)),
                "sd": float(np.std(scores, ddof=1)) if len(scores) > 1 else 0.0,
                "natural": float(np.mean([r["natural"] for r in chosen])),
                "worst_term": terms[worst],
                "worst_term_name": worst,
                "by_term": terms,
                "presence": float(np.mean([r["presence"] for r in chosen])),
            }
        )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vlm", default="tiny")
    parser.add_argument("--samplers", nargs="+", default=["stratified", "random"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--budgets", type=int, nargs="+", default=[2000, 4000, 8000])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, help="folder of teaching.json; for `tiny`, left out: that of the weights")
    arguments = parser.parse_args()
    for name in ("test", "test_natural", "presence"):
        load_set(name)  # rendered once, before the processes start
    seeds = list(range(arguments.seeds))
    jobs = [(arguments.vlm, s, seed, tuple(arguments.budgets)) for seed in seeds for s in arguments.samplers]
    with multiprocessing.get_context("spawn").Pool(arguments.processes) as pool:
        rows = [row for part in pool.imap(teach, jobs) for row in part]
    table = summary(rows)
    for line in table:
        print(
            f"{line['sampler']:>10} {line['n_trained']:>6,}  pairwise {line['mean']:.3f} +-{line['sd']:.3f}  natural "
            f"{line['natural']:.3f}  worst {line['worst_term_name']} {line['worst_term']:.3f}  "
            f"presence {line['presence']:.3f}"
        )
    command = shlex.join(["python", "benchmarks/teach.py", *sys.argv[1:]])
    teaching = {"command": command, "seeds": seeds, "rows": table, "runs": rows}
    folder: Path = arguments.out or (PACKAGED / "tiny" if arguments.vlm == "tiny" else Path("bench-out/teach"))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / TEACHING_FILE).write_text(json.dumps(teaching, indent=2) + "\n", encoding="utf-8")
    if (folder / MEASURED_FILE).is_file():
        write_card(folder, json.loads((folder / MEASURED_FILE).read_text(encoding="utf-8")))


if __name__ == "__main__":
    with one_line_errors("teach.py"):
        main()
