"""The CLIPs of the registry: the usual models of open_clip's table."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
import torch

from rls3_gym.evalsets.loader import load_set
from rls3_gym.vlm.base import VLMS
from rls3_gym.vlm.open_clip import named
from rls3_gym.vlm.open_clip.adapter import OpenClipVLM
from rls3_gym.vlm.open_clip.clip_model import ClipModel
from rls3_gym.vlm.open_clip.named import has_quick_gelu
from rls3_gym.vlm.open_clip.weights import OpenClipSettings, open_clip_module


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vit_b_32", "vit_b_16", "vit_l_14", "negclip", "siglip_b_16", "mobileclip_s1"])
def test_a_registered_model_is_built_with_random_weights_and_embeds(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ViT-B-32 is taught, too; the larger ones on torch's meta device, where shapes alone are computed."""
    spec, guide = VLMS.find(name)[1], load_set("guide").samples[:4]
    settings = {key: value for key, value in spec.settings.items() if key != "pretrained"}
    open_clip = open_clip_module()
    if spec.settings["pretrained"] in open_clip.list_pretrained_tags_by_model(settings["model"]):
        assert has_quick_gelu(OpenClipSettings(**spec.settings)) is ("openai" in spec.settings["pretrained"])
    if "SigLIP" in settings["model"]:
        settings["tokenizer"] = str(siglip_tokenizer(tmp_path))
    finetune = spec.finetune | {"batch_size": 4, "epochs": 0.01}
    vlm = OpenClipVLM({**settings, "device": "cpu"}, name=name, finetune=finetune)
    assert vlm.settings.max_logit_scale >= 100
    assert np.isfinite(vlm.evaluate(guide[:2]).margin).all()
    if name == "vit_b_32":
        assert vlm.finetune(guide, np.random.default_rng(0)).rolled_back is None
        return
    monkeypatch.setattr(named, "find_device", lambda name: torch.device("meta"))
    monkeypatch.setattr(ClipModel, "full_precision", lambda self: contextlib.nullcontext())
    with torch.device("meta"):
        vlm = OpenClipVLM({**settings}, name=name, finetune=finetune)
    vlm.settings = vlm.settings.model_copy(update={"cached_chunk": None})
    losses = vlm.losses(guide, np.random.default_rng(0))
    assert {loss.device.type for loss in losses.values()} == {"meta"}
    sum(losses.values()).backward()


def siglip_tokenizer(folder: Path) -> Path:
    """A tokenizer of transformers with a few words, in files."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {word: i for i, word in enumerate(["<pad>", "</s>", "<unk>", "the", "red", "bowl", "is"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", padding_side="right"
    )
    made.save_pretrained(str(folder / "tokenizer"))
    return folder / "tokenizer"
