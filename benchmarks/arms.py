"""Experiments compared at equal numbers of trained samples, paired by seed: what the comparing benchmarks share.

An *arm* is a sampler agent with its settings. Each arm and seed is an ordinary run directory, which is continued when
it was cut off and not repeated when it is whole. Arms of one seed start from the same VLM and are judged on the same
items. Accuracy is read off each run's curve, with straight lines between the evaluations.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from curves import curve_of, draw

from rls3_gym.runs.rows import EpisodeRow, read_metrics

Arms = Mapping[str, Sequence[str]]
"""Name of an arm -> the `--set` changes that make it from the experiment."""


def parser(
    description: str, *, name: str, sets: Sequence[str], budgets: Sequence[int], n_generated: int
) -> argparse.ArgumentParser:
    """The options that the comparing benchmarks have in common."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--experiment", default="default")
    made.add_argument("--baseline", default="random", help="arm that differences are taken to")
    made.add_argument("--seeds", type=int, default=5, help="number of seeds")
    made.add_argument("--first-seed", type=int, default=0, help="tuning has seeds of its own")
    made.add_argument("--n-generated", type=int, default=n_generated, help="valid samples of each run")
    made.add_argument("--budgets", type=int, nargs="+", default=list(budgets), help="trained samples")
    made.add_argument("--sets", nargs="+", default=list(sets), help="evaluation sets")
    made.add_argument("--processes", type=int, default=2)
    made.add_argument("--set", action="append", default=[], metavar="A.B=C", help="change the experiment, in all arms")
    made.add_argument("--out", type=Path, default=Path("bench-out") / name, help="folder of the run directories")
    made.add_argument("--results", type=Path, default=None, help="folder of the results (--out)")
    return made


