"""Models of open_clip's table: weights from anywhere, their own preprocessing, and what of them trains."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from clip_models import CLIP, SIGLIP, TIMM, register
from experiment_tools import metrics, run, tiny
from PIL import Image
from safetensors.torch import save_file
from test_vlm import equal

from rls3_gym.evalsets.loader import load_set
from rls3_gym.export.model import FolderVLM
from rls3_gym.runs.taught import find_vlm
from rls3_gym.vlm.digest import ModuleDigest
from rls3_gym.vlm.loading import load_vlm
from rls3_gym.vlm.open_clip.adapter import OpenClipVLM
from rls3_gym.vlm.open_clip.folder_config import CONFIG_FILE
from rls3_gym.vlm.open_clip.layers import locked, tower_layers
from rls3_gym.vlm.open_clip.named import has_quick_gelu
from rls3_gym.vlm.open_clip.preprocessing import Preprocessing
from rls3_gym.vlm.open_clip.weights import OpenClipSettings, open_clip_module
from rls3_gym.vlm.seeding import seeded_torch
from rls3_registry.errors import UserError

SHORT = {"batch_size": 8, "epochs": 1.0, "learning_rate": 1e-3, "warmup_steps": 0, "max_logit_scale": 100.0}


@pytest.fixture(scope="module", autouse=True)
def names(tmp_path_factory):
    register(tmp_path_factory.mktemp("configs"))


@pytest.fixture(scope="module")
def guide():
    return list(load_set("guide").samples[::12])


def rng(seed=0):
    return np.random.default_rng(seed)


def clip(model=CLIP, finetune=None, **settings):
    with seeded_torch(0):
        return OpenClipVLM({"model": model, "device": "cpu", **settings}, name=model, finetune=SHORT | (finetune or {}))


# ---------------------------------------------------------------------- weights


@pytest.fixture(scope="module")
def weights():
    with seeded_torch(7):
        return open_clip_module().create_model(CLIP).state_dict()


@pytest.fixture
def negclip_file(weights, tmp_path):
    """The shape of NegCLIP's checkpoint."""
    path = tmp_path / "negclip.pth"
    optimizer = {"state": {0: {"step": 3, "exp_avg": torch.zeros(4)}}, "param_groups": [{"lr": 1e-6, "params": [0]}]}
    state = {f"module.{name}": tensor for name, tensor in weights.items()}
    torch.save({"epoch": 5, "name": "negclip", "state_dict": state, "optimizer": optimizer}, path)
    return path


def test_weights_come_from_every_local_file(weights, negclip_file, tmp_path):
    torch.save(weights, tmp_path / "plain.bin")
    save_file(weights, str(tmp_path / "plain.safetensors"))
    folder = tmp_path / "folder"
    folder.mkdir()
    save_file(weights, str(folder / "open_clip_model.safetensors"))
    digests = {
        clip(pretrained=str(place)).digest()
        for place in (
            negclip_file,
            tmp_path / "plain.bin",
            tmp_path / "plain.safetensors",
            folder,
            f"local-dir:{folder}",
        )
    }
    assert len(digests) == 1 and digests != {clip().digest()}


def test_the_preprocessing_of_a_folder_comes_with_its_weights(weights, tmp_path):
    save_file(weights, str(tmp_path / "open_clip_model.safetensors"))
    own = {"mean": [0.1, 0.2, 0.3], "std": [1.0, 1.0, 1.0], "resize_mode": "longest", "interpolation": "bilinear"}
    (tmp_path / CONFIG_FILE).write_text(json.dumps({"preprocess_cfg": own}))
    found = clip(pretrained=f"local-dir:{tmp_path}").clip.preprocessing
    assert found == Preprocessing(32, (0.1, 0.2, 0.3), (1.0, 1.0, 1.0), "bilinear", "longest")


def test_a_model_folder_goes_by_its_path_with_and_without_the_prefix(tmp_path):
    vlm = clip()
    assert vlm.save_folder(tmp_path) == vlm.digest()
    for name in (str(tmp_path), f"local-dir:{tmp_path}"):
        assert OpenClipVLM({"model": name, "device": "cpu"}, name=name, finetune=SHORT).digest() == vlm.digest()


