"""Captions in the paper's grammar, and hard negatives that are false in the scene."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rls3_gym.scene.captions import Change, describe, is_false, negatives, parse
from rls3_gym.scene.catalog import load_catalog
from rls3_gym.scene.relations import RELATIONS, Relation, can_hold, relation

names = [k.name for k in load_catalog().kinds]
coordinate = st.floats(-2, 2, allow_nan=False).filter(lambda v: abs(v) > 1e-6 or v == 0)
offsets = st.tuples(coordinate, coordinate, coordinate).map(np.array).filter(lambda o: np.linalg.norm(o) > 1e-3)
pairs = st.permutations(names).map(lambda p: (p[0], p[1]))


@pytest.mark.parametrize(
    ("a", "index", "b", "sentence"),
    [
        (
            "small pot",
            Relation(3, 1),
            "yellow bowl",
            "The small pot is above, behind and to the left of the yellow bowl.",
        ),
        ("blender", Relation(6, -1), "plate", "The blender is below and in front of the plate."),
        ("yellow bowl", Relation(6, 0), "green cup", "The yellow bowl is in front of the green cup."),
        ("vase", Relation(0, 0), "blender", "The vase is to the right of the blender."),
        ("bird sculpture", Relation(None, 1), "yellow bowl", "The bird sculpture is above the yellow bowl."),
    ],
)
def test_captions_are_the_papers_sentences(a, index, b, sentence):
    assert describe(a, index, b) == sentence


@given(pairs, st.sampled_from(RELATIONS))
def test_every_caption_parses_back_to_its_kinds_and_terms(pair, wanted):
    parsed = parse(describe(pair[0], wanted, pair[1]))
    assert (parsed.kind_a, parsed.relation, parsed.kind_b) == (pair[0], wanted, pair[1])


@pytest.mark.parametrize("text", ["", "A cat.", "The pot is above below the cup.", "The pot is near the cup."])
def test_other_sentences_are_refused(text):
    with pytest.raises(ValueError, match="grammar"):
        parse(text)


@given(pairs, offsets)
def test_no_negative_is_true_of_the_scene(pair, offset):
    truth = relation(offset)
    found = negatives(*pair, offset)
    assert describe(pair[0], truth, pair[1]) not in [n.caption for n in found]
    for negative in found:
        parsed = parse(negative.caption)
        seen = offset if (parsed.kind_a, parsed.kind_b) == pair else -offset
        # a term is plainly false when its direction points to a side the first object is not on
        assert any(not can_hold(term, seen) for term in parsed.relation.terms)


@given(pairs, offsets)
def test_negatives_are_distinct_and_single_opposites_come_first(pair, offset):
    truth = relation(offset)
    found = negatives(*pair, offset)
    captions = [n.caption for n in found]
    assert len(set(captions)) == len(captions)
    singles = [n for n in found if n.change is Change.OPPOSITE]
    assert found[: len(singles)] == tuple(singles)
    assert [n.term for n in singles] == list(truth.terms)
    for negative in singles:
        changed = set(parse(negative.caption).relation.terms) ^ set(truth.terms)
        assert changed == {negative.term, negative.term.opposite}


@given(pairs, offsets)
def test_every_kind_of_change_says_what_it_changed(pair, offset):
    truth = relation(offset)
    for negative in negatives(*pair, offset):
        parsed = parse(negative.caption)
        if negative.change is Change.SWAPPED:
            assert (parsed.kind_a, parsed.kind_b) == (pair[1], pair[0])
        elif negative.change is Change.SECTOR:
            assert parsed.relation.vertical == truth.vertical
        elif negative.change is Change.VERTICAL:
            assert parsed.relation.horizontal == truth.horizontal


def test_a_thing_behind_and_slightly_left_does_not_make_behind_and_left_a_negative():
    offset = np.array([-0.05, 0.0, 1.0])
    assert not is_false(relation(np.array([-1.0, 0.0, 1.0])), offset)
    assert all(parse(n.caption).relation.label != "behind+left" for n in negatives("globe", "candle", offset))
