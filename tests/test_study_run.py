"""Making the runs of a study: which are missing, going on after an interruption or on another machine, failures."""

from __future__ import annotations

import io
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest
import yaml
from experiment_tools import TINY, metrics
from rich.console import Console
from study_rows import TERMS

from rls3_gym.cli.app import main
from rls3_gym.study import carry_out
from rls3_gym.study.archive import write_archive
from rls3_gym.study.carry_out import StudyFolders, StudyOutcome, missing_runs
from rls3_gym.study.jobs import Job, check_agents, finished, plan
from rls3_gym.study.run_rows import read_run
from rls3_gym.study.runner import Tail
from rls3_gym.study.study_config import StudyConfig
from rls3_gym.study.study_progress import StudyProgress, duration
from rls3_registry.errors import UserError
from rls3_registry.trust import allowing, reading
from rls3_registry.validation import check

STUDY: dict[str, Any] = {
    "experiment": "tiny.yaml",
    "set": {"budget": {"n_generated": 30}},
    "arms": {"random": {"agent": "random"}, "stratified": {"agent": "stratified", "seeds": 3}},
    "seeds": {"first": 5, "count": 2},
    "at": {"n_trained": [10], "n_generated": [20]},
    "sets": ["validation"],
    "baselines": ["random"],
    "processes": 2,
}


def write_study(folder: Path, **changes: Any) -> Path:
    (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY), encoding="utf-8")
    file = folder / "mini.yaml"
    file.write_text(yaml.safe_dump({**STUDY, **changes}), encoding="utf-8")
    return file


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StudyConfig:
    monkeypatch.chdir(tmp_path)
    write_study(tmp_path)
    return check(StudyConfig, {"name": "mini", **STUDY}, "mini.yaml")


FOLDERS = StudyFolders(Path("out"), Path("results"))


def jobs(study: StudyConfig, arms: Sequence[str] = (), seeds: int | None = None) -> list[Job]:
    return plan(study, FOLDERS.out, FOLDERS.results, arms, seeds)


