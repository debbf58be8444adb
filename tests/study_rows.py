"""Made-up runs whose numbers can be told without a computer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rls3_gym.scene.relations import RELATIONS, Term
from rls3_gym.study.run_rows import EvaluationPoint, RoundTotals, RunRows

TERMS = tuple(term.name.lower() for term in Term)
CELLS = len(RELATIONS)
RIGHT = 0
"""The cell of *to the right*, alone."""
ABOVE = next(i for i, relation in enumerate(RELATIONS) if relation.terms == (Term.ABOVE,))


def point(n_trained: int, pairwise: float, round_: int = 0, name: str = "test", **changes: Any) -> EvaluationPoint:
    """An evaluation; every term is as good as all together, and twice as many samples were generated as trained on."""
    known: dict[str, Any] = {
        "set": name,
        "set_hash": f"hash of {name}",
        "backend": "embedded",
        "vlm_digest": "c0" if n_trained == 0 else f"c{n_trained}",
        "n": 100,
        "round": round_,
        "n_generated": 2 * n_trained,
        "n_trained": n_trained,
        "pairwise": pairwise,
        "strict": pairwise / 2,
        "by_term": dict.fromkeys(TERMS, pairwise),
        "by_complexity": dict.fromkeys(("1", "2", "3"), pairwise),
    }
    return EvaluationPoint(**{**known, **changes})


def totals(round_: int, n_trained: int, samples: int = 20, above: int = 5, **changes: Any) -> RoundTotals:
    """A round of 40 steps: `samples` samples, `above` of them *above*, the rest *to the right*; 4 steps ambiguous."""
    cells = [0] * CELLS
    cells[ABOVE], cells[RIGHT] = above, samples - above
    known: dict[str, Any] = {
        "round": round_,
        "finetuned": True,
        "n_generated": 2 * n_trained,
        "n_trained": n_trained,
        "n_steps": 40 * (round_ + 1),
        "reasons": {"ambiguous": 4, "hidden": 36 - samples},
        "cells": tuple(cells),
        "terms": {**dict.fromkeys(TERMS, 0), "above": above, "right": samples - above},
        "complexity": {"1": samples, "2": 0, "3": 0},
        "intrinsic": -0.05,
        "extrinsic": 0.1,
        "wall_seconds": 10.0 * (round_ + 1),
        "evaluate_seconds": 4.0 * (round_ + 1),
        "finetune_seconds": 1.0 * (round_ + 1),
        "near_duplicates": round_,
        "caption_entropy": 1.0,
    }
    return RoundTotals(**{**known, **changes})


def made_up(
    accuracies: Sequence[float],
    seed: int = 0,
    agent: str = "random",
    sets: Sequence[str] = ("test",),
    config: Mapping[str, Any] | None = None,
    **changes: Any,
) -> RunRows:
    """A run with a round of 10 trained samples between each two accuracies."""
    points = [point(10 * i, y, i, name) for i, y in enumerate(accuracies) for name in sets]
    rounds = [totals(i, 10 * (i + 1)) for i in range(len(accuracies) - 1)]
    known: dict[str, Any] = {
        "config": {"name": "x", "agent": {"name": agent, "settings": {}}, "vlm": {"name": "tiny"}, "seed": seed}
        | dict(config or {}),
        "command": f"rls3 run x --set agent={agent} --seed {seed} --out somewhere",
        "environment": "python 3",
        "evaluations": tuple(points),
        "rounds": tuple(rounds),
        "n_generated": 20 * (len(accuracies) - 1),
        "complete": True,
    }
    return RunRows(**{**known, **changes})
