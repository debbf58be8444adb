"""Accuracy tables and their guards."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from scipy.stats import entropy

from rls3_gym.backends.embedded.backend import EmbeddedBackend
from rls3_gym.evalsets.renderings import render
from rls3_gym.evalsets.specs import SETS_FOLDER, read_specs
from rls3_gym.evaluation.metrics import accuracy_table, coverage, mirrored, presence_accuracy
from rls3_gym.sample import Sample
from rls3_gym.scene.captions import parse
from rls3_gym.scene.relations import Term
from rls3_gym.vlm.base import Feedback
from rls3_gym.vlm.loading import load_vlm

TERMS = [term.name.lower() for term in Term]


class Reader:
    """A VLM that prefers captions by a rule: `belief(sample, caption)`, the higher the better."""

    def __init__(self, belief: Callable[[Sample, str], float]) -> None:
        self.belief = belief

    def evaluate(self, samples: Sequence[Sample]) -> Feedback:
        n = len(samples)
        by_term = np.full((n, 6), np.nan, np.float32)
        margin, hardest = np.zeros(n, np.float32), np.zeros(n, np.int64)
        for i, sample in enumerate(samples):
            true = self.belief(sample, sample.caption)
            rivals = np.array([self.belief(sample, negative.caption) for negative in sample.negatives])
            margin[i], hardest[i] = true - rivals.max(), rivals.argmax()
            for negative, rival in zip(sample.opposites, rivals, strict=False):
                assert negative.term is not None
                by_term[i, negative.term] = float(true > rival)
        pairwise = np.array([np.nanmean(row) if (row == row).any() else np.nan for row in by_term], np.float32)
        nothing = np.zeros(n, np.float32)
        return Feedback(margin > 0, pairwise, by_term, margin, hardest, nothing, nothing, nothing)


@pytest.fixture(scope="module")
def samples() -> tuple[Sample, ...]:
    specs = read_specs(SETS_FOLDER / "validation.jsonl.gz")[::8]
    return render(specs, "metrics-tests", EmbeddedBackend(image_size=64))


def says(term: str) -> Callable[[Sample, str], float]:
    """Believes every caption with the term, no caption with its antonym."""
    opposite = Term[term.upper()].opposite

    def belief(sample: Sample, caption: str) -> float:
        terms = parse(caption).relation.terms
        return float(Term[term.upper()] in terms) - float(opposite in terms)

    return belief


def test_a_vlm_that_knows_the_truth_scores_full_marks(samples: tuple[Sample, ...]) -> None:
    table = accuracy_table(Reader(lambda s, caption: float(caption == s.caption)), samples)
    assert table.pairwise == table.strict == table.mirrored == 1.0
    assert set(table.by_term) == set(TERMS) and set(table.by_term.values()) == {1.0}
    assert table.by_complexity == {"1": 1.0, "2": 1.0, "3": 1.0}
    assert table.n == len(samples)


def test_a_vlm_that_always_says_left_gains_nothing_in_the_mirror(samples: tuple[Sample, ...]) -> None:
    sideways = [s for s in samples if s.relation.terms in ((Term.LEFT,), (Term.RIGHT,))]
    table = accuracy_table(Reader(says("left")), sideways)
    assert table.by_term["left"] == 1.0 and table.by_term["right"] == 0.0 and table.pairwise == 0.5
    assert table.mirrored == 0.0
    assert table.worst_term == "right"
    assert np.isnan(table.by_term["above"]) and table.as_dict()["by_term"]["above"] is None


def test_every_term_weighs_the_same_however_rare(samples: tuple[Sample, ...]) -> None:
    above = [s for s in samples if s.relation.terms == (Term.ABOVE,)][:1]
    below = [s for s in samples if s.relation.terms == (Term.BELOW,)]
    assert accuracy_table(Reader(says("above")), above + below).pairwise == 0.5


def test_the_tiny_vlm_is_measured_consistently(samples: tuple[Sample, ...]) -> None:
    vlm = load_vlm("tiny")
    few = samples[::2]
    table, feedback = accuracy_table(vlm, few), vlm.evaluate(few)
    assert table.strict <= table.pairwise and table.mirrored <= table.pairwise
    left = [float(f) for s, f in zip(few, feedback.by_term[:, Term.LEFT], strict=True) if Term.LEFT in s.relation.terms]
    assert table.by_term["left"] == pytest.approx(np.mean(left))
    assert table.pairwise == pytest.approx(np.mean(list(table.by_term.values())))
    assert table.by_term[table.worst_term] == min(table.by_term.values())
    singles = [float(f) for s, f in zip(few, feedback.pairwise, strict=True) if s.relation.complexity == 1]
    assert table.by_complexity["1"] == pytest.approx(np.mean(singles))


def test_presence_is_the_share_of_true_captions_preferred() -> None:
    items = render(read_specs(SETS_FOLDER / "presence.jsonl.gz")[:12], "presence-tests", EmbeddedBackend(image_size=64))
    assert presence_accuracy(Reader(lambda s, caption: float(caption == s.caption)), items) == 1.0
    assert 0.0 <= presence_accuracy(load_vlm("tiny"), items) <= 1.0
    with pytest.raises(ValueError, match="opposite captions"):
        accuracy_table(Reader(lambda s, caption: 0.0), items)


def test_the_mirrored_twin_turns_picture_and_sideways_terms_only(samples: tuple[Sample, ...]) -> None:
    for sample in samples[:30]:
        twin = mirrored(sample)
        assert twin is mirrored(sample)
        assert (twin.rgb[:, ::-1] == sample.rgb).all()
        swapped = sample.caption.replace("left", "\0").replace("right", "left").replace("\0", "right")
        assert twin.caption == swapped
        assert len(twin.negatives) == len(sample.opposites)
        terms = parse(twin.caption).relation.terms
        assert all(n.term in terms and n.caption != twin.caption for n in twin.negatives)


def test_coverage_runs_from_one_cell_to_all_alike() -> None:
    assert coverage([5, 0, 0]) == 0.0
    assert coverage([3, 3, 3, 3]) == pytest.approx(1.0)
    assert coverage([1, 2, 3]) == pytest.approx(entropy([1, 2, 3]) / np.log(3))
    assert np.isnan(coverage([0, 0]))
