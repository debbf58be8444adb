"""The environment: Gymnasium's and SB3's contracts, the paper's loop, seeds, and arguments that are wrong."""

from __future__ import annotations

import subprocess
import sys
import warnings
from typing import Any

import gymnasium
import numpy as np
import pytest
from env_parts import ROOMS, make_env, run_episode, tiny_vlm
from gymnasium.utils.env_checker import check_env, data_equivalence
from stable_baselines3 import SAC
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from rls3_gym.registration import ENV_IDS, register_envs
from rls3_gym.scene.arrangement import Reason
from rls3_registry.errors import UserError

INFO_KEYS = {
    "n_generated", "n_trained", "n_steps", "n_episodes", "round", "feasible", "reason", "reasons", "intrinsic",
    "extrinsic", "caption", "cell", "slot", "reference", "hardest_negative", "correct", "margin", "feedback",
    "finetune", "vlm_digest", "early_stopped",
}  # fmt: skip


def shape_of(value: Any) -> Any:
    """The keys, types and shapes of an info, which may hold numbers, strings and arrays without NaN, and no more."""
    if isinstance(value, dict):
        return {key: shape_of(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        assert value.dtype.kind in "if" and np.isfinite(value).all()
        return value.dtype, value.shape
    assert isinstance(value, bool | int | float | str) and value == value
    return type(value)


@pytest.mark.parametrize("env_id", ENV_IDS)
def test_gymnasiums_and_sb3s_checkers_pass_without_a_warning(env_id: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(make_env(env_id).unwrapped)
        sb3_check_env(make_env(env_id), warn=True)


def test_importing_the_package_registers_the_ids_and_imports_no_heavy_library() -> None:
    code = (
        "import sys, gymnasium, rls3_gym; "
        f"assert all(i in gymnasium.registry for i in {list(ENV_IDS)!r}); "
        "assert not {'torch', 'open_clip', 'stable_baselines3', 'tianshou', 'embreex'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_registering_again_does_nothing() -> None:
    before = dict(gymnasium.registry)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        register_envs()
    assert dict(gymnasium.registry) == before


def test_an_id_with_its_module_needs_no_import_before() -> None:
    code = "import gymnasium; print(gymnasium.make('rls3_gym:RLS3Scene-v0').unwrapped.action_view.name)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "select"


def test_the_loop_runs_in_the_papers_order() -> None:
    env = make_env(steps_per_episode=6, episodes_per_round=2)
    _, info = env.reset(seed=1)
    env.action_space.seed(1)
    first_digest = info["vlm_digest"]
    first = run_episode(env)
    assert len(first) == 6 and [i["n_episodes"] for i in first] == [0] * 5 + [1]
    assert all(i["vlm_digest"] == first_digest and not i["finetune"]["n_samples"] for i in first)
    assert [i["feedback"]["n"] == 0 for i in first] == [True] * 5 + [False]
    env.reset()
    second = run_episode(env)
    report, feedback = second[-1]["finetune"], second[-1]["feedback"]
    assert report["n_samples"] and feedback["n"] and second[-1]["round"] == 1
    assert report["digest_before"] == first_digest != report["digest_after"] == second[-1]["vlm_digest"]
    generated = sum(i["feasible"] for i in first + second)
    assert second[-1]["n_generated"] == second[-1]["n_trained"] == report["n_samples"] == generated  # eta is 1
    assert second[-1]["n_steps"] == 12
    assert feedback["n"] == sum(i["feasible"] for i in second) == int((feedback["correct"] >= 0).sum())
    _, info = env.reset()
    assert info["vlm_digest"] == report["digest_after"]  # reset() keeps the learning VLM


def test_info_has_the_same_keys_at_every_step_and_both_reward_parts_add_up() -> None:
    env = make_env(extrinsic="sample_error", intrinsic_infeasible=-0.2)
    _, info = env.reset(seed=2)
    env.action_space.seed(2)
    assert set(info) == INFO_KEYS
    first = shape_of(info)
    truncated = False
    while not truncated:
        _, reward, terminated, truncated, info = env.step(env.action_space.sample())
        assert set(info) == INFO_KEYS and not terminated and shape_of(info) == first
        assert reward == pytest.approx(info["intrinsic"] + info["extrinsic"])
        assert info["feasible"] == (info["reason"] == "") == (env.unwrapped.sample is not None)
        if info["feasible"]:
            assert info["correct"] in (0, 1) and isinstance(info["margin"], float)
            assert info["caption"] == env.unwrapped.sample.caption != info["hardest_negative"]
        else:
            assert info["reason"] in {r.value for r in Reason} and info["intrinsic"] == -0.2
    assert sum(info["reasons"].values()) + info["n_generated"] == info["n_steps"]


def trace(env: gymnasium.Env[Any, Any], seed: int) -> list[Any]:
    """All that a run of four episodes (two rounds) gives, wall-clock figures left out."""
    observation, info = env.reset(seed=seed)
    env.action_space.seed(seed)
    rows: list[Any] = [observation, info]
    for _ in range(4):
        truncated = False
        while not truncated:
            observation, reward, _, truncated, info = env.step(env.action_space.sample())
            info["finetune"].pop("seconds")
            rows.append([observation, reward, info])
        rows.append(env.reset()[0])
    return rows


def test_the_same_seed_gives_the_same_run_in_one_environment_and_in_another() -> None:
    env = make_env(observation="dict", extrinsic="cell_error")
    first = trace(env, seed=5)
    again = trace(env, seed=5)  # a seed begins a new experiment
    other = trace(make_env(observation="dict", extrinsic="cell_error"), seed=5)
    assert data_equivalence(first, again, exact=True)
    assert data_equivalence(first, other, exact=True)
    assert not data_equivalence(first, trace(env, seed=6), exact=True)


def test_scenes_cycle_over_the_room_families_episode_by_episode() -> None:
    env = make_env()
    env.reset(seed=0)
    seen = [env.unwrapped.stage.arrangement.layout.family]
    for _ in range(3):
        env.reset()
        seen.append(env.unwrapped.stage.arrangement.layout.family)
    assert seen == [*ROOMS, *ROOMS]
    env.reset(seed=1)
    assert env.unwrapped.stage.arrangement.layout.family == ROOMS[0]


def test_a_frozen_environment_never_changes_its_vlm() -> None:
    vlm = tiny_vlm()
    env = make_env("RLS3SceneFrozen-v0", vlm=vlm, episodes_per_round=1, finetune_settings=None)
    digest = vlm.digest()
    env.reset(seed=3)
    env.action_space.seed(3)
    for _ in range(3):
        last = run_episode(env)[-1]
        env.reset()
        assert last["round"] == 0 and not last["finetune"]["n_samples"] and last["feedback"]["n"] > 0
    assert last["n_generated"] > 0
    env.reset(seed=4)
    assert vlm.digest() == digest == last["vlm_digest"]


def test_a_vlm_given_as_an_object_is_the_one_that_learns() -> None:
    vlm = tiny_vlm()
    env = make_env(vlm=vlm, episodes_per_round=1, finetune_settings=None)
    assert env.unwrapped.scheduler.vlm is vlm
    digest = vlm.digest()
    env.reset(seed=3)
    env.action_space.seed(3)
    run_episode(env)
    assert vlm.digest() != digest


def test_a_scene_of_a_held_out_set_is_refused_before_it_is_captured_and_counted() -> None:
    env = make_env()
    env.reset(seed=7)
    env.action_space.seed(7)
    sample = None
    while sample is None:
        before = env.unwrapped.state()
        action = env.action_space.sample()
        env.step(action)
        sample = env.unwrapped.sample
    guarded = make_env(held_out=frozenset({sample.scene_key}))
    guarded.reset(seed=7)
    guarded.unwrapped.load_state(before)
    info = guarded.step(action)[4]
    assert (info["feasible"], info["reason"]) == (False, "held_out")
    assert info["reasons"]["held_out"] == before["reasons"].get("held_out", 0) + 1


def test_a_step_after_the_episodes_end_asks_for_a_reset() -> None:
    env = make_env(steps_per_episode=1).unwrapped
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(0)
    env.reset(seed=0)
    env.step(0)
    with pytest.raises(gymnasium.error.ResetNeeded, match="call reset"):
        env.step(0)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"action_view": "boxes"}, "did you mean 'box'"),
        ({"observation": "pixel"}, "did you mean 'pixels'"),
        ({"extrinsic": "episode_eror"}, "did you mean 'episode_error'"),
        ({"vlm": "tinny"}, "did you mean 'tiny'"),
        ({"vlm": 3}, "vlm must be a registered name, a path or a VLM, not int"),
        ({"backend": "embeded"}, "did you mean 'embedded'"),
        ({"families": ["kitchn"]}, "did you mean 'kitchen'"),
        ({"families": "kitchen"}, "families: should be a list"),
        ({"families": []}, "families: should be a list"),
        ({"steps_per_episode": 0}, "steps_per_episode: should be greater than or equal to 1, not 0"),
        ({"episodes_per_round": 0}, "episodes_per_round: should be greater than or equal to 1, not 0"),
        ({"train_fraction": 0.0}, "train_fraction: should be greater than 0, not 0.0"),
        ({"train_fraction": 1.01}, "train_fraction: should be less than or equal to 1, not 1.01"),
        ({"steps_per_episode": True}, "steps_per_episode: should be a valid integer"),
        ({"train_fraction": float("nan")}, "train_fraction: should be"),
        ({"stepps_per_episode": 3}, "unknown key 'stepps_per_episode'; did you mean 'steps_per_episode'"),
        (
            {"selection": "ranom"},
            "selection: should be 'random', 'mined', 'learnable' or 'jest', not 'ranom'; did you mean 'random'",
        ),
        ({"intrinsic_infeasible": {"hiden": -1.0}}, "did you mean 'hidden'"),
        ({"intrinsic_feasible": "much"}, "intrinsic_feasible: should be a valid number, not 'much'"),
        ({"image_size": 8}, "image_size: should be greater than or equal to 16, not 8"),
        ({"early_stopping": 0}, "early_stopping: should be greater than or equal to 1, not 0"),
        ({"finetune_settings": {"epoch": 1}}, "did you mean 'epochs'"),
        ({"render_mode": "ansi"}, "unknown render mode 'ansi'"),
        ({"rules": 5}, "rules: should be"),
        ({"action_view": "select", "snap": True}, "snap and choose_reference go with action_view 'box'"),
        ({"proposals": 1}, "proposals: should be greater than or equal to 2, not 1"),
        ({"held_out": "abc"}, "held_out must be a collection of scene keys"),
        ({"held_out": 5}, "held_out must be a collection of scene keys"),
        ({"extrinsic": []}, "extrinsic: should be a valid string"),
        ({"backend": None}, "backend: should be a valid string, not None"),
        (
            {"action_view": ["box"]},
            "action_view: should be 'select', 'preference', 'box', 'multi_discrete' or 'relation'",
        ),
        ({"observation": {}}, "observation: should be 'state', 'pixels' or 'dict'"),
        ({"families": 5}, "families: should be a list"),
        ({"finetune_settings": 5}, "finetune_settings must be a mapping"),
    ],
)
def test_an_argument_that_is_wrong_is_one_line_that_says_what_would_be_right(
    arguments: dict[str, Any], said: str
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # gymnasium warns of the unknown render mode as well
        with pytest.raises(UserError, match=said) as error:
            make_env(**arguments)
    assert "\n" not in str(error.value)


def test_numbers_may_be_numpys() -> None:
    env = make_env(
        steps_per_episode=np.int64(3),
        train_fraction=np.float32(0.5),
        image_size=np.int64(64),
        intrinsic_infeasible=np.float32(-1),
    )
    assert env.unwrapped.observer.space.shape == make_env().observation_space.shape


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ({"min_visible": "a"}, "rules.min_visible: should be a valid number"),
        ({"min_visible": -5}, "rules.min_visible: should be greater than or equal to 0"),
        ({"min_pixels": "x"}, "rules.min_pixels: should be a valid integer"),
        ({"ambiguity_margin_deg": 90.0}, "rules.ambiguity_margin_deg: should be less than or equal to 22"),
        ({"reject_ambiguous": 1}, "rules.reject_ambiguous: should be a valid boolean"),
    ],
)
def test_rules_out_of_range_are_refused(rules: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        make_env(rules=rules)


def test_settings_for_a_vlm_object_are_refused() -> None:
    with pytest.raises(UserError, match="finetune_settings go with a VLM's name"):
        make_env(vlm=tiny_vlm())


def test_a_room_without_a_feasible_scene_is_named() -> None:
    env = make_env(rules={"min_pixels": 4096}, families=["bedroom"])
    with pytest.raises(UserError, match=r"room bedroom/\d+: no feasible scene"):
        env.reset(seed=0)


def test_plain_sb3_and_gymnasiums_statistics_work_on_it_without_our_plugins():
    env = gymnasium.wrappers.RecordEpisodeStatistics(
        gymnasium.make("RLS3ScenePreference-v0", steps_per_episode=4, episodes_per_round=50)
    )
    env.reset(seed=0)
    env.action_space.seed(0)
    info = [env.step(env.action_space.sample())[4] for _ in range(4)][-1]
    assert info["episode"]["l"] == 4
    model = SAC(
        "MlpPolicy",
        gymnasium.make("RLS3ScenePreference-v0", steps_per_episode=4, episodes_per_round=50),
        learning_starts=4,
        seed=0,
    )
    assert model.learn(12).num_timesteps == 12


def test_a_reset_can_begin_with_a_given_scene() -> None:
    env = make_env(observation="dict")
    env.reset(seed=3)
    scene = env.unwrapped.stage.arrangement
    seen = env.unwrapped.observation()
    for given in (scene, scene.encode()):
        env.reset()
        observation, info = env.reset(options={"arrangement": given})
        assert env.unwrapped.stage.arrangement == scene
        assert data_equivalence(observation["pixels"], seen["pixels"], exact=True)
        assert (info["n_steps"], info["n_generated"]) == (0, 0)
    run_episode(env)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"objects": []}, "needs 3 objects, not 0"),
        ({"objects": [["gold bar", 0, 0, 0, 0]] * 3}, "unknown object kind 'gold bar'"),
        ({"layout": 9999}, "has layouts 0..27, not 9999"),
        ({"objects": "none"}, "must be an Arrangement, or family, layout and objects"),
        ("floating", "slot 0 .* is not feasible: no_support"),
    ],
)
def test_a_scene_that_cannot_be_is_refused_and_the_episode_goes_on(change: Any, said: str) -> None:
    env = make_env()
    env.reset(seed=3)
    scene = env.unwrapped.stage.arrangement.encode()
    if change == "floating":
        kind, x, y, z, yaw = scene["objects"][0]
        change = {"objects": [[kind, x, y, z + 0.05, yaw], *scene["objects"][1:]]}
    with pytest.raises(UserError, match=said):
        env.reset(options={"arrangement": scene | change})
    assert env.unwrapped.stage.arrangement.encode() == scene
    run_episode(env)


def test_an_unknown_option_of_reset_is_refused() -> None:
    with pytest.raises(UserError, match="reset: unknown option 'arangement'; did you mean 'arrangement'"):
        make_env().reset(seed=0, options={"arangement": None})


def test_a_preview_says_what_an_action_will_give_and_changes_nothing() -> None:
    env, told = make_env(steps_per_episode=40, finetune=False), []
    env.reset(seed=3)
    env.action_space.seed(3)
    for _ in range(40):
        action = env.action_space.sample()
        before = env.unwrapped.state()
        previews = [env.unwrapped.preview(action) for _ in range(2)]
        assert previews[0] == previews[1]
        assert data_equivalence(before, env.unwrapped.state(), exact=True)
        info = env.step(action)[4]
        assert {key: info[key] for key in ("feasible", "reason", "caption")} == {
            key: previews[0][key] for key in ("feasible", "reason", "caption")
        }
        assert previews[0]["relation"] == ("" if env.unwrapped.sample is None else env.unwrapped.sample.relation.label)
        told.append(info["feasible"])
    assert any(told) and not all(told)
