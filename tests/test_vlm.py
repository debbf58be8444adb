"""The open_clip adapter: scoring, teaching, state, and what it says to bad input."""

from __future__ import annotations

import json
import math
import pathlib
import shutil

import numpy as np
import pytest
import torch

from rls3_gym.evalsets.loader import load_set
from rls3_gym.evaluation.metrics import accuracy_table, presence_accuracy
from rls3_gym.sample import CaptionItem
from rls3_gym.scene.captions import Change
from rls3_gym.vlm.loading import load_vlm
from rls3_gym.vlm.open_clip.adapter import OpenClipVLM
from rls3_gym.vlm.open_clip.clip_model import ClipModel
from rls3_gym.vlm.open_clip.tokenizer import CompactTokenizer
from rls3_gym.vlm.open_clip.weights import CONFIG_FILE, PACKAGED, WEIGHTS_FILE, load_folder, open_clip_module
from rls3_gym.vlm.settings import FineTuneSettings
from rls3_registry.errors import UserError


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


def test_feedback_agrees_with_the_similarities_it_comes_from(vlm, guide):
    feedback = vlm.evaluate(guide[:8])
    for i, sample in enumerate(guide[:8]):
        logits = vlm.similarities([sample], [sample.caption, *(n.caption for n in sample.negatives)])[0].numpy()
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
    other = load_vlm("tiny")
    other.load_state(state)
    assert other.digest() == vlm.digest()
    for model in (vlm, other):
        model.finetune(guide[32:], np.random.default_rng(1))
    assert other.digest() == vlm.digest()


def test_replay_draws_earlier_samples_into_the_batches_and_zero_clears_them(guide):
    old, new = guide[:20], guide[20:40]
    for share, expected in ((0.5, True), (0.0, False)):
        vlm = load_vlm("tiny", {"replay": share, "batch_size": 16})
        vlm.finetune(old, np.random.default_rng(0))
        batches = vlm.batches(new, np.random.default_rng(0))
        assert any(any(s is o for o in old) for batch in batches for s in batch) is expected
        assert all(len(batch) == 16 for batch in batches)


def test_a_round_with_a_non_finite_loss_is_taken_back_and_says_so(vlm, guide):
    before = vlm.digest()
    with torch.no_grad():
        vlm.clip.model.logit_scale.fill_(math.nan)
    vlm.load_state(vlm.state())  # the digest is kept until the adapter itself changes the weights
    broken = vlm.digest()
    report = vlm.finetune(guide, np.random.default_rng(0))
    assert report.rolled_back is not None and "nan" in report.rolled_back
    assert vlm.digest() == broken != before


def test_a_round_that_collapses_the_model_is_taken_back_and_says_so(guide):
    # A decay of 1 / learning rate wipes every trained weight out in one step.
    vlm = load_vlm("tiny", {"learning_rate": 1e-6, "weight_decay": 1e6, "warmup_steps": 0})
    before = vlm.evaluate(guide)
    report = vlm.finetune(guide, np.random.default_rng(0))
    assert report.rolled_back is not None
    assert report.digest_after == report.digest_before
    assert equal(vlm.evaluate(guide), before)


def test_bf16_learns_too(guide):
    vlm = load_vlm("tiny", {"precision": "bf16"})
    before = vlm.evaluate(guide).loss.mean()
    assert vlm.finetune(guide, np.random.default_rng(0)).rolled_back is None
    assert vlm.evaluate(guide).loss.mean() < before


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rat": 1e-3}, r"unknown key 'finetune.learning_rat'; did you mean 'learning_rate'"),
        ({"batch_size": 1}, r"finetune.batch_size: .*greater than or equal to 2"),
        ({"replay": 1.0}, r"finetune.replay: .*less than 1"),
        ({"train": ["txt.*"]}, r"unknown parameter pattern .*'txt.\*'.*'text.\*'"),
    ],
)
def test_a_wrong_setting_is_named_with_what_would_be_right(settings, message):
    with pytest.raises(UserError, match=message):
        load_vlm("tiny", settings)


def test_unknown_names_foreign_folders_and_unreadable_weights_are_clear_errors(tmp_path):
    with pytest.raises(UserError, match="unknown vlm 'tinny'; did you mean 'tiny'"):
        load_vlm("tinny")
    with pytest.raises(UserError, match=f"{CONFIG_FILE} is missing"):
        load_vlm(str(tmp_path))
    checkpoint = tmp_path / "weights.pt"
    checkpoint.write_bytes(b"not weights")
    with pytest.raises(UserError, match="bare checkpoint"):
        load_vlm(str(checkpoint))
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / CONFIG_FILE).write_text((PACKAGED / "tiny" / CONFIG_FILE).read_text())
    (folder / WEIGHTS_FILE).write_bytes(b"garbage")
    with pytest.raises(UserError, match=str(folder)):
        load_vlm(str(folder))
    shutil.copytree(PACKAGED / "tiny", tmp_path / "other", ignore=shutil.ignore_patterns("vocabulary.json"))
    with pytest.raises(UserError, match="cannot be loaded as an open_clip model"):
        load_vlm(str(tmp_path / "other"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("adapter: open_clip\nmodel: ViT-B-33", "unknown open_clip model 'ViT-B-33'; did you mean"),
        ("adapter: open_clip\nmodel: ViT-B-32\npretrained: nowhere/none.pt", "there is no such file"),
        ("adapter: open_clop\nmodel: packaged:tiny", "unknown VLM adapter 'open_clop'; did you mean 'open_clip'"),
        ("model: packaged:tiny", "vlm.yaml: adapter: is missing"),
        ("adapter: open_clip\nmodel: packaged:tiny\npretrained: nowhere.pt", "packaged:tiny has weights and settings"),
        ("adapter: open_clip\nmodle: tiny", "unknown key 'modle'; did you mean 'model'"),
    ],
)
def test_a_mistake_in_a_vlms_yaml_is_named(tmp_path, content, said):
    spec = tmp_path / "vlm.yaml"
    spec.write_text(content + "\n")
    with pytest.raises(UserError, match=said):
        load_vlm(str(spec))


