"""Generative VLMs of transformers: scores, teaching, both readings, three families, and what is refused."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import generative_parts
import numpy as np
import pytest
import torch
from generative_parts import FAMILIES, write_family

from rls3_gym.evalsets.loader import load_set
from rls3_gym.sample import CaptionItem
from rls3_gym.scene.captions import Change, Negative
from rls3_gym.vlm.base import VLMS, GenerativeVLM, GradientVLM, ScoringVLM, WeightsVLM
from rls3_gym.vlm.loading import load_vlm
from rls3_gym.vlm.transformers.adapter import TransformersVLM
from rls3_gym.vlm.transformers.generative_model import Prompt
from rls3_gym.vlm.transformers.prompt_formats import PaliGemmaFormat
from rls3_registry.errors import UserError
from rls3_registry.plugins import plugin_class

FINETUNE = {"batch_size": 4, "epochs": 2.0, "learning_rate": 3e-3}
LORA = {**FINETUNE, "lora": {"rank": 4, "targets": ["*q_proj", "*v_proj"]}}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {family: write_family(family, tmp_path_factory.mktemp(family)) for family in FAMILIES}


@pytest.fixture(scope="module")
def items():
    return list(load_set("guide").samples[::40])[:8]


def vlm_of(folder: Path, finetune=FINETUNE, **settings) -> TransformersVLM:
    return TransformersVLM({"model": str(folder), "device": "cpu", **settings}, name="tiny", finetune=finetune)


def one_token_at_a_time(vlm: TransformersVLM, prompt: Prompt, answer: str) -> float:
    """The mean log-likelihood of an answer's tokens, each asked for before the model has seen it or any later one."""
    model = vlm.model
    prefix, ids = model._prefixed([prompt]), model._answer(answer)
    with torch.inference_mode():
        out = model.module(**prefix, use_cache=True)
        total, length = 0.0, prefix["input_ids"].shape[1]
        for i, token in enumerate(ids):
            total += float(out.logits[0, -1].float().log_softmax(-1)[token])
            step = torch.tensor([[token]])
            out = model.module(
                input_ids=step,
                attention_mask=torch.ones(1, length + i + 1, dtype=torch.long),
                past_key_values=out.past_key_values,
                use_cache=True,
                **model.format.continuing(model.module, length + i, step),
            )
    return total / len(ids)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_answer_does_not_leak_into_its_own_loss(folders, items, family):
    vlm = vlm_of(folders[family])
    prompt, answer = Prompt(items[0].rgb, vlm._question(items[0].caption)), items[0].caption
    honest = one_token_at_a_time(vlm, prompt, answer)
    with torch.no_grad():
        assert float(vlm.model.loss([prompt], [answer])) == pytest.approx(-honest, abs=1e-4)
    assert vlm.model.log_likelihoods([prompt], [[answer]])[0] == pytest.approx([honest], abs=1e-4)


def test_without_token_type_ids_it_would_leak_and_be_noticed(folders, items, monkeypatch):
    vlm = vlm_of(folders["paligemma"])
    prompt, answer = Prompt(items[0].rgb, vlm._question(items[0].caption)), items[0].caption
    honest = one_token_at_a_time(vlm, prompt, answer)
    monkeypatch.setattr(PaliGemmaFormat, "answer_types", lambda self, ids: {})
    with torch.no_grad():
        assert abs(float(vlm.model.loss([prompt], [answer])) + honest) > 1e-2


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_do_not_depend_on_what_is_scored_beside(folders, items, family):
    vlm = vlm_of(folders[family])
    odd = CaptionItem(items[0].rgb, "a photo of a red bowl.", (Negative("a photo of a kettle.", Change.OBJECT),))
    many = [*items, odd]
    together = vlm.logits(many)
    for i, item in enumerate(many):
        alone = vlm.logits([item])[0]
        assert np.allclose(together[i, : len(alone)], alone, atol=1e-3)
        assert np.isneginf(together[i, len(alone) :]).all()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("finetune", [FINETUNE, LORA], ids=["whole", "lora"])
