"""What a run came to, from its metrics: accuracy before and after, by term."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rls3_gym.runs.directory import RunDirectory, read_rows


def summarize(path: Path) -> dict[str, Any]:
    """Counters at the end, and for each set its first and last evaluation. JSON-ready."""
    run = RunDirectory.open(path)
    rows = read_rows(run.metrics)
    evaluations = [row for row in rows if row["kind"] == "evaluation"]
    sets: dict[str, Any] = {}
    for row in evaluations:
        facts = {
            key: row[key]
            for key in ("round", "n", "pairwise_accuracy", "strict_accuracy", "by_term", "by_complexity", "worst_term")
        }
        entry = sets.setdefault(row["set"], {"before": facts})
        entry["after"] = facts
    last = rows[-1] if rows else {}
    counters = {key: last.get(key, 0) for key in ("round", "n_generated", "n_trained", "n_steps")}
    return {"run": str(path), **counters, "sets": sets}