def test_quick_gelu_is_as_the_settings_say_or_the_tag(negclip_file, guide):
    plain, quick = (clip(pretrained=str(negclip_file), quick_gelu=q) for q in (None, True))
    assert plain.digest() == quick.digest()
    assert not np.allclose(plain.evaluate(guide[:8]).margin, quick.evaluate(guide[:8]).margin, atol=1e-6)

    def asked(**settings):
        return has_quick_gelu(OpenClipSettings(**settings))

    assert asked(model="ViT-B-32", pretrained="openai") and not asked(model="ViT-B-32", pretrained="laion2b_s34b_b79k")
    assert not asked(model="ViT-B-32", pretrained="openai", quick_gelu=False)
    assert not asked(model="ViT-B-32", pretrained="negclip.pth")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"model": "ViT-B-32", "pretrained": "opennai"}, r"unknown tag of ViT-B-32 'opennai'; did you mean 'openai'"),
        ({"model": "ViT-B-32", "pretrained": "opennai"}, r"or give a local file instead, pretrained: /path/to"),
        ({"model": CLIP, "pretrained": "local-dir:/no/folder"}, r"settings.pretrained: there is no folder /no/folder"),
        ({"model": "local-dir:/no/folder"}, r"/no/folder: is not an open_clip model folder"),
        ({"model": "coca_ViT-B-32"}, r"coca_ViT-B-32: is a CoCa, whose caption decoder"),
        ({"model": CLIP, "tokenizer": "/no/folder"}, r"has open_clip's own tokenizer"),
        ({"model": "ViT-B-16-SigLIP", "tokenizer": "/no/folder"}, r"settings.tokenizer: there is no folder"),
        ({"model": CLIP, "dtype": "fp16"}, r"settings.dtype: should be 'fp32' or 'bf16'"),
    ],
)
def test_what_cannot_be_loaded_is_one_line_that_says_what_would_be_right(settings, said):
    with pytest.raises(UserError, match=said) as raised:
        clip(**settings)
    assert "\n" not in str(raised.value)


@pytest.mark.slow
def test_a_tag_that_cannot_be_downloaded_says_how_to_give_a_file(caplog):
    with pytest.raises(UserError) as raised:
        clip("ViT-B-32", pretrained="openai")
    said = str(raised.value)
    assert said.startswith("settings.pretrained: the weights 'openai' of ViT-B-32 can't be downloaded (")
    assert said.endswith("or local-dir:FOLDER") and "\n" not in said
    assert caplog.records == []


def test_a_tokenizer_that_cannot_be_fetched_says_how_to_give_its_files():
    with pytest.raises(UserError, match=r"settings.tokenizer: timm/ViT-B-16-SigLIP can't be loaded .*give a folder"):
        clip("ViT-B-16-SigLIP")


def test_weights_of_another_model_and_a_folder_without_any_are_named(weights, tmp_path):
    save_file({name: w for name, w in weights.items() if name != "ln_final.weight"}, str(tmp_path / "w.safetensors"))
    with pytest.raises(UserError, match=r"w.safetensors: cannot be loaded as weights of .*ln_final.weight") as raised:
        clip(pretrained=str(tmp_path / "w.safetensors"))
    assert "\n" not in str(raised.value)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty has no weights"):
        clip(pretrained=f"local-dir:{tmp_path / 'empty'}")


def test_an_experiment_names_a_model_and_its_weights_and_its_run_is_that_vlm(negclip_file, tmp_path):
    settings = {"model": CLIP, "pretrained": str(negclip_file), "device": "cpu"}
    vlm = {"name": "open_clip", "settings": settings, "finetune": {"batch_size": 8, "epochs": 1.0}}
    done = run(tiny(vlm=vlm, budget={"rounds": 1}), tmp_path / "run").directory
    begun, taught = metrics(done, "finetune")[0]["digest_before"], metrics(done, "finetune")[0]["digest_after"]
    assert begun == clip(pretrained=str(negclip_file)).digest()
    assert find_vlm(f"{done}@0").digest() == begun and find_vlm(str(done)).digest() == taught
    with pytest.raises(UserError, match=r"vlm.settings: .*unknown tag of rls3-test-clip|vlm.settings.pretrained"):
        run(tiny(vlm={**vlm, "settings": {**settings, "pretrained": "opennai"}}), tmp_path / "other")


# ---------------------------------------------------------------------- pictures


@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_pictures_are_brought_to_size_as_open_clip_does_it(mode, interpolation):
    from open_clip.transform import image_transform

    own = {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.4), "interpolation": interpolation, "resize_mode": mode}
    theirs = image_transform(32, is_train=False, fill_color=7, **own)
    ours = Preprocessing.of({"size": 32, "fill_color": 7, **own})
    vlm = clip()
    vlm.clip = type(vlm.clip)(vlm.clip.model, vlm.clip.tokenizer, ours)
    for height, width in ((32, 32), (64, 64), (50, 81), (90, 41), (20, 33), (33, 20), (31, 32), (1, 9)):
        picture = rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)
        expected = theirs(Image.fromarray(picture))
        assert torch.allclose(vlm.clip.pixels([picture])[0], expected, atol=1e-6), (height, width)


