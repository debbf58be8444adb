"""The scheduler: the order of things, what trains, what never does, and going on from a saved state."""

from __future__ import annotations

import numpy as np
import pytest
from env_parts import feedback, samples, tiny_vlm

from rls3_gym.loop.scheduler import EarlyStopping, Schedule, Scheduler
from rls3_gym.scene.relations import Term
from rls3_gym.vlm.feedback import join_feedback, split_feedback
from rls3_registry.errors import UserError


def begun(**schedule: object) -> Scheduler:
    scheduler = Scheduler(
        tiny_vlm(), Schedule(**{"steps_per_episode": 4, "episodes_per_round": 2, "train_fraction": 0.5} | schedule)
    )  # type: ignore[arg-type]
    scheduler.begin_experiment(np.random.default_rng(3))
    return scheduler


def test_after_E_episodes_the_vlm_is_taught_the_eta_share_and_the_batch_is_cleared() -> None:
    scheduler = begun()
    first_digest = scheduler.vlm_digest
    first = scheduler.end_episode(samples()[:4])
    assert first.report is None and len(scheduler.batch) == 2 and scheduler.vlm_digest == first_digest
    second = scheduler.end_episode(samples()[4:8])
    assert second.report is not None and len(second.trained) == 4
    assert set(second.trained) <= set(samples()[:8])
    assert (scheduler.round, scheduler.episode, scheduler.n_trained, scheduler.batch) == (1, 2, 4, [])
    assert scheduler.vlm_digest == scheduler.vlm.digest() == second.report.digest_after != first_digest


def test_a_share_that_is_no_whole_number_of_samples_is_met_on_average() -> None:
    scheduler = begun(train_fraction=0.25, episodes_per_round=1000)
    for _ in range(200):
        scheduler.end_episode(samples()[:3], split_feedback(feedback(samples()[:3], 1.0)))
    assert 100 < len(scheduler.batch) < 200  # 0.75 a time: 150 expected


def test_an_episode_without_samples_counts_but_trains_nothing() -> None:
    scheduler = begun(episodes_per_round=1)
    outcome = scheduler.end_episode([])
    assert len(outcome.feedback) == 0 and outcome.report is None
    assert (scheduler.episode, scheduler.round) == (1, 0)


def test_feedback_given_sample_by_sample_is_not_asked_for_again() -> None:
    scheduler = begun(episodes_per_round=1000)
    scored = split_feedback(feedback(samples()[:3], [True, False, True]))
    outcome = scheduler.end_episode(samples()[:3], scored)
    np.testing.assert_array_equal(outcome.feedback.correct, [True, False, True])
    together = scheduler.end_episode(samples()[:3]).feedback
    one_by_one = join_feedback([scheduler.score(s) for s in samples()[:3]])
    np.testing.assert_allclose(together.margin, one_by_one.margin, atol=1e-4)


def test_without_finetuning_the_vlm_never_changes() -> None:
    scheduler = begun(finetune=False, episodes_per_round=1)
    digest = scheduler.vlm.digest()
    for _ in range(3):
        assert scheduler.end_episode(samples()[:4]).report is None
    assert scheduler.vlm.digest() == digest and (scheduler.round, scheduler.batch) == (0, [])


def test_a_sample_of_a_held_out_scene_is_refused_by_its_key() -> None:
    sample = samples()[0]
    scheduler = Scheduler(tiny_vlm(), Schedule(4, 2, 1.0), held_out=frozenset({sample.scene_key}))
    with pytest.raises(UserError, match=sample.scene_key):
        scheduler.end_episode([sample])
    assert scheduler.episode == 0 and scheduler.batch == []


def test_a_new_experiment_starts_from_the_first_weights_with_all_counters_zero() -> None:
    scheduler = begun(episodes_per_round=1)
    first_digest = scheduler.vlm_digest
    scheduler.count_step(samples()[0])
    scheduler.end_episode(samples()[:4])
    assert scheduler.vlm_digest != first_digest
    scheduler.begin_experiment(np.random.default_rng(3))
    assert scheduler.vlm.digest() == scheduler.vlm_digest == first_digest
    counters = (scheduler.n_steps, scheduler.n_generated, scheduler.n_trained, scheduler.episode, scheduler.round)
    assert counters == (0, 0, 0, 0, 0)
    assert (scheduler.term_error == 0.5).all()