def compare(arms: Arms, arguments: argparse.Namespace) -> None:
    """Make the runs that are missing, write the results and the curves, print the table."""
    if arguments.seeds < 1:
        raise SystemExit(f"--seeds: must be at least 1, not {arguments.seeds}")
    _run_all(arms, arguments)
    table = []
    for arm in arms:
        for seed in _seeds(arguments):
            path = _directory(arguments, arm, seed)
            table += [{"arm": arm, "seed": seed, **row} for row in _read_off(path, arguments.budgets, arguments.sets)]
    results: Path = arguments.results or arguments.out
    results.mkdir(parents=True, exist_ok=True)
    with (results / "results.csv").open("w", newline="", encoding="utf-8") as sink:
        writer = csv.DictWriter(sink, fieldnames=list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    lines = summarize(table, arguments.sets, arguments.baseline)
    command = " ".join(["python", "benchmarks/" + Path(sys.argv[0]).name, *sys.argv[1:]])
    (results / "results.json").write_text(
        json.dumps({"command": command, "summary": lines, "runs": table}, indent=2) + "\n", encoding="utf-8"
    )
    runs = {arm: [_directory(arguments, arm, seed) for seed in _seeds(arguments)] for arm in arms}
    draw(runs, arguments.sets, results / "curves.png")
    for line in lines:
        print(_as_text(line, arguments.sets))


def _seeds(arguments: argparse.Namespace) -> range:
    return range(arguments.first_seed, arguments.first_seed + arguments.seeds)


def _directory(arguments: argparse.Namespace, arm: str, seed: int) -> Path:
    return Path(arguments.out) / f"{arm.replace('/', '-')}-seed{seed}"


def _run_all(arms: Arms, arguments: argparse.Namespace) -> None:
    # Seeds outermost: a benchmark that is stopped early has whole pairs.
    jobs = [(arm, seed) for seed in _seeds(arguments) for arm in arms]
    with ThreadPoolExecutor(arguments.processes) as pool:
        list(pool.map(lambda job: _run_one(arguments, *job, arms[job[0]]), jobs))


def _run_one(arguments: argparse.Namespace, arm: str, seed: int, changes: Sequence[str]) -> None:
    path = _directory(arguments, arm, seed)
    if (path / "report.html").is_file():
        return
    command = [sys.executable, "-m", "rls3_gym", "run"]
    if any((path / "checkpoints").glob("*")):
        command += ["--resume", str(path)]
    else:
        command += [arguments.experiment, "--out", str(path), "--seed", str(seed)]
        common = [
            "threads=1",
            f"budget={{n_generated: {arguments.n_generated}}}",
            f"evaluation.sets=[{', '.join(arguments.sets)}]",
        ]
        for change in (*common, *changes, *arguments.set):
            command += ["--set", change]
    path.parent.mkdir(parents=True, exist_ok=True)
    log = path.with_name(path.name + ".log")
    with log.open("w", encoding="utf-8") as sink:
        code = subprocess.run(command, stdout=sink, stderr=subprocess.STDOUT, check=False).returncode
    if code:
        raise SystemExit(f"{' '.join(command)}\nended with {code}; see {log}")
    print(f"done: {path}", flush=True)


def _read_off(path: Path, budgets: Sequence[int], sets: Sequence[str]) -> list[dict[str, Any]]:
    """One row per budget: accuracy on each set (NaN where the run ended earlier), what it cost, what was made."""
    episodes = read_metrics(path / "metrics.jsonl").episodes
    n_trained = [0] + [row.n_trained for row in episodes]
    found = []
    for budget in budgets:
        row: dict[str, Any] = {"n_trained": budget}
        for name in sets:
            curve = curve_of(path, name)
            x, y = [r.n_trained for r in curve], [r.pairwise_accuracy for r in curve]
            row[f"{name}_start"] = y[0]
            row[name] = float(np.interp(budget, x, y)) if x[-1] >= budget else float("nan")
        until = [episode for episode, n in zip(episodes, n_trained, strict=False) if n < budget]
        row["n_generated"] = until[-1].n_generated
        row["n_steps"] = until[-1].n_steps
        row["valid_rate"] = row["n_generated"] / row["n_steps"]
        row["vertical_share"] = _vertical_share(until)
        found.append(row)
    return found


def _vertical_share(episodes: Sequence[EpisodeRow]) -> float:
    """Share of above and below among the terms of the samples' captions."""
    counts = {term: sum(e.terms.get(term, 0) for e in episodes) for term in episodes[0].terms}
    return (counts["above"] + counts["below"]) / max(1, sum(counts.values()))


def interval(differences: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    """95 % bootstrap interval of the mean of paired differences."""
    draws = rng.choice(differences, size=(10_000, len(differences)))
    low, high = np.percentile(draws.mean(1), [2.5, 97.5])
    return float(low), float(high)


def summarize(table: Sequence[Mapping[str, Any]], sets: Sequence[str], baseline: str) -> list[dict[str, Any]]:
    """Mean, spread and paired difference to the baseline (where it is among the arms), by arm and budget."""
    rng = np.random.default_rng(0)
    lines = []
    for arm in dict.fromkeys(r["arm"] for r in table):
        for budget in sorted({r["n_trained"] for r in table}):
            mine = {r["seed"]: r for r in table if (r["arm"], r["n_trained"]) == (arm, budget)}
            base = {r["seed"]: r for r in table if (r["arm"], r["n_trained"]) == (baseline, budget)}
            line: dict[str, Any] = {"arm": arm, "n_trained": budget}
            for key in ("n_generated", "n_steps", "valid_rate", "vertical_share"):
                line[key] = float(np.mean([r[key] for r in mine.values()]))
            for name in sets:
                values = np.array([r[name] for r in mine.values() if np.isfinite(r[name])])
                spread = float(values.std(ddof=1)) if len(values) > 1 else float("nan")
                line[name] = {"mean": float(values.mean()), "sd": spread, "n": len(values)}
                gaps = np.array([mine[s][name] - base[s][name] for s in mine if s in base])
                gaps = gaps[np.isfinite(gaps)]
                if arm != baseline and len(gaps) > 1:
                    low, high = interval(gaps, rng)
                    line[name] |= {"minus_baseline": float(gaps.mean()), "low": low, "high": high}
            lines.append(line)
    return lines


def _as_text(line: Mapping[str, Any], sets: Sequence[str]) -> str:
    parts = [f"{line['arm']:>20} {line['n_trained']:>6,}"]
    for name in sets:
        cell = line[name]
        parts.append(f"{name} {cell['mean']:.3f} +-{cell['sd']:.3f} n={cell['n']}")
        if "minus_baseline" in cell:
            parts.append(f"({cell['minus_baseline']:+.3f} [{cell['low']:+.3f}, {cell['high']:+.3f}])")
    parts.append(f"valid {line['valid_rate']:.2f} vertical {line['vertical_share']:.2f}")
    return "  ".join(parts)