def pretend(job: Job, complete: bool = True, **changes: Any) -> None:
    """Leave a run directory as a run would."""
    job.directory.mkdir(parents=True)
    for name in ("samples", "checkpoints"):
        (job.directory / name).mkdir()
    config = yaml.safe_dump({**job.config, **changes})
    (job.directory / "config.yaml").write_text(config, encoding="utf-8")
    measured: dict[str, Any] = {
        "row": "evaluation", "set": "validation", "set_hash": "h", "backend": "b", "vlm_digest": "d", "n": 9,
        "by_term": dict.fromkeys(TERMS, 0.5), "n_by_term": dict.fromkeys(TERMS, 1),
        "by_complexity": {"1": None, "2": None, "3": None}, "pairwise_accuracy": 0.5, "strict_accuracy": 0.1,
        "mirrored_accuracy": 0.1, "worst_term": "left", "evaluate_seconds": 1.0,
    }  # fmt: skip
    counts = {"round": 0, "n_generated": 0, "n_trained": 0, "n_steps": 0}
    rows = [measured | counts, *([{"row": "end", **counts}] if complete else [])]
    (job.directory / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")


def test_seeds_are_outermost_so_that_a_study_cut_off_has_whole_pairs(study: StudyConfig) -> None:
    assert [job.name for job in jobs(study)] == [
        "random seed 5", "stratified seed 5", "random seed 6", "stratified seed 6", "stratified seed 7",
    ]  # fmt: skip


def test_arms_and_seeds_can_be_chosen(study: StudyConfig) -> None:
    assert [job.name for job in jobs(study, ["stratified"], 1)] == ["stratified seed 5"]
    with pytest.raises(UserError, match="study mini: unknown arm 'stratfied'; did you mean 'stratified'"):
        jobs(study, ["stratfied"])


def test_a_new_run_is_started_and_one_with_a_checkpoint_is_resumed(study: StudyConfig) -> None:
    job = jobs(study)[0]
    words = ["run", "tiny.yaml", "--set", "threads=1", "--set", "budget={n_generated: 30}", "--set", "agent=random"]
    words += ["--set", "evaluation.sets=[validation]", "--seed", "5", "--out", "out/random-seed5"]
    assert job.arguments() == words
    (job.directory / "checkpoints" / ".000000018.partial").mkdir(parents=True)
    assert not job.checkpoint
    (job.directory / "checkpoints" / "000000018").mkdir()
    assert job.arguments() == ["run", "--resume", "out/random-seed5"]


def test_a_plugin_of_ones_own_is_named_again_for_each_process(study: StudyConfig, tmp_path: Path) -> None:
    job = jobs(study)[0]
    agent = tmp_path / "mine.yaml"
    agent.write_text("plugin: my_agents:Mine\n", encoding="utf-8")
    own = replace(job, config={**job.config, "agent": {"name": str(agent), "settings": {}}})
    assert "--trust" not in own.arguments()
    with allowing(["my_agents:Mine"]):
        assert own.arguments()[-4:] == ["--out", "out/random-seed5", "--trust", "my_agents:Mine"]
    (job.directory / "checkpoints" / "000000018").mkdir(parents=True)
    assert own.arguments()[1:] == ["--resume", "out/random-seed5", "--trust", "my_agents:Mine"]


def test_a_study_of_somebody_elses_run_trusts_what_the_user_names_alone(study: StudyConfig, tmp_path: Path) -> None:
    job = jobs(study)[0]
    agent = tmp_path / "theirs.yaml"
    agent.write_text("plugin: their_agents:Theirs\n", encoding="utf-8")
    theirs = replace(job, config={**job.config, "agent": {"name": str(agent), "settings": {}}})
    (job.directory / "checkpoints" / "000000018").mkdir(parents=True)
    with reading(tmp_path / "config.yaml"):
        assert "--trust" not in theirs.arguments()
        with allowing(["their_agents:Theirs"]):
            assert theirs.arguments()[-2:] == ["--trust", "their_agents:Theirs"]


def test_a_complete_run_is_not_repeated_and_kept_in_the_results(study: StudyConfig) -> None:
    whole, part, *_ = jobs(study)
    pretend(whole)
    pretend(part, complete=False)
    missing, total = missing_runs(study, FOLDERS)
    assert (len(missing), total) == (4, 5) and missing[0].name == part.name
    assert not whole.archive.exists()  # looking changes nothing
    assert whole.keep() is not None and part.keep() is None
    assert whole.archive.is_file() and not part.archive.exists()


def test_the_results_folder_alone_says_what_is_done_on_another_machine(study: StudyConfig) -> None:
    for job in jobs(study)[:3]:
        pretend(job)
        job.keep()
    shutil.rmtree("out")
    missing, _ = missing_runs(study, FOLDERS)
    assert [job.name for job in missing] == ["stratified seed 6", "stratified seed 7"]
    assert {arm: [run.seed for run in runs] for arm, runs in finished(study, FOLDERS.results).items()} == {
        "random": [5, 6],
        "stratified": [5],
    }


def test_a_run_made_with_other_settings_is_not_taken_for_done(study: StudyConfig) -> None:
    first, second, *_ = jobs(study)
    pretend(first, budget={"n_generated": 99, "rounds": None})
    with pytest.raises(UserError, match=r"random-seed5: budget\.n_generated was 99 .* is 30 in the study now; .*--out"):
        missing_runs(study, FOLDERS)
    first.keep()
    shutil.rmtree("out")
    with pytest.raises(UserError, match=r"random-seed5\.json\.gz: budget\.n_generated was 99 .*--results"):
        missing_runs(study, FOLDERS)
    with pytest.raises(UserError, match=r"budget\.n_generated was 99"):
        finished(study, FOLDERS.results)
    assert not second.done()


def test_an_arm_whose_name_begins_like_another_keeps_its_runs_to_itself(study: StudyConfig) -> None:
    both = study.model_copy(update={"arms": {"a": study.arms["random"], "a-seed1": study.arms["random"]}})
    for job in plan(both, FOLDERS.out, FOLDERS.results):
        pretend(job)
        run = read_run(job.directory)
        write_archive(run, job.archive)
    assert {arm: len(runs) for arm, runs in finished(both, FOLDERS.results).items()} == {"a": 2, "a-seed1": 2}


def test_a_wrong_setting_of_an_agent_is_said_before_any_run(study: StudyConfig) -> None:
    wrong = study.model_copy(update={"arms": {"sac": study.arms["random"].model_copy(
        update={"changes": ("agent=sb3/sac", "agent.settings.gama=0.5")}
    )}})  # fmt: skip
    with pytest.raises(UserError, match="study mini: arm sac: .*gama"):
        check_agents(plan(wrong, FOLDERS.out, FOLDERS.results))


def command(*words: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert isinstance(caught.value.code, int)
    return caught.value.code


def test_a_dry_run_prints_what_is_missing_and_makes_nothing(
    study: StudyConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pretend(jobs(study)[0], complete=False)
    (jobs(study)[0].directory / "checkpoints" / "000000018").mkdir()
    before = sorted(tmp_path.rglob("*"))
    assert command("study", "mini.yaml", "--out", "out", "--dry-run", "--seeds", "1") == 0
    assert capsys.readouterr().out.splitlines() == [
        "random seed 5: goes on", "stratified seed 5: new", "2 of 2 runs are missing",
    ]  # fmt: skip
    assert command("study", "mini.yaml", "--out", "out", "--dry-run", "--arms", "stratified", "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["arm"], row["seed"], row["continues"]) for row in rows] == [
        ("stratified", n, False) for n in (5, 6, 7)
    ]
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("what", "how", "whole"),
    [
        ("", "", ""),
        ("--seeds 2", "--processes 3", "--seeds 2"),
        (
            "--arms random --seeds 2 --trust mine:Agent --trust mine:Vlm",
            "--processes 3 --out 'my runs' --results kept",
            "--trust mine:Agent --trust mine:Vlm",
        ),
    ],
)
def test_the_command_that_goes_on_is_the_one_that_was_given_and_the_one_beside_the_results_makes_all_arms(
    study: StudyConfig,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    what: str,
    how: str,
    whole: str,
) -> None:
    said: list[str] = []

    def stopped(*arguments: Any, **options: Any) -> StudyOutcome:
        said.append(arguments[3])
        return StudyOutcome(stopped=True, comparison=None, page=None, failure=None)

    monkeypatch.setattr(carry_out, "run_study", stopped)
    assert command("study", "mini.yaml", *shlex.split(f"{how} {what}")) == 0
    assert said == [f"rls3 study mini.yaml {whole}".strip()]
    assert capsys.readouterr().err.strip().endswith(f"continue with: rls3 study mini.yaml {what} {how}".strip())


def test_without_the_extra_a_study_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['rliable'] = None\n"
        "from rls3_gym.cli.app import main; main(['study', 'samplers', '--dry-run'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == 'rls3: comparing runs needs rliable: pip install "rls3_gym[bench]"\n'


def test_how_far_a_run_is_comes_from_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    tail = Tail(path)
    tail.read()
    assert tail.share({"budget": {"n_generated": 100, "rounds": None}, "lives": 1}) == 0.0
    first = {"row": "evaluation", "set": "test", "round": 1, "n_generated": 40, "pairwise_accuracy": 0.6}
    other = {**first, "set": "test_natural", "pairwise_accuracy": 0.9}
    path.write_text(json.dumps(first) + "\n" + json.dumps(other) + "\n" + '{"row": "epi', encoding="utf-8")
    tail.read()
    assert (tail.n_generated, tail.accuracy) == (40, 0.6)
    assert tail.share({"budget": {"n_generated": 100, "rounds": 2}, "lives": 1}) == 0.5
    path.write_text(json.dumps({**first, "n_generated": 20}) + "\n", encoding="utf-8")  # continued from a checkpoint
    tail.read()
    assert tail.n_generated == 20
    longer = json.dumps({**first, "n_generated": 25, "evaluate_seconds": 1.25})  # continued, and grown past its end
    path.write_text(longer + "\n" + json.dumps({**first, "n_generated": 30}) + "\n", encoding="utf-8")
    tail.read()
    assert tail.n_generated == 30


def test_each_life_is_an_equal_share_of_a_run(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    tail, config = Tail(path), {"budget": {"n_generated": 100, "rounds": None}, "lives": 4}
    lives = [{"row": "life", "life": n, "round": 3, "n_generated": 100} for n in (1, 2, 3)]
    episode = {"row": "episode", "round": 1, "n_generated": 50}
    for number, row in enumerate([*lives, episode]):
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        tail.read()
        assert tail.share(config) == (0.25, 0.5, 0.75, 0.875)[number]
    path.write_text(json.dumps(lives[0]) + "\n", encoding="utf-8")  # continued from a checkpoint in its second life
    tail.read()
    assert tail.share(config) == 0.25


def test_the_time_left_follows_the_work_done() -> None:
    sink = io.StringIO()
    with StudyProgress(Console(file=sink, width=200), total=4, done=1) as progress:
        assert progress.seconds_left is None
        progress.began("random seed 5", 0.5)
        sleep(0.05)
        progress.running("random seed 5", 0.75, 30, None)
        left = progress.seconds_left
        assert left is not None and left > 8 * 0.05  # a quarter of a run took this long, nine quarters are left
        progress.refresh()
        progress.finished("random seed 5", 61.0, 20, {"validation": 0.5})
    (line,) = sink.getvalue().splitlines()
    assert line.startswith("2 of 4  random seed 5: 50.0% on validation after 20 trained on, in 61 s, about ")
    assert [duration(s) for s in (4.2, 600, 11_100)] == ["4 s", "10 min", "3 h 05 min"]


# The real thing: runs in processes of their own


def rls3(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "rls3_gym", *words], cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_a_study_ends_with_tables_curves_and_a_page_and_is_not_made_twice(tmp_path: Path) -> None:
    write_study(tmp_path, arms={"random": {"agent": "random"}, "stratified": {"agent": "stratified"}})
    done = rls3(tmp_path, "study", "mini.yaml")
    assert done.returncode == 0, done.stderr
    results = tmp_path / "results" / "mini"
    assert {p.name for p in results.iterdir()} == {
        "results.csv",
        "summary.json",
        "curves.png",
        "study.html",
        "references.json",
        "runs",
        "study.lock",
    }
    small = sorted((results / "runs").iterdir())
    assert len(small) == 4 and all(p.stat().st_size < 60_000 for p in small)
    assert "4 of 4" in done.stderr and "left" in done.stderr
    assert done.stdout.strip().endswith("page: results/mini/study.html")
    assert all(word in done.stdout for word in ("random", "stratified", "points to random"))

    before = {p: p.read_bytes() for p in results.rglob("*") if p.is_file()}
    shutil.rmtree(tmp_path / "runs")  # another machine, to which the results folder alone came
    again = rls3(tmp_path, "study", "mini.yaml", "--json")
    assert again.returncode == 0, again.stderr
    assert again.stderr == "" and not (tmp_path / "runs").exists()
    assert json.loads(again.stdout)["missing_runs"] == 0
    assert {p: p.read_bytes() for p in results.rglob("*") if p.is_file()} == before

    compared = rls3(tmp_path, "compare", *map(str, small), "--out", "both", "--json")
    assert compared.returncode == 0, compared.stderr
    assert json.loads(compared.stdout)["baselines"] == ["random", "stratified"]
    assert (tmp_path / "both" / "study.html").is_file()


@pytest.mark.slow
def test_ctrl_c_saves_and_the_next_call_goes_on_to_the_same_rows(tmp_path: Path) -> None:
    budget = {"budget": {"n_generated": 150}}
    write_study(tmp_path, arms={"random": {"agent": "random"}}, seeds={"count": 1}, set=budget)
    assert rls3(tmp_path, "study", "mini.yaml", "--out", "whole").returncode == 0
    shutil.rmtree(tmp_path / "results")
    process = subprocess.Popen(
        [sys.executable, "-m", "rls3_gym", "study", "mini.yaml"], cwd=tmp_path, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, process_group=0,
    )  # fmt: skip
    run = tmp_path / "runs" / "studies" / "mini" / "random-seed0"
    until = monotonic() + 120
    while not any((run / "checkpoints").glob("0*")) and monotonic() < until:
        sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)  # as the terminal does
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0 and "random seed 0: saved" in said, said
    assert "continue with: rls3 study mini.yaml" in said
    assert not (tmp_path / "results" / "mini" / "runs").exists()
    done = rls3(tmp_path, "study", "mini.yaml")
    assert done.returncode == 0, done.stderr
    assert "resume" in (run / "command.txt").read_text(encoding="utf-8")
    assert metrics(run) == metrics(tmp_path / "whole" / "random-seed0")


@pytest.mark.slow
def test_a_run_that_fails_does_not_keep_the_others_from_being_made(tmp_path: Path) -> None:
    broken = {"agent": "random", "vlm.finetune": {"batch_size": -1}}
    write_study(tmp_path, arms={"broken": broken, "random": {"agent": "random"}}, seeds={"count": 1}, baselines=[])
    done = rls3(tmp_path, "study", "mini.yaml")
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("rls3: broken seed 0 failed: ") and "batch_size" in last and "broken-seed0.log" in last
    assert [p.name for p in (tmp_path / "results" / "mini" / "runs").iterdir()] == ["random-seed0.json.gz"]
    assert "1 run of the study still to be made" in done.stdout
