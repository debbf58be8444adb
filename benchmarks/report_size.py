"""What a long run costs to keep and to report: bytes of its samples, seconds and memory of `rls3 report`.

    python benchmarks/report_size.py [--samples 1000000] [--per-round 1000] [--json FILE]

Writes a run directory as a run of so many samples would, with made-up rows, and has a process of its own write its
report page.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from rls3_gym.runs.directory import RunDirectory
from rls3_gym.runs.json_lines import JsonLines
from rls3_gym.runs.rows import EndRow, EpisodeRow, EvaluationRow, FinetuneRow, SampleRow
from rls3_gym.runs.samples import SampleParts
from rls3_gym.scene.captions import describe
from rls3_gym.scene.catalog import load_catalog
from rls3_gym.scene.relations import RELATIONS, Term
from rls3_registry.errors import one_line_errors

STEPS = 32
"""Of an episode; about nine in ten give a sample."""
DISTINCT = 10
"""Rounds whose samples are drawn; those of later rounds are the same again."""
PICTURES = 24
"""Kept of each round."""
TERMS = [term.name.lower() for term in Term]


def sample_rows(rng: np.random.Generator, n: int) -> Iterator[SampleRow]:
    """Rows of one round as the recorder writes them."""
    kinds = [kind.name for kind in load_catalog().training]
    for number in range(n):
        three = [str(kind) for kind in rng.choice(kinds, 3, replace=False)]
        cell, other = (int(c) for c in rng.choice(len(RELATIONS), 2, replace=False))
        places, margin = rng.normal(size=(3, 4)), float(rng.normal())
        yield SampleRow(
            file=f"{number // (n // PICTURES):020x}.png" if number % (n // PICTURES) == 0 else None,
            round=0,
            n_generated=number,
            caption=describe(three[0], RELATIONS[cell], three[1]),
            hardest_negative=describe(three[0], RELATIONS[other], three[1]),
            correct=margin > 0,
            margin=margin,
            cell=cell,
            scene_key=rng.bytes(10).hex(),
            family="kitchen",
            layout=int(rng.integers(8)),
            split="train",
            objects=[[kind, *map(float, place)] for kind, place in zip(three, places, strict=True)],
            slot_a=0,
            slot_b=1,
            offset=[round(float(x), 5) for x in places[0, :3] - places[1, :3]],
            visible=[round(float(v), 4) for v in rng.uniform(0.5, 1, 3)],
            pixels=[int(n) for n in rng.integers(8, 400, 3)],
        )


def episode(rng: np.random.Generator, number: int, counts: dict[str, int]) -> EpisodeRow:
    valid = int(rng.binomial(STEPS, 0.9))
    cells = rng.multinomial(valid, np.full(len(RELATIONS), 1 / len(RELATIONS)))
    return EpisodeRow(
        episode=number, **counts, valid_rate=valid / STEPS, reasons={"overlaps_furniture": STEPS - valid},
        terms=dict(zip(TERMS, (int(n) for n in rng.integers(0, valid, 6)), strict=True)),
        cells=[int(n) for n in cells], complexity={"1": valid // 3, "2": valid // 3, "3": valid - 2 * (valid // 3)},
        intrinsic=float(rng.normal()), extrinsic=float(rng.normal()), accuracy=0.5, pairwise=0.7,
        since_start_seconds=0.5 * number,
    )  # fmt: skip


def write_run(path: Path, n_samples: int, per_round: int) -> RunDirectory:
    """A complete run directory of made-up rows."""
    rng, run = np.random.default_rng(0), RunDirectory.create(path)
    run.begin("name: long\nagent: random\nvlm: tiny\nseed: 0\n", "rls3 run long.yaml\n", "date 2026-01-01 00:00 UTC\n")
    for number in range(PICTURES):
        run.save_image(f"{number:020x}.png", rng.integers(0, 255, (64, 64, 3), np.uint8))
    made: list[list[SampleRow]] = []
    metrics, parts = JsonLines(run.metrics), SampleParts(run.sample_table)
    per_episode, episodes = STEPS * 0.9, 0
    rounds = n_samples // per_round
    for round_ in range(rounds + 1):
        counts = {"round": round_, "n_generated": round_ * per_round, "n_trained": round_ * per_round // 2}
        steps = {"n_steps": episodes * STEPS}
        for name in ("test", "test_natural"):
            metrics.append(evaluation(name, counts | steps))
        if round_ == rounds:
            break
        for _ in range(round(per_round / per_episode)):
            episodes += 1
            metrics.append(episode(rng, episodes, counts | {"n_steps": episodes * STEPS}))
        if round_ < DISTINCT:
            made.append(list(sample_rows(rng, per_round)))
        first = round_ * per_round + 1
        again = enumerate(made[round_ % DISTINCT])
        parts.append([row.model_copy(update={"round": round_, "n_generated": first + i}) for i, row in again])
        counts = {key: value + (key == "round") for key, value in counts.items()}
        metrics.append(
            FinetuneRow(
                **counts, n_samples=per_round // 2, optimizer_steps=31, losses={"total_first": 2.0, "total_last": 1.0},
                digest_before="a", digest_after="b", seconds=5.0, rolled_back=None,
            )
        )  # fmt: skip
    metrics.append(EndRow(**counts, **steps))
    metrics.close()
    return run


def evaluation(name: str, counts: dict[str, int]) -> EvaluationRow:
    shares: dict[str, float | None] = dict.fromkeys(TERMS, 0.8)
    return EvaluationRow(
        **counts, vlm_digest="b", backend="embedded", set=name, set_hash="c", pairwise_accuracy=0.8,
        strict_accuracy=0.5, mirrored_accuracy=0.8, by_term=shares, by_complexity={"1": 0.9, "2": 0.8, "3": 0.7},
        worst_term="left", n=1224, n_by_term=dict.fromkeys(TERMS, 400), evaluate_seconds=2.0,
    )  # fmt: skip


def report(run: RunDirectory) -> tuple[float, float, float]:
    """Wall time and CPU time in seconds, and largest memory in bytes, of `rls3 report`."""
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "rls3_gym", "report", str(run.path)], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit("the report failed")
    return time.perf_counter() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024


def measure(folder: Path, n_samples: int, per_round: int) -> dict[str, Any]:
    """All figures, JSON-ready."""
    started = time.perf_counter()
    run = write_run(folder / "run", n_samples, per_round)
    written = time.perf_counter() - started
    seconds, cpu, memory = report(run)
    sizes = [path.stat().st_size for path in run.sample_table.iterdir()]
    return {
        "samples": n_samples, "parts": len(sizes), "sample_bytes": sum(sizes),
        "metrics_bytes": run.metrics.stat().st_size,
        "write_seconds": written, "report_seconds": seconds, "report_cpu_seconds": cpu, "report_memory": memory,
        "report_bytes": run.report.stat().st_size,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--per-round", type=int, default=1000)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), arguments.samples, arguments.per_round)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(
        f"{found['samples']:,} samples in {found['parts']:,} parts: {found['sample_bytes'] / 1e6:.1f} MB, "
        f"{found['sample_bytes'] / found['samples']:.0f} bytes each; metrics {found['metrics_bytes'] / 1e6:.1f} MB"
    )
    print(
        f"report: {found['report_seconds']:.1f} s ({found['report_cpu_seconds']:.1f} s of one core), "
        f"{found['report_memory'] / 1e6:.0f} MB of memory, "
        f"a page of {found['report_bytes'] / 1e6:.1f} MB"
    )


if __name__ == "__main__":
    with one_line_errors("report_size.py"):
        main()