def test_each_model_has_its_own_preprocessing():
    assert clip().clip.preprocessing.resize_mode == "shortest"
    assert load_vlm("tiny").clip.preprocessing == Preprocessing(64, (0.5,) * 3, (0.5,) * 3, "bicubic", "squash")
    wide = np.zeros((64, 128, 3), np.uint8)
    wide[:, :16] = 255  # cut off, or squeezed
    assert clip().fit(wide).max() == 0 and load_vlm("tiny").fit(wide).max() == 255


# ---------------------------------------------------------------------- what trains


def test_locks_are_those_of_open_clip():
    for name in (CLIP, TIMM):
        vlm = clip(name)
        public = vlm.clip.public_name
        layers = tower_layers(vlm.clip.model, public)
        for unlocked in range(len(layers["visual"]) + 1):
            reference = open_clip_module().create_model(name)
            reference.lock_image_tower(unlocked)
            theirs = {public(n) for n, w in reference.named_parameters() if "visual" in n and not w.requires_grad}
            ours = locked(layers["visual"], unlocked, "")
            # open_clip leaves what it puts on a timm tower as it is
            assert {n for n in ours if not n.startswith("visual.head.")} == theirs
        for unlocked in range(len(layers["text"]) + 1):
            reference = open_clip_module().create_model(name)
            reference.lock_text_tower(unlocked)
            theirs = {public(n) for n, w in reference.named_parameters() if not w.requires_grad}
            assert locked(layers["text"], unlocked, "") == theirs


