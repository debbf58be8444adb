"""The open_clip adapter: scoring, teaching, device, state."""

from __future__ import annotations

import contextlib
import gc
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from rls3_gym.evalsets.loader import load_set
from rls3_gym.evaluation.metrics import accuracy_table, presence_accuracy
from rls3_gym.sample import CaptionItem, decode_items, encode_items
from rls3_gym.scene.captions import Change
from rls3_gym.vlm.base import VLMS
from rls3_gym.vlm.feedback import join_feedback
from rls3_gym.vlm.loading import load_vlm
from rls3_gym.vlm.open_clip import named
from rls3_gym.vlm.open_clip.adapter import OpenClipFineTuneSettings, OpenClipVLM
from rls3_gym.vlm.open_clip.clip_model import ClipModel
from rls3_gym.vlm.open_clip.folder_config import CONFIG_FILE
from rls3_gym.vlm.open_clip.tokenizer import CompactTokenizer
from rls3_gym.vlm.open_clip.weights import PACKAGED, WEIGHTS_FILE, load_folder, open_clip_module
from rls3_gym.vlm.seeding import seeded_torch


@pytest.fixture(scope="module")
def guide():
    return list(load_set("guide").samples[::12])


@pytest.fixture
def vlm():
    return load_vlm("tiny")


def equal(a, b):
    return all(np.array_equal(getattr(a, f), getattr(b, f), equal_nan=True) for f in a.__dataclass_fields__)


def test_scores_do_not_depend_on_how_samples_are_batched(vlm, guide):
    together = vlm.evaluate(guide)
    alone = [vlm.evaluate([s]) for s in guide]
    assert np.allclose(together.margin, [f.margin[0] for f in alone], atol=1e-3)
    assert equal(together, vlm.evaluate(guide))


def test_feedback_is_about_similarities_of_pictures_and_captions(vlm, guide):
    feedback = vlm.evaluate(guide[:8])
    for i, sample in enumerate(guide[:8]):
        with torch.no_grad():
            stem = vlm.clip.frozen_features(vlm.clip.pixels([sample.rgb] * 2)).half().float()[:1]
            image = F.normalize(vlm.clip.embed_features(stem), dim=-1)
            captions = [sample.caption, *(n.caption for n in sample.negatives)]
            texts = F.normalize(vlm.clip.embed_texts(captions), dim=-1)
            logits = (vlm.scale() * image @ texts.T)[0].numpy()
        assert feedback.margin[i] == pytest.approx(logits[0] - logits[1:].max(), abs=1e-3)
        assert feedback.correct[i] == (feedback.margin[i] > 0)
        assert feedback.p_true[i] == pytest.approx(
            np.exp(logits[0] - logits.max()) / np.exp(logits - logits.max()).sum(), abs=1e-3
        )
        singles = [n for n in sample.negatives if n.change is Change.OPPOSITE]
        wins = [float(logits[0] > logits[1 + j]) for j in range(len(singles))]
        assert feedback.pairwise[i] == pytest.approx(np.mean(wins))
        assert {int(n.term) for n in singles} == set(np.flatnonzero(~np.isnan(feedback.by_term[i])))


def test_evaluating_leaves_the_weights_alone_and_teaching_changes_them(vlm, guide):
    before = vlm.digest()
    vlm.evaluate(guide)
    assert vlm.digest() == before
    report = vlm.finetune(guide, np.random.default_rng(0))
    assert report.rolled_back is None
    assert (report.digest_before, report.digest_after) == (before, vlm.digest())
    assert vlm.digest() != before


def test_a_round_lowers_the_loss_on_what_it_taught(vlm, guide):
    before = vlm.evaluate(guide).loss.mean()
    vlm.finetune(guide, np.random.default_rng(0))
    assert vlm.evaluate(guide).loss.mean() < before


@pytest.mark.parametrize("switched_off", [torch.no_grad, torch.inference_mode])
def test_a_round_is_the_same_where_the_caller_has_switched_gradients_off(vlm, guide, switched_off):
    """RL libraries step environments so, and a step may end a round."""
    with switched_off():
        vlm.evaluate(guide)
        report = vlm.finetune(guide, np.random.default_rng(0))
    other = load_vlm("tiny")
    other.finetune(guide, np.random.default_rng(0))
    assert report.rolled_back is None and vlm.digest() == other.digest()


def test_only_the_parameters_named_in_the_settings_train(guide):
    vlm = load_vlm("tiny", {"train": ["text.*"]})
    before = {k: v.clone() for k, v in vlm.clip.model.state_dict().items()}
    vlm.finetune(guide, np.random.default_rng(0))
    changed = {k for k, v in vlm.clip.model.state_dict().items() if not torch.equal(v, before[k])}
    assert changed and all(name.startswith("text.") for name in changed)


def test_the_frozen_stem_keeps_weights_and_statistics(vlm, guide):
    stem = {k: v.clone() for k, v in vlm.clip.model.state_dict().items() if ".stem." in k}
    vlm.finetune(guide, np.random.default_rng(0))
    assert all(torch.equal(v, vlm.clip.model.state_dict()[k]) for k, v in stem.items())