def test_a_family_learns_writes_and_goes_on_where_it_was(folders, items, family, finetune):
    vlm = vlm_of(folders[family], finetune)
    report = vlm.finetune(items[:4], np.random.default_rng(0))
    assert report.rolled_back is None and report.digest_before != report.digest_after
    state = vlm.state()
    assert all(".lora_" in name for name in state["weights"]) == ("lora" in finetune)
    other = vlm_of(folders[family], finetune)
    other.load_state(state)
    assert other.digest() == vlm.digest()
    for model in (vlm, other):
        model.finetune(items[4:], np.random.default_rng(1))
    assert other.digest() == vlm.digest()
    assert np.array_equal(other.logits(items), vlm.logits(items))
    said = vlm.answers(items)
    assert said == other.answers(items) and all(isinstance(text, str) for text in said)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_round_lowers_the_loss_of_true_captions(folders, items, family):
    vlm = vlm_of(folders[family], {**FINETUNE, "epochs": 10.0})
    losses = vlm.finetune(items, np.random.default_rng(0)).losses
    assert losses["total_last"] < losses["total_first"]
    assert losses["language"] > 0


def test_the_vlm_has_every_part_that_rewards_and_suites_may_ask_for(folders):
    vlm = vlm_of(folders["paligemma"])
    assert all(isinstance(vlm, part) for part in (GenerativeVLM, GradientVLM, ScoringVLM, WeightsVLM))


def test_a_nudge_teaches_a_copy_alone(folders, items):
    vlm = vlm_of(folders["paligemma"])
    before = vlm.digest()
    assert vlm.nudged(items[:2], np.random.default_rng(0), 0.1).digest() != before
    assert vlm.digest() == before


def test_the_setting_chooses_which_reading_is_paid(folders, items, monkeypatch):
    read, said = vlm_of(folders["paligemma"]), vlm_of(folders["paligemma"], reading="generation")
    assert read.digest() == said.digest()
    truth = [item.caption for item in items]
    false = [item.opposites[0].caption for item in items]
    monkeypatch.setattr(TransformersVLM, "answers", lambda self, some: truth[: len(some)])
    right = said.evaluate(items)
    assert right.correct.all() and (right.pairwise == 1).all() and (right.p_true > 0.5).all()
    monkeypatch.setattr(TransformersVLM, "answers", lambda self, some: false[: len(some)])
    wrong = said.evaluate(items)
    assert not wrong.correct.any() and (wrong.p_true < right.p_true).all() and (wrong.loss > right.loss).all()
    assert [item.negatives[i].caption for item, i in zip(items, wrong.hardest, strict=True)] == false
    assert np.array_equal(said.evaluate_as(items, "likelihood").margin, read.evaluate(items).margin)


def test_silence_agrees_with_nothing(folders, items, monkeypatch):
    vlm = vlm_of(folders["paligemma"], reading="generation")
    monkeypatch.setattr(TransformersVLM, "answers", lambda self, some: [""] * len(some))
    feedback = vlm.evaluate(items)
    assert not feedback.correct.any() and (feedback.pairwise == 0).all()


def test_a_folder_is_a_vlm_by_its_path(folders):
    assert VLMS.find(str(folders["qwen2_vl"]))[1].plugin == "transformers"


# ---------------------------------------------------------------------- what is refused


def error_of(folder: Path | str, finetune=FINETUNE, **settings) -> str:
    with pytest.raises(UserError) as caught:
        vlm_of(folder, finetune, **settings)  # type: ignore[arg-type]
    message = str(caught.value)
    assert "\n" not in message
    return message


def copy_of(folder: Path, to: Path, *left_out: str) -> Path:
    for file in folder.iterdir():
        if file.name not in left_out:
            (to / file.name).write_bytes(file.read_bytes())
    return to


def test_a_hub_name_that_cannot_be_fetched_says_how_to_give_a_folder():
    message = error_of("nobody/no-such-model")
    assert "nobody/no-such-model is no folder here and cannot be fetched" in message and "path of a folder" in message


def test_a_folder_without_a_model_is_refused(tmp_path):
    assert "config.json is missing" in error_of(tmp_path)


def test_a_folder_of_adapters_is_refused(folders, tmp_path):
    folder = copy_of(folders["paligemma"], tmp_path)
    (folder / "adapter_config.json").write_text("{}")
    assert "merge them" in error_of(folder)


def test_pickled_weights_are_never_read(folders, tmp_path):
    folder = copy_of(folders["paligemma"], tmp_path, "model.safetensors")
    torch.save({"x": torch.zeros(1)}, folder / "pytorch_model.bin")
    assert "cannot be loaded" in error_of(folder)


