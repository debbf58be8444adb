"""What a comparison leaves behind: results.csv, summary.json, curves.png, headline.png and one page, study.html."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rls3_gym.report.references import ReferenceCurve, References
from rls3_gym.runs.directory import replacing, write_text, writing
from rls3_gym.study.analysis import SEED, Analysis, Comparison, environments_of, sets_of
from rls3_gym.study.numbers import Numbers, curve
from rls3_gym.study.run_rows import RunRows
from rls3_gym.study.statistics import intervals
from rls3_gym.study.study_figures import curves_figure, save_png
from rls3_gym.study.study_page import render_page


def write_results(comparison: Comparison, folder: Path) -> Path:
    """Write all results into a folder and return the page. The same runs give the same bytes."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "results.csv", as_csv(comparison.analysis))
    write_text(folder / "summary.json", json.dumps(summary(comparison), indent=1, allow_nan=False) + "\n")
    figure = curves_figure(comparison.arms, comparison.analysis)
    with replacing(folder / "curves.png") as temporary:
        save_png(figure, temporary)
    if comparison.headline:
        shown = {arm: comparison.arms[arm] for arm in comparison.headline}
        first = replace(comparison.analysis, sets=comparison.analysis.sets[:1])
        with replacing(folder / "headline.png") as temporary:
            save_png(curves_figure(shown, first, ("n_trained",)), temporary)
    references = references_of(comparison)
    if references.curves:
        write_text(folder / "references.json", references.model_dump_json(indent=1) + "\n")
    write_text(folder / "study.html", render_page(comparison, figure))
    return folder / "study.html"


def as_csv(analysis: Analysis) -> str:
    """One row for each run and budget; a number that a run does not have is left empty."""
    numbers = list(dict.fromkeys(number for run in analysis.runs for number in run.numbers))
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(["arm", "seed", "axis", "budget", *map(_no_formula, numbers)])
    for run in analysis.runs:
        shown = [_text(run.numbers, number) for number in numbers]
        writer.writerow([_no_formula(run.arm), run.seed, run.axis, run.budget, *shown])
    return sink.getvalue()


def _no_formula(name: str) -> str:
    """A name as a cell that a spreadsheet shows and does not carry out: names come from files of others."""
    return f"'{name}" if name.startswith(("=", "+", "-", "@", "\t")) else name


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
        "suites": [change.as_dict() for change in comparison.suites],
    }


REFERENCE_ARMS = ("random", "stratified")
"""Arms whose curves are kept for reports to show beside a run."""
_REFERENCE_POINTS = 24


def references_of(comparison: Comparison) -> References:
    """The curves of the reference arms of a comparison, as the package ships them."""
    curves = []
    for arm in REFERENCE_ARMS:
        runs = [run for run in comparison.arms.get(arm, ()) if run.complete]
        for name in comparison.analysis.sets if runs else ():
            drawn = [curve(run, name, "n_trained") for run in runs]
            grid = np.linspace(0.0, min(x[-1] for x, _ in drawn), _REFERENCE_POINTS)
            if grid[-1] == 0:
                continue
            table = np.array([np.interp(grid, x, y) for x, y in drawn])
            found = intervals(table, np.random.default_rng(SEED))
            made = np.mean([_generated(run, name, grid) for run in runs], axis=0)
            first = runs[0].curve(name)[0]
            middle = [interval.iqm for interval in found]
            bounds = [(i.low, i.high) if len(runs) > 1 else (i.iqm, i.iqm) for i in found]
            curves.append(
                ReferenceCurve(
                    arm=arm,
                    seeds=len(runs),
                    set_hash=first.set_hash,
                    vlm_digest=first.vlm_digest,
                    backend=first.backend,
                    n_trained=_rounded(grid, 1),
                    n_generated=_rounded(made, 1),
                    middle=_rounded(middle, 4),
                    low=_rounded([low for low, _ in bounds], 4),
                    high=_rounded([high for _, high in bounds], 4),
                )
            )
    return References(command=comparison.command, curves=tuple(curves))


def _generated(run: RunRows, name: str, n_trained: NDArray[np.float64]) -> NDArray[np.float64]:
    """Samples a run had generated when it had trained so many."""
    points = run.curve(name)
    return np.interp(n_trained, [p.n_trained for p in points], [p.n_generated for p in points])


def _rounded(values: ArrayLike, digits: int) -> tuple[float, ...]:
    return tuple(round(float(value), digits) for value in np.asarray(values))


def _json(numbers: Mapping[str, float | int]) -> dict[str, float | int | None]:
    """JSON has no NaN; six digits are more than an interval is worth."""
    return {
        key: value if isinstance(value, int) else (float(f"{value:.6g}") if math.isfinite(value) else None)
        for key, value in numbers.items()
    }
