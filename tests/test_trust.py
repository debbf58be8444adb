"""A run directory of somebody else never makes code run: not the classes it names, not the modules beside it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from experiment_tools import TINY, run, tiny
from test_cli import rls3

from rls3_gym import cluster
from rls3_gym.backends.unity.backend import UnityBackend
from rls3_gym.envs.scene_env import RLS3SceneEnv
from rls3_gym.experiment.config import ExperimentConfig
from rls3_gym.experiment.run import config_of, resume
from rls3_gym.runs.checkpoints import seal
from rls3_gym.runs.taught import find_backend, find_vlm
from rls3_gym.vlm.open_clip.adapter import OpenClipVLM
from rls3_registry.errors import UserError
from rls3_registry.trust import allowing

EVIL = "from pathlib import Path\nPath(__file__).with_name('ran').touch()\nclass Evil: pass\n"
COMMANDS = {
    "evaluate": "evaluate --vlm . --set validation --items 26",
    "report": "report .",
    "resume": "run --resume .",
    "config": "run config.yaml --out again",
    "export": "export . --format folder --out out",
    "export-vlm": "export-vlm . --out vlm",
    "compare": "compare . . --out compared",
}
DRIVER = """
import json, sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from rls3_gym.__main__ main
said = {}
for name, words in json.loads(sys.argv[1]).items():
    sys.argv, out = ["rls3", *words.split()], StringIO()
    try:
        with redirect_stderr(out), redirect_stdout(out):
            main()
    except SystemExit as end:
        said[name] = [end.code, out.getvalue()]
print(json.dumps(said))
""".replace("__main__ main", "__main__ import main")


class MineVLM(OpenClipVLM):
    """A plugin of the user's own."""


def hostile(run_directory: Path, copy: Path, **sections: Any) -> Path:
    """A copy of a run that is not complete and whose configuration names other plugins, with code beside it."""
    shutil.copytree(run_directory, copy)
    shutil.rmtree(copy / "checkpoints" / "final")
    content = yaml.safe_load((copy / "config.yaml").read_text(encoding="utf-8"))
    for section, changes in sections.items():
        content[section] |= changes
    (copy / "config.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    for state in (copy / "checkpoints").glob("*/state.json"):
        state.write_text(json.dumps(json.loads(state.read_text()) | {"config": content}), encoding="utf-8")
        seal(state.parent)
    (copy / "evil.py").write_text(EVIL, encoding="utf-8")
    (copy / "evil.yaml").write_text("plugin: evil:Evil\n", encoding="utf-8")
    return copy


def opened_inside(folder: Path) -> dict[str, tuple[int, str]]:
    """Exit code and output of every command, run inside the folder by a process of its own."""
    driver = folder.parent / "driver.py"
    driver.write_text(DRIVER, encoding="utf-8")
    command = [sys.executable, str(driver), json.dumps(COMMANDS)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, tuple[int, str]] = json.loads(done.stdout)
    return found


def config_of_file(path: Path) -> ExperimentConfig:
    return ExperimentConfig.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))


def refusal(what: str) -> str:
    return (
        f"rls3: config.yaml: its {what} is 'evil:Evil', code that is neither registered nor installed, and that a run "
        "directory can't make run; if you trust it, add: --trust evil:Evil\n"
    )


def test_a_vlm_of_somebody_elses_run_is_refused_in_every_command(taught_run: Path, tmp_path: Path) -> None:
    folder = hostile(taught_run, tmp_path / "run", vlm={"name": "evil:Evil"})
    # What a library looks for in vain must not be found here either, nor what looks like an installed plugin.
    for optional in ("nltk", "tensorflow", "wandb", "evil_plugin"):
        (folder / f"{optional}.py").write_text(EVIL, encoding="utf-8")
    (folder / "evil-1.0.dist-info").mkdir()
    (folder / "evil-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: evil\nVersion: 1.0\n")
    (folder / "evil-1.0.dist-info" / "entry_points.txt").write_text("[rls3_gym.vlms]\nevil = evil:Evil\n")
    said = opened_inside(folder)
    for command in ("evaluate", "resume", "config", "export-vlm"):
        code, output = said[command]
        assert code == 2 and output.splitlines()[-1] + "\n" == refusal("VLM"), command
    assert said["report"][0] == 0  # reads the rows alone
    assert said["export"][0] == 0 and len(list((folder / "out" / "images").iterdir())) > 10  # needs no VLM
    assert not (folder / "ran").exists() and not (folder / "vlm").exists() and not (folder / "again").exists()


