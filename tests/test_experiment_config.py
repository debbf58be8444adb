"""An experiment's YAML: what is accepted, what comes back, and what every mistake is answered with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

import rls3_registry
from rls3_gym.experiment.config import (
    EnvironmentConfig,
    ExperimentConfig,
    load_config,
    parse_config,
)
from rls3_gym.stage import FeasibilityRules
from rls3_registry.errors import UserError
from rls3_registry.validation import RENAMED

MINIMAL: dict[str, Any] = {"name": "mine", "agent": "random", "budget": {"rounds": 2}}

words = st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=12)
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**40), 2**40), st.floats(allow_nan=False, allow_infinity=False), words
)
free_settings = st.dictionaries(words, st.one_of(scalars, st.lists(scalars, max_size=3)), max_size=4)
shares = st.floats(0, 1, exclude_min=True)
counts = st.integers(1, 10**5)


@st.composite
def experiments(draw: st.DrawFn) -> dict[str, Any]:
    """A valid experiment with any subset of its keys given."""
    environment = {
        "steps_per_episode": counts,
        "episodes_per_round": counts,
        "train_fraction": shares,
        "families": st.one_of(st.none(), st.lists(words, min_size=1, max_size=5)),
        "extrinsic": words,
        "intrinsic_infeasible": st.one_of(
            st.floats(-10, 10), st.dictionaries(words, st.floats(-10, 10), min_size=1, max_size=2)
        ),
        "action_view": st.sampled_from([None, "box", "multi_discrete", "relation"]),
        "observation": st.sampled_from(["state", "pixels", "dict"]),
        "early_stopping": st.one_of(st.none(), counts),
        "rules": st.fixed_dictionaries(
            {}, optional={"min_visible": st.floats(0, 1), "reject_ambiguous": st.booleans()}
        ),
    }
    sections: dict[str, st.SearchStrategy[Any]] = {
        "environment": st.fixed_dictionaries({}, optional=environment),
        "vlm": st.one_of(words, st.fixed_dictionaries({"name": words, "finetune": free_settings})),
        "evaluation": st.fixed_dictionaries(
            {},
            optional={
                "sets": st.lists(words.filter(lambda w: w != "guide"), min_size=1, max_size=3, unique=True),
                "every": st.one_of(counts, st.just("doubling")),
            },
        ),
        "seed": st.integers(0, 2**31 - 1),
        "threads": st.one_of(st.none(), st.integers(1, 1024)),
        "checkpoints": st.fixed_dictionaries(
            {}, optional={"every_steps": counts, "every_minutes": st.integers(1, 1440)}
        ),
        "no_progress_steps": counts,
        "images_per_round": st.integers(0, 1000),
    }
    agent = st.one_of(words, st.fixed_dictionaries({"name": words}, optional={"settings": free_settings}))
    budget = st.fixed_dictionaries({"n_generated": counts}, optional={"rounds": counts})
    return draw(st.fixed_dictionaries({"name": st.just("drawn"), "agent": agent, "budget": budget}, optional=sections))


@given(experiments())
@settings(max_examples=60, deadline=None)
def test_a_resolved_config_written_back_loads_to_the_same_config(content: dict[str, Any]) -> None:
    config = parse_config(content, "drawn.yaml")
    assert parse_config(yaml.safe_load(config.to_yaml()), "back.yaml") == config


SECTIONS = ["", "environment", "environment.rules", "vlm", "agent", "budget", "evaluation"]


@given(experiments(), st.sampled_from(SECTIONS), words)
@example({"name": "drawn", "agent": "a", "budget": {"n_generated": 1}}, "", "none")
@example({"name": "drawn", "agent": "a", "budget": {"n_generated": 1}}, "environment", "int")
@settings(max_examples=60)
def test_an_unknown_key_anywhere_is_refused_by_its_path(content: dict[str, Any], section: str, key: str) -> None:
    full = parse_config(content, "drawn.yaml").model_dump(mode="json")
    node = full
    for step in section.split(".") if section else []:
        node = node[step]
    if key in node or key in RENAMED:  # a former name is answered with the new one
        return
    node[key] = 1
    with pytest.raises(UserError) as caught:
        parse_config(full, "drawn.yaml")
    path = f"{section}.{key}" if section else key
    assert str(caught.value).startswith(f"drawn.yaml: unknown key {path!r}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", rls3_registry.names("experiments"))
def test_registered_experiments_are_valid_and_name_registered_agents_and_vlms(name: str) -> None:
    config = load_config(name)
    assert config.name == name
    assert config.description
    assert config.agent.name in rls3_registry.names("agents")
    assert config.vlm.name in rls3_registry.names("vlms")


def test_an_agent_alone_is_short_for_its_name() -> None:
    long = {**MINIMAL, "agent": {"name": "random", "settings": {}}}
    assert parse_config(MINIMAL, "a") == parse_config(long, "b")


def test_set_changes_one_key_and_leaves_the_rest() -> None:
    before = load_config("quickstart")
    after = load_config("quickstart", ["environment.train_fraction=0.75", "evaluation.sets=[validation]"], seed=9)
    assert (after.environment.train_fraction, after.evaluation.sets, after.seed) == (0.75, ("validation",), 9)
    assert (
        after.environment.model_copy(update={"train_fraction": before.environment.train_fraction}) == before.environment
    )
    assert after.agent == before.agent


def test_set_swaps_the_agent_and_drops_the_settings_of_the_one_before(tmp_path: Path) -> None:
    file = write(tmp_path, {**MINIMAL, "agent": {"name": "sb3/sac", "settings": {"gamma": 0.9}}})
    swapped = load_config(str(file), ["agent=tianshou/sac"]).agent
    assert (swapped.name, swapped.settings) == ("tianshou/sac", {})


def test_set_reaches_the_settings_of_an_agent_given_by_name_alone(tmp_path: Path) -> None:
    file = write(tmp_path, {**MINIMAL, "agent": "sb3/sac"})
    agent = load_config(str(file), ["agent.settings.learning_rate=1e-3"]).agent
    assert (agent.name, agent.settings) == ("sb3/sac", {"learning_rate": 0.001})


def test_the_rules_have_the_defaults_of_the_stage() -> None:
    assert FeasibilityRules(**EnvironmentConfig().rules.model_dump()) == FeasibilityRules()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            ["environment.steps_per_episode=0"],
            "environment.steps_per_episode: should be greater than or equal to 1, not 0",
        ),
        (
            ["evaluation.every=dubling"],
            "evaluation.every: should be a number of rounds, or doubling, not 'dubling'",
        ),
        (
            ["environment.episodes_per_round=0"],
            "environment.episodes_per_round: should be greater than or equal to 1, not 0",
        ),
        (["environment.train_fraction=0"], "environment.train_fraction: should be greater than 0, not 0"),
        (["environment.train_fraction=1.5"], "environment.train_fraction: should be less than or equal to 1, not 1.5"),
        (
            ["environment.steps_per_episode=many"],
            "environment.steps_per_episode: should be a valid integer, not 'many'",
        ),
        (["environment.steps_per_episode=true"], "environment.steps_per_episode: should be a valid integer, not True"),
        (["environment.train_fraction=.nan"], "train_fraction=.nan: nan is not a number that can be set"),
        (["environment.action_view=boxes"], "environment.action_view: should be 'select', 'preference', 'box'"),
        (["environment.families=kitchen"], "environment.families: should be a list"),
        (["environment=3"], "environment: should be a mapping"),
        (["environmet.steps_per_episode=3"], "unknown key 'environmet'; did you mean 'environment'"),
        (["environment.train_fractoin=0.5"], "unknown key 'environment.train_fractoin'; did you mean 'train_fraction'"),
        (["budget={}"], "budget: needs n_generated (valid samples), rounds (fine-tunings), or both"),
        (["environment.finetune=false", "budget={rounds: 2}"], "without fine-tuning there are no rounds"),
        (["seed=-1"], "seed: should be greater than or equal to 0, not -1"),
        (["name=a/b"], "name: "),
        (["seed"], "--set seed: must look like key=value"),
        (["=3"], "--set =3: must look like key=value"),
        (["seed=[1"], "--set seed=[1: line 1, not valid YAML: "),
        (["seed.low=1"], "--set seed.low=1: seed is a value, it has no keys of its own"),
    ],
)
def test_a_mistake_of_the_command_line_is_one_line_that_names_it_the_key_and_the_remedy(
    tmp_path: Path, changes: list[str], said: str
) -> None:
    file = write(tmp_path, {**MINIMAL, "seed": 1})
    with pytest.raises(UserError) as caught:
        load_config(str(file), changes)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert f"--set {changes[-1]}: " in str(caught.value)


WRONG_SHARE = "environment.train_fraction: should be less than or equal to 1, not 2"
UNLIMITED = "without fine-tuning there are no rounds: give budget.n_generated"


@pytest.mark.parametrize(
    ("content", "changes", "said"),
    [
        ({"environment": {"train_fraction": 2}}, [], "FILE: " + WRONG_SHARE),
        ({"environment": {"train_fraction": 2}}, ["seed=3", "environment.finetune=true"], "FILE: " + WRONG_SHARE),
        ({}, ["environment.train_fraction=2", "seed=3"], "--set environment.train_fraction=2: " + WRONG_SHARE),
        ({}, ["environment={train_fraction: 2}"], "--set environment={train_fraction: 2}: " + WRONG_SHARE),
        (
            {"environment": {"train_fraction": 2}},
            ["environment.train_fraction=3", "environment.train_fraction=2"],
            "--set environment.train_fraction=2: " + WRONG_SHARE,
        ),
        ({"environmet": {"a": 1}}, ["environment.finetune=true"], "FILE: unknown key 'environmet'"),
        ({}, ["environmet.a=1"], "--set environmet.a=1: unknown key 'environmet'"),
        ({}, ["budget.rounds=null"], "FILE with --set budget.rounds=null: budget: needs n_generated"),
        ({}, ["environment.finetune=false"], "FILE with --set environment.finetune=false: " + UNLIMITED),
        ({"environment": {"finetune": False}}, [], "FILE: " + UNLIMITED),
    ],
)
def test_a_mistake_is_blamed_on_the_file_or_on_the_change_that_made_it(
    tmp_path: Path, content: dict[str, Any], changes: list[str], said: str
) -> None:
    file = write(tmp_path, {**MINIMAL, **content})
    with pytest.raises(UserError) as caught:
        load_config(str(file), changes)
    assert str(caught.value).startswith(said.replace("FILE", str(file)))


def test_a_wrong_seed_of_the_command_line_is_named() -> None:
    with pytest.raises(UserError, match="^--seed -1: seed: should be greater than or equal to 0, not -1"):
        load_config("quickstart", seed=-1)


def test_an_unknown_experiment_names_the_nearest() -> None:
    with pytest.raises(UserError, match="unknown experiment 'quikstart'; did you mean 'quickstart'"):
        load_config("quikstart")


def test_a_missing_agent_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"x\.yaml: agent: is missing"):
        load_config(str(write(tmp_path, {"budget": {"rounds": 1}})))


def test_a_file_that_is_no_yaml_is_named_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text("agent: random\nbudget: {rounds: 1\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"x\.yaml: line \d, not valid YAML"):
        load_config(str(file))


def write(folder: Path, content: dict[str, Any]) -> Path:
    file = folder / "x.yaml"
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    return file


def test_configs_are_frozen() -> None:
    config: ExperimentConfig = parse_config(MINIMAL, "a")
    with pytest.raises(ValueError, match="frozen"):
        config.seed = 3  # type: ignore[misc]