def test_a_locked_tower_keeps_its_weights(guide):
    vlm = clip(finetune={"lock_image_unlocked_groups": 0, "lock_text_unlocked_layers": 1})
    before = {name: tensor.clone() for name, tensor in vlm.clip.model.state_dict().items()}
    vlm.finetune(guide[:16], rng())
    changed = {name for name, tensor in vlm.clip.model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {"text_projection", "logit_scale"}
    with pytest.raises(UserError, match=r"finetune.lock_image_unlocked_groups: the layer groups of this tower are 5"):
        clip(finetune={"lock_image_unlocked_groups": 9})
    with pytest.raises(UserError, match=r"lock_image_unlocked_groups: the layer groups of this tower are not known"):
        load_vlm("tiny", {"lock_image_unlocked_groups": 1})


def test_deeper_layers_learn_slower(guide):
    vlm = clip(finetune={"layer_decay": 0.5, "weight_decay": 0.0})
    rate = {
        name: group["lr"] for group in vlm._tuner._optimizer.param_groups for name in vlm._tuner.trainable
        if any(vlm._tuner.trainable[name] is p for p in group["params"])
    }  # fmt: skip
    assert set(rate) == set(vlm._tuner.trainable)
    vlm.finetune(guide[:8], rng())
    scale = {
        name: group["scale"] for group in vlm._tuner._optimizer.param_groups for name in vlm._tuner.trainable
        if any(vlm._tuner.trainable[name] is p for p in group["params"])
    }  # fmt: skip
    assert scale["visual.proj"] == scale["logit_scale"] == 1.0
    assert scale["visual.ln_post.weight"] == scale["visual.transformer.resblocks.2.ln_1.weight"] == 0.5
    assert scale["visual.conv1.weight"] == 0.5**4 and scale["text.token_embedding.weight"] == 0.5**3
    other = clip(finetune={"layer_decay": 0.5, "weight_decay": 0.0})
    other.load_state(vlm.state())
    for model in (vlm, other):
        model.finetune(guide[8:24], rng(1))
    assert other.digest() == vlm.digest()
    with pytest.raises(UserError, match=r"finetune: layer_decay is about weights that train"):
        clip(finetune={"layer_decay": 0.5, "lora": {}})


def test_adapters_in_both_towers_of_a_clip_train_and_are_merged_into_its_folder(guide, tmp_path):
    targets = ["visual.transformer.*.attn.*", "text.transformer.*.mlp.*"]
    vlm = clip(finetune={"lora": {"rank": 2, "targets": targets}, "learning_rate": 0.02})
    assert len(vlm._tuner.trainable) == 2 * (3 * 2 + 2 * 2)
    assert np.allclose(vlm.evaluate(guide[:8]).margin, clip().evaluate(guide[:8]).margin, atol=1e-5)
    frozen = vlm._tuner.frozen
    vlm.finetune(guide, rng())
    assert ModuleDigest(vlm.clip.model).frozen == frozen  # computed again
    assert isinstance(vlm, FolderVLM)
    digest = vlm.save_folder(tmp_path)
    merged = load_vlm(str(tmp_path))
    assert merged.digest() == digest != vlm.digest()
    assert np.allclose(merged.evaluate(guide[:8]).margin, vlm.evaluate(guide[:8]).margin, atol=1e-4)
    assert not np.allclose(merged.evaluate(guide[:8]).margin, clip().evaluate(guide[:8]).margin, atol=1e-3)


# ---------------------------------------------------------------------- learning


def test_a_model_with_a_logit_bias_learns_with_the_sigmoid_loss(guide):
    from open_clip.loss import SigLipLoss

    vlm, batch = clip(SIGLIP, {"max_logit_scale": 200.0}), guide[:8]
    captions = [item.caption for item in batch]
    assert len(set(captions)) == len(captions)
    with torch.no_grad():
        parts = vlm.losses(batch, rng())
        images, texts = (torch.nn.functional.normalize(e, dim=-1) for e in (
            vlm.embed_items(batch), vlm.embed_texts(captions)))  # fmt: skip
        model = vlm.clip.model
        expected = SigLipLoss()(images, texts, model.logit_scale.exp(), model.logit_bias)
    assert set(parts) == {"contrastive", "hard_negative"}
    assert float(parts["contrastive"]) == pytest.approx(float(expected), rel=1e-5)
    assert vlm.logits(batch).max() < -5  # the bias is part of the score
    before = float(model.logit_bias)
    assert vlm.finetune(guide, rng()).rolled_back is None
    assert float(model.logit_bias) != before


@pytest.mark.parametrize("model", [CLIP, SIGLIP])
def test_negclips_loss_has_the_hard_negatives_among_the_captions(guide, model):
    batch = guide[:8]
    dual, negclip = clip(model), clip(model, {"loss": "negclip"})
    with torch.no_grad():
        plain, hard = dual.losses(batch, rng()), negclip.losses(batch, rng())
    assert set(hard) == {"contrastive"} and float(hard["contrastive"]) > float(plain["contrastive"])
    assert negclip.finetune(guide, rng()).rolled_back is None
    with pytest.raises(UserError, match=r"finetune.loss_weights: unknown loss 'hard_negative'"):
        clip(model, {"loss": "negclip", "loss_weights": {"hard_negative": 1.0}})
    with pytest.raises(UserError, match=r"finetune.loss: should be 'dual' or 'negclip', not 'negclop'"):
        clip(model, {"loss": "negclop"})


@pytest.mark.parametrize("loss", ["dual", "negclip"])
@pytest.mark.parametrize("model", [CLIP, SIGLIP])
def test_gradient_caching_gives_the_gradients_of_the_whole_batch(guide, model, loss):
    gradients = []
    for chunk in (None, 3):
        vlm = clip(model, {"loss": loss, "cached_chunk": chunk})
        sum(vlm.losses(guide[:16], rng()).values()).backward()
        gradients.append({name: weight.grad for name, weight in vlm._tuner.trainable.items()})
    for name, whole in gradients[0].items():
        assert float((whole - gradients[1][name]).norm()) <= 1e-4 * float(whole.norm()), name


def test_gradient_caching_holds_the_activations_of_one_chunk(guide):
    held = []
    for chunk in (None, 2):
        vlm = clip(finetune={"cached_chunk": chunk})
        kept: set[int] = set()
        sizes = []

        def keep(tensor, kept=kept, sizes=sizes):
            if tensor.data_ptr() not in kept:
                kept.add(tensor.data_ptr())
                sizes.append(tensor.nbytes)
            return tensor

        weights = {p.data_ptr() for p in vlm.clip.model.parameters()}
        kept |= weights
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            vlm.losses(guide[:32], rng())
        held.append(sum(sizes))
    assert held[1] < held[0] / 10


def test_a_cached_round_with_dropout_in_adapters_is_the_same_each_time(guide):
    settings = {"cached_chunk": 4, "lora": {"rank": 2, "dropout": 0.3}}
    digests = set()
    for _ in range(2):
        vlm = clip(finetune=settings)
        assert vlm.finetune(guide[:16], rng()).rolled_back is None
        digests.add(vlm.digest())
    assert len(digests) == 1


def test_weights_in_half_precision_score_and_learn_in_single_precision(guide):
    for model in (CLIP, SIGLIP, TIMM):
        whole, half = clip(model), clip(model, {"lock_image_unlocked_groups": 1}, dtype="bf16")
        dtypes = {name: w.dtype for name, w in half.clip.model.named_parameters()}
        assert torch.bfloat16 in dtypes.values()
        assert {w.dtype for w in half._tuner.trainable.values()} == {torch.float32}
        assert np.allclose(half.logits(guide[:8]), whole.logits(guide[:8]), atol=0.5)
        assert half.finetune(guide[:16], rng()).rolled_back is None


def test_a_model_in_half_precision_is_written_as_one_in_single_precision(guide, tmp_path):
    half = clip(finetune={"train": ["logit_scale"]}, dtype="bf16")
    digest = half.save_folder(tmp_path)
    assert load_vlm(str(tmp_path)).digest() == digest
    assert not equal(half.evaluate(guide[:4]), clip().evaluate(guide[:4]))
