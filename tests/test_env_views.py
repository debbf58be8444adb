"""What actions mean and what agents see."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
import pytest
from env_parts import feedback, make_env, samples
from gymnasium import spaces
from scipy.stats import chi2_contingency

from rls3_gym.envs.observations import StateView
from rls3_gym.envs.scene_env import RLS3SceneEnv
from rls3_gym.envs.settings import EnvironmentSettings
from rls3_gym.envs.views import (
    FEATURES,
    RELATION_FEATURES,
    VIEWS,
    ActionView,
    RelationView,
    cell_features,
    proposal_features,
)
from rls3_gym.loop.cells import ANTONYMS, CellRecord, Cells
from rls3_gym.loop.lane import Lane
from rls3_gym.scene.arrangement import Reason, place
from rls3_gym.scene.relations import RELATIONS
from rls3_registry.errors import UserError


@pytest.fixture(scope="module")
def env() -> gymnasium.Env:
    env = make_env(observation="dict", proposals=8).unwrapped
    env.reset(seed=11)
    return env


@pytest.fixture
def lane(env: gymnasium.Env) -> Lane:
    return replace(env.loop.lanes[0], rng=np.random.default_rng(0))


def make_view(name: str, lane: Lane, **settings: Any) -> ActionView:
    return VIEWS[name](lane.stage.kinds, EnvironmentSettings(action_view=name, proposals=8, **settings))


def test_the_corners_of_the_box_are_the_corners_of_the_stage(lane: Lane) -> None:
    view = make_view("box", lane)
    x0, x1, y0, y1 = lane.stage.arrangement.layout.stage
    low, high, beyond = (view.decode(np.full(5, value), lane) for value in (-1.0, 1.0, 9.0))
    assert (low.slot, low.x, low.y, low.level) == (0, x0, y0, 0.0)
    assert (high.slot, high.x, high.y, high.level) == (2, x1, y1, 1.0)
    assert (beyond.x, beyond.y) == (x1, y1)
    assert low.reference is None


def test_every_kind_of_the_container_can_be_chosen_and_none_that_stands_in_another_slot(lane: Lane) -> None:
    stage = lane.stage
    others = {o.kind for o in stage.arrangement.objects[1:]}
    n = len(stage.kinds) - 2
    box, cells = make_view("box", lane), make_view("multi_discrete", lane)
    by_box = [box.decode(np.array([-1, 2 * (i + 0.5) / n - 1, 0, 0, 0]), lane).kind for i in range(n)]
    by_cell = [cells.decode(np.array([0, i, 0, 0, 0]), lane).kind for i in range(n)]
    assert by_box == by_cell and set(by_box) == set(stage.kinds) - others


def test_the_box_can_choose_the_reference(lane: Lane) -> None:
    view = make_view("box", lane, choose_reference=True)
    assert view.space.shape == (6,)
    chosen = {view.decode(np.array([s, 0, 0, 0, 1, r]), lane).reference for s in (-1, 0, 1) for r in (-1, 1)}
    assert chosen == {0, 1, 2}
    assert view.decode(np.array([-1, 0, 0, 0, 1, -1]), lane).reference == 1


def test_a_snapping_box_makes_every_action_geometrically_feasible(lane: Lane) -> None:
    plain, snapping = make_view("box", lane), make_view("box", lane, snap=True)
    actions = np.random.default_rng(2).uniform(-1, 1, (60, 5))
    infeasible = 0
    for action in actions:
        asked, made = plain.decode(action, lane), snapping.decode(action, lane)
        feasible = place(lane.stage.arrangement, asked).feasible
        infeasible += not feasible
        assert place(lane.stage.arrangement, made).feasible
        assert (made.slot, made.kind, made.level) == (asked.slot, asked.kind, asked.level)
        assert not feasible or (made.x, made.y) == (asked.x, asked.y)
    assert infeasible > 20


def test_a_multi_discrete_action_names_a_cell_of_the_floor_plan(lane: Lane) -> None:
    view = make_view("multi_discrete", lane)
    x0, x1, y0, y1 = lane.stage.arrangement.layout.stage
    for _ in range(20):
        edit = view.decode(np.array([1, 0, 0, 11, 3]), lane)
        assert edit.slot == 1 and edit.level == 1.0
        assert x0 <= edit.x <= x0 + (x1 - x0) / 12 and y1 - (y1 - y0) / 12 <= edit.y <= y1


def test_a_preference_makes_the_proposal_that_fits_it_best(lane: Lane) -> None:
    view = make_view("preference", lane)
    features = proposal_features(lane.proposals, lane.cells)
    assert features.shape == (8, FEATURES)
    rng = np.random.default_rng(3)
    for _ in range(50):
        weights = rng.uniform(-1, 1, FEATURES)
        chosen = lane.proposals.edits.index(view.decode(weights, lane))
        assert features[chosen] @ weights == pytest.approx((features @ weights).max())


def test_every_relation_cell_can_be_asked_for_by_a_preference() -> None:
    """Its own features are the weights under which it scores highest of all cells, and no other scores as high."""
    cells = np.arange(len(RELATIONS))
    features = proposal_features(proposals_of(cells), CellRecord())[:, :RELATION_FEATURES]
    scores = features @ features.T
    assert (scores.argmax(axis=1) == cells).all()
    assert (np.sort(scores, axis=1)[:, -1] > np.sort(scores, axis=1)[:, -2] + 0.1).all()


def test_uniform_preferences_favor_no_caption_length() -> None:
    rng = np.random.default_rng(0)
    lengths = np.array([relation.complexity for relation in RELATIONS])
    drawn = np.array([rng.choice(np.flatnonzero(lengths == n)) for n in (1, 2, 3)] * 3000).reshape(3000, 3)
    weights = rng.uniform(-1, 1, (3000, FEATURES))
    record = CellRecord()
    features = [proposal_features(proposals_of(c), record) for c in drawn]
    picks = [int((f @ w).argmax()) for f, w in zip(features, weights, strict=True)]
    shares = np.bincount(picks, minlength=3) / 3000
    assert (np.abs(shares - 1 / 3) < 0.04).all(), shares


def test_the_last_two_features_tell_how_seldom_a_cell_was_made_and_how_wrong_the_vlm_is_there() -> None:
    made, record = samples()[0], CellRecord()
    for _ in range(60):
        record.count(made)
        record.judge([made], feedback([made], 0.0))
    cells = np.arange(len(RELATIONS))
    scarcity, error = proposal_features(proposals_of(cells), record)[:, RELATION_FEATURES:].T
    assert scarcity.argmin() == made.relation.index and error[made.relation.index] == error.max() > 0
    assert (np.abs([scarcity, error]) <= 1).all()
    assert error[ANTONYMS[made.relation.index] == 0] == pytest.approx(0.0)


def proposals_of(cells: np.ndarray) -> Any:
    """Proposals that are nothing but their relation cells."""
    return SimpleNamespace(relations=cells)


def test_a_selection_makes_the_proposal_of_its_number_and_masks_what_is_not_there(lane: Lane) -> None:
    view = make_view("select", lane)
    assert view.space == spaces.Discrete(8)
    assert [view.decode(i, lane) for i in range(8)] == list(lane.proposals.edits)
    assert view.masks(lane).all()
    few = replace(lane, proposals=lane.stage.proposals(lane.rng, 3))
    assert view.masks(few).tolist() == [True] * 3 + [False] * 5
    assert view.decode(5, few) is None


def test_choosing_uniformly_among_proposals_is_the_random_sampler() -> None:
    """Terms and lengths of samples as a uniform selection makes them, and as uniform box actions do."""
    made = {}
    for view in ("select", "box"):
        # Every step in a fresh scene: where an episode stays in one room, its samples depend on each other.
        env = make_env(action_view=view, steps_per_episode=600, steps_per_scene=1, finetune=False)
        env.reset(seed=1)
        env.action_space.seed(1)
        infos = [env.step(env.action_space.sample())[4] for _ in range(600)]
        made_cells = [RELATIONS[info["cell"]] for info in infos if info["feasible"]]
        counts = [r.complexity - 1 for r in made_cells] + [3 + t for r in made_cells for t in r.terms]
        made[view] = np.bincount(counts, minlength=9)
    assert made["select"][:3].sum() > 2 * made["box"][:3].sum()  # proposals are feasible
    lengths = np.stack([made["select"][:3], made["box"][:3]])
    terms = np.stack([made["select"][3:], made["box"][3:]])
    assert chi2_contingency(lengths).pvalue > 0.01
    assert chi2_contingency(terms).pvalue > 0.01


def ask_for_relations(env: RLS3SceneEnv, steps: int) -> tuple[Cells, list[str]]:
    """Cells, always one of those on offer that was asked for least, and the reasons why they were not made, "" where
    they were."""
    rng = np.random.default_rng(4)
    asked: list[int] = []
    reasons: list[str] = []
    env.reset(seed=4)
    while len(asked) < steps:
        masks = env.action_masks().reshape(-1, 26)
        times = np.where(masks.any(axis=0), np.bincount(np.array(asked, np.int64), minlength=26), np.inf)
        cell = int(rng.choice(np.flatnonzero(times == times.min())))
        slot = int(rng.choice(np.flatnonzero(masks[:, cell])))
        _, _, _, ended, info = env.step(slot * 26 + cell)
        if info["feasible"]:
            assert (info["cell"], info["slot"]) == (cell, slot)
        asked.append(cell)
        reasons.append(info["reason"])
        if ended:
            env.reset()
    return np.array(asked), reasons


def test_a_relation_that_is_on_offer_is_made_in_nearly_every_step() -> None:
    env = make_env("RLS3SceneRelation-v0", steps_per_scene=8, finetune=False).unwrapped
    _, reasons = ask_for_relations(env, 200)
    assert reasons.count("") >= 0.95 * len(reasons)
    assert set(reasons) <= {"", Reason.HIDDEN, Reason.TOO_SMALL}


@pytest.mark.slow
def test_every_relation_that_is_on_offer_is_made_in_four_of_five_steps() -> None:
    env = make_env("RLS3SceneRelation-v0", steps_per_scene=4, finetune=False).unwrapped
    asked, reasons = ask_for_relations(env, 2500)
    made = np.array([reason == "" for reason in reasons])
    shares = [made[asked == cell].mean() for cell in range(26)]
    assert min(np.bincount(asked, minlength=26)) >= 25
    assert min(shares) >= 0.8, dict(zip([r.label for r in RELATIONS], shares, strict=True))


def test_a_relation_that_is_not_on_offer_has_no_place() -> None:
    env = make_env("RLS3SceneRelation-v0", steps_per_episode=300, steps_per_scene=1, finetune=False).unwrapped
    env.reset(seed=4)
    refused = 0
    for _ in range(30):
        masked = np.flatnonzero(~env.action_masks())
        if len(masked):
            assert env.step(int(masked[0]))[4]["reason"] == Reason.NO_PLACE
            refused += 1
    assert refused > 5


@pytest.mark.parametrize("view", ["preference", "box", "multi_discrete"])
def test_actions_that_are_not_numbered_have_no_masks(view: str) -> None:
    env = make_env(action_view=view).unwrapped
    env.reset(seed=0)
    with pytest.raises(UserError, match="has no numbered actions to mask"):
        env.action_masks()


@pytest.mark.parametrize("view", ["select", "relation", "preference"])
def test_what_is_on_offer_is_the_same_after_a_state_is_restored(view: str) -> None:
    first, second = (make_env(action_view=view, steps_per_episode=40).unwrapped for _ in range(2))
    first.reset(seed=2)
    second.reset(seed=3)
    first.action_space.seed(2)
    actions = [first.action_space.sample() for _ in range(20)]
    for action in actions[:7]:
        first.step(action)
    second.load_state(first.state())
    for action in actions[7:]:
        np.testing.assert_array_equal(first.observation(), second.observation())
        assert first.step(action)[4]["caption"] == second.step(action)[4]["caption"]


def test_scenes_cycle_within_an_episode() -> None:
    env = make_env(steps_per_episode=12, steps_per_scene=5, families=["kitchen", "bedroom"]).unwrapped
    env.reset(seed=0)
    families = [env.stage.arrangement.layout.family]
    for _ in range(12):
        env.step(env.action_space.sample())
        families.append(env.stage.arrangement.layout.family)
    assert families == ["kitchen"] * 5 + ["bedroom"] * 5 + ["kitchen"] * 3
    assert make_env(action_view="box").unwrapped.loop.steps_per_scene == 6  # the whole episode
    assert make_env(action_view="select").unwrapped.loop.steps_per_scene == 10


@pytest.mark.parametrize(
    ("view", "action"),
    [
        ("box", np.zeros(4)),
        ("box", np.array([0, 0, np.nan, 0, 0])),
        ("multi_discrete", np.array([3, 0, 0, 0, 0])),
        ("multi_discrete", np.array([0, -1, 0, 0, 0])),
        ("relation", 78),
        ("relation", np.array([1, 2])),
        ("relation", 3.7),
        ("relation", "5"),
        ("relation", True),
        ("relation", None),
        ("relation", {}),
        ("multi_discrete", [0.5] * 5),
        ("multi_discrete", ["a"] * 5),
        ("multi_discrete", [[1, 2], [3]]),
        ("box", "abc"),
        ("box", [1j] * 5),
        ("box", [None] * 5),
        ("preference", np.zeros(5)),
        ("preference", np.full(9, np.inf)),
        ("select", 8),
        ("select", -1),
        ("select", 1.0),
    ],
)
def test_an_action_outside_the_space_is_refused(lane: Lane, view: str, action: object) -> None:
    with pytest.raises(UserError, match=f"a {view} action is"):
        make_view(view, lane).decode(action, lane)


def test_the_relation_view_has_an_action_for_every_slot_and_cell() -> None:
    assert RelationView((), EnvironmentSettings()).space == spaces.Discrete(78)


def test_the_state_says_what_stands_where_and_how_often_the_vlm_is_wrong(env: gymnasium.Env, lane: Lane) -> None:
    view = StateView(lane.stage.kinds, "box", 8)
    arrangement = lane.stage.arrangement
    env.scheduler._term_error.values[:] = [1.0, 0.5, 0.0, 0.0, 0.5, 0.5]
    lane.episode = replace(lane.episode, step=3)
    state = view.observe(lane, env.scheduler)
    assert state in view.space and state.dtype == np.float32
    assert list(view.slices) == ["room", "surfaces", "floor", "objects", "step", "round", "error", "complexity", "made"]
    assert view.slices["made"].stop == len(state)
    objects = state[view.slices["objects"]].reshape(3, 10)
    np.testing.assert_allclose(objects[:, 3:6], arrangement.camera_positions(), atol=1e-5)
    assert (np.abs(objects[:, :3]) <= 1).all()
    assert state[view.slices["step"]] == pytest.approx(3 / env.scheduler.schedule.steps_per_episode)
    np.testing.assert_allclose(state[view.slices["error"]], [0.5, -1.0, 0.0])
    assert state[view.slices["room"]][:5].sum() == 1.0
    heights = state[view.slices["surfaces"]].reshape(-1, 3)[:, 2]
    assert heights[0] == pytest.approx(max(s.z for s in arrangement.layout.surfaces))
    blocked = state[view.slices["floor"]].reshape(12, 12, 2)[..., 1]
    assert 0 < blocked.mean() < 1


def test_the_state_of_a_choosing_view_holds_the_proposals_instead_of_the_room(env: gymnasium.Env, lane: Lane) -> None:
    features = proposal_features(lane.proposals, lane.cells)
    each, mean = (StateView(lane.stage.kinds, name, 8) for name in ("select", "preference"))
    assert list(each.slices) == list(mean.slices) == ["proposals", "step", "round", "error", "complexity", "made"]
    np.testing.assert_allclose(each.observe(lane, env.scheduler)[each.slices["proposals"]], features.ravel(), rtol=1e-6)
    np.testing.assert_allclose(mean.observe(lane, env.scheduler)[mean.slices["proposals"]], features.mean(0), rtol=1e-6)


def test_the_state_of_the_relation_view_holds_the_cells_that_can_be_had() -> None:
    env = make_env("RLS3SceneRelation-v0", steps_per_episode=40, episodes_per_round=9, finetune=False).unwrapped
    state, _ = env.reset(seed=3)
    view = env.observer.state
    assert list(view.slices) == ["relations", "step", "round", "error", "complexity", "made"]
    for _ in range(20):
        rows = state[view.slices["relations"]].reshape(78, FEATURES)
        masks = env.action_masks()
        assert not rows[~masks].any() and 0 < masks.sum() < 78
        np.testing.assert_allclose(rows[masks], np.tile(cell_features(env.loop.lane().cells), (3, 1))[masks], rtol=1e-6)
        state, *_ = env.step(int(np.flatnonzero(masks)[0]))
    scarcity = rows[masks][:, -2]
    assert scarcity.min() < 0 < scarcity.max()  # what was made is told


def test_the_place_of_an_object_in_the_state_is_spelled_as_the_box_action_would(env: gymnasium.Env, lane: Lane) -> None:
    view, box = StateView(lane.stage.kinds, "box", 8), make_view("box", lane)
    state = view.observe(lane, env.scheduler)
    objects = state[view.slices["objects"]].reshape(3, 10)
    for slot, thing in enumerate(lane.stage.arrangement.objects):
        edit = box.decode(np.array([slot - 1, 0, *objects[slot, 1:3], 0]), lane)
        assert (edit.x, edit.y) == pytest.approx(thing.position[:2], abs=1e-4)


def test_the_pixels_are_the_last_samples_picture_and_stay_when_an_edit_fails() -> None:
    env = make_env("RLS3ScenePixels-v0", action_view="box", steps_per_episode=30, episodes_per_round=100).unwrapped
    picture, _ = env.reset(seed=8)
    env.action_space.seed(8)
    for _ in range(12):
        last, (picture, _, _, _, info) = picture, env.step(env.action_space.sample())
        expected = env.sample.rgb if info["feasible"] else last
        np.testing.assert_array_equal(picture, expected)
