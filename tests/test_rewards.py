"""Rewards: what is paid, when, on what scale, and that nothing of it is lost in a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from env_parts import feedback, make_env, samples, tiny_vlm

import rls3_registry
from rls3_gym.loop.cells import ANTONYMS
from rls3_gym.loop.rewards.base import (
    MEAN_REWARD,
    REWARD_CAP,
    REWARDS,
    ExtrinsicReward,
    make_extrinsic,
    make_intrinsic,
)  # fmt: skip
from rls3_gym.loop.rewards.look_ahead import LearningProgress
from rls3_gym.sample import Sample
from rls3_gym.scene.arrangement import Reason
from rls3_gym.scene.relations import BY_TERMS, RELATIONS, Term, relation
from rls3_registry.errors import UserError


def cell(*terms: Term) -> int:
    return BY_TERMS[frozenset(terms)].index


def of_cell(*terms: Term) -> Sample:
    """A sample that is in a given cell, as far as rewards can tell."""
    offset = np.zeros(3)
    for term in terms:
        offset[term.axis] = term.sign
    sample = replace(samples()[0], offset=tuple(offset), relation=relation(np.array(offset)))
    assert sample.relation == BY_TERMS[frozenset(terms)]
    return sample


def named(name: str, steps_per_episode: int = 32, guide: Sequence[Sample] = ()) -> ExtrinsicReward:
    return make_extrinsic(name, steps_per_episode, lambda: guide)


def plain(name: str, guide: Sequence[Sample] = (), **changes: Any) -> Any:
    """A reward that is neither centered nor minds repeats: it pays what cells are worth."""
    where, spec = REWARDS.find(name)
    settings = spec.settings | {"centered": False, "repeat_weight": 1.0} | changes
    return REWARDS.build(where, spec, settings, steps_per_episode=32, guide=lambda: guide)


def test_a_cell_and_its_antonyms_are_all_that_flipping_any_of_its_terms_gives() -> None:
    alike = {i for i in range(26) if ANTONYMS[cell(Term.LEFT, Term.BEHIND), i] > 0}
    assert alike == {cell(a, b) for a in (Term.LEFT, Term.RIGHT) for b in (Term.FRONT, Term.BEHIND)}
    assert (ANTONYMS[cell(Term.ABOVE)] > 0).sum() == 2
    assert (ANTONYMS[cell(Term.ABOVE, Term.LEFT, Term.FRONT)] > 0).sum() == 8
    np.testing.assert_allclose(ANTONYMS.sum(axis=1), 1.0)


def test_the_papers_reward_is_the_episodes_error_and_comes_at_its_end() -> None:
    reward = named("episode_error", 10)
    assert not reward.immediate and reward.step_reward(samples()[0], None, None) == 0.0
    half = [i % 2 == 0 for i in range(24)]
    assert reward.episode_reward(samples(), feedback(samples(), half)) == pytest.approx(10 * MEAN_REWARD)
    assert reward.episode_reward(samples(), feedback(samples(), 1.0)) == 0.0
    assert reward.episode_reward([], feedback([], 1.0)) == 0.0


def test_the_sample_error_pays_each_sample_for_its_own_failure() -> None:
    reward, one = named("sample_error"), samples()[:1]
    assert reward.immediate
    assert reward.step_reward(one[0], feedback(one, 0.0), None) == pytest.approx(2 * MEAN_REWARD)
    assert reward.step_reward(one[0], feedback(one, 1.0), None) == 0.0
    with pytest.raises(ValueError, match="feedback"):
        reward.step_reward(one[0], None, None)


def test_turning_the_vlms_bias_round_earns_nothing_with_the_cell_error() -> None:
    reward = plain("cell_error_unweighted")
    left, right = [of_cell(Term.LEFT)], [of_cell(Term.RIGHT)]
    for _ in range(100):  # a VLM that always says "left"
        reward.episode_reward(left, feedback(left, 1.0))
        reward.episode_reward(right, feedback(right, 0.0))
    pays = [reward.step_reward(sample, None, None) for sample in (*left, *right)]
    assert pays[0] == pytest.approx(pays[1]) == pytest.approx(MEAN_REWARD, rel=0.05)


def test_the_cell_error_pays_more_where_the_vlm_is_wrong_and_what_is_rare() -> None:
    hard, easy = [of_cell(Term.LEFT)], [of_cell(Term.FRONT)]
    reward = plain("cell_error_unweighted")
    for _ in range(50):
        reward.episode_reward(hard, feedback(hard, 0.0))
        reward.episode_reward(easy, feedback(easy, 1.0))
    assert reward.step_reward(hard[0], None, None) > 1.4 * reward.step_reward(easy[0], None, None)
    weighted = plain("cell_error")
    for _ in range(300):
        weighted.step_reward(hard[0], None, None)
    assert weighted.step_reward(of_cell(Term.ABOVE), None, None) > 2 * weighted.step_reward(hard[0], None, None)


@pytest.mark.parametrize("name", ["cell_error", "cell_error_unweighted"])
def test_the_cell_error_does_not_fade_as_the_vlm_learns(name: str) -> None:
    reward, rng = plain(name), np.random.default_rng(0)
    all_cells = [of_cell(*relation.terms) for relation in RELATIONS]
    for _ in range(200):  # a VLM that is wrong once in twenty
        reward.episode_reward(all_cells, feedback(all_cells, [bool(b) for b in rng.random(26) < 0.95]))
    often = [s for s in all_cells for _ in range(1 if len(s.relation.terms) > 1 else 8)]
    paid = [reward.step_reward(sample, None, None) for _ in range(20) for sample in often]
    assert np.mean(paid[-len(often) :]) == pytest.approx(MEAN_REWARD, rel=0.1)


def test_the_cell_error_of_a_vlm_that_is_never_wrong_pays_next_to_nothing() -> None:
    reward, all_cells = plain("cell_error_unweighted"), [of_cell(*relation.terms) for relation in RELATIONS]
    for _ in range(200):
        reward.episode_reward(all_cells, feedback(all_cells, 1.0))
    assert max(reward.step_reward(sample, None, None) for sample in all_cells) < 0.1 * MEAN_REWARD


@pytest.mark.parametrize("reward", [plain("cell_error"), plain("cell_error_unweighted"), named("sample_error")])
def test_a_dense_reward_pays_a_vlm_at_chance_about_the_documented_mean(reward: ExtrinsicReward) -> None:
    reward.begin_experiment(tiny_vlm(), seed=0)
    rng = np.random.default_rng(0)
    paid = []
    for _ in range(10):
        answers = feedback(samples(), [bool(b) for b in rng.random(24) < 0.5])
        rows = [feedback([s], [bool(b)]) for s, b in zip(samples(), answers.correct, strict=True)]
        paid += [reward.step_reward(s, row, None) for s, row in zip(samples(), rows, strict=True)]
        reward.episode_reward(samples(), answers)
    assert 0.6 * MEAN_REWARD < np.mean(paid) < 1.4 * MEAN_REWARD


def test_reducible_error_pays_for_what_the_taught_copy_knows_better_and_leaves_the_vlm_alone() -> None:
    vlm, reward = tiny_vlm(), plain("reducible_error", guide=samples(24))
    digest = vlm.digest()
    reward.begin_experiment(vlm, seed=0)
    assert vlm.digest() == digest
    assert reward.step_reward(samples()[0], None, None) == MEAN_REWARD  # nothing known yet: all alike
    unsure = feedback(samples(), 0.0, p_opposite=0.0)
    for _ in range(5):
        reward.episode_reward(samples(), unsure)
    pays = [reward.step_reward(s, None, None) for s in samples()]
    assert min(pays) > 0.0 and max(pays) > MEAN_REWARD
    unmade = [r for r in RELATIONS if not any(ANTONYMS[r.index, s.relation.index] for s in samples())]
    assert unmade, "the samples hold every cell or its antonym; take fewer"
    for unseen in unmade:  # nothing was seen to be reducible there
        assert reward.step_reward(of_cell(*unseen.terms), None, None) == 0.0


def test_reducible_error_remembers_and_makes_the_same_copy_again() -> None:
    vlm = tiny_vlm()
    first, second = plain("reducible_error", guide=samples(8)), plain("reducible_error", guide=samples(8))
    first.begin_experiment(vlm, seed=5)
    first.end_round(vlm, samples()[:4])
    first.episode_reward(samples(), feedback(samples(), 0.0, p_opposite=0.3))
    second.load_state(first.state(), vlm)
    for reward in (first, second):
        reward.episode_reward(samples(), feedback(samples(), 0.0, p_opposite=0.3))
    np.testing.assert_array_equal(first.state()["gain"], second.state()["gain"])


def test_learning_progress_is_gain_per_trained_sample_on_the_guide() -> None:
    vlm = tiny_vlm()
    guide = samples(24)
    reward = plain("learning_progress", guide=guide)
    reward.begin_experiment(vlm, seed=0)
    assert reward.step_reward(guide[0], None, None) == MEAN_REWARD  # before the first round: all alike
    before = vlm.evaluate(guide).p_opposite
    for _ in range(3):
        vlm.finetune(guide, np.random.default_rng(0))
    gained = vlm.evaluate(guide).p_opposite - before
    reward.end_round(vlm, guide)
    best = guide[int(np.argmax(gained))]
    assert gained.max() > 0
    in_class = [i for i, s in enumerate(guide) if ANTONYMS[best.relation.index, s.relation.index] > 0]
    expected = max(0.0, float(gained[in_class].mean())) / (len(in_class) + LearningProgress.PRIOR)
    # The guide holds one or two samples a cell, weighted alike here, so the class mean is the gain.
    assert reward.state()["gain"][best.relation.index] == pytest.approx(expected, abs=1e-6)
    copy = plain("learning_progress", guide=guide)
    copy.load_state(reward.state(), vlm)
    assert [copy.step_reward(s, None, None) for s in guide] == [reward.step_reward(s, None, None) for s in guide]


def test_a_nudged_vlm_is_a_little_better_at_what_it_was_nudged_on_and_the_vlm_stays_as_it_is() -> None:
    vlm, guide = tiny_vlm(), samples(24)
    digest = vlm.digest()
    nudged = vlm.nudged(guide, np.random.default_rng(0), 0.02)
    before, after = vlm.evaluate(guide).loss.mean(), nudged.evaluate(guide).loss.mean()
    assert 0.8 * before < after < before
    assert vlm.digest() == digest != nudged.digest()


def test_influence_tells_a_sample_that_teaches_the_guides_lesson_from_one_that_teaches_the_opposite() -> None:
    vlm, guide = tiny_vlm(), samples(24)
    reward = make_extrinsic("influence", 32, lambda: guide)
    reward.begin_experiment(vlm, seed=0)
    assert reward.immediate
    pairs = [(sample, with_wrong_caption(sample)) for sample in guide]
    paid = np.array([[reward.step_reward(s, vlm.evaluate([s]), None) for s in pair] for pair in pairs])
    assert (paid[:, 0] > paid[:, 1]).mean() > 0.7  # the lie earns less, nearly always
    assert np.abs(paid).max() <= REWARD_CAP
    copy = make_extrinsic("influence", 32, lambda: guide)
    copy.load_state(reward.state(), vlm)
    seen = vlm.evaluate(guide[:1])
    assert copy.step_reward(guide[0], seen, None) == reward.step_reward(guide[0], seen, None)


def with_wrong_caption(sample: Sample) -> Sample:
    """The sample with one term of its caption turned, and the true caption among the negatives."""
    turned = sample.opposites[0]
    negatives = tuple(
        replace(negative, caption=sample.caption) if negative == turned else negative for negative in sample.negatives
    )
    return replace(sample, caption=turned.caption, negatives=negatives)


def test_influence_needs_a_vlm_whose_gradient_can_be_followed() -> None:
    class Fixed:
        name = "fixed"

    with pytest.raises(UserError, match="'fixed' has none"):
        make_extrinsic("influence", 32, lambda: ()).begin_experiment(Fixed(), seed=0)  # type: ignore[arg-type]


def test_an_unknown_reward_is_an_error_that_names_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'cell_error'"):
        make_extrinsic("cel_error", 4, lambda: ())
    shipped = set(rls3_registry.names("rewards"))
    assert shipped >= {"episode_error", "sample_error", "cell_error", "reducible_error", "learning_progress"}


def test_the_intrinsic_reward_tells_feasible_from_infeasible_and_reasons_apart() -> None:
    plain = make_intrinsic(0.1, -0.2)
    assert (plain(None), plain(Reason.HIDDEN)) == (0.1, -0.2)
    by_reason = make_intrinsic(0.0, {"hidden": -1.0})
    assert (by_reason(Reason.HIDDEN), by_reason(Reason.OVERLAPS_OBJECT)) == (-1.0, -0.1)


def test_an_intrinsic_reward_for_an_unknown_reason_is_refused() -> None:
    with pytest.raises(UserError, match="did you mean 'hidden'"):
        make_intrinsic(0.0, {"hiden": -1.0})


class SteadyReward:
    """A reward of somebody else's: one class."""

    immediate = False

    def __init__(self, settings: dict[str, Any], *, steps_per_episode: int, guide: object) -> None:
        self.pay = settings["pay"]

    def begin_experiment(self, vlm: object, seed: int) -> None: ...
    def end_round(self, vlm: object, trained: object) -> None: ...
    def load_state(self, state: object, vlm: object) -> None: ...

    def step_reward(self, sample: object, feedback: object, choice: object) -> float:
        return float(self.pay)

    def episode_reward(self, samples: object, feedback: object) -> float:
        return 0.0

    def state(self) -> dict[str, Any]:
        return {}


