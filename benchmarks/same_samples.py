"""What is chance, and what is order: the samples of a run are taught again, to fresh VLMs.

The pictures of a run are made again from where its samples came from. A share of each round's samples (the run's own
`train_fraction`, drawn once) is taught in rounds of the run's length, several times over with other shuffles within the
rounds: the standard deviation of the final accuracy is the *noise floor*, what the same data may give by chance. Then
the same samples are dealt out to the rounds at random: what is lost or won is what the *order* was worth, and not the
content. Beside the accuracies on the held-out sets stands that on the samples the VLM was `taught` with: what a VLM
gets wrong even of these is not for want of data.

`--captions` says what the caption of a picture is about: the edited object, as it was made; with a chance of a half the
reference instead (`turned`); or both, each picture taught twice (`both`). The *antonym gap*, how far the accuracies of
opposite terms lie apart, tells whether a VLM leans to one of them.

    python benchmarks/same_samples.py RUN_DIR [--shuffles N] [--sets test validation] [--json FILE]
    python benchmarks/same_samples.py RUN_DIR --rounds 1 --captions turned
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rls3_gym.evalsets.loader import load_set
from rls3_gym.evaluation.metrics import accuracy_table
from rls3_gym.experiment.run import config_of
from rls3_gym.runs.directory import RunDirectory
from rls3_gym.runs.samples import read_samples
from rls3_gym.runs.taught import backend_of, find_vlm
from rls3_gym.sample import Sample, make_sample
from rls3_gym.scene.arrangement import Arrangement
from rls3_gym.scene.relations import Term
from rls3_registry.errors import one_line_errors

Row = dict[str, Any]


@cache
def rounds_of(path: Path, captions: str, most: int | None) -> list[list[Sample]]:
    """The samples that are taught, by round; whole rounds only, at most so many."""
    config = config_of(path)
    backend = backend_of(RunDirectory(path))
    rng = np.random.default_rng(config.seed)
    grouped: dict[int, list[dict[str, Any]]] = {}
    for row in read_samples(RunDirectory.open(path)):
        grouped.setdefault(row.round, []).append(row.model_dump())
    longest = max(len(rows) for rows in grouped.values())
    whole = [grouped[number] for number in sorted(grouped) if len(grouped[number]) > longest / 2]
    taught = []
    for rows in whole[:most]:
        share = round(config.environment.train_fraction * len(rows))
        chosen = sorted(int(i) for i in rng.permutation(len(rows))[:share])
        taught.append([sample for i in chosen for sample in _samples(rows[i], backend, captions, rng)])
    return taught


def _samples(row: dict[str, Any], backend: Any, captions: str, rng: np.random.Generator) -> list[Sample]:
    """A row's picture, made again, with its caption, the turned one, or both."""
    arrangement = Arrangement.decode(row)
    backend.reset(arrangement, seed=arrangement.layout.index)
    backend.apply(arrangement)
    frame, pair = backend.capture(), (row["slot_a"], row["slot_b"])
    pairs = {"as made": [pair], "turned": [pair[:: rng.choice([1, -1])]], "both": [pair, pair[::-1]]}[captions]
    return [make_sample(arrangement, frame, *pair) for pair in pairs]


def teach(path: Path, sets: tuple[str, ...], captions: str, rounds_taught: int | None, job: tuple[str, int]) -> Row:
    """A fresh VLM on the run's samples: in the run's order, or mixed; the accuracies in the end."""
    order, shuffle = job
    torch.set_num_threads(1)
    config = config_of(path)
    vlm, rng = find_vlm(f"{path}@0"), np.random.default_rng([config.seed, shuffle])
    rounds = rounds_of(path, captions, rounds_taught)
    if order == "mixed":
        pool = [sample for samples in rounds for sample in samples]
        dealt = iter(rng.permutation(len(pool)))
        rounds = [[pool[int(next(dealt))] for _ in samples] for samples in rounds]
    for samples in rounds:
        vlm.finetune(samples, rng)
    backend = backend_of(RunDirectory(path))
    asked = {name: load_set(name, backend).samples for name in sets}
    asked["taught"] = [sample for samples in rounds for sample in samples]
    found = {name: accuracy_table(vlm, samples) for name, samples in asked.items()}
    return {
        "order": order, "captions": captions, "shuffle": shuffle, "n_trained": sum(map(len, rounds)),
        **{name: {"pairwise": accuracy.pairwise, "by_term": accuracy.by_term} for name, accuracy in found.items()},
    }  # fmt: skip


def antonym_gap(by_term: dict[str, float]) -> float:
    """Mean over the three axes of how far the accuracies of opposite terms lie apart, 0..1."""
    opposites = [(term.name.lower(), term.opposite.name.lower()) for term in Term if term.sign > 0]
    return float(np.mean([abs(by_term[a] - by_term[b]) for a, b in opposites]))


def summary(rows: list[Row], name: str) -> dict[str, float]:
    """Mean and standard deviation by order, and what the order was worth. Accuracies, 0..1."""
    found: dict[str, float] = {}
    for order in ("as made", "mixed"):
        values = [row[name]["pairwise"] for row in rows if row["order"] == order]
        found[f"{order}: mean"] = float(np.mean(values))
        found[f"{order}: deviation"] = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    found["noise floor"] = found["as made: deviation"]
    found["order is worth"] = found["as made: mean"] - found["mixed: mean"]
    found["antonym gap"] = float(np.mean([antonym_gap(row[name]["by_term"]) for row in rows]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN_DIR")
    parser.add_argument("--shuffles", type=int, default=5)
    parser.add_argument("--sets", nargs="+", default=["test"])
    parser.add_argument("--captions", choices=("as made", "turned", "both"), default="as made")
    parser.add_argument("--rounds", type=int, help="teach so many of the run's rounds; all when left out")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    arguments = parser.parse_args()
    jobs = [(order, shuffle) for order in ("as made", "mixed") for shuffle in range(arguments.shuffles)]
    rows = []
    with multiprocessing.get_context("spawn").Pool(arguments.processes) as pool:
        for row in pool.imap(
            partial(teach, arguments.run, tuple(arguments.sets), arguments.captions, arguments.rounds), jobs
        ):
            rows.append(row)
            print(json.dumps(row), flush=True)
    found = {name: summary(rows, name) for name in [*arguments.sets, "taught"]}
    if arguments.json:
        arguments.json.write_text(json.dumps({"rows": rows, "summary": found}, indent=2) + "\n", encoding="utf-8")
    for name, numbers in found.items():
        print(f"{name}, points: " + "  ".join(f"{key} {100 * value:.2f}" for key, value in numbers.items()))


if __name__ == "__main__":
    with one_line_errors("same_samples.py"):
        main()
