"""What a comparison leaves behind: results.csv, summary.json, curves.png and one page, study.html."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rls3_gym.runs.directory import write_text, writing
from rls3_gym.study.analysis import Analysis, Comparison, environments_of, sets_of
from rls3_gym.study.numbers import Numbers
from rls3_gym.study.study_figures import curves_figure, save_png
from rls3_gym.study.study_page import render_page


def write_results(comparison: Comparison, folder: Path) -> Path:
    """Write all results into a folder and return the page. The same runs give the same bytes."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "results.csv", as_csv(comparison.analysis))
    write_text(folder / "summary.json", json.dumps(summary(comparison), indent=1, allow_nan=False) + "\n")
    figure = curves_figure(comparison.arms, comparison.analysis)
    with writing(folder / "curves.png"):
        save_png(figure, folder / "curves.png")
    write_text(folder / "study.html", render_page(comparison, figure))
    return folder / "study.html"


def as_csv(analysis: Analysis) -> str:
    """One row for each run and budget; a number that a run does not have is left empty."""
    numbers = list(dict.fromkeys(number for run in analysis.runs for number in run.numbers))
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(["arm", "seed", "axis", "budget", *numbers])
    for run in analysis.runs:
        shown = [_text(run.numbers, number) for number in numbers]
        writer.writerow([run.arm, run.seed, run.axis, run.budget, *shown])
    return sink.getvalue()


def _text(numbers: Numbers, number: str) -> str:
    value = numbers.get(number, math.nan)
    return f"{value:.6g}" if math.isfinite(value) else ""


def summary(comparison: Comparison) -> dict[str, Any]:
    """The comparison as JSON has it: for each budget and arm every number with its interval, and the differences."""
    analysis = comparison.analysis
    return {
        "name": comparison.name,
        "description": comparison.description,
        "command": comparison.command,
        "commands": dict(comparison.commands),
        "missing_runs": comparison.missing,
        "sets": sets_of(comparison),
        "environments": environments_of(comparison),
        "seeds": {arm: sorted(run.seed for run in runs) for arm, runs in comparison.arms.items()},
        "baselines": list(analysis.baselines),
        "noise_floor": comparison.noise_floor,
        "budgets": [
            {
                "arm": line.arm,
                "axis": line.axis,
                "budget": line.budget,
                "numbers": {number: _json(asdict(interval)) for number, interval in line.numbers.items()},
                "differences": {
                    baseline: {
                        number: _json(asdict(d.interval) | {"p": d.p, "p_holm": d.p_holm, "improvement": d.improvement})
                        for number, d in found.items()
                    }
                    for baseline, found in line.differences.items()
                },
            }
            for line in analysis.arms
        ],
    }


def _json(numbers: Mapping[str, float | int]) -> dict[str, float | int | None]:
    """JSON has no NaN; six digits are more than an interval is worth."""
    return {
        key: value if isinstance(value, int) else (float(f"{value:.6g}") if math.isfinite(value) else None)
        for key, value in numbers.items()
    }