def test_running_errors_follow_the_vlm_and_are_averaged_over_antonyms() -> None:
    scheduler = begun(episodes_per_round=1000)
    for _ in range(40):
        scheduler.end_episode(samples(), split_feedback(feedback(samples(), 0.0)))
    made = {term for sample in samples() for term in sample.relation.terms}
    assert all(scheduler.term_error[term] > 0.7 for term in made)
    assert all(scheduler.term_error[term] == 0.5 for term in set(Term) - made)
    np.testing.assert_allclose(scheduler.axis_error[0], scheduler.term_error[:2].mean())
    complexities = {sample.relation.complexity for sample in samples()}
    assert all(scheduler.complexity_error[c - 1] > 0.7 for c in complexities)


def test_early_stopping_ends_finetuning_for_good_and_says_so() -> None:
    stopping = EarlyStopping(samples()[:4], patience=1)
    scheduler = Scheduler(tiny_vlm(), Schedule(4, 1, 1.0), early_stopping=stopping)
    scheduler.begin_experiment(np.random.default_rng(0))
    stopping.best = 1.0  # nothing can be better
    assert scheduler.end_episode(samples()[:4]).report is not None
    assert scheduler.early_stopped
    digest = scheduler.vlm_digest
    assert scheduler.end_episode(samples()[:4]).report is None
    assert scheduler.vlm.digest() == digest
    scheduler.begin_experiment(np.random.default_rng(0))
    assert not scheduler.early_stopped


def test_a_restored_scheduler_goes_on_exactly_as_the_first_would_have() -> None:
    first, second = begun(train_fraction=0.7), begun(train_fraction=0.7)
    second.begin_experiment(np.random.default_rng(99))
    first.end_episode(samples()[:5])
    first.end_episode(samples()[5:9])
    first.end_episode(samples()[9:13])
    second.load_state(first.state())
    outcomes = [scheduler.end_episode(samples()[13:18]) for scheduler in (first, second)]
    assert outcomes[0].trained == outcomes[1].trained
    assert first.vlm_digest == second.vlm_digest and first.round == second.round == 2
    np.testing.assert_array_equal(first.term_error, second.term_error)


def test_a_state_of_other_weights_is_refused_where_they_cannot_be_loaded() -> None:
    frozen = begun(finetune=False)
    state = frozen.state() | {"vlm_digest": "0" * 12}
    with pytest.raises(UserError, match="000000000000"):
        frozen.load_state(state)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"steps_per_episode": 0}, "steps_per_episode must be a whole number >= 1, not 0"),
        ({"episodes_per_round": 0}, "episodes_per_round must be a whole number >= 1, not 0"),
        ({"steps_per_episode": 2.5}, "steps_per_episode must be a whole number"),
        ({"episodes_per_round": True}, "episodes_per_round must be a whole number"),
        ({"train_fraction": 0}, r"train_fraction must be a number in \(0, 1\], not 0"),
        ({"train_fraction": 1.5}, r"train_fraction must be a number in \(0, 1\], not 1.5"),
        ({"train_fraction": "all"}, "train_fraction must be a number"),
        ({"train_fraction": float("nan")}, "train_fraction must be a number"),
        ({"finetune": "no"}, "finetune must be true or false"),
    ],
)
def test_numbers_out_of_range_are_refused_in_one_line(arguments: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Schedule(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("patience", [0, -1, 2.5, True])
def test_a_patience_that_is_no_number_of_rounds_is_refused(patience: object) -> None:
    with pytest.raises(UserError, match="early_stopping must be a whole number of rounds >= 1"):
        EarlyStopping(samples()[:1], patience)  # type: ignore[arg-type]