def test_a_reward_may_be_a_yaml_file_with_a_class_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "steady.yaml"
    file.write_text("plugin: test_rewards:SteadyReward\nsettings: {pay: 0.5}\n", encoding="utf-8")
    assert named(str(file)).step_reward(samples()[0], None, None) == 0.5
    env = make_env(extrinsic=str(file))
    env.reset(seed=0)
    paid = [env.step(env.action_space.sample())[4] for _ in range(6)]
    assert {info["extrinsic"] for info in paid} <= {0.0, 0.5}
    assert all(info["extrinsic"] == 0.5 for info in paid if info["feasible"])


def test_a_wrong_setting_of_a_reward_is_named(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("plugin: cell_error\nsettings: {rarty: true}\n", encoding="utf-8")
    with pytest.raises(UserError, match="unknown key 'settings.rarty'; did you mean 'rarity'"):
        named(str(file))


def test_a_centered_reward_pays_what_a_sample_is_worth_above_the_mean_of_the_choice() -> None:
    centered, uncentered = plain("cell_error_unweighted", centered=True), plain("cell_error_unweighted")
    hard, easy = of_cell(Term.LEFT), of_cell(Term.FRONT)
    for reward in (centered, uncentered):
        for _ in range(50):
            reward.episode_reward([hard, easy], feedback([hard, easy], [False, True]))
            for sample in (hard, easy):  # the scale follows what is made: let it settle
                reward.step_reward(sample, None, None)
    choice = np.array([hard.relation.index, easy.relation.index, easy.relation.index, cell(Term.ABOVE)])
    paid, worth = [
        [r.step_reward(s, None, c) for s in (hard, easy)] for r, c in ((centered, choice), (uncentered, None))
    ]
    assert paid[0] > 0 > paid[1]
    assert paid[0] - paid[1] == pytest.approx(worth[0] - worth[1], abs=0.02)
    alone = named("cell_error").step_reward(hard, None, np.array([hard.relation.index] * 8))
    assert alone == 0.0  # nothing else was on offer
    assert named("cell_error").step_reward(hard, None, None) == pytest.approx(
        plain("cell_error").step_reward(hard, None, None) - MEAN_REWARD
    )


def test_rarity_pays_what_is_seldom_made_whatever_the_vlm_says() -> None:
    reward, often = plain("rarity"), of_cell(Term.LEFT)
    for _ in range(300):
        reward.episode_reward([often], feedback([often], 0.0))
        reward.step_reward(often, None, None)
    assert reward.step_reward(of_cell(Term.ABOVE), None, None) > 2 * reward.step_reward(often, None, None)


def test_captions_of_a_length_can_be_worth_less() -> None:
    weighted = plain("rarity", length_weights=[0.5, 1, 2])
    short, middle = of_cell(Term.LEFT), of_cell(Term.LEFT, Term.FRONT)
    long = of_cell(Term.LEFT, Term.FRONT, Term.ABOVE)
    paid = [weighted.step_reward(sample, None, None) for sample in (short, middle, long)]
    same = plain("rarity")
    unweighted = [same.step_reward(sample, None, None) for sample in (short, middle, long)]
    assert np.divide(paid, unweighted) == pytest.approx([0.5, 1, 2])
    with pytest.raises(UserError, match="length_weights"):
        plain("rarity", length_weights=[1, 2])


def test_a_caption_that_a_room_has_had_before_earns_less() -> None:
    reward = plain("rarity", repeat_weight=0.5)
    first = of_cell(Term.LEFT)
    assert reward.step_reward(first, None, None) == pytest.approx(plain("rarity").step_reward(first, None, None))
    again = plain("rarity", repeat_weight=0.5)
    again.load_state(reward.state(), tiny_vlm())
    full = plain("rarity")
    full.load_state(reward.state(), tiny_vlm())
    paid = again.step_reward(first, None, None)
    assert paid == pytest.approx(0.5 * full.step_reward(first, None, None))