def test_a_continued_vlm_learns_the_same_as_one_that_was_not_stopped(vlm, guide):
    vlm.finetune(guide[:32], np.random.default_rng(0))
    state = vlm.state()
    assert set(state["weights"]) == set(vlm._tuner.trainable)
    assert not any(".stem." in name for name in state["weights"])
    other = load_vlm("tiny")
    other.load_state(state)
    assert other.digest() == vlm.digest() and equal(other.evaluate(guide), vlm.evaluate(guide))
    for model in (vlm, other):
        model.finetune(guide[32:], np.random.default_rng(1))
    assert other.digest() == vlm.digest()


def test_a_clip_that_became_nan_is_found_out(vlm, guide):
    with torch.no_grad():
        vlm.clip.model.logit_scale.fill_(math.nan)
    vlm.load_state(vlm.state())  # the digest is kept until the adapter itself changes the weights
    broken = vlm.digest()
    report = vlm.finetune(guide, np.random.default_rng(0))
    assert report.rolled_back is not None and "nan" in report.rolled_back
    assert vlm.digest() == broken


def test_a_round_that_collapses_the_model_is_taken_back_and_says_so(guide):
    # A decay of 1 / learning rate wipes every trained weight out in one step.
    vlm = load_vlm("tiny", {"learning_rate": 1e-6, "weight_decay": 1e6, "warmup_steps": 0})
    before = vlm.evaluate(guide)
    report = vlm.finetune(guide, np.random.default_rng(0))
    assert report.rolled_back is not None
    assert report.digest_after == report.digest_before
    assert equal(vlm.evaluate(guide), before)


@pytest.mark.slow
def test_a_round_that_makes_the_model_blind_to_objects_is_taken_back_and_says_so(guide):
    vlm = load_vlm("tiny", {"learning_rate": 0.1, "epochs": 8, "batch_size": 16})
    before = vlm.evaluate(guide)
    report = vlm.finetune(guide, np.random.default_rng(0))
    assert report.rolled_back is not None and "no longer sees which objects are there" in report.rolled_back
    assert report.digest_after == report.digest_before
    assert equal(vlm.evaluate(guide), before)


def test_bf16_learns_too(guide):
    vlm = load_vlm("tiny", {"precision": "bf16"})
    before = vlm.evaluate(guide).loss.mean()
    assert vlm.finetune(guide, np.random.default_rng(0)).rolled_back is None
    assert vlm.evaluate(guide).loss.mean() < before


@pytest.fixture(scope="module")
def small_vit(tmp_path_factory):
    """A small ViT with the usual tokenizer, saved as `local-dir` weights: the way ViT-B-32 or NegCLIP come in."""
    open_clip_module()
    from open_clip.model import CLIP
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("vit")
    config = {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 48, "layers": 2, "width": 64, "patch_size": 16, "head_width": 32},
        "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
    }
    with seeded_torch(0):
        model = CLIP(**config)
    preprocess = {"mean": [0.48, 0.46, 0.41], "std": [0.27, 0.26, 0.28]}
    (folder / CONFIG_FILE).write_text(json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}))
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, str(folder / WEIGHTS_FILE))
    return str(folder)


def test_any_model_of_open_clip_is_scored_and_taught_from_its_folder(small_vit, guide):
    vlm = load_vlm(small_vit, {"batch_size": 8, "epochs": 1})
    assert vlm.image_size == 48 and VLMS.find(small_vit)[1].settings == {"model": small_vit}
    before = vlm.evaluate(guide[:16]).loss.mean()
    report = vlm.finetune(guide[:16], np.random.default_rng(0))
    assert report.rolled_back is None and vlm.evaluate(guide[:16]).loss.mean() != before


def test_all_tensors_of_a_model_are_on_its_device(small_vit, guide, monkeypatch):
    """On torch's `meta` device, which computes shapes alone and, as a GPU does, nothing with main memory."""
    monkeypatch.setattr(named, "find_device", lambda name: torch.device("meta"))
    monkeypatch.setattr(ClipModel, "full_precision", lambda self: contextlib.nullcontext())  # it knows no precisions
    tail = ["visual.trunk.projection.*"]
    for name, trained in ((small_vit, ["visual.*"]), (small_vit, ["text.*"]), ("tiny", tail), ("tiny", ["text.*"])):
        vlm = load_vlm(name, {"train": trained})
        losses = vlm.losses(guide[:4], np.random.default_rng(0))
        assert {name: loss.device.type for name, loss in losses.items()} == dict.fromkeys(losses, "meta")
        sum(losses.values()).backward()
        assert all(p.grad.is_meta for p in vlm._tuner.trainable.values() if p.grad is not None)
        with pytest.raises(NotImplementedError, match="Cannot copy out of meta tensor"):  # the scores, to numpy
            vlm.logits(guide[:4])


def test_scoring_finds_pictures_of_several_sizes(vlm, guide):
    wide = CaptionItem(guide[0].rgb.repeat(2, 0).repeat(2, 1), guide[0].caption, guide[0].negatives)
    margins = vlm.evaluate([wide, guide[0]]).margin
    assert np.isfinite(margins).all() and margins[0] == pytest.approx(vlm.evaluate([wide]).margin[0], abs=1e-3)