class LoudVLM(OpenClipVLM):
    """An adapter of somebody else's, with a key of its own."""

    @classmethod
    def from_yaml(cls, name, options, finetune, where):
        own = dict(options)
        loudness = own.pop("loudness")
        vlm = super().from_yaml(name, own, finetune, where)
        vlm.loudness = loudness
        return vlm


def test_an_adapter_may_be_a_class_of_ones_own(tmp_path):
    spec = tmp_path / "loud.yaml"
    spec.write_text("adapter: test_vlm:LoudVLM\nmodel: packaged:tiny\nloudness: 3\nfinetune: {epochs: 2}\n")
    vlm = load_vlm(str(spec), {"batch_size": 16})
    assert (type(vlm).__name__, vlm.loudness, vlm.settings.epochs, vlm.settings.batch_size) == ("LoudVLM", 3, 2, 16)


class Payload:
    """Pickles to a call that leaves a trace."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return pathlib.Path.touch, (self.trace,)


def test_a_checkpoint_that_would_run_code_is_refused_and_does_not(tmp_path):
    trace, checkpoint, spec = tmp_path / "ran", tmp_path / "weights.pt", tmp_path / "vlm.yaml"
    torch.save({"state_dict": Payload(trace)}, checkpoint)
    spec.write_text(f"adapter: open_clip\nmodel: RN50\npretrained: {checkpoint}\n")
    with pytest.raises(UserError, match="weights.pt"):
        load_vlm(str(spec))
    assert not trace.exists()


def test_a_model_of_open_clips_own_kind_is_scored_taught_and_loaded_from_a_folder(tmp_path, guide):
    """A small ViT with the usual tokenizer, saved as `local-dir` weights: the way ViT-B-32 or NegCLIP come in."""
    open_clip_module()
    from open_clip.model import CLIP
    from safetensors.torch import save_file

    config = {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 48, "layers": 2, "width": 64, "patch_size": 16, "head_width": 32},
        "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = CLIP(**config)
    preprocess = {"mean": [0.48, 0.46, 0.41], "std": [0.27, 0.26, 0.28]}
    (tmp_path / CONFIG_FILE).write_text(json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}))
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, str(tmp_path / WEIGHTS_FILE))
    vlm = load_vlm(str(tmp_path), {"batch_size": 8, "epochs": 1})
    assert vlm.image_size == 48
    before = vlm.evaluate(guide[:16]).loss.mean()
    report = vlm.finetune(guide[:16], np.random.default_rng(0))
    assert report.rolled_back is None and vlm.evaluate(guide[:16]).loss.mean() != before


def test_features_are_kept_once_per_sample_and_forgotten_with_it(vlm, guide):
    mine = [CaptionItem(s.rgb[::-1], s.caption, s.negatives) for s in guide[:4]]
    vlm.evaluate(mine)
    kept = len(vlm._features._kept)
    vlm.evaluate(mine)
    assert len(vlm._features._kept) == kept >= 1


def test_the_tokenizer_keeps_words_and_marks_unknown_ones(tmp_path):
    open_clip_module()
    tokenizer = CompactTokenizer.for_texts(["a red bowl"], 8)
    ids = tokenizer(["a red bowl", "a red zebra"])
    assert ids.shape == (2, 8) and (ids[0] == 1).sum() == 0 and (ids[1] == 1).sum() >= 1
    assert ids.max() == ids[0, 4] == tokenizer.vocab_size - 1
    tokenizer.save(tmp_path / "v.json")
    assert torch.equal(CompactTokenizer.load(tmp_path / "v.json", 8)(["a red bowl"]), ids[:1])


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
    clip = load_folder(PACKAGED / "tiny")
    assert isinstance(clip, ClipModel) and clip.image_size == 64
    black = clip.pixels([np.zeros((64, 64, 3), np.uint8)])
    assert torch.allclose(black, torch.full_like(black, -1.0))
    assert clip.pixels([np.zeros((100, 100, 3), np.uint8)]).shape == (1, 3, 64, 64)


def test_defaults_of_the_settings_are_the_documented_ones():
    s = FineTuneSettings()
    assert (s.learning_rate, s.epochs, s.batch_size, s.replay) == (1e-3, 4.0, 64, 0.5)