def test_a_backend_of_somebody_elses_run_is_refused_in_every_command(taught_run: Path, tmp_path: Path) -> None:
    folder = hostile(taught_run, tmp_path / "run", environment={"backend": "evil.yaml"})
    said = opened_inside(folder)
    for command in ("evaluate", "resume", "config", "export"):
        code, output = said[command]
        assert code == 2 and "its backend is 'evil:Evil'" in output and "--trust evil:Evil" in output, command
    assert said["report"][0] == said["export-vlm"][0] == 0
    assert not (folder / "ran").exists() and not (folder / "out").exists()


def refused_reach(what: str, name: str) -> str:
    return f"the settings of its {what} name '{name}', which would be started, fetched or written to"


def test_a_known_backend_starts_no_program_of_somebody_elses_run(taught_run: Path, tmp_path: Path) -> None:
    folder = hostile(taught_run, tmp_path / "run", environment={"backend": "backend.yaml"})
    program = folder / "evil.sh"
    program.write_text("#!/bin/sh\ntouch ran\n", encoding="utf-8")
    program.chmod(0o755)
    (folder / "backend.yaml").write_text("plugin: unity\nsettings: {file_name: ./evil.sh}\n", encoding="utf-8")
    said = opened_inside(folder)
    for command in ("evaluate", "resume", "config", "export"):
        code, output = said[command]
        assert code == 2 and refused_reach("backend", "./evil.sh") in output, command
        assert output.endswith("if you trust it, add: --trust ./evil.sh\n")
    assert not (folder / "ran").exists()


@pytest.mark.parametrize("settings", [{"extra_args": ["-executeMethod"]}, {"log_folder": "/somewhere"}])
def test_a_players_arguments_and_logs_are_not_for_somebody_elses_run_to_say(
    taught_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
) -> None:
    folder = hostile(taught_run, tmp_path / "run", environment={"backend": "backend.yaml"})
    (folder / "backend.yaml").write_text(yaml.safe_dump({"plugin": "unity", "settings": settings}), encoding="utf-8")
    monkeypatch.chdir(folder)
    name = "-executeMethod" if "extra_args" in settings else "/somewhere"
    with pytest.raises(UserError, match=refused_reach("backend", name)):
        resume(config_of(folder), folder, [])
    assert config_of(folder).own() == [name]
    with allowing([name]):
        assert isinstance(find_backend(str(folder), find_vlm("tiny")), UnityBackend)


def test_a_model_of_the_hub_is_fetched_for_a_run_only_where_the_registry_or_the_user_names_it(
    taught_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[str] = []

    def snapshot_download(name: str, **_: Any) -> str:
        fetched.append(name)
        raise OSError("no network")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    folder = hostile(taught_run, tmp_path / "run", vlm={"name": "theirs.yaml", "finetune": {}})
    theirs = {"plugin": "transformers", "settings": {"model": "theirs/model"}}
    (folder / "theirs.yaml").write_text(yaml.safe_dump(theirs), encoding="utf-8")
    monkeypatch.chdir(folder)
    with pytest.raises(UserError, match=refused_reach("VLM", "theirs/model")):
        find_vlm(f"{folder}@0")
    assert not fetched and config_of(folder).own() == ["theirs/model"]
    with allowing(["theirs/model"]), pytest.raises(UserError, match="cannot be fetched from the hub"):
        find_vlm(f"{folder}@0")
    assert fetched == ["theirs/model"]

    (folder / "theirs.yaml").write_text("plugin: transformers\nsettings: {model: google/paligemma2-3b-pt-224}\n")
    assert config_of(folder).own() == []
    with pytest.raises(UserError, match="cannot be fetched from the hub"):
        find_vlm(f"{folder}@0")


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"model": "tower", "from_hub": True}, "tower"),
        ({"model": "RN50", "pretrained": "yfcc15m"}, "RN50/yfcc15m"),
        ({"model": "ViT-B-16-SigLIP-i18n-256"}, "timm/ViT-B-16-SigLIP-i18n-256"),
    ],
)
def test_what_open_clip_would_fetch_for_a_run_is_for_the_registry_or_the_user_to_name(
    taught_run: Path, tmp_path: Path, settings: dict[str, Any], name: str
) -> None:
    folder = hostile(taught_run, tmp_path / "run", vlm={"name": "open_clip", "settings": settings, "finetune": {}})
    with pytest.raises(UserError, match=refused_reach("VLM", name)):
        find_vlm(f"{folder}@0")
    known = hostile(taught_run, tmp_path / "known", vlm={"name": "vit_b_32", "finetune": {}})
    assert config_of(known).own() == [] and config_of(folder).own() == [name]