def test_a_clip_contrasts_within_the_parts_of_a_batch(guide):
    """Accumulation leaves the hard-negative loss as it is; the contrastive one has fewer pictures to tell from."""
    once = {"epochs": 0.01, "batch_size": 64}
    losses = [
        load_vlm("tiny", once | {"accumulation_steps": n}).finetune(guide, np.random.default_rng(0)).losses
        for n in (1, 8)
    ]
    assert losses[0]["hard_negative"] == pytest.approx(losses[1]["hard_negative"], abs=1e-4)
    assert losses[1]["contrastive"] < losses[0]["contrastive"]


def test_no_items_have_feedback_of_length_zero(vlm):
    assert len(vlm.evaluate([])) == 0
    assert join_feedback([vlm.evaluate([]), vlm.evaluate([])]).by_term.shape == (0, 6)


def test_an_item_without_negatives_cannot_be_scored(vlm, guide):
    with pytest.raises(ValueError, match="has no negatives"):
        vlm.evaluate([CaptionItem(guide[0].rgb, guide[0].caption, ())])


def test_features_are_kept_once_per_sample_and_forgotten_with_it(vlm, guide):
    mine = decode_items(encode_items(guide[:4]))
    vlm.evaluate(mine)
    vlm.evaluate(mine)
    assert len(vlm._features._kept) == 4
    del mine
    gc.collect()
    assert len(vlm._features._kept) == 0


def test_features_outlive_an_equal_sample_that_they_were_made_for(vlm, guide):
    first, again = (decode_items(encode_items(guide[:4])) for _ in range(2))
    vlm.evaluate(first)
    vlm.evaluate(again)
    del first
    gc.collect()
    assert all(item in vlm._features._kept for item in again)


def test_the_tokenizer_keeps_words_and_marks_unknown_ones(tmp_path):
    open_clip_module()
    tokenizer = CompactTokenizer.for_texts(["a red bowl"], 8)
    ids = tokenizer(["a red bowl", "a red zebra"])
    assert ids.shape == (2, 8) and (ids[0] == 1).sum() == 0 and (ids[1] == 1).sum() >= 1
    assert ids.max() == ids[0, 4] == tokenizer.vocab_size - 1
    tokenizer.save(tmp_path / "v.json")
    assert torch.equal(CompactTokenizer.load(tmp_path / "v.json", 8)(["a red bowl"]), ids[:1])


@given(st.lists(st.text(st.characters(codec="utf-8") | st.sampled_from("ab  &;#<'.\t\n"), max_size=30), min_size=40))
@example([":\x1f:"])  # a control character: white space to Python, nothing to open_clip
@settings(max_examples=5, deadline=None)
def test_the_tokenizer_gives_what_open_clips_own_gives(texts):
    open_clip_module()
    from open_clip.tokenizer import SimpleTokenizer

    plain = SimpleTokenizer()
    whole = [[plain.sot_token_id, *plain.encode(text), plain.eot_token_id] for text in texts]
    known = sorted({piece for pieces in whole for piece in pieces})
    rows = CompactTokenizer(known, max(map(len, whole)))(texts).tolist()
    assert rows == [[known.index(i) + 2 for i in pieces] + [0] * (len(rows[0]) - len(pieces)) for pieces in whole]


def test_the_packaged_model_knows_objects_is_at_chance_on_relations_and_is_small():
    vlm = load_vlm("tiny")
    assert isinstance(vlm, OpenClipVLM)
    assert presence_accuracy(vlm, load_set("presence").items) >= 0.97
    assert 0.47 <= accuracy_table(vlm, load_set("test").samples).pairwise <= 0.55
    assert (PACKAGED / "tiny" / WEIGHTS_FILE).stat().st_size < 20e6


@pytest.mark.slow
def test_the_packaged_model_can_be_taught_on_layouts_it_has_never_seen():
    vlm, guide = load_vlm("tiny"), list(load_set("guide").samples)
    before = accuracy_table(vlm, load_set("validation").samples).pairwise
    for seed in range(2):
        vlm.finetune(guide, np.random.default_rng(seed))
    assert accuracy_table(vlm, load_set("validation").samples).pairwise > before + 0.05


def test_the_model_folder_loads_with_its_normalization():
    clip = load_folder(PACKAGED / "tiny", torch.device("cpu"))
    assert isinstance(clip, ClipModel) and clip.image_size == 64
    black = clip.pixels([np.zeros((64, 64, 3), np.uint8)])
    assert torch.allclose(black, torch.full_like(black, -1.0))
    assert clip.pixels([np.zeros((100, 100, 3), np.uint8)]).shape == (1, 3, 64, 64)


def test_defaults_of_the_settings_are_the_documented_ones():
    s = OpenClipFineTuneSettings()
    assert (s.learning_rate, s.epochs, s.batch_size, s.replay) == (1e-3, 4.0, 64, 0.5)
