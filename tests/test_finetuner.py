"""The fine-tuner, put through its paces by a model that is no CLIP: rounds, replay, roll-back, accumulation, state."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from rls3_gym.evalsets.loader import load_set
from rls3_gym.runs.codec import load_tree, save_tree
from rls3_gym.runs.rows import FinetuneRow
from rls3_gym.vlm import digest, snapshot
from rls3_gym.vlm.feedback import captions_of, feedback_from_logits, join_feedback, logits_table
from rls3_gym.vlm.finetune_settings import FineTuneSettings
from rls3_gym.vlm.finetuner import Finetuner
from rls3_gym.vlm.loading import load_vlm
from rls3_registry.errors import UserError
from rls3_registry.validation import check


class PixelVLM:
    """Judges a caption by its letters and a picture by the mean colors of its sixteen parts."""

    image_size = 8

    def __init__(self, settings, *, name, finetune):
        self.name = name
        eye = nn.Sequential(nn.Linear(48, 16), nn.BatchNorm1d(16))
        self.module = nn.ModuleDict({"eye": eye, "mouth": nn.Bilinear(16, 26, 1)})
        self.tuner = Finetuner(self.module, check(FineTuneSettings, finetune, section="finetune"), ("choice", "size"))

    def similarities(self, items):
        captions, owners = captions_of(items)
        pictures = np.stack([item.rgb.reshape(4, 16, 4, 16, 3).mean((1, 3)).ravel() for item in items])
        letters = np.array([[caption.count(chr(97 + i)) for i in range(26)] for caption in captions])
        seen = self.module["eye"](torch.from_numpy(pictures / 255).float())[owners]
        return owners, self.module["mouth"](seen, torch.from_numpy(letters).float())[:, 0]

    def logits(self, items):
        with torch.no_grad():
            owners, similarities = self.similarities(items)
        return logits_table(owners, similarities.numpy())

    def losses(self, batch, rng):
        owners, similarities = self.similarities(batch)
        rows = [similarities[owners == i] for i in range(len(batch))]
        choice = torch.stack([-F.log_softmax(row, 0)[0] for row in rows]).mean()
        return {"choice": choice, "size": torch.stack([row.square().mean() for row in rows]).mean()}

    def evaluate(self, items):
        return join_feedback([feedback_from_logits(items, self.logits(items))]) if items else join_feedback([])

    def finetune(self, items, rng):
        return self.tuner.teach(items, rng, self.losses, self.logits)

    def state(self):
        return self.tuner.state()

    def load_state(self, state):
        self.tuner.load_state(state)

    def digest(self):
        return self.tuner.digest()


SHORT = {"batch_size": 8, "epochs": 2, "learning_rate": 0.02, "train": ["mouth.*"], "loss_weights": {"size": 0.01}}


def pixel_vlm(seed=0, **settings):
    return load_vlm("test_finetuner:PixelVLM", SHORT | settings, seed)


@pytest.fixture(scope="module")
def guide():
    return list(load_set("guide").samples[::12])


def rng(seed=0):
    return np.random.default_rng(seed)


def test_a_model_that_is_no_clip_learns_and_reports_its_own_losses(guide):
    vlm = pixel_vlm(epochs=6)
    before = vlm.evaluate(guide).loss.mean()
    report = vlm.finetune(guide, rng())
    assert vlm.evaluate(guide).loss.mean() < before
    assert set(report.losses) == {"total_first", "total_last", "choice", "size"}
    assert report.losses["total_last"] < report.losses["total_first"]
    assert report.as_dict()["losses"] == report.losses


def test_the_total_is_the_sum_of_the_losses_by_their_weights(guide):
    for weights in ({"choice": 2.0, "size": 0.25}, {"size": 0.0}, {}):
        losses = pixel_vlm(loss_weights=weights, epochs=0.01).finetune(guide, rng()).losses
        expected = weights.get("choice", 1.0) * losses["choice"] + weights.get("size", 1.0) * losses["size"]
        assert losses["total_first"] == losses["total_last"] == pytest.approx(expected, rel=1e-5)


def test_a_weight_for_an_unknown_loss_is_named():
    with pytest.raises(UserError, match=r"finetune.loss_weights: unknown loss 'chioce'; did you mean 'choice'"):
        pixel_vlm(loss_weights={"chioce": 1.0})


def test_a_batch_in_parts_teaches_as_a_whole_one_when_items_are_not_compared_with_each_other(guide):
    """Batches of 8 in 3 parts: 2, 3 and 3 items, each with its share of the gradient."""
    whole, parts = pixel_vlm(), pixel_vlm(accumulation_steps=3)
    reports = [vlm.finetune(guide, rng()) for vlm in (whole, parts)]
    for name, weight in whole.tuner.trainable.items():
        assert torch.allclose(weight, parts.tuner.trainable[name], atol=1e-4)
    assert reports[0].optimizer_steps == reports[1].optimizer_steps > 1
    assert reports[0].losses == pytest.approx(reports[1].losses, abs=1e-4)


def test_a_batch_has_an_item_for_each_of_its_parts():
    with pytest.raises(UserError, match=r"finetune: accumulation_steps should be at most batch_size \(8\)"):
        pixel_vlm(accumulation_steps=9)


def test_frozen_weights_and_all_statistics_stay_as_they_are(guide):
    for patterns in (["mouth.*"], ["*"]):
        vlm = pixel_vlm(train=patterns)
        before = {name: tensor.clone() for name, tensor in vlm.module.state_dict().items()}
        vlm.finetune(guide, rng())
        changed = {name for name, tensor in vlm.module.state_dict().items() if not torch.equal(tensor, before[name])}
        assert changed == set(vlm.tuner.trainable)
        assert not any("running" in name for name in changed)
        assert not vlm.module.training


def test_replay_draws_earlier_items_into_the_batches_and_zero_draws_none(guide):
    old, new = guide[:20], guide[20:40]
    for share, expected in ((0.5, True), (0.0, False)):
        vlm = pixel_vlm(replay=share)
        vlm.finetune(old, rng())
        batches = vlm.tuner.batches(new, rng())
        assert any(any(s is o for o in old) for batch in batches for s in batch) is expected
        assert all(len(batch) == 8 for batch in batches)


def test_replay_forgets_the_oldest(guide):
    vlm = pixel_vlm(replay_capacity=8)
    for start in (0, 10, 20):
        vlm.finetune(guide[start : start + 10], rng())
    batches = vlm.tuner.batches(guide[:1], rng())
    drawn = {item.picture_hash for batch in batches for item in batch} - {guide[0].picture_hash}
    assert drawn and drawn <= {item.picture_hash for item in guide[22:30]}


def test_the_state_holds_what_can_change_and_names_the_rest(guide):
    vlm = pixel_vlm()
    assert vlm.state()["optimizer"] == {} and vlm.state()["replay"]["rows"] == []
    vlm.finetune(guide, rng())
    state = vlm.state()
    assert set(state["weights"]) == set(state["optimizer"]) == {"mouth.weight", "mouth.bias"}
    assert state["frozen"] == pixel_vlm().tuner.frozen
    assert state["replay"]["png"].dtype == np.uint8 and len(state["replay"]["rows"]) == len(guide)


def test_a_continued_vlm_learns_the_same_as_one_that_was_not_stopped(guide, tmp_path):
    vlm, other = pixel_vlm(), pixel_vlm()
    vlm.finetune(guide[:32], rng())
    save_tree(vlm.state(), tmp_path)
    other.load_state(load_tree(tmp_path))
    assert other.digest() == vlm.digest()
    for model in (vlm, other):
        model.finetune(guide[32:], rng(1))
    assert other.digest() == vlm.digest()


def test_teaching_leaves_a_state_that_was_taken_before_as_it_is(guide):
    vlm = pixel_vlm()
    vlm.finetune(guide, rng())
    state, digest = vlm.state(), vlm.digest()
    vlm.finetune(guide, rng(1))
    assert vlm.digest() != digest
    after = []
    for _ in range(2):
        vlm.load_state(state)
        assert vlm.digest() == digest
        after.append(vlm.finetune(guide, rng(2)).digest_after)
    assert after[0] == after[1]


def test_the_state_of_another_model_is_refused_and_changes_nothing(guide):
    vlm = pixel_vlm()
    before = vlm.digest()
    with pytest.raises(UserError, match=rf"frozen weights \w+, not {vlm.tuner.frozen}") as refused:
        vlm.load_state(pixel_vlm(seed=1).state())
    assert "\n" not in str(refused.value)
    with pytest.raises(UserError, match="another finetune.train"):
        vlm.load_state(pixel_vlm(train=["mouth.bias"]).state())
    wider = vlm.state()
    wider["weights"]["mouth.bias"] = torch.zeros(2)
    with pytest.raises(UserError, match=r"mouth.bias has the shape \(2,\), the model's \(1,\)"):
        vlm.load_state(wider)
    with pytest.raises(KeyError):
        vlm.load_state({})
    assert vlm.digest() == before


def test_a_weight_under_two_names_is_not_frozen_under_one_of_them(guide):
    class Tied(PixelVLM):
        def __init__(self, settings, *, name, finetune):
            super().__init__(settings, name=name, finetune=finetune)
            self.module["again"] = self.module["mouth"]

    vlm = Tied({}, name="tied", finetune=SHORT)
    frozen = vlm.tuner.frozen
    vlm.finetune(guide, rng())
    assert digest.ModuleDigest(vlm.module).frozen == frozen  # computed again


def test_a_round_with_a_non_finite_loss_is_taken_back_and_says_so(guide):
    vlm = pixel_vlm()
    vlm.finetune(guide[:16], rng())
    before, state = vlm.digest(), vlm.state()
    real, calls = vlm.losses, []

    def broken(batch, rng):
        calls.append(len(batch))
        return {name: loss * (math.nan if len(calls) == 3 else 1) for name, loss in real(batch, rng).items()}

    vlm.losses = broken
    report = vlm.finetune(guide, rng())
    assert report.rolled_back == "the loss became nan at step 3"
    assert report.digest_after == vlm.digest() == before
    assert report.as_dict()["losses"]["total_last"] is None
    assert vlm.state()["replay"]["rows"] == state["replay"]["rows"]
    assert all(torch.equal(vlm.state()["optimizer"][k]["exp_avg"], v["exp_avg"]) for k, v in state["optimizer"].items())


def test_a_round_that_collapses_the_model_is_taken_back_and_says_so(guide):
    # A decay of 1 / learning rate wipes every trained weight out in one step.
    vlm = pixel_vlm(learning_rate=1e-6, weight_decay=1e6, warmup_steps=0)
    before = vlm.digest()
    report = vlm.finetune(guide, rng())
    assert "collapsed" in report.rolled_back
    assert report.digest_after == report.digest_before == vlm.digest() == before


def test_there_is_no_round_of_nothing():
    with pytest.raises(ValueError, match="nothing to teach with"):
        pixel_vlm().finetune([], rng())


def test_the_digest_is_the_documented_one():
    vlm = pixel_vlm()
    sha = hashlib.sha256()
    for name, tensor in sorted(vlm.module.state_dict().items()):
        sha.update(name.encode() + tensor.numpy().tobytes())
    assert vlm.digest() == sha.hexdigest()[:12]


def test_half_precision_weights_have_a_digest_too():
    module = nn.Linear(3, 2).bfloat16()
    assert len(Finetuner(module, FineTuneSettings(), ()).digest()) == 12


# ---------------------------------------------------------------------- ensembling, cost


def test_an_ensemble_answers_between_the_original_and_the_taught_and_is_taught_as_if_alone(guide, tmp_path):
    original, taught, between = pixel_vlm(), pixel_vlm(), pixel_vlm(ensemble_alpha=0.25)
    assert between.digest() == original.digest()
    for round_ in range(2):
        for vlm in (taught, between):
            vlm.finetune(guide[32 * round_ :][:32], rng(round_))
    for name, weight in between.tuner.trainable.items():
        start, end = original.tuner.trainable[name], taught.tuner.trainable[name]
        assert torch.allclose(weight, 0.75 * start + 0.25 * end, atol=1e-6) and not torch.equal(start, end)
        assert torch.equal(between.state()["weights"][name], end)
    save_tree(between.state(), tmp_path)
    again = pixel_vlm(ensemble_alpha=0.25)
    again.load_state(load_tree(tmp_path))
    assert again.digest() == between.digest()
    assert again.finetune(guide, rng(5)).digest_after == between.finetune(guide, rng(5)).digest_after


def test_a_taken_back_round_of_an_ensemble_leaves_it_as_it_was(guide):
    vlm = pixel_vlm(ensemble_alpha=0.5)
    vlm.finetune(guide[:32], rng())
    digest, state = vlm.digest(), vlm.state()
    vlm.tuner.settings = vlm.tuner.settings.model_copy(update={"learning_rate": 1.0, "clip_norm": 1e30})
    real = vlm.losses
    vlm.losses = lambda batch, rng: {name: loss * math.nan for name, loss in real(batch, rng).items()}
    assert vlm.finetune(guide, rng()).rolled_back
    assert vlm.digest() == digest
    assert all(torch.equal(weight, vlm.state()["weights"][name]) for name, weight in state["weights"].items())


def test_an_ensemble_of_adapters_adds_a_share_of_what_they_add(guide):
    adapters = {"lora": {"rank": 2, "targets": ["eye.*"]}, "train": ["mouth.*"]}
    half, whole = pixel_vlm(ensemble_alpha=0.5, **adapters), pixel_vlm(**adapters)
    for vlm in (half, whole):
        vlm.finetune(guide, rng())
    added = []
    for vlm in (half, whole):
        weights = vlm.tuner.trainable
        added.append(weights["eye.0.lora_B.weight"] @ weights["eye.0.lora_A.weight"])
    assert torch.allclose(added[0], 0.5 * added[1], atol=1e-6) and added[1].abs().max() > 1e-4


def test_a_snapshot_in_a_file_takes_a_round_back_like_one_in_memory(guide, monkeypatch):
    monkeypatch.setattr(snapshot, "IN_MEMORY", 0)
    vlm = pixel_vlm()
    vlm.finetune(guide[:16], rng())
    before, state = vlm.digest(), vlm.state()
    real = vlm.losses
    vlm.losses = lambda batch, rng: {name: loss * math.nan for name, loss in real(batch, rng).items()}
    assert vlm.finetune(guide, rng()).rolled_back
    assert vlm.digest() == before
    for name, moments in state["optimizer"].items():
        assert all(torch.equal(tensor, vlm.state()["optimizer"][name][key]) for key, tensor in moments.items())


def test_a_large_frozen_tensor_is_hashed_once_and_the_digest_is_of_the_weights_alone(guide, monkeypatch):
    monkeypatch.setattr(digest, "LARGE", 1000)
    hashed = []
    real = digest._bytes
    monkeypatch.setattr(digest, "_bytes", lambda tensor: hashed.append(tensor.nbytes) or real(tensor))
    frozen_eye, all_trains = pixel_vlm(train=["mouth.*"]), pixel_vlm(train=["*"])
    eye = frozen_eye.module["eye"][0].weight.nbytes
    assert eye > 1000
    assert frozen_eye.digest() == all_trains.digest()
    hashed.clear()
    for vlm, times in ((frozen_eye, 0), (all_trains, 1)):
        vlm.finetune(guide, rng())
        assert hashed.count(eye) == times
        hashed.clear()


def test_a_round_says_how_fast_it_was_and_how_much_memory_it_took(guide):
    report = pixel_vlm().finetune(guide, rng())
    assert report.images_per_second == pytest.approx(8 * report.optimizer_steps / report.seconds)
    assert 50e6 < report.peak_memory < 1e12
    row = FinetuneRow.model_validate({**report.as_dict(), "round": 1, "n_generated": 1, "n_trained": 1})
    assert row.peak_memory == report.peak_memory
    old = {k: v for k, v in row.model_dump().items() if k not in ("images_per_second", "peak_memory")}
    assert FinetuneRow.model_validate(old).peak_memory is None


def test_layers_that_are_not_known_cannot_learn_at_rates_of_their_own():
    with pytest.raises(UserError, match=r"finetune.layer_decay: the layers of this model are not known"):
        pixel_vlm(layer_decay=0.9)
