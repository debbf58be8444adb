"""What is chance, and what is order: the samples of a run are taught again, to fresh VLMs.

The pictures of a run are made again from where its samples came from. A share of each round's samples (the run's own
`train_fraction`, drawn once) is taught in rounds of the run's length, several times over with other shuffles within the
rounds: the standard deviation of the final accuracy is the *noise floor*, what the same data may give by chance. Then
the same samples are dealt out to the rounds at random: what is lost or won is what the *order* was worth, and not the
content.

    python benchmarks/same_samples.py RUN_DIR [--shuffles N] [--sets test validation] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rls3_gym.backends.base import load_backend
from rls3_gym.evalsets.loader import load_set
from rls3_gym.evaluation.metrics import accuracy_table
from rls3_gym.experiment.run import config_of
from rls3_gym.runs.directory import RunDirectory
from rls3_gym.sample import Sample, make_sample
from rls3_gym.scene.arrangement import Arrangement
from rls3_gym.vlm.loading import load_vlm


def rounds_of(path: Path) -> list[list[Sample]]:
    """The samples that are taught, by round; whole rounds only."""
    config = config_of(path)
    backend = load_backend(config.environment.backend, config.environment.image_size)
    rng = np.random.default_rng(config.seed)
    lines = RunDirectory.open(path).sample_rows.read_text(encoding="utf-8").splitlines()
    grouped: dict[int, list[dict[str, Any]]] = {}
    for line in lines:
        row = json.loads(line)
        grouped.setdefault(row["round"], []).append(row)
    taught = []
    for number in sorted(grouped):
        rows = grouped[number]
        share = round(config.environment.train_fraction * len(rows))
        chosen = sorted(int(i) for i in rng.permutation(len(rows))[:share])
        taught.append([_picture(rows[i], backend) for i in chosen])
    longest = max(len(samples) for samples in taught)
    return [samples for samples in taught if len(samples) > longest / 2]


def _picture(row: dict[str, Any], backend: Any) -> Sample:
    arrangement = Arrangement.decode(row)
    backend.reset(arrangement, seed=arrangement.layout.index)
    backend.apply(arrangement)
    return make_sample(arrangement, backend.capture(), row["slot_a"], row["slot_b"])


def teach(path: Path, sets: tuple[str, ...], job: tuple[str, int]) -> dict[str, Any]:
    """A fresh VLM on the run's samples: in the run's order, or mixed; the accuracies in the end."""
    order, shuffle = job
    torch.set_num_threads(1)
    config = config_of(path)
    vlm, rng = load_vlm(config.vlm.name, config.vlm.finetune), np.random.default_rng([config.seed, shuffle])
    rounds = rounds_of(path)
    if order == "mixed":
        pool = [sample for samples in rounds for sample in samples]
        dealt = iter(rng.permutation(len(pool)))
        rounds = [[pool[int(next(dealt))] for _ in samples] for samples in rounds]
    for samples in rounds:
        vlm.finetune(samples, rng)
    backend = load_backend(config.environment.backend, config.environment.image_size)
    accuracy = {name: accuracy_table(vlm, load_set(name, backend).samples).pairwise for name in sets}
    return {"order": order, "shuffle": shuffle, "n_trained": sum(map(len, rounds)), **accuracy}


def summary(rows: list[dict[str, Any]], name: str) -> dict[str, float]:
    """Mean and standard deviation by order, and what the order was worth. Accuracies, 0..1."""
    found: dict[str, float] = {}
    for order in ("as made", "mixed"):
        values = [row[name] for row in rows if row["order"] == order]
        found[f"{order}: mean"] = float(np.mean(values))
        found[f"{order}: deviation"] = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    found["noise floor"] = found["as made: deviation"]
    found["order is worth"] = found["as made: mean"] - found["mixed: mean"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN_DIR")
    parser.add_argument("--shuffles", type=int, default=5)
    parser.add_argument("--sets", nargs="+", default=["test"])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    arguments = parser.parse_args()
    jobs = [(order, shuffle) for order in ("as made", "mixed") for shuffle in range(arguments.shuffles)]
    rows = []
    with multiprocessing.get_context("spawn").Pool(arguments.processes) as pool:
        for row in pool.imap(partial(teach, arguments.run, tuple(arguments.sets)), jobs):
            rows.append(row)
            print(json.dumps(row), flush=True)
    found = {name: summary(rows, name) for name in arguments.sets}
    if arguments.json:
        arguments.json.write_text(json.dumps({"rows": rows, "summary": found}, indent=2) + "\n", encoding="utf-8")
    for name, numbers in found.items():
        print(f"{name}, points: " + "  ".join(f"{key} {100 * value:.2f}" for key, value in numbers.items()))


if __name__ == "__main__":
    main()
