"""Samplers compared at equal numbers of trained samples, paired by seed.

    python benchmarks/samplers.py                                  # SAC, random, stratified; 5 seeds; defaults
    python benchmarks/samplers.py --set environment.extrinsic=reducible_error --agents sb3/sac --out bench-out/reducible

Each run is an ordinary run directory under --out, and is not repeated when it is there. Accuracy is read off each run's
curve at 2,000 and 4,000 trained samples (straight lines between the rounds). `random` and every other sampler of one
seed start from the same VLM and are judged on the same items. Writes results.csv and results.json to --results.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

SETS = ("test", "test_natural")


def run_all(arguments: argparse.Namespace) -> list[Path]:
    """Run directories of all samplers and seeds, seeds outermost so that a stopped benchmark is still paired."""
    jobs = [(agent, seed) for seed in range(arguments.seeds) for agent in arguments.agents]
    with ThreadPoolExecutor(arguments.processes) as pool:
        return list(pool.map(lambda job: run_one(arguments, *job), jobs))


def run_one(arguments: argparse.Namespace, agent: str, seed: int) -> Path:
    """One run through the command line, continued when it was cut off."""
    path: Path = arguments.out / f"{agent.replace('/', '-')}-seed{seed}"
    if (path / "report.html").is_file():
        return path
    command = [sys.executable, "-m", "rls3_gym.cli", "run"]
    if any((path / "checkpoints").glob("*")):
        command += ["--resume", str(path)]
    else:
        command += [arguments.experiment, "--out", str(path), "--seed", str(seed)]
        command += ["--set", f"agent={agent}", "--set", "threads=1"]
        command += ["--set", f"budget={{n_generated: {arguments.n_generated}}}"]
        for change in arguments.set:
            command += ["--set", change]
    path.parent.mkdir(parents=True, exist_ok=True)
    log = path.with_suffix(".log")
    with log.open("w", encoding="utf-8") as sink:
        code = subprocess.run(command, stdout=sink, stderr=subprocess.STDOUT, check=False).returncode
    if code:
        raise SystemExit(f"{' '.join(command)}\nended with {code}; see {log}")
    print(f"done: {path}", flush=True)
    return path


def curve(path: Path, name: str) -> tuple[list[int], list[float], list[dict[str, Any]]]:
    """(trained samples, pairwise accuracy, rows) of one set over a run."""
    rows = [json.loads(line) for line in (path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    chosen = [r for r in rows if r["kind"] == "evaluation" and r["set"] == name]
    return [r["n_trained"] for r in chosen], [r["pairwise_accuracy"] for r in chosen], chosen


def read_off(path: Path, budgets: list[int]) -> list[dict[str, Any]]:
    """A run's accuracy at each budget of trained samples, on both sets, and what it cost."""
    found = []
    for budget in budgets:
        row: dict[str, Any] = {"n_trained": budget}
        for name in SETS:
            x, y, rows = curve(path, name)
            reached = x[-1] >= budget
            row[name] = float(np.interp(budget, x, y)) if reached else float("nan")
            row["n_generated"] = float(np.interp(budget, x, [r["n_generated"] for r in rows]))
            row["n_steps"] = float(np.interp(budget, x, [r["n_steps"] for r in rows]))
            row["start"] = y[0] if name == "test" else row["start"]
        found.append(row)
    return found


def shares(path: Path) -> dict[str, float]:
    """Share of each term among all terms of the run's samples."""
    rows = [json.loads(line) for line in (path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    counts: dict[str, int] = {}
    for row in rows:
        if row["kind"] == "episode":
            for term, count in row["terms"].items():
                counts[term] = counts.get(term, 0) + count
    total = max(1, sum(counts.values()))
    return {term: count / total for term, count in counts.items()}


def interval(differences: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    """95 % bootstrap interval of the mean of paired differences."""
    draws = rng.choice(differences, size=(10_000, len(differences)))
    low, high = np.percentile(draws.mean(1), [2.5, 97.5])
    return float(low), float(high)


def summarise(table: list[dict[str, Any]], baseline: str) -> list[dict[str, Any]]:
    """Mean, spread and paired difference to the baseline, by agent and budget."""
    rng = np.random.default_rng(0)
    lines = []
    for agent in dict.fromkeys(r["agent"] for r in table):
        for budget in sorted({r["n_trained"] for r in table}):
            line: dict[str, Any] = {"agent": agent, "n_trained": budget}
            for name in SETS:
                mine = {r["seed"]: r[name] for r in table if (r["agent"], r["n_trained"]) == (agent, budget)}
                base = {r["seed"]: r[name] for r in table if (r["agent"], r["n_trained"]) == (baseline, budget)}
                values = np.array([v for v in mine.values() if np.isfinite(v)])
                line[name] = {"mean": float(values.mean()), "sd": float(values.std(ddof=1)), "n": len(values)}
                both = [s for s in mine if s in base and np.isfinite(mine[s] + base[s])]
                if agent != baseline and len(both) > 1:
                    differences = np.array([mine[s] - base[s] for s in both])
                    low, high = interval(differences, rng)
                    line[name] |= {"minus_baseline": float(differences.mean()), "low": low, "high": high}
            lines.append(line)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiment", default="default")
    parser.add_argument("--agents", nargs="+", default=["random", "stratified", "sb3/sac"])
    parser.add_argument("--baseline", default="random")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--n-generated", type=int, default=9_200)
    parser.add_argument("--budgets", type=int, nargs="+", default=[2000, 4000])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C")
    parser.add_argument("--out", type=Path, default=Path("bench-out/samplers"))
    parser.add_argument("--results", type=Path, default=None)
    arguments = parser.parse_args()
    results: Path = arguments.results or arguments.out
    run_all(arguments)
    table = []
    for agent in arguments.agents:
        for seed in range(arguments.seeds):
            path = arguments.out / f"{agent.replace('/', '-')}-seed{seed}"
            for row in read_off(path, arguments.budgets):
                vertical = sum(v for t, v in shares(path).items() if t.lower() in ("above", "below"))
                table.append({"agent": agent, "seed": seed, **row, "vertical_share": vertical})
    results.mkdir(parents=True, exist_ok=True)
    with (results / "results.csv").open("w", newline="", encoding="utf-8") as sink:
        writer = csv.DictWriter(sink, fieldnames=list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    lines = summarise(table, arguments.baseline)
    command = "python benchmarks/samplers.py " + " ".join(sys.argv[1:])
    (results / "results.json").write_text(
        json.dumps({"command": command.strip(), "summary": lines, "runs": table}, indent=2) + "\n", encoding="utf-8"
    )
    for line in lines:
        parts = []
        for name in SETS:
            cell = line[name]
            gap = ""
            if "minus_baseline" in cell:
                gap = f" ({cell['minus_baseline']:+.3f} [{cell['low']:+.3f}, {cell['high']:+.3f}])"
            parts.append(f"{name} {cell['mean']:.3f} +-{cell['sd']:.3f} n={cell['n']}{gap}")
        print(f"{line['agent']:>12} {line['n_trained']:>6,}  " + "  ".join(parts))


if __name__ == "__main__":
    main()
