"""A VLM that a run has taught is a VLM like any other: all doors find it by the run's directory."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import gymnasium
import pytest
import yaml
from experiment_tools import metrics, run, tiny
from safetensors import safe_open
from test_cli import rls3

from rls3_gym.runs.checkpoints import seal
from rls3_gym.runs.codec import load_tree, save_tree
from rls3_gym.runs.taught import describe, find_vlm
from rls3_gym.vlm.loading import load_vlm
from rls3_registry.errors import UserError


def digests(run_directory: Path) -> dict[int, str]:
    """After each round."""
    rows = metrics(run_directory, "finetune")
    return {0: rows[0]["digest_before"], **{row["round"]: row["digest_after"] for row in rows}}


def test_the_environment_takes_what_a_run_has_taught(taught_run: Path) -> None:
    env = gymnasium.make("rls3_gym:RLS3Scene-v0", vlm=str(taught_run), steps_per_episode=4)
    _, info = env.reset(seed=1)
    assert info["vlm_digest"] == digests(taught_run)[3]


def test_an_experiment_goes_on_from_what_another_has_taught(taught_run: Path, tmp_path: Path) -> None:
    vlm = {"name": str(taught_run), "finetune": {"batch_size": 8, "epochs": 1.0}}
    second = run(tiny(vlm=vlm, budget={"rounds": 1}), tmp_path / "second").directory
    assert digests(second)[0] == digests(taught_run)[3] != digests(second)[1]
    assert find_vlm(f"{second}@0").digest() == digests(taught_run)[3]
    assert find_vlm(str(second)).digest() == digests(second)[1]


@pytest.mark.parametrize("number", [2, 3])
def test_weights_are_read_from_checkpoints_of_earlier_versions(taught_run: Path, tmp_path: Path, number: int) -> None:
    shutil.copytree(taught_run, tmp_path / "old")
    final = tmp_path / "old" / "checkpoints" / "final"
    save_tree({**load_tree(final), "format": f"rls3_gym checkpoint {number}"}, final)
    seal(final)
    assert find_vlm(str(tmp_path / "old")).digest() == digests(taught_run)[3]


def test_a_run_hands_on_how_its_vlm_is_taught(taught_run: Path) -> None:
    spec = describe(str(taught_run))
    assert spec.plugin == "open_clip" and spec.finetune["batch_size"] == 8
    assert spec.finetune["train"] == describe("tiny").finetune["train"]


@pytest.mark.parametrize("round_", [0, 2, 3])
def test_a_round_is_named_behind_an_at_sign(taught_run: Path, round_: int) -> None:
    """Of the three rounds the run keeps the last two, and the first state is the VLM that it began with."""
    assert find_vlm(f"{taught_run}@{round_}").digest() == digests(taught_run)[round_]


def test_a_round_without_weights_is_an_error_that_names_the_others(taught_run: Path) -> None:
    with pytest.raises(UserError, match=r"run@1: the run has no weights of round 1; it has those of: 0, 2, 3$"):
        find_vlm(f"{taught_run}@1")


def test_the_final_weights_are_enough_without_optimizer_and_checkpoints(taught_run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(taught_run, copy)
    for path in (copy / "checkpoints").iterdir():
        if path.name != "final":
            shutil.rmtree(path)
    with safe_open(copy / "checkpoints" / "final" / "tensors.safetensors", "pt") as file:
        assert all(".weights." in name for name in file.keys())  # noqa: SIM118  not a mapping
    assert find_vlm(str(copy)).digest() == digests(taught_run)[3]


def test_a_taught_vlm_comes_ready_for_new_teaching(taught_run: Path) -> None:
    """From a checkpoint, which has moments and replayed samples, it comes as it does from the final weights."""
    vlm = find_vlm(f"{taught_run}@2")
    state = vlm.state()
    assert state["optimizer"] == {} and state["replay"]["rows"] == []
    assert load_vlm("tiny").state().keys() == state.keys()


def test_evaluate_measures_a_round(taught_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("evaluate", "--vlm", f"{taught_run}@0", "--set", "validation", "--items", "26", "--json")
    assert rls3(*words) == 0
    measured, (first, *_) = json.loads(capsys.readouterr().out), metrics(taught_run, "evaluation")
    assert measured["vlm_digest"] == first["vlm_digest"]
    assert measured["pairwise_accuracy"] == first["pairwise_accuracy"]


def test_a_run_that_names_itself_as_its_vlm_is_refused(taught_run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(taught_run, copy)
    content = yaml.safe_load((copy / "config.yaml").read_text(encoding="utf-8"))
    content["vlm"]["name"] = f"{copy}@1"
    (copy / "config.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    with pytest.raises(UserError, match="the one that it teaches itself"):
        find_vlm(str(copy))


def test_a_registered_name_is_not_a_run_directory_of_that_name(
    taught_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(taught_run, tmp_path / "tiny")
    monkeypatch.chdir(tmp_path)
    assert find_vlm("tiny").digest() == digests(taught_run)[0]
    assert find_vlm("./tiny").digest() == digests(taught_run)[3]


def test_a_round_of_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere@2: nowhere is not a run directory of rls3"):
        find_vlm("nowhere@2")
