"""Pictures for people."""

from __future__ import annotations

import sys
import warnings

import numpy as np
import pytest
from env_parts import make_env, run_episode

from rls3_gym.scene.camera import camera_frame
from rls3_gym.scene.catalog import load_catalog
from rls3_registry.errors import UserError


def test_the_picture_shows_the_scene_large_with_caption_and_verdict() -> None:
    env = make_env(render_mode="rgb_array")
    env.reset(seed=0)
    env.action_space.seed(0)
    fresh = env.render()
    assert fresh.shape == (392, 320, 3) and fresh.dtype == np.uint8
    info = {"feasible": False}
    while not info["feasible"]:
        info = env.step(env.action_space.sample())[4]
    drawn = env.render()
    assert not np.array_equal(drawn[:320], fresh[:320]) and not np.array_equal(drawn[320:], fresh[320:])
    np.testing.assert_array_equal(env.render(), drawn)
    env.close()
    env.close()


def test_the_two_named_objects_are_outlined() -> None:
    env = make_env(render_mode="rgb_array", steps_per_episode=30, steps_per_scene=1)
    env.reset(seed=0)
    env.action_space.seed(0)
    info = {"feasible": False}
    while not info["feasible"]:
        info = env.step(env.action_space.sample())[4]
    picture, sample = env.render()[:320], env.unwrapped.sample
    # The next scene is set already; what is shown is what the caption speaks of.
    assert env.unwrapped.stage.arrangement.layout != sample.arrangement.layout
    outlined = {color: np.argwhere((picture == color).all(-1)) for color in ((255, 210, 60), (90, 190, 255))}
    camera = camera_frame(sample.arrangement.layout.camera)
    for slot, pixels in zip((sample.slot_a, sample.slot_b), outlined.values(), strict=True):
        thing = sample.arrangement.objects[slot]
        middle = np.array(thing.position) + [0, 0, load_catalog()[thing.kind].height / 2]
        x, y, _ = (camera.project(middle) + 1) / 2 * 320
        assert len(pixels) > 10 and np.abs(pixels.mean(0) - [y, x]).max() < 25
    step = env.step(env.action_space.sample())[4]
    assert step["n_steps"] == info["n_steps"] + 1


def test_step_and_reward_are_written_at_the_top_and_nowhere_else() -> None:
    env = make_env(render_mode="rgb_array").unwrapped
    env.reset(seed=0)
    env.step(0)
    episode = env.loop.lanes[0].episode
    before = env.render()
    for change in ({"reward": episode.reward + 1.0}, {"step": 7}):
        kept = {name: getattr(episode, name) for name in change}
        for name, value in change.items():
            setattr(episode, name, value)
        changed = (env.render() != before).any(axis=(1, 2))
        assert changed[:24].any() and not changed[24:].any()
        for name, value in kept.items():
            setattr(episode, name, value)


def test_watching_does_not_change_the_run() -> None:
    watched, alone = make_env(render_mode="rgb_array", steps_per_scene=2), make_env(steps_per_scene=2)
    rewards = []
    for env in (watched, alone):
        env.reset(seed=3)
        env.action_space.seed(3)
        row = []
        for _ in range(6):
            row.append(env.step(env.action_space.sample())[1])
            if env is watched:
                env.render()
        rewards.append((row, env.unwrapped.scheduler.vlm_digest))
    assert rewards[0] == rewards[1]


def test_a_window_opens_without_a_display(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    env = make_env(render_mode="human", steps_per_episode=2)
    env.reset(seed=0)
    run_episode(env)
    assert env.render() is None
    env.close()


def test_without_pygame_the_error_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pygame", None)
    env = make_env(render_mode="human")
    with pytest.raises(UserError, match="pip install pygame"):
        env.reset(seed=0)


def test_rendering_without_a_mode_warns_and_does_nothing() -> None:
    env = make_env().unwrapped
    env.reset(seed=0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert env.render() is None
    assert any("render_mode" in str(w.message) for w in caught)