def test_a_run_directory_does_not_start_ray(
    taught_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    frozen = {**TINY["environment"], "finetune": False}
    asked: list[dict[str, Any]] = [
        {"vlm": {"name": "evil:Evil", "actor": "ray"}, "environment": frozen, "agent": "random"},
        {"vlm": {"name": "tiny", "actor": "ray"}, "environment": frozen, "agent": "random"},
        {"environment": {**TINY["environment"], "workers": "ray", "num_envs": 2}, "agent": "sb3/ppo_select"},
    ]
    monkeypatch.chdir(tmp_path)
    for content, name in zip(asked, ("evil:Evil", "ray", "ray"), strict=True):
        content = {**TINY, **content, "budget": {"n_generated": 6}}
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
        assert rls3("run", "config.yaml", "--out", "again") == 2
        assert capsys.readouterr().err.endswith(f"if you trust it, add: --trust {name}\n")
        assert config_of_file(tmp_path / "config.yaml").own()[-1] == "ray"
    assert rls3("run", "config.yaml", "--out", "again", "--trust", "ray") == 2
    assert "needs ray: pip install" in capsys.readouterr().err
    assert not (tmp_path / "again").exists()


def test_rays_workers_do_not_look_in_a_folder_where_this_process_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    with cluster._where_nothing_is_imported():
        assert Path.cwd() == Path(os.sep)
    assert Path.cwd() == tmp_path
    monkeypatch.syspath_prepend(tmp_path)
    with cluster._where_nothing_is_imported():
        assert Path.cwd() == tmp_path


def test_a_run_writes_nothing_where_its_own_files_say(
    taught_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for output in (str(tmp_path / "elsewhere"), "../elsewhere"):
        (tmp_path / "config.yaml").write_text(yaml.safe_dump({**TINY, "output": output}), encoding="utf-8")
        assert rls3("run", "config.yaml") == 2
        assert "a run's file can't say so; name a folder with --out" in capsys.readouterr().err
    folder = hostile(taught_run, tmp_path / "run")
    (folder / "tensorboard").symlink_to(tmp_path)
    with pytest.raises(UserError, match="tensorboard: is a link"):
        resume(config_of(folder), folder, [])


@pytest.mark.parametrize(
    ("section", "what"),
    [({"agent": {"name": "evil.yaml"}}, "agent"), ({"environment": {"extrinsic": "evil:Evil"}}, "extrinsic reward")],
)
def test_an_agent_or_a_reward_of_somebody_elses_run_is_refused(
    taught_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, section: dict[str, Any], what: str
) -> None:
    folder = hostile(taught_run, tmp_path / "run", **section)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    with pytest.raises(UserError, match=f"its {what} is 'evil:Evil'"):
        resume(config_of(folder), folder, [])
    assert not (folder / "ran").exists()


def test_a_configuration_that_was_copied_out_of_a_run_is_still_somebody_elses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "evil.py").write_text(EVIL, encoding="utf-8")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({**TINY, "agent": "evil:Evil"}), encoding="utf-8")
    study = {"experiment": "config.yaml", "arms": {"evil": {}}, "at": {"n_generated": [1]}, "sets": ["validation"]}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert rls3("study", "study.yaml", "--dry-run") == 0
    for words in ("run config.yaml", "study study.yaml"):
        assert rls3(*words.split()) == 2
        assert capsys.readouterr().err.endswith(refusal("agent").removeprefix("rls3: "))
    assert not (tmp_path / "ran").exists()


