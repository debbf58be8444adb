"""A run from end to end, on the real environment, tracer, VLM and agents; and going on after an interruption."""

from __future__ import annotations

import hashlib
import math
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from experiment_tools import SAC, TINY, go_on, metrics, rows, run, sample_rows, tiny, tiny_file
from PIL import Image

from rls3_gym.envs.scene_env import RLS3SceneEnv
from rls3_gym.envs.settings import EnvironmentSettings
from rls3_gym.experiment.callbacks import RunCallback
from rls3_gym.experiment.config import EnvironmentConfig, parse_config
from rls3_gym.experiment.evaluator import Evaluator, Measurer
from rls3_gym.experiment.interrupt import graceful_stop
from rls3_gym.experiment.run import config_of, start
from rls3_gym.loop.learning_loop import LaneStep
from rls3_gym.runs.rows import EndRow, EpisodeRow, EvaluationRow, FinetuneRow
from rls3_gym.runs.run_data import summarize
from rls3_gym.runs.taught import find_backend, find_vlm
from rls3_registry.errors import UserError

AGENTS: dict[str, Any] = {"random": "random", "sb3/sac": SAC}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An uninterrupted run of the tiny experiment per agent."""
    folder = tmp_path_factory.mktemp("runs")
    return {name: run(tiny(agent=agent), folder / name.replace("/", "-")).directory for name, agent in AGENTS.items()}


def pictures(directory: Path) -> set[str]:
    return {path.name for path in (directory / "samples").glob("*.png")}


@pytest.mark.parametrize("name", AGENTS)
def test_a_run_leaves_what_reproduces_it(runs: dict[str, Path], name: str) -> None:
    directory = runs[name]
    assert config_of(directory) == tiny(agent=AGENTS[name]).resolved()
    assert (directory / "command.txt").read_text(encoding="utf-8") == "rls3 run tiny.yaml\n"
    environment = (directory / "environment.txt").read_text(encoding="utf-8")
    assert f"numpy {np.__version__}" in environment
    assert (directory / "report.html").stat().st_size > 1000


@pytest.mark.parametrize("name", AGENTS)
def test_the_vlm_is_measured_before_the_first_and_after_every_round(runs: dict[str, Path], name: str) -> None:
    evaluations = metrics(runs[name], "evaluation")
    assert [row["round"] for row in evaluations] == [0, 1, 2, 3]
    assert len({row["vlm_digest"] for row in evaluations}) == 4
    assert len({row["set_hash"] for row in evaluations}) == 1
    assert all(0 <= row["pairwise_accuracy"] <= 1 and row["n"] <= 26 for row in evaluations)


@pytest.mark.parametrize("name", AGENTS)
def test_the_counts_of_the_rows_add_up(runs: dict[str, Path], name: str) -> None:
    episodes, rounds = metrics(runs[name], "episode"), metrics(runs[name], "finetune")
    samples = sample_rows(runs[name])
    assert [row["episode"] for row in episodes] == list(range(1, 10))
    assert [row["round"] for row in episodes] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert episodes[-1]["n_generated"] == len(samples) == sum(sum(row["cells"]) for row in episodes)
    assert sum(row["n_samples"] for row in rounds) == rounds[-1]["n_trained"] == len(samples)  # eta is 1
    for row in episodes:
        valid = sum(row["cells"])
        assert row["valid_rate"] * 6 == pytest.approx(valid)
        assert valid + sum(row["reasons"].values()) == 6
        assert sum(row["complexity"].values()) == valid
        assert sum(int(terms) * count for terms, count in row["complexity"].items()) == sum(row["terms"].values())


def test_every_sample_has_a_row_with_the_verdict_and_some_have_their_picture(runs: dict[str, Path]) -> None:
    folder = runs["random"] / "samples"
    samples = sample_rows(runs["random"])
    assert [row["n_generated"] for row in samples] == list(range(1, len(samples) + 1))
    for row in samples:
        assert row["correct"] == (row["margin"] > 0)
        assert row["caption"] != row["hardest_negative"]
        assert row["scene_key"] and row["split"] == "train"
    kept = [row["file"] for row in samples if row["file"]]
    assert {path.name for path in folder.glob("*.png")} == set(kept)
    for round_ in range(3):
        of_round = [row for row in samples if row["round"] == round_]
        assert sum(row["file"] is not None for row in of_round) == min(4, len(of_round))
    for name in kept:
        pixels = np.asarray(Image.open(folder / name))
        assert name == hashlib.sha256(pixels.tobytes()).hexdigest()[:20] + ".png"


def test_the_same_seed_gives_the_same_run_and_another_seed_another(runs: dict[str, Path], tmp_path: Path) -> None:
    again = run(tiny(budget={"rounds": 1}), tmp_path / "again").directory
    other = run(tiny(budget={"rounds": 1}, seed=1), tmp_path / "other").directory
    first = metrics(runs["random"])
    *rounds, end = metrics(again)
    assert end["row"] == "end" and rounds == first[: len(rounds)]
    assert metrics(other)[1:] != first[1 : len(metrics(other))]
    assert metrics(other)[0] == first[0]  # the same VLM before anything was taught


@pytest.mark.parametrize("name", AGENTS)
def test_a_killed_run_continues_as_if_nothing_had_happened(runs: dict[str, Path], tmp_path: Path, name: str) -> None:
    killed = tmp_path / "killed"
    shutil.copytree(runs[name], killed)
    *_, newest = sorted(path for path in (killed / "checkpoints").iterdir() if path.name.isdigit())
    for path in (newest, killed / "checkpoints" / "final"):
        shutil.rmtree(path)
    (killed / "report.html").unlink()
    (killed / "metrics.jsonl").open("a").write('{"cut')  # it died while writing
    go_on(tiny(agent=AGENTS[name]), killed)
    assert metrics(killed) == metrics(runs[name])
    assert sample_rows(killed) == sample_rows(runs[name])
    assert find_vlm(str(killed)).digest() == find_vlm(str(runs[name])).digest()
    assert pictures(killed) == pictures(runs[name])


def test_at_most_two_checkpoints_are_kept(runs: dict[str, Path]) -> None:
    for directory in runs.values():
        assert len([path for path in (directory / "checkpoints").iterdir() if path.name.isdigit()]) <= 2


def test_nothing_in_a_run_directory_can_run_code_when_read(runs: dict[str, Path]) -> None:
    suffixes = {path.suffix for path in runs["sb3/sac"].rglob("*") if path.is_file()}
    assert suffixes <= {
        "",
        ".lock",
        ".yaml",
        ".txt",
        ".jsonl",
        ".json",
        ".html",
        ".parquet",
        ".png",
        ".npz",
        ".safetensors",
        ".pt",
    }
    for path in runs["sb3/sac"].rglob("*.npz"):
        with np.load(path, allow_pickle=False) as archive:
            assert all(not archive[name].dtype.hasobject for name in archive.files)


def test_the_vlm_of_a_run_can_be_found_by_its_directory(runs: dict[str, Path]) -> None:
    last = metrics(runs["random"], "evaluation")[-1]
    assert find_vlm(str(runs["random"])).digest() == last["vlm_digest"]


def flat(row: dict[str, Any]) -> dict[str, Any]:
    """A row with `by_term.left` for what it holds by name, and without nulls."""
    cells: dict[str, Any] = {}
    for key, value in row.items():
        cells |= {f"{key}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {key: value}
    return {key: value for key, value in cells.items() if value is not None}


@pytest.mark.parametrize("log", ["metrics", "samples/samples"])
def test_pandas_opens_the_parquet_files_in_one_line_and_finds_what_the_json_lines_hold(
    runs: dict[str, Path], log: str
) -> None:
    frame = pd.read_parquet(runs["sb3/sac"] / f"{log}.parquet")
    written = sample_rows(runs["sb3/sac"]) if "samples" in log else rows(runs["sb3/sac"] / f"{log}.jsonl")
    assert len(frame) == len(written) > 0
    for row, (_, record) in zip(written, frame.iterrows(), strict=True):
        cells = flat(row)
        for column in frame.columns:
            value = record[column]
            if column not in cells:
                assert pd.isna(value), column
            elif column == "objects":
                assert [list(o.values()) for o in value] == cells[column]
            elif isinstance(value, np.ndarray):
                found = [None if isinstance(v, float) and math.isnan(v) else v for v in value]  # of a list with gaps
                assert found == cells[column], column
            else:
                assert value == cells[column], column
        assert set(cells) <= set(frame.columns)


def test_a_chart_of_a_run_is_one_query_on_its_table(runs: dict[str, Path]) -> None:
    frame = pd.read_parquet(runs["random"] / "metrics.parquet")
    curve = frame[frame.row == "evaluation"].set_index("round")["by_term.left"]
    assert list(curve) == [row["by_term"]["left"] for row in metrics(runs["random"], "evaluation")]
    assert set(frame.row) == {"episode", "finetune", "evaluation", "end"}


def test_callbacks_hear_what_the_rows_say_in_the_order_in_which_it_is_written(tmp_path: Path) -> None:
    class Listener(RunCallback):
        def __init__(self) -> None:
            self.heard: list[dict[str, Any]] = []
            self.steps = 0

        def stepped(self, step: LaneStep, round_: int) -> None:
            self.steps += 1

        def episode_ended(self, row: EpisodeRow) -> None:
            self.heard.append(row.model_dump(mode="json"))

        def round_ended(self, row: FinetuneRow) -> None:
            self.heard.append(row.model_dump(mode="json"))

        def evaluated(self, row: EvaluationRow) -> None:
            self.heard.append(row.model_dump(mode="json"))

        def run_ended(self, row: EndRow, early_stopped: bool) -> None:
            self.heard.append(row.model_dump(mode="json"))

    listener = Listener()
    directory = start(tiny(budget={"rounds": 1}), ["run", "tiny.yaml"], tmp_path / "run", [listener]).directory
    assert listener.heard == rows(directory / "metrics.jsonl")
    assert listener.steps == listener.heard[-1]["n_steps"]


@pytest.mark.parametrize("finetune", [True, False])
def test_the_wanted_number_of_pictures_is_kept_of_every_round_that_has_so_many_samples(
    tmp_path: Path, finetune: bool
) -> None:
    environment = {"steps_per_episode": 16, "episodes_per_round": 4, "train_fraction": 1.0, "finetune": finetune}
    config = tiny(environment=environment, budget={"n_generated": 90}, images_per_round=8, agent="stratified")
    directory = run(config, tmp_path / "run").directory
    samples = sample_rows(directory)
    episodes = metrics(directory, "episode")
    # A run that teaches nothing is like one round as long as its samples are few.
    ends = [row["n_generated"] for row in episodes if row["episode"] % 4 == 0] if finetune else [len(samples)]
    assert len(ends) >= 1
    for start_, end in zip([0, *ends], ends, strict=False):
        kept = [i for i, row in enumerate(samples[start_:end]) if row["file"] is not None]
        assert len(kept) == min(8, end - start_)
        if end - start_ >= 8:
            assert kept[-1] >= (end - start_) / 2, "the pictures are spread over the round"


def test_a_run_without_fine_tuning_writes_its_samples_as_it_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rls3_gym.experiment.recorder.ROWS_WITHOUT_ROUNDS", 10)
    environment = {"steps_per_episode": 6, "finetune": False}
    config = tiny(environment=environment, budget={"n_generated": 30}, images_per_round=2, agent="stratified")
    samples = sample_rows(run(config, tmp_path / "run").directory)
    assert len(samples) >= 30
    assert sum(row["file"] is not None for row in samples) >= 4  # two of each lot


def test_evaluations_may_come_at_doubling_distances() -> None:
    evaluator = Evaluator(Measurer((), None), "doubling", measured=0)  # type: ignore[arg-type]
    assert [r for r in range(1, 20) if evaluator.due(r)] == [1, 2, 4, 8, 16]
    assert evaluator.due(7, last=True)


def test_the_summary_compares_the_first_and_the_last_evaluation(runs: dict[str, Path]) -> None:
    first, *_, last = metrics(runs["random"], "evaluation")
    summary = summarize(runs["random"])
    assert summary["sets"]["validation"]["before"]["by_term"] == first["by_term"]
    assert summary["sets"]["validation"]["after"]["by_term"] == last["by_term"]
    assert (summary["round"], summary["n_trained"]) == (3, last["n_trained"])


def test_a_budget_of_samples_is_kept_within_an_episode(tmp_path: Path) -> None:
    directory = run(tiny(budget={"n_generated": 7}), tmp_path / "run").directory
    generated = [row["n_generated"] for row in sample_rows(directory)]
    assert generated == list(range(1, len(generated) + 1))
    assert 7 <= len(generated) <= 7 + 6


def test_rounds_between_evaluations_and_the_last_one_always(tmp_path: Path) -> None:
    config = tiny(evaluation={"sets": ["validation"], "items": 26, "every": 2})
    directory = run(config, tmp_path / "run").directory
    assert [row["round"] for row in metrics(directory, "evaluation")] == [0, 2, 3]


def test_without_fine_tuning_the_vlm_stays_as_it_was(tmp_path: Path) -> None:
    frozen = {**TINY["environment"], "finetune": False}
    directory = run(tiny(environment=frozen, budget={"n_generated": 6}), tmp_path / "run").directory
    assert metrics(directory, "finetune") == []
    assert [row["round"] for row in metrics(directory, "evaluation")] == [0]


def interrupt_once_it_has_taught(process: subprocess.Popen[str], directory: Path) -> None:
    log, deadline = directory / "metrics.jsonl", time.monotonic() + 120
    while not (log.exists() and '"finetune"' in log.read_text(encoding="utf-8")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)


def test_ctrl_c_saves_exits_cleanly_and_the_run_goes_on(tmp_path: Path) -> None:
    changes = {"budget": {"rounds": 8}, "evaluation": {"sets": ["validation"], "items": 26, "every": 4}}
    file, out = tiny_file(tmp_path, **changes), tmp_path / "run"
    command = [sys.executable, "-m", "rls3_gym", "run", str(file), "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    interrupt_once_it_has_taught(process, out)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    assert f"rls3 run --resume {out}" in stdout
    assert "Traceback" not in stderr
    assert not (out / "report.html").exists()
    before = metrics(out)
    config = parse_config({**TINY, **changes}, "tiny.yaml")
    go_on(config, out)
    uninterrupted = run(config, tmp_path / "whole").directory
    whole = metrics(uninterrupted)
    assert len(before) < len(whole)
    assert metrics(out) == whole
    assert sample_rows(out) == sample_rows(uninterrupted)
    assert pictures(out) == pictures(uninterrupted)
    commands = (out / "command.txt").read_text(encoding="utf-8").splitlines()
    assert len(commands) == 2 and commands[1] == f"rls3 run --resume {out}"


@pytest.mark.parametrize("module", ["rls3_gym.cli.app", "rls3_gym.cli.tables", "rls3_gym.experiment.run"])
def test_ctrl_c_while_the_command_is_still_being_imported_is_one_line(tmp_path: Path, module: str) -> None:
    """The signal comes when Python begins to look for the module: in the launcher, in the CLI, in a command."""
    code = f"""
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have started us with Ctrl-C ignored
class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            signal.raise_signal(signal.SIGINT)
sys.meta_path.insert(0, Interrupt())
sys.argv = ["rls3", "run", "quickstart"]
from rls3_gym.__main__ import main
main()
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 130, done.stderr
    assert done.stderr.splitlines() == ["rls3: interrupted"]


