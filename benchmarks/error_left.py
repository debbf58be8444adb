"""Where is the VLM still wrong? Pairwise error of the VLMs that runs have taught, by what can be said of an item.

    python benchmarks/error_left.py RUN_DIR [RUN_DIR ...] [--set test] [--json FILE]

By term, caption length, distance of the two objects, visible pixels of the smaller one, angle to the nearest boundary
between relations, room family and layout, object kind, and pair of kinds (the worst and the best). Several runs (seeds
of one arm) count as one; the interval is Wilson's, as if each run had been asked about other items, and so a little too
narrow.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rls3_gym.evalsets.loader import load_set
from rls3_gym.evaluation.metrics import wilson_interval
from rls3_gym.runs.taught import find_backend, find_vlm
from rls3_gym.sample import Sample
from rls3_gym.scene.relations import Term, margin_deg
from rls3_registry.errors import one_line_errors

QUARTERS = 4


def distance(sample: Sample) -> float:
    """Between the bases of the two objects, meters."""
    return float(np.linalg.norm(sample.offset))


def pixels(sample: Sample) -> float:
    """Visible pixels of the one that shows fewer."""
    return float(min(sample.pixels[sample.slot_a], sample.pixels[sample.slot_b]))


def clearness(sample: Sample) -> float:
    """Angle to the nearest boundary between relations, degrees."""
    return float(margin_deg(np.array(sample.offset)))


def row(name: str, errors: NDArray[np.float64]) -> dict[str, Any]:
    low, high = wilson_interval(float(errors.mean()), len(errors))
    return {"group": name, "items": len(errors), "error": float(errors.mean()), "low": low, "high": high}


def by_quarter(
    name: str, unit: str, value: Callable[[Sample], float], samples: Sequence[Sample], errors: NDArray[np.float64]
) -> list[dict[str, Any]]:
    """(runs, items) errors in four groups of items of about equal size, from the lowest to the highest values."""
    values = np.array([value(sample) for sample in samples])
    edges = np.quantile(values, np.linspace(0, 1, QUARTERS + 1))
    group = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, QUARTERS - 1)
    return [
        row(f"{name} {edges[i]:.3g} to {edges[i + 1]:.3g} {unit}", errors[:, group == i].ravel())
        for i in range(QUARTERS)
        if (group == i).any()
    ]


def by_label(
    labels: Callable[[Sample], set[str]], samples: Sequence[Sample], errors: NDArray[np.float64]
) -> list[dict[str, Any]]:
    """(runs, items) errors of the items that have each label, the worst first."""
    named = [labels(sample) for sample in samples]
    found = [row(label, errors[:, [label in own for own in named]].ravel()) for label in sorted(set().union(*named))]
    return sorted(found, key=lambda line: -line["error"])


def error_left(runs: Sequence[str], set_name: str) -> dict[str, list[dict[str, Any]]]:
    """Rows by table."""
    samples: Sequence[Sample] = ()
    wrong, by_term = [], []
    for name in runs:
        vlm = find_vlm(name)
        samples = load_set(set_name, find_backend(name, vlm)).samples
        feedback = vlm.evaluate(samples)
        wrong.append(1.0 - feedback.pairwise.astype(np.float64))
        by_term.append(1.0 - feedback.by_term.astype(np.float64))
    errors, of_terms = np.stack(wrong), np.stack(by_term)
    terms = []
    for term in Term:
        asked = of_terms[:, :, term]
        terms.append(row(term.name.lower(), asked[~np.isnan(asked)]))
    kinds = by_label(lambda sample: {sample.kind_a, sample.kind_b}, samples, errors)
    pairs = by_label(lambda sample: {" and ".join(sorted((sample.kind_a, sample.kind_b)))}, samples, errors)
    return {
        "all": [row("all items", errors.ravel())],
        "term": terms,
        "length": by_label(lambda sample: {f"{sample.relation.complexity} terms"}, samples, errors),
        "distance": by_quarter("distance", "m", distance, samples, errors),
        "pixels": by_quarter("smaller object", "pixels", pixels, samples, errors),
        "clearness": by_quarter("boundary at", "degrees", clearness, samples, errors),
        "family": by_label(lambda sample: {sample.arrangement.layout.family}, samples, errors),
        "layout": by_label(lambda sample: {sample.arrangement.layout.key}, samples, errors),
        "kind": [*kinds[:5], *kinds[-5:]],
        "pair": [*pairs[:5], *pairs[-5:]],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN_DIR", help="or the name of a VLM")
    parser.add_argument("--set", dest="set_name", default="test")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    tables = error_left(arguments.runs, arguments.set_name)
    for name, lines in tables.items():
        print(name)
        for line in lines:
            print(f"  {line['group']:<40} {line['items']:>7,} items  error {100 * line['error']:5.1f} %  "
                  f"[{100 * line['low']:.1f}, {100 * line['high']:.1f}]")  # fmt: skip
    if arguments.json:
        arguments.json.write_text(json.dumps(tables, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    with one_line_errors("error_left.py"):
        main()
