"""A generative VLM goes through the whole loop: sampling, feedback, teaching, evaluation, checkpoints; and how the tiny
one is made."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from experiment_tools import go_on, metrics, run, tiny

from rls3_gym.cli.app import main
from rls3_gym.evalsets.loader import load_set
from rls3_gym.evaluation.metrics import presence_accuracy
from rls3_gym.experiment.config import load_config
from rls3_gym.pretraining.questions import QuestionWriter, prompts
from rls3_gym.pretraining.scenes import _draw_layout_scenes
from rls3_gym.runs.run_data import summarize
from rls3_gym.scene.catalog import load_catalog
from rls3_gym.vlm.loading import load_vlm

VLM = {"name": "paligemma_tiny", "finetune": {"batch_size": 8, "epochs": 1.0}}
NAMES = [kind.name for kind in load_catalog().training]


@pytest.fixture(scope="module")
def vlm():
    return load_vlm("paligemma_tiny")


def test_the_tiny_paligemma_knows_objects_and_not_relations(vlm):
    assert presence_accuracy(vlm, load_set("presence").items[::20]) > 0.75
    samples = load_set("validation").samples[::8]
    assert 0.3 < vlm.evaluate(samples).pairwise_accuracy < 0.65


def test_it_answers_in_the_grammar_of_captions(vlm):
    samples = load_set("validation").samples[::60]
    for sample, answer in zip(samples, vlm.answers(samples), strict=True):
        assert answer.startswith(f"The {sample.kind_a} is ") and answer.endswith(f" the {sample.kind_b}.")


def test_what_it_is_told_in_pretraining_says_nothing_of_relations():
    table = _draw_layout_scenes(("kitchen", 0, 24, 1))
    writer, rng = QuestionWriter(table, NAMES, (0.3, 0.3, 0.4)), np.random.default_rng(0)
    words = {"left", "right", "front", "behind", "above", "below"}
    for scene in range(len(table)):
        for ticket in (0.1, 0.5, 0.9):
            told = writer.draw(scene, ticket, rng)
            assert not words & set(told.answer.lower().replace(".", "").replace(",", "").split())
    relations = QuestionWriter(table, NAMES, (0.0, 0.0, 0.0))
    scene = int(np.flatnonzero((table.kinds >= 0).all(axis=1))[0])
    said = [relations.draw(scene, 0.5, rng).answer for _ in range(200)]
    assert len({frozenset(words & set(text.replace(".", "").replace(",", "").split())) for text in said}) > 15


def test_its_yaml_asks_the_question_it_was_made_with(vlm):
    assert vlm.source.question in [p.replace("the a ", "the {a} ").replace("the b?", "the {b}?") for p in prompts()]


@pytest.mark.slow
@pytest.mark.parametrize("reading", ["likelihood", "generation"])
def test_a_run_with_it_is_evaluated_both_ways_and_goes_on_where_it_stopped(tmp_path: Path, reading: str) -> None:
    file = tmp_path / "vlm.yaml"
    file.write_text(
        "plugin: transformers\n"
        f"settings: {{model: 'packaged:paligemma_tiny', device: cpu, reading: {reading}}}\n"
        "finetune: {train: ['model.language_model.*']}\n"
    )
    vlm = {**VLM, "name": str(file)}
    whole = run(tiny(vlm=vlm), tmp_path / "whole").directory
    again = tmp_path / "again"
    shutil.copytree(whole, again)
    *_, newest = sorted(path for path in (again / "checkpoints").iterdir() if path.name.isdigit())
    for path in (newest, again / "checkpoints" / "final"):
        shutil.rmtree(path)
    go_on(tiny(vlm=vlm), again)
    assert metrics(whole) == metrics(again)
    for row in metrics(whole, "evaluation"):
        assert 0 <= row["pairwise_accuracy"] <= 1 and 0 <= row["answers"]["term_f1"] <= 1
    assert summarize(whole)["sets"]["validation"]["after"]["answers"]["object_mentions"] > 0.5
    assert "Answers on validation" in (whole / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_experiment_lifts_it_above_chance(tmp_path: Path) -> None:
    config = load_config("paligemma_tiny", [f"output={tmp_path}", "budget.rounds=3", "evaluation.items=204"])
    first, last = metrics(run(config, tmp_path / "run").directory, "evaluation")
    assert last["pairwise_accuracy"] > max(0.58, first["pairwise_accuracy"] + 0.05)


@pytest.mark.slow
def test_it_can_be_made_from_nothing_and_taken_up_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--scenes-per-layout", "1", "--vision-steps", "2", "--language-steps", "2"]
    with pytest.raises(SystemExit) as ended:
        main(["pretrain", "--vlm", "paligemma_tiny", "--out", str(tmp_path / "m"), *small])
    assert ended.value.code == 0
    assert load_vlm(str(tmp_path / "m")).image_size == 64
    assert "Model card: paligemma_tiny" in (tmp_path / "m" / "MODEL_CARD.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--vlm", "paligema_tiny"], "did you mean 'paligemma_tiny'"),
        (["--vlm", "paligemma_tiny", "--text-steps", "3"], "--text-steps: goes with another --vlm"),
        (["--vision-steps", "3"], "--vision-steps: goes with another --vlm"),
    ],
)
def test_pretrain_says_what_is_wrong(arguments, said, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["pretrain", "--out", str(tmp_path / "m"), *arguments])
    assert ended.value.code == 2 and said in capsys.readouterr().err