def test_the_counts_of_the_summary_are_those_at_the_end(tmp_path: Path) -> None:
    directory = run(tiny(budget={"n_generated": 8}), tmp_path / "run").directory
    assert summarize(directory)["n_generated"] == len(sample_rows(directory)) == 8


def test_the_second_ctrl_c_ends_at_once() -> None:
    asked: list[int] = []
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), graceful_stop(lambda: asked.append(1)):
        signal.raise_signal(signal.SIGINT)
        assert asked == [1]
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_complete_run_has_nothing_to_continue(runs: dict[str, Path]) -> None:
    with pytest.raises(UserError, match="the run is complete"):
        go_on(tiny(), runs["random"])


def test_a_run_continues_only_with_the_settings_it_began_with(runs: dict[str, Path]) -> None:
    with pytest.raises(UserError, match="environment.train_fraction was 1.0 when the run began and is 0.5 now"):
        go_on(tiny(environment={**TINY["environment"], "train_fraction": 0.5}), runs["random"])


def test_run_directories_are_never_written_over(tmp_path: Path) -> None:
    run(tiny(budget={"n_generated": 1}), tmp_path / "run")
    before = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    with pytest.raises(UserError, match="exists already"):
        run(tiny(), tmp_path / "run")
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == before


def test_an_experiment_can_set_every_argument_of_the_environment() -> None:
    arguments = EnvironmentConfig().settings(action_view="select")
    env = RLS3SceneEnv(**arguments)
    assert env.settings == EnvironmentSettings()
    assert all(f"| `{name}` |" in (RLS3SceneEnv.__doc__ or "") for name in arguments)


def test_the_written_config_is_plain_yaml(runs: dict[str, Path]) -> None:
    content = yaml.safe_load((runs["random"] / "config.yaml").read_text(encoding="utf-8"))
    assert content["environment"]["steps_per_episode"] == 6
    assert content["agent"] == {"name": "random", "settings": {}}


def test_a_runs_vlm_is_judged_in_the_world_it_was_taught_in(runs: dict[str, Path], tmp_path: Path) -> None:
    """A run at one ray a pixel has its sets shown at one ray a pixel: while it goes on, and by `rls3 evaluate`."""
    backend = tmp_path / "rough.yaml"
    backend.write_text("plugin: embedded\nsettings: {supersampling: 1}\n", encoding="utf-8")
    config = tiny(environment={**TINY["environment"], "backend": str(backend)}, budget={"n_generated": 4})
    result = start(config, [], tmp_path / "run")
    shown = {row["backend"] for row in metrics(result.directory, "evaluation")}
    vlm = find_vlm(str(result.directory))
    assert shown == {find_backend(str(result.directory), vlm).fingerprint}
    usual = find_backend("tiny", vlm).fingerprint
    assert usual not in shown and usual == {row["backend"] for row in metrics(runs["random"], "evaluation")}.pop()
