"""Reading what a VLM wrote: terms, objects, and agreement with captions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rls3_gym.scene.captions import describe, parse
from rls3_gym.scene.catalog import load_catalog
from rls3_gym.scene.relations import RELATIONS, Term
from rls3_gym.vlm.answers import agreement, read_answer, score_answers

KINDS = [kind.name for kind in load_catalog().kinds]
PAIRS = st.permutations(KINDS).map(lambda kinds: kinds[:2])


@given(PAIRS, st.sampled_from(RELATIONS))
def test_every_caption_gives_back_its_terms_and_objects(pair, relation):
    caption = describe(pair[0], relation, pair[1])
    claim = read_answer(caption, *pair)
    assert claim.terms == frozenset(relation.terms) and claim.mentions == 1
    assert agreement(caption, caption, parse(caption)) == 1


@given(PAIRS, st.sampled_from(RELATIONS))
def test_a_caption_of_the_pair_turned_round_claims_the_same(pair, relation):
    turned = describe(pair[1], relation.opposite, pair[0])
    assert read_answer(turned, *pair).terms == frozenset(relation.terms)
    assert agreement(turned, describe(pair[0], relation, pair[1]), parse(turned)) == 1


@pytest.mark.parametrize(
    ("answer", "terms", "mentions"),
    [
        ("It's behind the blender, a bit to the LEFT.", {Term.BEHIND, Term.LEFT}, 0.5),
        ("left", {Term.LEFT}, 0),
        ("The plate stands in front of it", {Term.FRONT}, 0),
        ("The red bowl and the blender are on a table.", set(), 1),
        ("", set(), 0),
    ],
)
def test_free_text_is_searched_for_the_words_of_terms_and_objects(answer, terms, mentions):
    claim = read_answer(answer, "red bowl", "blender")
    assert (claim.terms, claim.mentions) == (frozenset(terms), mentions)


def test_agreement_counts_terms_said_rightly_wrongly_and_not_at_all():
    caption = "The red bowl is above and behind the blender."
    about = parse(caption)
    assert agreement("The red bowl is above the blender.", caption, about) == pytest.approx(2 / 3)
    assert agreement("The red bowl is above and in front of the blender.", caption, about) == pytest.approx(1 / 2)
    assert agreement("The red bowl is below the blender.", caption, about) == 0
    swapped = "The blender is above and behind the red bowl."
    assert agreement(caption, swapped, about) == 0


def test_scores_of_answers_are_means_over_terms():
    captions = ["The red bowl is above the blender.", "The red bowl is to the left of the blender."]
    scores = score_answers(captions, [captions[0], "The kettle is above the blender."])
    assert scores.by_term["above"] == pytest.approx(2 / 3) and scores.by_term["left"] == 0
    assert scores.term_f1 == pytest.approx(1 / 3) and scores.exact == 0.5 and scores.mentions == 0.75
    assert scores.as_dict()["f1_behind"] is None
