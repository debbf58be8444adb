"""Measuring the learning VLM on the held-out sets and suites of an experiment: how, and when."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Literal

from rls3_gym.backends.base import SceneBackend
from rls3_gym.evalsets.loader import load_set
from rls3_gym.evaluation.metrics import accuracy_table, presence_accuracy
from rls3_gym.runs.rows import EvaluationRow, SuiteRow
from rls3_gym.suites.catalog import OpenSuite, SuiteResult
from rls3_gym.suites.forgetting import forgetting
from rls3_gym.vlm.answers import score_answers
from rls3_gym.vlm.base import VLM, GenerativeVLM
from rls3_registry.errors import UserError


@dataclass(frozen=True)
class Measurer:
    """Evaluates a VLM on named sets and on suites, always on the same items."""

    sets: Sequence[str]
    backend: SceneBackend
    """Shows the sets: the experiment's own."""
    items: int | None = None
    """At most so many items of each set, taken evenly from it; all when None."""
    suites: Sequence[OpenSuite] = ()
    forgetting: bool = False
    """Whether to ask which object kinds the VLM sees."""

    def load(self) -> None:
        """Render the sets now (they stay in memory), so that a wrong name or a damaged file shows before the run."""
        for name in self.sets:
            if name == "presence":
                raise UserError("evaluation.sets: presence asks which objects are there; `rls3 evaluate` measures it")
            load_set(name, self.backend)
        if self.forgetting:
            load_set("presence", self.backend)

    def rows(self, vlm: VLM, counts: Mapping[str, int]) -> Iterator[EvaluationRow]:
        """One row per set, as soon as it is measured; `counts` say how far the run is."""
        digest = vlm.digest()
        for name in self.sets:
            started = perf_counter()
            measured = _measure(vlm, name, self.backend, self.items)
            seconds = perf_counter() - started
            content = {"vlm_digest": digest, **measured, "evaluate_seconds": seconds}
            yield EvaluationRow.model_validate({**counts, **content})

    def suite_rows(self, vlm: VLM, counts: Mapping[str, int]) -> Iterator[SuiteRow]:
        """One row per suite, as soon as it is scored, and one of the forgetting probe."""
        digest = vlm.digest()
        for suite in self.suites:
            started = perf_counter()
            yield _suite_row(suite.score(vlm), digest, counts, started)
        if self.forgetting:
            started = perf_counter()
            yield _suite_row(forgetting(vlm, self.backend, self.items), digest, counts, started)


class Evaluator:
    """Says when to measure: before the first round, after every so many, and after the last."""

    def __init__(self, measurer: Measurer, every: int | Literal["doubling"], measured: int | None = None) -> None:
        """`measured` is the round after which the run to continue was measured last; None: not yet."""
        self._measurer = measurer
        self._every = every
        self.measured = measured

    def due(self, round_: int, last: bool = False) -> bool:
        """Whether to measure after this number of rounds; `last`: there will be no more."""
        if self.measured is None:
            return True
        in_turn = round_.bit_count() == 1 if self._every == "doubling" else round_ % self._every == 0
        return self.measured < round_ and (last or in_turn)

    def measure(self, vlm: VLM, counts: Mapping[str, int]) -> Iterator[EvaluationRow | SuiteRow]:
        """One row per set and then one per suite, as soon as it is measured."""
        yield from self._measurer.rows(vlm, counts)
        yield from self._measurer.suite_rows(vlm, counts)
        self.measured = counts["round"]


def evaluate_vlm(vlm: VLM, set_name: str, backend: SceneBackend, items: int | None = None) -> dict[str, Any]:
    """What `rls3 evaluate` reports: one set's accuracies, and object presence; of at most `items` each. JSON-ready."""
    if set_name == "presence":
        raise UserError("--set: presence is measured in any case; name a set about relations, e.g. test")
    measured = _measure(vlm, set_name, backend, items)
    asked = load_set("presence", backend).items
    presence = presence_accuracy(vlm, asked[:: _stride(len(asked), items)])
    return {"vlm": vlm.name, "vlm_digest": vlm.digest(), "presence_accuracy": presence} | measured


def _suite_row(result: SuiteResult, digest: str, counts: Mapping[str, int], started: float) -> SuiteRow:
    """The row of a result; `started` is the time of `perf_counter` when it was begun."""
    measures = {measure.name: measure.as_dict() for measure in result.measures}
    content: dict[str, Any] = {
        "vlm_digest": digest,
        "suite": result.suite,
        "items_hash": result.items_hash,
        "n": result.n,
        "n_by_measure": {name: content["n"] for name, content in measures.items()},
        "details": result.details,
        "evaluate_seconds": perf_counter() - started,
    }
    for key in ("value", "low", "high", "blind", "chance"):
        content[key] = {name: measure[key] for name, measure in measures.items()}
    return SuiteRow.model_validate({**counts, **content})


def _measure(vlm: VLM, name: str, backend: SceneBackend, items: int | None = None) -> dict[str, Any]:
    whole = load_set(name, backend)
    stride = _stride(len(whole), items)
    identity = whole.hash if stride == 1 else f"{whole.hash}/{stride}"
    samples = whole.samples[::stride]
    measured = {"set": name, "set_hash": identity, "backend": whole.backend, **accuracy_table(vlm, samples).as_dict()}
    if isinstance(vlm, GenerativeVLM):
        measured["answers"] = score_answers([s.caption for s in samples], vlm.answers(samples)).as_dict()
    return measured


def _stride(count: int, items: int | None) -> int:
    """Every k-th item, at most `items` of them. Sets are ordered by cell, so the choice is as balanced as the set."""
    return math.ceil(count / items) if items else 1