def test_no_door_of_the_library_runs_it(taught_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = hostile(taught_run, tmp_path / "run", vlm={"name": "evil:Evil"}, environment={"backend": "evil:Evil"})
    monkeypatch.syspath_prepend(folder)
    with pytest.raises(UserError, match="its VLM is 'evil:Evil'"):
        RLS3SceneEnv(vlm=str(folder))
    with pytest.raises(UserError, match="its VLM is 'evil:Evil'"):
        find_vlm(str(folder))
    with pytest.raises(UserError, match="its backend is 'evil:Evil'"):
        find_backend(str(folder), find_vlm("tiny"))
    assert not (folder / "ran").exists()


@pytest.fixture
def mine(tmp_path: Path) -> Iterator[Path]:
    """A run, stopped before its end, that teaches a VLM of the user's own."""
    file = tmp_path / "mine.yaml"
    file.write_text("plugin: test_trust:MineVLM\nsettings: {model: packaged:tiny}\n", encoding="utf-8")
    config = tiny(vlm={"name": str(file), "finetune": TINY["vlm"]["finetune"]}, budget={"rounds": 2})
    folder = run(config, tmp_path / "run").directory
    shutil.rmtree(folder / "checkpoints" / "final")
    newest = sorted((folder / "checkpoints").iterdir())[-1]
    shutil.rmtree(newest)
    yield folder


def test_ones_own_plugin_is_named_on_the_command_line(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("evaluate", "--vlm", str(mine), "--set", "validation", "--items", "26", "--json")
    assert rls3(*words) == 2
    said = capsys.readouterr().err
    assert said.endswith("if you trust it, add: --trust test_trust:MineVLM\n")
    assert rls3(*words, *said.split("add: ")[1].split()) == 0
    capsys.readouterr()
    assert rls3("run", "--resume", str(mine)) == 2
    assert "--trust test_trust:MineVLM" in capsys.readouterr().err
    assert rls3("run", "--resume", str(mine), "--trust", "test_trust:MineVLM") == 0
    assert config_of(mine).own() == ["test_trust:MineVLM"]
    with allowing(["test_trust:MineVLM"]):
        assert isinstance(find_vlm(str(mine)), MineVLM)


def test_what_the_package_brings_needs_no_word(tmp_path: Path) -> None:
    rough = tmp_path / "rough.yaml"
    rough.write_text("plugin: rls3_gym.backends.embedded.backend:EmbeddedBackend\nsettings: {supersampling: 1}\n")
    config = ExperimentConfig.model_validate(
        {**TINY, "environment": {**TINY["environment"], "backend": str(rough)}, "agent": {"name": "sb3/ppo_select"}}
    )
    assert config.own() == []


def test_a_plugin_that_is_no_class_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("mine.py", "mine:", "a:b:c"):
        assert rls3("evaluate", "--trust", name) == 2
        assert capsys.readouterr().err == f"rls3: --trust {name}: a class must look like module:Class\n"


def test_a_plugin_in_the_current_folder_is_found_when_it_is_named_and_its_mistakes_too(
    tmp_path: Path,
) -> None:
    script = Path(sys.executable).parent / "rls3"
    (tmp_path / "broken.py").write_text("def (", encoding="utf-8")
    words = ["run", "quickstart", "--set", "agent=broken:Agent"]
    said = []
    for more in ([], ["--trust", "broken:Agent"]):
        done = subprocess.run([script, *words, *more], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        said.append(done.stderr)
    assert "agent 'broken:Agent' lies in the current folder, where no code is looked for unless you say so" in said[0]
    assert said[0].endswith("add: --trust broken:Agent\n")
    assert "agent 'broken:Agent' cannot be imported: SyntaxError" in said[1]
