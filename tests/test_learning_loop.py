"""The learning loop: any number of lanes, one VLM."""

from __future__ import annotations

import copy
from typing import Any

import gymnasium
import numpy as np
import pytest
from env_parts import ROOMS, tiny_vlm
from gymnasium.utils.env_checker import data_equivalence

from rls3_gym.loop.learning_loop import LearningLoop, LoopSettings
from rls3_registry.errors import UserError

STEPS = 4


def begun(lanes: int = 3, **settings: Any) -> LearningLoop:
    defaults = {"steps_per_episode": STEPS, "episodes_per_round": 2, "train_fraction": 1.0, "families": ROOMS}
    loop = LearningLoop(tiny_vlm(), LoopSettings(**(defaults | settings)), lanes=lanes)
    loop.begin_experiment([np.random.default_rng([5, lane]) for lane in range(lanes)])
    for lane in range(lanes):
        loop.begin_episode(lane)
    return loop


def random_steps(loop: LearningLoop, lanes: list[int]) -> dict[int, Any]:
    """One uniform edit on each of some lanes; the next episode begins where one ends."""
    edits = {n: loop.lanes[n].stage.random_edit(loop.lanes[n].rng) for n in lanes}
    taken = loop.step(edits)
    for number, step in taken.items():
        if step.ended:
            loop.begin_episode(number)
    return taken


def test_lanes_share_one_vlm_and_counts_are_over_all_of_them() -> None:
    loop = begun()
    infos = [step.info for _ in range(2 * STEPS) for step in random_steps(loop, [0, 1, 2]).values()]
    assert infos[-1]["n_steps"] == 3 * 2 * STEPS and infos[-1]["n_episodes"] == 6
    assert infos[-1]["n_generated"] == sum(info["feasible"] for info in infos)
    taught = [info["finetune"] for info in infos if info["finetune"]["n_samples"]]
    assert len(taught) == infos[-1]["round"] == 3  # six episodes, two to a round
    assert loop.scheduler.vlm.digest() == infos[-1]["vlm_digest"] == taught[-1]["digest_after"]


def test_lanes_draw_from_their_own_generators_whatever_the_others_do() -> None:
    together, alone = begun(2, finetune=False), begun(2, finetune=False)
    for _ in range(STEPS):
        random_steps(together, [0, 1])
        random_steps(alone, [1])
    assert together.lanes[1].stage.arrangement == alone.lanes[1].stage.arrangement


def test_the_vlm_is_asked_about_every_sample_once_while_the_lanes_take_their_next_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop, asked = begun(), []
    evaluate = loop.scheduler.vlm.evaluate
    monkeypatch.setattr(loop.scheduler.vlm, "evaluate", lambda items: asked.append(len(items)) or evaluate(items))
    made = [sum(step.info["feasible"] for step in random_steps(loop, [0, 1, 2]).values()) for _ in range(STEPS)]
    assert asked == [n for n in made if n]


def test_what_the_vlm_said_before_it_was_taught_is_not_what_an_episode_ends_with() -> None:
    loop = begun(2, episodes_per_round=1)
    while not loop.lanes[1].episode.scored:  # one lane is asked about ahead,
        random_steps(loop, [1])
    while random_steps(loop, [0])[0].report is None:  # then the other lane brings a round
        pass
    episode, vlm = loop.lanes[1].episode, copy.deepcopy(loop.scheduler.vlm)
    assert episode.samples and not episode.scored
    while loop.lanes[1].episode is episode:
        ended = random_steps(loop, [1])[1]
    assert np.allclose(ended.feedback.margin, vlm.evaluate(episode.samples).margin, atol=1e-4)


def test_every_lane_counts_with_the_vlm_and_the_reward_as_the_lanes_before_it_left_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop = begun(episodes_per_round=1)
    vlm, told, followed = loop.scheduler.vlm, [], []
    monkeypatch.setattr(loop.extrinsic, "end_round", lambda vlm, trained: told.append((vlm.digest(), len(trained))))
    loop.follower = lambda step: followed.append((step, vlm.digest()))
    steps = [step for _ in range(2 * STEPS) for step in random_steps(loop, [0, 1, 2]).values()]
    assert [step for step, _ in followed] == steps
    assert [digest for _, digest in followed] == [step.info["vlm_digest"] for step in steps]
    reports = [step.report for step in steps if step.report is not None]
    assert told == [(report.digest_after, report.n_samples) for report in reports]
    assert len({digest for digest, _ in told}) == loop.scheduler.round > 2  # two steps ended so many rounds


def test_a_reward_of_the_step_asks_the_vlm_once_for_all_lanes(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, asked = begun(extrinsic="sample_error"), []
    evaluate = loop.scheduler.vlm.evaluate
    monkeypatch.setattr(loop.scheduler.vlm, "evaluate", lambda items: asked.append(len(items)) or evaluate(items))
    made = [sum(s.info["feasible"] for s in random_steps(loop, [0, 1, 2]).values()) for _ in range(STEPS - 1)]
    assert asked == [n for n in made if n]


def test_a_loop_of_several_lanes_goes_on_from_its_state() -> None:
    first, second = begun(2), begun(2)
    for _ in range(5):
        random_steps(first, [0, 1])
    random_steps(first, [0])  # one lane is ahead
    second.load_state(first.state())
    for _ in range(7):
        infos = [[step.info for step in random_steps(loop, [0, 1]).values()] for loop in (first, second)]
        for info in (info for side in infos for info in side):
            info["finetune"].pop("seconds")
        assert data_equivalence(*infos, exact=True)


def test_a_new_experiment_begins_with_the_first_family_again() -> None:
    loop = begun(1)
    first = loop.lanes[0].stage.arrangement
    loop.begin_episode()
    loop.begin_experiment([np.random.default_rng([5, 0])])
    loop.begin_episode()
    assert loop.lanes[0].stage.arrangement == first


def test_a_step_on_a_lane_whose_episode_is_over_asks_for_a_reset_and_changes_nothing() -> None:
    loop = begun(2)
    for _ in range(STEPS):
        loop.step({0: None})
    before = loop.scheduler.n_steps
    with pytest.raises(gymnasium.error.ResetNeeded, match="call reset"):
        loop.step({0: None, 1: None})
    assert loop.scheduler.n_steps == before and loop.lanes[1].episode.step == 0


def test_unknown_names_are_refused_when_the_loop_is_built() -> None:
    for settings, said in (({"families": ("kitchn",)}, "'kitchen'"), ({"extrinsic": "cel_error"}, "'cell_error'")):
        with pytest.raises(UserError, match=f"did you mean {said}"):
            begun(1, **settings)