def test_code_in_a_model_folder_never_runs(folders, tmp_path):
    folder = copy_of(folders["paligemma"], tmp_path)
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass M: pass\n")
    for name, key in (("config.json", "AutoModelForImageTextToText"), ("processor_config.json", "AutoProcessor")):
        content = json.loads((folder / name).read_text())
        content["auto_map"] = {key: "evil.M", "AutoConfig": "evil.M"}
        content["model_type"] = "unheard_of" if name == "config.json" else content.get("model_type")
        (folder / name).write_text(json.dumps(content))
    error_of(folder)
    assert not (tmp_path / "ran").exists() and "evil" not in sys.modules


def test_weights_that_lack_a_part_are_refused(folders, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = copy_of(folders["paligemma"], tmp_path, "model.safetensors")
    weights = load_file(folders["paligemma"] / "model.safetensors")
    lost = next(name for name in weights if "projector" in name)
    save_file({k: v for k, v in weights.items() if k != lost}, folder / "model.safetensors", {"format": "pt"})
    assert "lack 1 of the model's parameters" in error_of(folder)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"question": "where is the {a}?"}, "settings.question: should hold {a} and {b}"),
        ({"reading": "guess"}, "settings.reading"),
        ({"image_processor": {"do_resise": False}}, "did you mean 'do_resize'"),
        ({"quantize": "4bit"}, "give finetune.lora"),
    ],
)
def test_a_wrong_setting_is_one_line(folders, settings, said):
    assert said in error_of(folders["paligemma"], **settings)


def test_few_bits_need_bitsandbytes(folders):
    if importlib.util.find_spec("bitsandbytes"):
        pytest.skip("bitsandbytes is installed here; without it, as make test is, this is tested")
    assert "pip install bitsandbytes" in error_of(folders["paligemma"], LORA, quantize="4bit")


@pytest.mark.parametrize("quantize", ["8bit", "4bit"])
def test_in_few_bits_a_model_scores_and_its_adapters_learn(quantize, items, monkeypatch, tmp_path):
    pytest.importorskip("bitsandbytes", reason="no extra brings it: make test-bits")
    wide = {"hidden_size": 64, "intermediate_size": 128, "head_dim": 64}  # 4-bit blocks have 64 weights
    monkeypatch.setattr(generative_parts, "WIDTH", 64)
    monkeypatch.setattr(generative_parts, "TEXT", {**generative_parts.TEXT, **wide})
    monkeypatch.setattr(generative_parts, "VISION", {**generative_parts.VISION, **wide, "num_attention_heads": 1})
    vlm = vlm_of(write_family("paligemma", tmp_path), LORA, quantize=quantize)
    assert any(type(part).__name__ in ("Linear8bitLt", "Linear4bit") for part in vlm.model.module.modules())
    before = vlm.evaluate(items)
    assert np.isfinite(before.loss).all()
    if quantize == "4bit" and not torch.cuda.is_available():
        return  # on a CPU, bitsandbytes packs 4-bit weights for scoring alone
    frozen = {name: tensor.clone() for name, tensor in vlm.model.module.state_dict().items() if "lora" not in name}
    assert vlm.finetune(items, np.random.default_rng(0)).rolled_back is None
    after = vlm.model.module.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in frozen.items())
    assert vlm.evaluate(items).loss.mean() < before.loss.mean()


def test_a_missing_library_names_the_extra(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("rls3_gym.vlm.transformers")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UserError, match=r"needs transformers: pip install \"rls3_gym\[paligemma\]\""):
        plugin_class(
            VLMS.group, VLMS.what, "rls3_gym.vlm.transformers.adapter:TransformersVLM", VLMS.needs, VLMS.extras
        )


@pytest.mark.parametrize("name", ["paligemma", "smolvlm", "qwen2_vl"])
def test_registered_hub_models_have_settings_that_hold(name, monkeypatch, folders):
    """Their weights are not here: the tiny one of the family stands in."""
    family = {"smolvlm": "idefics3"}.get(name, name)
    spec = VLMS.find(name)[1]
    vlm = TransformersVLM(
        {**spec.settings, "model": str(folders[family]), "device": "cpu", "dtype": "fp32"},
        name=name,
        finetune=spec.finetune,
    )
    assert all(".lora_" in weight for weight in vlm._tuner.trainable)


def test_an_unknown_vlm_still_names_the_nearest():
    with pytest.raises(UserError, match="paligemma"):
        load_vlm("paligema")
