"""Whoever mistypes gets one clear line and exit code 2, and loses nothing."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from experiment_tools import TINY, run, tiny, tiny_file

from rls3_gym.cli.app import main
from rls3_gym.runs.checkpoints import seal
from rls3_gym.runs.codec import load_tree, save_tree
from rls3_registry import load

RLS3 = [sys.executable, "-m", "rls3_gym"]


@pytest.fixture
def complaint(capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs a command that must fail, and gives the one line it said."""

    def of(*words: str | Path) -> str:
        with pytest.raises(SystemExit) as caught:
            main([str(word) for word in words])
        said = capsys.readouterr()
        assert caught.value.code == 2, said.err
        assert said.out == ""
        assert "Traceback" not in said.err
        lines = [line for line in said.err.splitlines() if line.startswith("rls3: ")]
        assert len(lines) == 1 and said.err.splitlines()[-1] == lines[0], said.err
        return lines[0]

    return of


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete run of the tiny experiment."""
    return run(tiny(budget={"rounds": 2}), tmp_path_factory.mktemp("finished") / "run").directory


@pytest.fixture
def unfinished(finished: Path, tmp_path: Path) -> Path:
    """A copy of a run that has rounds to go."""
    copy = tmp_path / "unfinished"
    shutil.copytree(finished, copy)
    shutil.rmtree(copy / "checkpoints" / "final")
    (copy / "report.html").unlink()
    return copy


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# Names


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("rnu",), "No such command 'rnu'. Did you mean 'run'?"),
        (("run", "--fast"), "No such option"),
        (("run",), "name an experiment"),
        (("run", "quikstart"), "unknown experiment 'quikstart'; did you mean 'quickstart'"),
        (("run", "quickstart", "--set", "agent=sb3/sack"), "unknown agent 'sb3/sack'; did you mean 'sb3/sac'"),
        (
            ("run", "quickstart", "--set", "agent.settings.gama=0.5"),
            "--set agent.settings.gama=0.5: unknown key 'agent.settings.gama'; did you mean 'gamma'",
        ),
        (("run", "quickstart", "--set", "vlm=tyni"), "unknown VLM 'tyni'; did you mean 'tiny'"),
        (
            ("run", "quickstart", "--set", "vlm.finetune.epoch=1"),
            "--set vlm.finetune.epoch=1: unknown key 'vlm.finetune.epoch'; did you mean 'epochs'",
        ),
        (
            ("run", "quickstart", "--set", "environment.families=[kitchin]"),
            "unknown room family 'kitchin'; did you mean",
        ),
        (
            ("run", "quickstart", "--set", "environment.extrinsic=cel_error"),
            "unknown extrinsic reward 'cel_error'; did",
        ),
        (("run", "quickstart", "--set", "environment.backend=unity3"), "unknown backend 'unity3'"),
        (
            ("run", "quickstart", "--set", "evaluation.sets=[tests]"),
            "unknown evaluation set 'tests'; did you mean 'test'",
        ),
        (("run", "quickstart", "--set", "environment.tt=3"), "unknown key 'environment.tt'"),
        (("evaluate", "--vlm", "tinny"), "unknown VLM 'tinny'; did you mean 'tiny'"),
        (("evaluate", "--set", "tset"), "unknown evaluation set 'tset'; did you mean 'test'"),
        (("list", "agnets"), "unknown section 'agnets'; did you mean 'agents'"),
    ],
)
def test_a_wrong_name_is_answered_with_the_nearest(complaint: Any, words: tuple[str, ...], said: str) -> None:
    assert said in complaint(*words)


# Types and ranges


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            "environment.steps_per_episode=0",
            "environment.steps_per_episode: should be greater than or equal to 1, not 0",
        ),
        (
            "environment.episodes_per_round=0",
            "environment.episodes_per_round: should be greater than or equal to 1, not 0",
        ),
        ("environment.train_fraction=0", "environment.train_fraction: should be greater than 0, not 0"),
        ("environment.train_fraction=1.01", "environment.train_fraction: should be less than or equal to 1, not 1.01"),
        ("environment.steps_per_episode=2.5", "environment.steps_per_episode: should be a valid integer, not 2.5"),
        ("seed=one", "seed: should be a valid integer, not 'one'"),
        ("agent.settings.gamma=2", "gamma"),
        ("vlm.finetune.learning_rate=-1", "finetune.learning_rate"),
        ("environment.intrinsic_infeasible={lost: -1}", "unknown reason 'lost'"),
        ("environment.action_view=relation", "agent 'sb3/ppo_select' cannot take 'relation'; it takes select"),
    ],
)
def test_a_wrong_value_is_answered_with_its_key_and_bound(
    complaint: Any, tmp_path: Path, change: str, said: str
) -> None:
    out = tmp_path / "run"
    assert said in complaint("run", "quickstart", "--set", change, "--out", out)
    assert not out.exists()


@pytest.mark.parametrize(
    ("sections", "words", "said"),
    [
        ({"agent": {"name": "sb3/sac", "settings": {"gamma": 2}}}, (), "FILE: agent.settings.gamma: "),
        (
            {"agent": "sb3/sac"},
            ("--set", "agent.settings.gamma=2"),
            "--set agent.settings.gamma=2: agent.settings.gamma: ",
        ),
        ({"vlm": {"name": "tiny", "finetune": {"epochs": 0}}}, (), "FILE: vlm.finetune.epochs: "),
        ({}, ("--set", "vlm.finetune.train=[nope]"), "--set vlm.finetune.train=[nope]: vlm.finetune.train: unknown"),
        ({"agent": "AGENT"}, (), "AGENT: settings.gamma: "),
        ({"agent": "AGENT"}, ("--set", "agent.settings.tau=0"), "AGENT: settings.gamma: "),
    ],
)
def test_a_wrong_setting_of_agent_or_vlm_is_blamed_on_where_it_was_written(
    complaint: Any, tmp_path: Path, sections: dict[str, Any], words: tuple[str, ...], said: str
) -> None:
    agent = tmp_path / "agent.yaml"
    settings = load("agents", "sb3/sac")["settings"] | {"gamma": 2}
    agent.write_text(yaml.safe_dump({"plugin": "sb3", "settings": settings}), encoding="utf-8")
    sections = {key: str(agent) if value == "AGENT" else value for key, value in sections.items()}
    file = tiny_file(tmp_path, **sections)
    answer = complaint("run", file, *words)
    assert answer.startswith("rls3: " + said.replace("FILE", str(file)).replace("AGENT", str(agent)))


@pytest.mark.parametrize(
    "words", ["run ", "run default --set vlm=", "evaluate --vlm ", "study ", "report ", "compare ", "compare arm="]
)
def test_a_name_that_is_too_long_for_any_file_is_one_line_too(complaint: Any, words: str) -> None:
    complaint(*f"{words}{'x' * 300}".split())


def test_a_room_with_no_feasible_placement_is_named(complaint: Any, tmp_path: Path) -> None:
    impossible = {**TINY["environment"], "rules": {"min_pixels": 4096}}
    out = tmp_path / "run"
    assert "no feasible scene" in complaint("run", tiny_file(tmp_path, environment=impossible), "--out", out)


# Files


def test_a_file_that_is_not_there(complaint: Any, tmp_path: Path) -> None:
    assert "no.yaml: cannot be read (No such file or directory)" in complaint("run", tmp_path / "no.yaml")


def test_a_file_that_is_no_mapping(complaint: Any, tmp_path: Path) -> None:
    file = tmp_path / "list.yaml"
    file.write_text("- a\n- b\n", encoding="utf-8")
    assert "list.yaml: must hold a mapping" in complaint("run", file)


@pytest.mark.parametrize("command", [("run", "--resume"), ("report",)])
def test_a_folder_that_is_no_run_directory(complaint: Any, tmp_path: Path, command: tuple[str, ...]) -> None:
    assert "is not a run directory" in complaint(*command, tmp_path)
    assert "there is no such run directory" in complaint(*command, tmp_path / "nowhere")
    assert list(tmp_path.iterdir()) == []


def test_a_run_directory_that_exists_already(complaint: Any, tmp_path: Path, finished: Path) -> None:
    before = contents(finished)
    assert "exists already" in complaint("run", tiny_file(tmp_path), "--out", finished)
    assert contents(finished) == before


# Checkpoints


def checkpoints(run_directory: Path) -> list[Path]:
    """Oldest first."""
    return sorted(path for path in (run_directory / "checkpoints").iterdir() if path.name.isdigit())


@pytest.mark.parametrize("name", ["state.json", "arrays.npz", "tensors.safetensors", "agent/agent.json", "SHA256SUMS"])
@pytest.mark.parametrize("damage", [b"", b"not what it was", None])
def test_without_a_readable_checkpoint_the_newest_is_named_and_nothing_is_changed(
    complaint: Any, unfinished: Path, name: str, damage: bytes | None
) -> None:
    for checkpoint in checkpoints(unfinished):
        if damage is None:
            (checkpoint / name).unlink()
        else:
            (checkpoint / name).write_bytes(damage)
    before = contents(unfinished)
    said = complaint("run", "--resume", unfinished)
    assert str(checkpoints(unfinished)[-1]) in said and "there is no other" in said
    assert contents(unfinished) == before


@pytest.mark.parametrize("format_", ["somebody else's", "rls3_gym checkpoint 3"])
def test_a_checkpoint_of_another_format_is_refused(complaint: Any, unfinished: Path, format_: str) -> None:
    save_tree({**load_tree(path := checkpoints(unfinished)[-1]), "format": format_}, path)
    seal(path)
    assert f"is a checkpoint of another format ({format_!r}" in complaint("run", "--resume", unfinished)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--seed", "5"), "seed was 0 when the run began and is 5 now"),
        (
            ("--set", "environment.train_fraction=0.5"),
            "environment.train_fraction was 1.0 when the run began and is 0.5 now",
        ),
        (("--set", "agent=stratified"), "agent.name was 'random' when the run began and is 'stratified' now"),
    ],
)
def test_resuming_with_other_settings_is_refused(
    complaint: Any, unfinished: Path, words: tuple[str, ...], said: str
) -> None:
    before = contents(unfinished)
    assert said in complaint("run", "--resume", unfinished, *words)
    assert contents(unfinished) == before


def test_resuming_after_an_edit_of_the_config_is_refused(complaint: Any, unfinished: Path) -> None:
    config = yaml.safe_load((unfinished / "config.yaml").read_text(encoding="utf-8"))
    config["environment"]["steps_per_episode"] = 7
    (unfinished / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    assert "environment.steps_per_episode was 6 when the run began and is 7 now" in complaint(
        "run", "--resume", unfinished
    )


@pytest.mark.parametrize("log", ["metrics.jsonl", "samples/samples.parquet/part-000000.parquet"])
@pytest.mark.parametrize("damage", [b"{}\n", None])
def test_logs_that_do_not_go_with_the_checkpoint_are_refused_and_left_alone(
    complaint: Any, unfinished: Path, log: str, damage: bytes | None
) -> None:
    (unfinished / log).unlink()
    if damage is not None:
        (unfinished / log).write_bytes(damage)
    before = contents(unfinished)
    said = complaint("run", "--resume", unfinished)
    assert log.rsplit("/part")[0] in said
    assert contents(unfinished) == before


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("monitor",), None),
        (("monitor", "budget"), "gone"),
        (("monitor", "recorder", "metrics"), "gone"),
        (("monitor", "recorder", "metrics"), -5),
        (("environment", "scheduler", "counters", "round"), "gone"),
        (("environment",), {}),
        (("config",), "gone"),
    ],
)
def test_a_checkpoint_without_all_its_parts_is_refused_and_nothing_is_changed(
    complaint: Any, unfinished: Path, keys: tuple[str, ...], value: Any
) -> None:
    *_, newest = checkpoints(unfinished)
    state = json.loads((newest / "state.json").read_text(encoding="utf-8"))
    *outer, last = keys
    node = state
    for key in outer:
        node = node[key]
    node[last] = value
    if value == "gone":
        del node[last]
    (newest / "state.json").write_text(json.dumps(state), encoding="utf-8")
    seal(newest)
    before = contents(unfinished)
    complaint("run", "--resume", unfinished)
    assert contents(unfinished) == before


def test_a_damaged_log_is_named(complaint: Any, unfinished: Path) -> None:
    (unfinished / "metrics.jsonl").write_bytes(b"\xff\xfe" * 4000)
    assert "metrics.jsonl: cannot be read" in complaint("report", unfinished)


def test_a_row_that_does_not_fit_is_named_by_file_line_and_key(complaint: Any, unfinished: Path) -> None:
    log = unfinished / "metrics.jsonl"
    lines = log.read_text(encoding="utf-8").splitlines()
    row = json.loads(lines[1]) | {"valid_rate": "half"}
    log.write_text("\n".join([lines[0], json.dumps(row), *lines[2:]]) + "\n", encoding="utf-8")
    assert f"{log}: line 2: valid_rate: should be a valid number, not 'half'" in complaint("report", unfinished)
    log.write_text(lines[0].replace('"row"', '"kind"') + "\n", encoding="utf-8")
    assert f"{log}: line 1: row: should be one of episode, agent, finetune," in complaint("report", unfinished)


def test_a_run_goes_on_as_it_began_when_the_agents_own_file_has_changed(tmp_path: Path, capsys: Any) -> None:
    agent = tmp_path / "mine.yaml"
    agent.write_text("plugin: stratified\nsettings: {retries: 1}\n", encoding="utf-8")
    out = tmp_path / "run"
    with pytest.raises(SystemExit, match="0"):
        main(["run", str(tiny_file(tmp_path, budget={"rounds": 1})), "--set", f"agent={agent}", "--out", str(out)])
    config = yaml.safe_load((out / "config.yaml").read_text(encoding="utf-8"))
    assert config["agent"] == {"name": str(agent), "settings": {"retries": 1}}
    assert config["vlm"]["finetune"]["train"]


# Odd values


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("evaluate", "--vlm", "a" * 300), "unknown VLM"),
        (("run", "a" * 300 + ".yaml"), "File name too long"),
        (("run", "quickstart", "--set", "agent=a:b:c"), "must look like module:Class"),
        (("run", "quickstart", "--set", "agent=:B"), "must look like module:Class"),
        (("run", "quickstart", "--set", 'agent="a\\0b.yaml"'), "cannot be read"),
        (("run", "quickstart", "--set", "evaluation.sets=&x [*x]"), "refers to itself"),
        (("run", "quickstart", "--set", "evaluation.sets=[test, test]"), "name each set once"),
        (("run", "quickstart", "--set", "evaluation.sets=[guide]"), "it measures nothing"),
        (("run", "quickstart", "--set", 'description="\\ud800"'), "holds an invalid character"),
        (("run", "quickstart", "--set", "agent.settings.learning_rate=.inf"), "settings.learning_rate"),
        (("run", "quickstart", "--set", "agent.settings.buffer_size=100000000000"), "settings.buffer_size"),
        (("run", "quickstart", "--set", "agent.settings.algorithm=[1]"), "unknown algorithm"),
    ],
)
def test_odd_values_are_one_line_too(complaint: Any, words: tuple[str, ...], said: str) -> None:
    assert said in complaint(*words)


def test_keys_that_are_no_text_are_named(complaint: Any, tmp_path: Path) -> None:
    file = tmp_path / "vlm.yaml"
    file.write_text("plugin: open_clip\n1: 2\n", encoding="utf-8")
    assert "keys must be text, not 1" in complaint("evaluate", "--vlm", file)


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_that_cannot_be_written_is_one_line(unbuffered: str) -> None:
    command, environment = [*RLS3, "list", "rooms"], {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, env=environment, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "rls3: output: No space left on device\n")


# Disks


def test_an_output_folder_that_cannot_be_written(complaint: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    out = tmp_path / "file" / "run"
    assert f"{out}: cannot be written" in complaint("run", tiny_file(tmp_path), "--out", out)


@pytest.mark.parametrize("limit", [3_000, 200_000])
def test_a_full_disk_leaves_a_run_directory_that_can_be_read(tmp_path: Path, limit: int) -> None:
    """No file may grow beyond `limit` bytes: first the log, then a checkpoint, meets it."""
    out = tmp_path / "run"

    def full() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    command = [*RLS3, "run", str(tiny_file(tmp_path, budget={"rounds": 60})), "--out", str(out)]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=full, env=environment, check=False)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"rls3: {out}") and "cannot be written (File too large)" in last
    log = (out / "metrics.jsonl").read_bytes()
    assert log == b"" or log.endswith(b"\n")
    assert not [path for path in out.rglob("*") if ".partial" in path.name]
    assert (out / "config.yaml").is_file()
