"""LoRA adapters: on any module, on a CLIP, and what becomes of them in states and exports."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from test_finetuner import pixel_vlm, rng
from test_vlm import equal
from torch import nn

from rls3_gym.evalsets.loader import load_set
from rls3_gym.runs.codec import load_tree, save_tree
from rls3_gym.vlm.finetune_settings import LoraSettings
from rls3_gym.vlm.loading import load_vlm
from rls3_gym.vlm.lora import LinearAttention, add_lora, merged_weights
from rls3_gym.vlm.seeding import seeded_torch
from rls3_registry.errors import UserError

EYE = {"lora": {"rank": 2, "targets": ["eye.*"]}}


@pytest.fixture(scope="module")
def guide():
    return list(load_set("guide").samples[::12])


def test_a_model_with_new_adapters_scores_as_it_did_and_starts_the_same_each_time(guide):
    plain, adapted = pixel_vlm(), pixel_vlm(**EYE)
    assert equal(plain.evaluate(guide), adapted.evaluate(guide))
    assert adapted.digest() == pixel_vlm(**EYE).digest() == plain.digest()
    first, second = (pixel_vlm(**EYE).state()["weights"] for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_adapters_alone_train_under_readable_names_and_are_the_state(guide, tmp_path):
    vlm = pixel_vlm(**EYE)
    before = {name: tensor.clone() for name, tensor in vlm.module.state_dict().items()}
    assert vlm.finetune(guide, rng()).rolled_back is None
    changed = {name for name, tensor in vlm.module.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {"eye.0.lora_A.default.weight", "eye.0.lora_B.default.weight"}
    assert set(vlm.state()["weights"]) == {"eye.0.lora_A.weight", "eye.0.lora_B.weight"}
    save_tree(vlm.state(), tmp_path)
    other = pixel_vlm(**EYE)
    other.load_state(load_tree(tmp_path))
    assert other.digest() == vlm.digest() and equal(other.evaluate(guide), vlm.evaluate(guide))
    with pytest.raises(UserError, match=r"finetune.train or finetune.lora"):
        pixel_vlm().load_state(vlm.state())


def test_merged_weights_are_the_same_model_without_adapters(guide):
    vlm, plain = pixel_vlm(**EYE), pixel_vlm()
    vlm.finetune(guide, rng())
    assert not np.allclose(vlm.evaluate(guide).margin, plain.evaluate(guide).margin)
    digest = vlm.digest()
    plain.module.load_state_dict(merged_weights(vlm.module))
    assert np.allclose(vlm.evaluate(guide).margin, plain.evaluate(guide).margin, atol=1e-5)
    assert vlm.digest() == digest


def test_dropout_draws_from_the_rounds_generator_alone(guide):
    digests = []
    for start, seed in ((0, 3), (1, 3), (0, 4)):
        vlm = pixel_vlm(lora={**EYE["lora"], "dropout": 0.5})
        with seeded_torch(start):
            vlm.finetune(guide, rng(seed))
        digests.append(vlm.digest())
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize("batch_first", [True, False])
def test_attention_with_linear_projections_is_the_same_attention(batch_first):
    with seeded_torch(0):
        attention = nn.MultiheadAttention(8, 2, batch_first=batch_first).eval()
        nn.init.normal_(attention.in_proj_bias)
        x = torch.randn(2, 5, 8) if batch_first else torch.randn(5, 2, 8)
    causal = torch.full((5, 5), float("-inf")).triu(1)
    padding = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    masks = [
        {},
        {"attn_mask": causal},
        {"attn_mask": causal.expand(4, 5, 5)},
        {"attn_mask": causal < 0, "key_padding_mask": padding},
    ]
    expected = [attention(x, x, x, need_weights=False, **mask)[0] for mask in masks]
    linear = LinearAttention(attention).eval()
    for mask, one in zip(masks, expected, strict=True):
        assert torch.allclose(linear(x, x, x, need_weights=False, **mask)[0], one, atol=1e-6)


def test_frozen_weights_of_attention_do_not_drift_and_merge_back_under_their_names():
    with seeded_torch(0):
        module = nn.ModuleDict({"attn": nn.MultiheadAttention(8, 2, batch_first=True)})
        x = torch.randn(2, 5, 8)
    plain = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    add_lora(module, LoraSettings(rank=2, targets=("attn.in_proj",)))
    assert {name for name, w in module.named_parameters() if w.requires_grad} == {
        "attn.in_proj.lora_A.default.weight",
        "attn.in_proj.lora_B.default.weight",
    }
    for _ in range(3):
        module["attn"](x, x, x, need_weights=False)[0].sum().backward()
    merged = merged_weights(module)
    assert set(merged) == set(plain) and all(torch.equal(merged[name], plain[name]) for name in plain)


def test_adapters_on_a_clips_text_tower_teach_it_and_leave_the_image_tower(guide):
    vlm = load_vlm("tiny", {"lora": {"rank": 4, "targets": ["text.*"]}})
    assert all(name.startswith("text.") for name in vlm._tuner.trainable)
    before = vlm.evaluate(guide).loss.mean()
    assert vlm.finetune(guide, rng()).rolled_back is None
    assert vlm.evaluate(guide).loss.mean() < before
    assert sum(w.numel() for w in vlm.state()["weights"].values()) < 60_000


def test_a_pattern_without_a_layer_and_a_missing_library_are_named(monkeypatch):
    with pytest.raises(UserError, match=r"finetune.lora.targets: unknown layer pattern 'eyes.\*'"):
        pixel_vlm(lora={"targets": ["eyes.*"]})
    with pytest.raises(UserError, match=r"unknown key 'finetune.lora.rnk'; did you mean 'rank'"):
        pixel_vlm(lora={"rnk": 4})
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(UserError, match=r'finetune.lora needs peft: pip install "rls3_gym\[paligemma\]"'):
        pixel_vlm(**EYE)
