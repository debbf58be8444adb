"""What actions mean and what agents see."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from env_parts import make_env
from gymnasium import spaces

from rls3_gym.envs.observations import StateView
from rls3_gym.envs.views import BoxView, MultiDiscreteView, RelationView, make_view
from rls3_gym.scene.relations import RELATIONS
from rls3_registry.errors import UserError


@pytest.fixture(scope="module")
def env() -> gymnasium.Env:
    env = make_env(observation="dict").unwrapped
    env.reset(seed=11)
    return env


def test_the_corners_of_the_box_are_the_corners_of_the_stage(env: gymnasium.Env) -> None:
    view, stage, rng = BoxView(env.stage.kinds), env.stage, np.random.default_rng(0)
    x0, x1, y0, y1 = stage.arrangement.layout.stage
    low = view.decode(np.full(5, -1.0), stage, rng)
    high = view.decode(np.full(5, 1.0), stage, rng)
    assert (low.slot, low.x, low.y, low.level) == (0, x0, y0, 0.0)
    assert (high.slot, high.x, high.y, high.level) == (2, x1, y1, 1.0)
    beyond = view.decode(np.full(5, 9.0), stage, rng)
    assert (beyond.x, beyond.y) == (x1, y1)


def test_every_kind_of_the_container_can_be_chosen_and_none_that_stands_in_another_slot(env: gymnasium.Env) -> None:
    stage, rng = env.stage, np.random.default_rng(0)
    others = {o.kind for o in stage.arrangement.objects[1:]}
    n = len(stage.kinds) - 2
    box = BoxView(stage.kinds)
    by_box = [box.decode(np.array([-1, 2 * (i + 0.5) / n - 1, 0, 0, 0]), stage, rng).kind for i in range(n)]
    cells = MultiDiscreteView(stage.kinds)
    by_cell = [cells.decode(np.array([0, i, 0, 0, 0]), stage, rng).kind for i in range(n)]
    assert by_box == by_cell and set(by_box) == set(stage.kinds) - others


def test_a_multi_discrete_action_names_a_cell_of_the_floor_plan(env: gymnasium.Env) -> None:
    view, rng = MultiDiscreteView(env.stage.kinds), np.random.default_rng(0)
    x0, x1, y0, y1 = env.stage.arrangement.layout.stage
    for _ in range(20):
        edit = view.decode(np.array([1, 0, 0, 11, 3]), env.stage, rng)
        assert edit.slot == 1 and edit.level == 1.0
        assert x0 <= edit.x <= x0 + (x1 - x0) / 12 and y1 - (y1 - y0) / 12 <= edit.y <= y1


def test_a_relation_action_gives_a_sample_of_that_relation() -> None:
    env = make_env("RLS3SceneRelation-v0", steps_per_episode=200, episodes_per_round=100).unwrapped
    env.reset(seed=4)
    reached = set()
    for cell in (0, 2, 4, 6):  # the four plain directions
        for slot in (0, 1, 2, 0, 1, 2):
            info = env.step(slot * 26 + cell)[4]
            if info["feasible"]:
                assert info["sample"].relation == RELATIONS[cell]
                assert info["sample"].provenance["slot_a"] == slot
                reached.add(cell)
    assert len(reached) >= 3


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
    ],
)
def test_an_action_outside_the_space_is_refused(env: gymnasium.Env, view: str, action: object) -> None:
    with pytest.raises(UserError, match=f"a {view} action is"):
        make_view(view, env.stage.kinds).decode(action, env.stage, np.random.default_rng(0))


def test_the_relation_view_has_an_action_for_every_slot_and_cell() -> None:
    assert RelationView(()).space == spaces.Discrete(78)


def test_the_state_says_what_stands_where_and_how_often_the_vlm_is_wrong(env: gymnasium.Env) -> None:
    view = StateView(env.stage.kinds)
    arrangement = env.stage.arrangement
    env.scheduler._term_error.values[:] = [1.0, 0.5, 0.0, 0.0, 0.5, 0.5]
    state = view.observe(env.stage, env.scheduler, step=3)
    assert state in view.space and state.dtype == np.float32
    assert list(view.slices) == ["room", "surfaces", "objects", "step", "error", "complexity"]
    assert view.slices["complexity"].stop == len(state)
    objects = state[view.slices["objects"]].reshape(3, 10)
    np.testing.assert_allclose(objects[:, 3:6], arrangement.camera_positions(), atol=1e-5)
    assert (np.abs(objects[:, :3]) <= 1).all()
    assert state[view.slices["step"]] == pytest.approx(3 / env.scheduler.schedule.steps_per_episode)
    np.testing.assert_allclose(state[view.slices["error"]], [0.5, -1.0, 0.0])
    assert state[view.slices["room"]][:5].sum() == 1.0
    heights = state[view.slices["surfaces"]].reshape(-1, 3)[:, 2]
    assert heights[0] == pytest.approx(max(s.z for s in arrangement.layout.surfaces))


def test_the_place_of_an_object_in_the_state_is_spelled_as_the_box_action_would(env: gymnasium.Env) -> None:
    view, box = StateView(env.stage.kinds), BoxView(env.stage.kinds)
    state = view.observe(env.stage, env.scheduler, 0)
    objects = state[view.slices["objects"]].reshape(3, 10)
    for slot, thing in enumerate(env.stage.arrangement.objects):
        action = np.array([slot - 1, 0, *objects[slot, 1:3], 0])
        edit = box.decode(action, env.stage, np.random.default_rng(0))
        assert (edit.x, edit.y) == pytest.approx(thing.position[:2], abs=1e-4)


def test_the_pixels_are_the_last_samples_picture_and_stay_when_an_edit_fails() -> None:
    env = make_env("RLS3ScenePixels-v0", steps_per_episode=30, episodes_per_round=100).unwrapped
    picture, _ = env.reset(seed=8)
    env.action_space.seed(8)
    for _ in range(12):
        last, (picture, _, _, _, info) = picture, env.step(env.action_space.sample())
        expected = info["sample"].rgb if info["feasible"] else last
        np.testing.assert_array_equal(picture, expected)
