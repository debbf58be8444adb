"""A study's YAML: what it means, and what is said about a wrong one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

import rls3_registry
from rls3_gym.study.carry_out import StudyFolders, missing_runs
from rls3_gym.study.study_config import StudyConfig, load_study
from rls3_registry.errors import UserError
from rls3_registry.validation import check

RESULTS = Path(__file__).resolve().parent.parent / "results"
STUDY: dict[str, Any] = {
    "name": "mini",
    "set": {"budget.n_generated": 100, "agent.settings": {}},
    "arms": {"random": {"agent": "random"}, "sac": {"agent": "sb3/sac", "agent.settings.gamma": 0.5, "seeds": 7}},
    "at": {"n_trained": [10, 20]},
    "sets": ["validation"],
    "baselines": ["random"],
}


def study(**changes: Any) -> StudyConfig:
    return check(StudyConfig, {**STUDY, **changes}, "mini.yaml")


@pytest.mark.parametrize("name", rls3_registry.names("studies"))
def test_registered_studies_hold_experiments(name: str) -> None:
    found = load_study(name)
    assert found.name == name and found.description
    found.check_arms()


@pytest.mark.parametrize("folder", sorted(RESULTS.iterdir()), ids=lambda folder: folder.name)
def test_the_runs_in_the_repository_are_those_of_their_studies_as_they_stand(folder: Path, tmp_path: Path) -> None:
    """Or else the command that made the results would refuse to make their tables again."""
    missing, total = missing_runs(load_study(folder.name), StudyFolders(tmp_path, folder))
    assert total - len(missing) == len(list((folder / "runs").glob("*.json.gz")))


def test_an_arm_is_the_experiment_with_the_changes_of_all_and_its_own() -> None:
    sac = study().experiment_of("sac", 4)
    assert (sac.agent.name, sac.agent.settings["gamma"], sac.seed) == ("sb3/sac", 0.5, 4)
    assert (sac.budget.n_generated, sac.evaluation.sets, sac.threads) == (100, ("validation",), 1)


def test_an_arm_may_have_more_seeds_than_the_others() -> None:
    assert study(seeds={"first": 100, "count": 3}).seeds_of("random") == range(100, 103)
    assert study().seeds_of("sac") == range(7)
    assert study().seeds_of("sac", 2) == range(2)


def test_changes_may_be_a_list_as_on_the_command_line() -> None:
    assert study(set=["budget.n_generated=50"]).experiment_of("random", 0).budget.n_generated == 50


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"baseline": ["random"]}, "mini.yaml: unknown key 'baseline'; did you mean 'baselines'"),
        ({"at": {"n_traind": [1]}}, "mini.yaml: unknown key 'at.n_traind'; did you mean 'n_trained'"),
        ({"at": {}}, "mini.yaml: at: needs n_trained (samples trained on), n_generated (valid samples), or both"),
        ({"at": {"n_trained": [0]}}, "mini.yaml: at.n_trained.0: should be greater than or equal to 1, not 0"),
        ({"arms": {}}, "mini.yaml: arms: needs at least one arm"),
        ({"arms": {"a/b": {}}}, "mini.yaml: arms: an arm's name should be text of letters"),
        ({"arms": {0: {}}}, "an arm's name should be text of letters, digits and . _ + = -, not 0"),
        ({"arms": {"a": "random"}}, "mini.yaml: arms: arm 'a' should be a mapping of keys to values"),
        ({"arms": {"a": {"seeds": 0}}}, "mini.yaml: arms.a.seeds: should be greater than or equal to 1, not 0"),
        ({"arms": {"a": {"seed": 3}}}, "mini.yaml: arms: seed is not set here but by the study's seeds"),
        ({"set": {"evaluation.sets": ["test"]}}, "evaluation.sets is not set here but by the study's sets"),
        ({"set": 3}, "mini.yaml: set: should be a mapping of dotted keys to values, or a list of a.b=c, not 3"),
        ({"headline": ["ppo"]}, "mini.yaml: headline: there is no arm 'ppo'; arms are random, sac"),
        ({"baselines": ["stratified"]}, "mini.yaml: baselines: there is no arm 'stratified'; arms are random, sac"),
        ({"seeds": 5}, "mini.yaml: seeds: should be a mapping of keys to values, not 5"),
        ({"sets": ["test", "test"]}, "mini.yaml: sets: should name each set once"),
        ({"noise_floor": -1.0}, "mini.yaml: noise_floor: should be greater than or equal to 0, not -1.0"),
    ],
)
def test_a_wrong_study_is_one_line_that_names_the_key(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as caught:
        study(**changes)
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"arms": {"random": {"agnt": "random"}}},
            "study mini: arm random: .*unknown key 'agnt'; did you mean 'agent'",
        ),
        ({"arms": {"random": {"environment.eta": 1}}}, "'environment.eta' is now called 'train_fraction'"),
        ({"experiment": "defualt"}, "unknown experiment 'defualt'; did you mean 'default'"),
        ({"at": {"n_generated": [101]}}, "arm random: at: 101 samples are beyond the end of its runs, .*100"),
    ],
)
def test_an_arm_that_is_no_experiment_is_named(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        study(**changes).check_arms()


def test_a_study_is_found_by_name_or_by_file(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(yaml.safe_dump({key: value for key, value in STUDY.items() if key != "name"}), encoding="utf-8")
    assert load_study(str(file)).name == "own"
    with pytest.raises(UserError, match="unknown study 'sampler'; did you mean 'samplers'"):
        load_study("sampler")
