"""The scheduler: when the VLM is asked and taught, what trains, what never does, and going on from a saved state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from env_parts import feedback, samples, tiny_vlm

from rls3_gym.loop.scheduler import EpisodeOutcome, Schedule, Scheduler
from rls3_gym.loop.selection import Contrast
from rls3_gym.sample import Sample
from rls3_gym.scene.relations import Term
from rls3_gym.vlm.base import Feedback
from rls3_gym.vlm.feedback import join_feedback, split_feedback
from rls3_gym.vlm.losses import contrastive_loss, same_caption
from rls3_registry.errors import UserError


def schedule(**changes: Any) -> Schedule:
    return Schedule(**{"steps_per_episode": 4, "episodes_per_round": 2, "train_fraction": 0.5} | changes)


def begun(**changes: Any) -> Scheduler:
    scheduler = Scheduler(tiny_vlm(), schedule(**changes))
    scheduler.begin_experiment(np.random.default_rng(3))
    return scheduler


def end(scheduler: Scheduler, samples: Sequence[Sample], scored: Sequence[Feedback] = ()) -> EpisodeOutcome:
    """End one episode on one lane."""
    return next(scheduler.end_episodes([samples], [scored]))


def test_after_a_rounds_episodes_the_vlm_is_taught_the_share_that_trains_and_the_batch_is_cleared() -> None:
    scheduler = begun()
    first_digest = scheduler.vlm_digest
    first = end(scheduler, samples()[:4])
    assert first.report is None and len(scheduler.batch) == 2 and scheduler.vlm_digest == first_digest
    second = end(scheduler, samples()[4:8])
    assert second.report is not None and len(second.trained) == 4
    assert set(second.trained) <= set(samples()[:8])
    assert (scheduler.round, scheduler.episode, scheduler.n_trained, scheduler.batch) == (1, 2, 4, [])
    assert scheduler.vlm_digest == scheduler.vlm.digest() == second.report.digest_after != first_digest


def test_a_round_may_be_as_many_samples_instead_of_episodes() -> None:
    scheduler = begun(episodes_per_round=None, samples_per_round=5, train_fraction=1.0)
    reports = [end(scheduler, samples()[start : start + 3]).report for start in range(0, 12, 3)]
    assert [report is not None for report in reports] == [False, True, False, True]  # 6 of the 5 wanted, twice
    assert (scheduler.round, scheduler.n_trained) == (2, 12)
    with pytest.raises(ValueError, match="not both"):
        schedule(samples_per_round=5)
    assert schedule(episodes_per_round=None).samples_per_round is None  # the default: 500
    assert schedule(episodes_per_round=None).round_is_full(episodes=1, samples=500)


def test_the_record_of_cells_knows_what_is_seldom_made_and_where_the_vlm_is_wrong() -> None:
    scheduler = begun()
    cells = scheduler.cells
    assert (cells.scarcity == 1).all() and (cells.error == 0.5).all()
    often = samples()[0]
    for _ in range(30):
        scheduler.count_step(often)
    assert cells.scarcity[often.relation.index] == cells.scarcity.min() < 0.5
    for _ in range(20):
        end(scheduler, [often], split_feedback(feedback([often], 0.0)))
    assert cells.error[often.relation.index] == cells.error.max() > 0.5
    scheduler.begin_experiment(np.random.default_rng(3))
    assert (cells.scarcity == 1).all() and (cells.error == 0.5).all()


def test_a_share_that_is_no_whole_number_of_samples_is_met_on_average() -> None:
    scheduler = begun(train_fraction=0.25, episodes_per_round=1000)
    for _ in range(200):
        end(scheduler, samples()[:3], split_feedback(feedback(samples()[:3], 1.0)))
    assert 100 < len(scheduler.batch) < 200  # 0.75 a time: 150 expected


def test_an_episode_without_samples_counts_but_trains_nothing() -> None:
    scheduler = begun(episodes_per_round=1)
    outcome = end(scheduler, [])
    assert len(outcome.feedback) == 0 and outcome.report is None
    assert (scheduler.episode, scheduler.round) == (1, 0)


def test_feedback_given_sample_by_sample_is_not_asked_for_again() -> None:
    scheduler = begun(episodes_per_round=1000)
    scored = split_feedback(feedback(samples()[:3], [True, False, True]))
    outcome = end(scheduler, samples()[:3], scored)
    np.testing.assert_array_equal(outcome.feedback.correct, [True, False, True])
    together = end(scheduler, samples()[:3]).feedback
    at_each_step = join_feedback([verdict for s in samples()[:3] for verdict in scheduler.score([s])])
    np.testing.assert_allclose(together.margin, at_each_step.margin, atol=1e-4)


def test_without_finetuning_the_vlm_never_changes() -> None:
    scheduler = begun(finetune=False, episodes_per_round=1)
    digest = scheduler.vlm.digest()
    for _ in range(3):
        assert end(scheduler, samples()[:4]).report is None
    assert scheduler.vlm.digest() == digest and (scheduler.round, scheduler.batch) == (0, [])


def test_a_sample_of_a_held_out_scene_is_refused_by_its_key() -> None:
    sample = samples()[0]
    scheduler = Scheduler(tiny_vlm(), schedule(train_fraction=1.0), held_out=frozenset({sample.scene_key}))
    with pytest.raises(UserError, match=sample.scene_key):
        end(scheduler, [sample])
    assert scheduler.episode == 0 and scheduler.batch == []


def test_a_new_experiment_starts_from_the_first_weights_with_all_counters_zero() -> None:
    scheduler = begun(episodes_per_round=1)
    first_digest = scheduler.vlm_digest
    scheduler.count_step(samples()[0])
    end(scheduler, samples()[:4])
    assert scheduler.vlm_digest != first_digest
    scheduler.begin_experiment(np.random.default_rng(3))
    assert scheduler.vlm.digest() == scheduler.vlm_digest == first_digest
    counters = (scheduler.n_steps, scheduler.n_generated, scheduler.n_trained, scheduler.episode, scheduler.round)
    assert counters == (0, 0, 0, 0, 0)
    assert (scheduler.term_error == 0.5).all()


def test_running_errors_follow_the_vlm_and_are_averaged_over_antonyms() -> None:
    scheduler = begun(episodes_per_round=1000)
    for _ in range(40):
        end(scheduler, samples(), split_feedback(feedback(samples(), 0.0)))
    made = {term for sample in samples() for term in sample.relation.terms}
    assert all(scheduler.term_error[term] > 0.7 for term in made)
    assert all(scheduler.term_error[term] == 0.5 for term in set(Term) - made)
    np.testing.assert_allclose(scheduler.axis_error[0], scheduler.term_error[:2].mean())
    complexities = {sample.relation.complexity for sample in samples()}
    assert all(scheduler.complexity_error[c - 1] > 0.7 for c in complexities)


def test_early_stopping_ends_finetuning_for_good_and_says_so() -> None:
    settings = schedule(episodes_per_round=1, train_fraction=1.0, early_stopping=1)
    scheduler = Scheduler(tiny_vlm(), settings, validation=samples()[:4])
    scheduler.begin_experiment(np.random.default_rng(0))
    assert scheduler.early_stopping is not None
    scheduler.early_stopping.best = 1.0  # nothing can be better
    assert end(scheduler, samples()[:4]).report is not None
    assert scheduler.early_stopped
    digest = scheduler.vlm_digest
    assert end(scheduler, samples()[:4]).report is None
    assert scheduler.vlm.digest() == digest
    scheduler.begin_experiment(np.random.default_rng(0))
    assert not scheduler.early_stopped


def test_a_restored_scheduler_goes_on_exactly_as_the_first_would_have() -> None:
    first, second = begun(train_fraction=0.7), begun(train_fraction=0.7)
    second.begin_experiment(np.random.default_rng(99))
    end(first, samples()[:5])
    end(first, samples()[5:9])
    end(first, samples()[9:13])
    second.load_state(first.state())
    outcomes = [end(scheduler, samples()[13:18]) for scheduler in (first, second)]
    assert outcomes[0].trained == outcomes[1].trained
    assert first.vlm_digest == second.vlm_digest and first.round == second.round == 2
    np.testing.assert_array_equal(first.term_error, second.term_error)


def test_a_state_of_other_weights_is_refused_where_they_cannot_be_loaded() -> None:
    frozen = begun(finetune=False)
    state = frozen.state() | {"vlm_digest": "0" * 12}
    with pytest.raises(UserError, match="000000000000"):
        frozen.load_state(state)


def test_episodes_of_several_lanes_count_one_after_the_other_and_ask_the_vlm_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    together, apart = begun(train_fraction=1.0), begun(train_fraction=1.0)
    asked: list[int] = []
    evaluate = together.vlm.evaluate
    monkeypatch.setattr(together.vlm, "evaluate", lambda items: asked.append(len(items)) or evaluate(items))
    episodes = [samples()[:3], [], samples()[3:8]]
    outcomes = list(together.end_episodes(episodes))
    assert asked == [8]
    assert [len(outcome.feedback) for outcome in outcomes] == [3, 0, 5]
    assert [outcome.report is not None for outcome in outcomes] == [False, True, False]  # two episodes make a round
    assert (together.episode, together.round, together.n_trained, len(together.batch)) == (3, 1, 3, 5)
    one_by_one = [end(apart, episode) for episode in episodes[:2]]
    assert outcomes[1].trained == one_by_one[1].trained
    assert together.vlm_digest == apart.vlm_digest


def test_feedback_on_more_samples_than_there_are_is_refused() -> None:
    with pytest.raises(ValueError, match="2 samples but feedback on 3"):
        end(begun(), samples()[:2], split_feedback(feedback(samples()[:3], 1.0)))


def test_the_vlm_is_asked_about_the_samples_without_feedback_alone() -> None:
    scheduler = begun()
    known = feedback(samples()[:2], 1.0)
    outcome = end(scheduler, samples()[:5], split_feedback(known))
    asked = scheduler.vlm.evaluate(samples()[2:5])
    assert (outcome.feedback[:2].margin == known.margin).all() and (outcome.feedback[2:].margin == asked.margin).all()


def test_mining_trains_what_the_vlm_fails_most() -> None:
    scheduler = begun(selection="mined", episodes_per_round=1000)
    wrong = [i % 3 == 0 for i in range(9)]
    answers = feedback(samples()[:9], [not w for w in wrong])
    answers = replace(answers, p_opposite=np.array([0.1 if w else 0.9 for w in wrong], np.float32))
    end(scheduler, samples()[:9], split_feedback(answers))
    chosen = [samples().index(sample) for sample in scheduler.batch]
    assert 4 <= len(chosen) <= 5 and {0, 3, 6} <= set(chosen)


def test_what_depends_on_the_first_weights_alone_is_worked_out_once_for_all_experiments() -> None:
    def guide() -> Sequence[Sample]:
        taught.append("guide")
        return samples()[:12]

    taught: list[str] = []
    settings = schedule(selection="learnable", episodes_per_round=1, early_stopping=3)
    vlm = tiny_vlm()
    first = vlm.evaluate(samples()[:4]).pairwise_accuracy
    scheduler = Scheduler(vlm, settings, validation=samples()[:4], guide=guide)
    assert scheduler.early_stopping is not None
    trained = []
    for _ in range(2):
        scheduler.begin_experiment(np.random.default_rng(3))
        assert scheduler.early_stopping.best == first
        trained.append(end(scheduler, samples()).trained)
    assert taught == ["guide"] and trained[0] == trained[1]


def test_learnable_samples_are_those_a_reference_taught_on_the_guide_set_gets_right() -> None:
    settings = schedule(selection="learnable", episodes_per_round=1000)
    scheduler = Scheduler(tiny_vlm(), settings, guide=lambda: samples()[:12])
    reference = tiny_vlm()
    reference.finetune(samples()[:12], np.random.default_rng([0, 1]))
    outcome = end(scheduler, samples())
    gap = outcome.feedback.loss - reference.evaluate(samples()).loss
    chosen = {samples().index(sample) for sample in scheduler.batch}
    assert chosen == set(np.argsort(-gap, kind="stable")[:12].tolist())
    assert len([i for i in chosen if i < 12]) > 6  # mostly what the reference has seen


def test_the_contrast_of_a_growing_set_is_the_contrastive_loss_that_fine_tuning_has() -> None:
    rng = np.random.default_rng(5)
    images, texts = (torch.nn.functional.normalize(torch.from_numpy(rng.normal(size=(9, 4))), dim=-1) for _ in "it")
    captions = ["a", "b", "c", "a", "d", "e", "b", "f", "g"]
    texts[3], texts[6] = texts[0], texts[1]
    same = same_caption(captions, images.device)
    scale = torch.tensor(7.0, dtype=torch.float64)
    scores = (scale * images @ texts.T).masked_fill(same & ~torch.eye(9, dtype=torch.bool), -np.inf)
    contrast, total, chosen = Contrast(scores.numpy()), 0.0, []
    for sample in (4, 0, 3, 8, 1, 6):
        total += contrast.added(chosen)[sample]
        chosen.append(sample)
        contrast.add(sample)
        whole = contrastive_loss(images[chosen], texts[chosen], same[chosen][:, chosen], scale)
        assert total == pytest.approx(len(chosen) * float(whole), abs=1e-9)


def test_jest_draws_the_set_that_the_vlm_can_learn_to_tell_apart() -> None:
    settings = schedule(selection="jest", episodes_per_round=1000, train_fraction=0.25)
    shares = {}
    for name in ("learnable", "jest"):
        scheduler = Scheduler(tiny_vlm(), settings.model_copy(update={"selection": name}), guide=lambda: samples()[:12])
        scheduler.begin_experiment(np.random.default_rng(3))
        for _ in range(12):
            end(scheduler, samples())
        shares[name] = np.bincount([samples().index(sample) for sample in scheduler.batch], minlength=len(samples()))
    assert len(set(shares["learnable"])) == 2  # always the same ones; drawn, all have a chance
    assert shares["jest"].sum() == shares["learnable"].sum() and (shares["jest"] > 0).sum() > 6
    assert shares["jest"][:12].sum() > shares["jest"][12:].sum()  # mostly what the reference has seen
    assert shares["jest"].max() <= 12


def test_without_chance_jest_adds_what_is_learnable_beside_those_chosen_already() -> None:
    class NoChance(np.random.Generator):
        def random(self, *_: Any, **__: Any) -> Any:
            return 0.0

        def gumbel(self, *_: Any, size: int, **__: Any) -> Any:
            return np.zeros(size)

    def loss(vlm: Any, some: list[Sample]) -> float:
        """What fine-tuning would sum: against the own negatives, and within the set."""
        images = torch.nn.functional.normalize(vlm.embed_items(some), dim=-1)
        texts = torch.nn.functional.normalize(vlm.embed_texts([sample.caption for sample in some]), dim=-1)
        same = same_caption([sample.caption for sample in some], images.device)
        contrast = len(some) * float(contrastive_loss(images, texts, same, vlm.scale()))
        return contrast + float(vlm.evaluate(some).loss.sum())

    given = samples()[4:16]
    scheduler = Scheduler(tiny_vlm(), schedule(selection="jest"), guide=lambda: samples()[:12])
    reference = tiny_vlm()
    reference.finetune(samples()[:12], np.random.default_rng([0, 1]))
    expected: list[Sample] = []
    for _ in range(4):
        rest = [sample for sample in given if sample not in expected]
        with torch.no_grad():
            gains = [loss(scheduler.vlm, [*expected, one]) - loss(reference, [*expected, one]) for one in rest]
        expected.append(rest[int(np.argmax(gains))])
    feedback_ = scheduler.vlm.evaluate(given)
    chosen = scheduler._selection.choose(given, feedback_, 1 / 3, NoChance(np.random.PCG64(0)))
    assert chosen == sorted(given.index(sample) for sample in expected)
    alone = feedback_.loss - reference.evaluate(given).loss
    assert set(chosen) != set(np.argsort(-alone, kind="stable")[:4].tolist()), "the contrast within the set counts"


def test_jest_chooses_the_same_with_the_same_generator_and_copes_with_few_samples_or_one_caption() -> None:
    chosen = []
    for _ in range(2):
        scheduler = Scheduler(tiny_vlm(), schedule(selection="jest", episodes_per_round=1000), guide=samples)
        scheduler.begin_experiment(np.random.default_rng(3))
        for some in (samples()[:9], [], samples()[:1], [samples()[0]] * 3):
            end(scheduler, some)
        chosen.append([samples().index(sample) for sample in scheduler.batch])
    assert chosen[0] == chosen[1] and 5 <= len(chosen[0]) <= 8


def test_jest_refuses_a_vlm_that_tells_no_scores() -> None:
    class Silent:
        name = "silent"

        def __getattr__(self, name: str) -> Any:
            if name == "logits":
                raise AttributeError(name)
            return getattr(vlm, name)

    vlm = tiny_vlm()
    with pytest.raises(UserError, match="selection 'jest' needs a VLM with a method `logits`, and 'silent' has none"):
        Scheduler(Silent(), schedule(selection="jest"))  # type: ignore[arg-type]
