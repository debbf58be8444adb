"""A model folder is data: nothing in it runs, leads elsewhere, or makes a model that its weights do not fill."""

from __future__ import annotations

import json
import shutil
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from rls3_gym.vlm.library_files import check_library_files
from rls3_gym.vlm.loading import load_vlm
from rls3_gym.vlm.open_clip.folder_config import read_config
from rls3_gym.vlm.open_clip.weights import load_folder, open_clip_module
from rls3_registry.errors import UserError

PACKAGED = Path(load_folder.__code__.co_filename).parents[1] / "packaged"
EVIL = "from pathlib import Path\nPath(__file__).with_name('ran').touch()\nclass Evil: pass\n"


def put(content: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`a.b: value` put into nested mappings."""
    for keys, value in changes.items():
        node = content
        *outer, last = keys.split(".")
        for key in outer:
            node = node.setdefault(key, {})
        node[last] = value
    return content


def changed(name: str, folder: Path, file: str, changes: dict[str, Any]) -> Path:
    """A copy of a packaged model with other values in one of its JSON files, and with code beside them."""
    shutil.copytree(PACKAGED / name, folder)
    path = folder / file
    path.write_text(json.dumps(put(json.loads(path.read_text(encoding="utf-8")), changes)), encoding="utf-8")
    (folder / "evil.py").write_text(EVIL, encoding="utf-8")
    return folder


def clip(folder: Path, **changes: Any) -> Path:
    in_model = {f"model_cfg.{keys.replace('__', '.')}": value for keys, value in changes.items()}
    return changed("tiny", folder, "open_clip_config.json", in_model)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"text_cfg__tokenizer_kwargs": {"trust_remote_code": True}},
            "unknown key 'model_cfg.text_cfg.tokenizer_kwargs",
        ),
        ({"text_cfg__tokenizer_kwargs": {"subfolder": "../.."}}, "unknown key 'model_cfg.text_cfg.tokenizer_kwargs"),
        ({"text_cfg__hf_model_name": "someone/model"}, "its text tower is 'someone/model' of the Hugging Face Hub"),
        ({"text_cfg__hf_model_name": "../.."}, "model_cfg.text_cfg.hf_model_name: String should match pattern"),
        ({"vision_cfg__timm_model_name": "hf-hub:someone/model"}, "timm has no model 'hf-hub:someone/model'"),
        ({"vision_cfg__timm_model_name": "local-dir:/tmp"}, "timm has no model 'local-dir:/tmp'"),
        ({"vision_cfg__timm_model_pretrained": True}, "model_cfg.vision_cfg.timm_model_pretrained"),
        ({"vision_cfg__cache_dir": "/tmp"}, "unknown key 'model_cfg.vision_cfg.cache_dir'"),
        ({"text_cfg__act_kwargs": {"inplace": True}}, "unknown key 'model_cfg.text_cfg.act_kwargs.inplace'"),
        ({"output_dict": True}, "unknown key 'model_cfg.output_dict'"),
        ({"text_cfg__layers": 10**6}, "model_cfg.text_cfg.layers: should be less than or equal to 256, not 1000000"),
        ({"text_cfg__width": 10**9}, "model_cfg.text_cfg.width: should be less than or equal to 16384"),
        ({"text_cfg__vocab_size": 10**9}, "model_cfg.text_cfg.vocab_size: should be less than or equal to 2000000"),
        (
            {"text_cfg__context_length": 10**6},
            "model_cfg.text_cfg.context_length: should be less than or equal to 4096",
        ),
        ({"vision_cfg__image_size": 10**6}, "model_cfg.vision_cfg.image_size: should be less than or equal to 4096"),
        ({"vision_cfg__image_size": "64"}, "model_cfg.vision_cfg.image_size: should be a valid integer, not '64'"),
        (
            {"vision_cfg": {"image_size": 4096, "patch_size": 4}},
            "pictures of 4096 pixels have more than 16,384 patches",
        ),
        ({"embed_dim": 0}, "model_cfg.embed_dim: should be greater than or equal to 1"),
        ({"text_cfg__width": 4096, "text_cfg__layers": 20}, "bytes of weights are not enough"),
        ({"text_cfg__heads": 3}, "cannot be loaded as an open_clip model"),
        ({"vision_cfg": {"layers": 2, "width": 16, "head_width": 64}}, "cannot be loaded as an open_clip model"),
    ],
)
def test_a_clip_folder_can_only_say_what_a_model_can_be(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    folder = clip(tmp_path / "model", **changes)
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "Evil"}', encoding="utf-8")
    with pytest.raises(UserError) as caught:
        load_folder(folder, torch.device("cpu"))
    assert said in str(caught.value) and str(folder) in str(caught.value) and "\n" not in str(caught.value)
    assert not (folder / "ran").exists()


def test_a_tokenizer_cannot_bring_code(tmp_path: Path) -> None:
    folder = clip(tmp_path / "model", text_cfg__hf_tokenizer_name="x")
    (folder / "vocabulary.json").unlink()
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "Evil", "auto_map": {"AutoTokenizer": ["evil.Evil", None]}}), encoding="utf-8"
    )
    with pytest.raises(UserError, match=r"tokenizer_config.json: auto_map: names classes of the folder's own Python"):
        load_folder(folder, torch.device("cpu"))
    assert not (folder / "ran").exists()


def test_every_architecture_that_open_clip_knows_is_one_that_a_folder_can_have(tmp_path: Path) -> None:
    open_clip = open_clip_module()
    for name in open_clip.list_models():
        config = open_clip.get_model_config(name)
        if "multimodal_cfg" not in config:
            (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}), encoding="utf-8")
            assert read_config(tmp_path)["model_cfg"] == config


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    ("model", "file", "name"),
    [
        ("tiny", "open_clip_model.safetensors", "text.token_embedding.weight"),
        ("paligemma_tiny", "model.safetensors", "model.language_model.embed_tokens.weight"),
    ],
)
def test_weights_that_are_not_finite_are_refused(
    tmp_path: Path, model: str, file: str, name: str, value: float
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(PACKAGED / model, folder)
    weights = load_file(folder / file)
    found = name if name in weights else next(key for key in weights if key.endswith("embed_tokens.weight"))
    weights[found].view(-1)[7] = value
    save_file(weights, folder / file, {"format": "pt"})
    with pytest.raises(UserError, match=r"(embedding|embed_tokens|lm_head).weight holds values that are not finite"):
        load_vlm(str(folder))


def test_weights_of_other_shapes_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(PACKAGED / "tiny", folder)
    weights = load_file(folder / "open_clip_model.safetensors")
    weights["text.ln_final.weight"] = torch.zeros(7)
    save_file(weights, folder / "open_clip_model.safetensors")
    with pytest.raises(UserError, match=r"the weights don't fit: size mismatch for text.ln_final.weight"):
        load_vlm(str(folder))


def lying(content: bytes, how: str) -> bytes:
    """A .safetensors file whose head does not say what follows."""
    (length,) = struct.unpack("<Q", content[:8])
    if how == "length":
        return struct.pack("<Q", 2**60) + content[8:]
    head = json.loads(content[8 : 8 + length])
    entry = head[next(name for name in head if name != "__metadata__")]
    if how == "shape":
        entry["shape"] = [10**9, 10**9]
    elif how == "offsets":
        entry["data_offsets"] = [0, 10**15]
    else:
        entry["dtype"] = "F128"
    text = json.dumps(head).encode()
    return struct.pack("<Q", len(text)) + text + content[8 + length :]


@pytest.mark.parametrize("how", ["length", "shape", "offsets", "type"])
def test_a_head_that_lies_is_not_readable_as_safetensors(tmp_path: Path, how: str) -> None:
    folder = tmp_path / "model"
    shutil.copytree(PACKAGED / "tiny", folder)
    file = folder / "open_clip_model.safetensors"
    file.write_bytes(lying(file.read_bytes(), how))
    with pytest.raises(UserError, match=r"open_clip_model.safetensors: is not readable as safetensors"):
        load_vlm(str(folder))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"bpe_ids": {"a": 1}}', "should hold bpe_ids"),
        ('{"bpe_ids": [1.5]}', "should hold bpe_ids"),
        ('{"bpe_ids": [100000000]}', "should hold bpe_ids"),
        ("[" * 100_000, "is not JSON (nested too deep)"),
        (f'{{"bpe_ids": [{", ".join(["7"] * 400_000)}]}}', "is larger than 1,048,576 bytes"),
    ],
)
def test_a_vocabulary_is_a_list_of_word_pieces(tmp_path: Path, content: str, said: str) -> None:
    folder = tmp_path / "model"
    shutil.copytree(PACKAGED / "tiny", folder)
    (folder / "vocabulary.json").write_text(content, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        load_vlm(str(folder))
    assert said in str(caught.value) and "vocabulary.json" in str(caught.value)


@pytest.mark.parametrize(
    ("file", "changes", "said"),
    [
        (
            "config.json",
            {"auto_map": {"AutoConfig": "evil.Evil"}},
            "config.json: auto_map: names classes of the folder",
        ),
        (
            "config.json",
            {"text_config.auto_map": {"AutoModel": "evil.Evil"}},
            "config.json: text_config.auto_map: names",
        ),
        ("config.json", {"trust_remote_code": True}, "config.json: trust_remote_code: names code of others"),
        ("config.json", {"attn_implementation": "someone/kernel"}, "config.json: attn_implementation: names a kernel"),
        (
            "config.json",
            {"quantization_config": {"quant_method": "torchao"}},
            "config.json: quantization_config: names",
        ),
        ("config.json", {"text_config.num_hidden_layers": 10**6}, "num_hidden_layers: should be at most 1,024"),
        ("config.json", {"text_config.vocab_size": 10**9}, "text_config.vocab_size: should be at most 8,388,608"),
        ("config.json", {"text_config.hidden_size": 10**7}, "text_config.hidden_size: should be at most 262,144"),
        ("config.json", {"vision_config.image_size": 10**6}, "vision_config.image_size: should be at most 8,192"),
        ("config.json", {"text_config.num_hidden_layers": 60}, "bytes of weights are not enough"),
        ("config.json", {"text_config.hidden_size": 4096}, "bytes of weights are not enough"),
        (
            "tokenizer_config.json",
            {"auto_map": {"AutoTokenizer": ["evil.Evil", None]}},
            "tokenizer_config.json: auto_map",
        ),
        ("tokenizer_config.json", {"vocab_file": "/etc/passwd"}, "vocab_file: '/etc/passwd' is a file outside"),
        ("tokenizer_config.json", {"tokenizer_file": "/etc/passwd"}, "tokenizer_file: '/etc/passwd' is a file outside"),
        (
            "processor_config.json",
            {"auto_map": {"AutoProcessor": "evil.Evil"}},
            "processor_config.json: auto_map: names",
        ),
        ("processor_config.json", {"image_processor.size.height": 10**5}, "size.height: should be at most 8,192"),
        (
            "generation_config.json",
            {"custom_generate": "someone/code"},
            "generation_config.json: custom_generate: names",
        ),
    ],
)
def test_a_folder_of_transformers_is_data(tmp_path: Path, file: str, changes: dict[str, Any], said: str) -> None:
    folder = changed("paligemma_tiny", tmp_path / "model", file, changes)
    with pytest.raises(UserError) as caught:
        load_vlm(str(folder))
    assert said in str(caught.value) and str(folder) in str(caught.value) and "\n" not in str(caught.value)
    assert not (folder / "ran").exists()


def test_weights_in_parts_lie_in_the_folder(tmp_path: Path) -> None:
    folder = changed("paligemma_tiny", tmp_path / "model", "config.json", {})
    shutil.copy(folder / "model.safetensors", tmp_path / "elsewhere.safetensors")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "../elsewhere.safetensors"}}), encoding="utf-8")
    with pytest.raises(
        UserError, match=r"weight_map: '../elsewhere.safetensors' is no .safetensors file of the folder"
    ):
        load_vlm(str(folder))


def test_pickled_weights_are_not_taken(tmp_path: Path) -> None:
    folder = changed("paligemma_tiny", tmp_path / "model", "config.json", {})
    (folder / "model.safetensors").unlink()
    torch.save({"a": torch.zeros(1)}, folder / "pytorch_model.bin")
    with pytest.raises(UserError, match="pickled weights are not read"):
        load_vlm(str(folder))


@pytest.mark.parametrize(
    "settings",
    [
        'question: "{a:>999999999} {b}"',
        "question: '{a!r} {b}'",
        "max_new_tokens: 1000000000",
        "image_size: 1000000",
        "image_processor: {preprocess: x}",
        "image_processor: {__class__: x}",
        "image_processor: {size: {height: 1000000, width: 1000000}}",
        "scale: .inf",
    ],
)
def test_how_a_folder_wants_to_be_asked_is_checked(tmp_path: Path, settings: str) -> None:
    folder = changed("paligemma_tiny", tmp_path / "model", "config.json", {})
    (folder / "rls3_settings.yaml").write_text(settings, encoding="utf-8")
    with pytest.raises(UserError, match=settings.partition(":")[0]):
        load_vlm(str(folder))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"vision_config.model_args": {"checkpoint_path": "/x/evil.pth"}}, "has text among its values"),
        ({"vision_config.architecture": "hf-hub:evil/model"}, "is no name of a model of timm"),
        ({"vision_config.backbone": "local-dir:/x"}, "is no name of a model of timm"),
        ({"vision_config.use_pretrained_backbone": True}, "lies elsewhere"),
        ({"vision_config.checkpoint_path": "evil.pth"}, "lies elsewhere"),
        ({"audio_tokenizer_name_or_path": "evil/audio"}, "lies elsewhere"),
        ({"text_config._experts_implementation": "evil/kernel"}, "a kernel"),
    ],
)
def test_no_part_of_a_model_of_transformers_lies_elsewhere(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    file = "processor_config.json" if "audio_tokenizer_name_or_path" in changes else "config.json"
    with pytest.raises(UserError, match=said):
        load_vlm(str(changed("paligemma_tiny", tmp_path / "model", file, changes)))


def test_no_link_leads_out_of_a_model_folder_but_a_snapshot_of_a_hub_is_read(tmp_path: Path) -> None:
    secret = tmp_path / "id_rsa"
    secret.write_text("secret", encoding="utf-8")
    for name, file in (("paligemma_tiny", "chat_template.jinja"), ("tiny", "notes.txt")):
        folder = changed(name, tmp_path / name, "config.json" if name != "tiny" else "open_clip_config.json", {})
        (folder / file).symlink_to(secret)
        with pytest.raises(UserError, match=f"{file}: is a link that leads out of the model folder"):
            load_vlm(str(folder))

    blobs, snapshot = tmp_path / "models--a--b" / "blobs", tmp_path / "models--a--b" / "snapshots" / "1234"
    shutil.copytree(PACKAGED / "paligemma_tiny", blobs)
    snapshot.mkdir(parents=True)
    for path in blobs.iterdir():
        (snapshot / path.name).symlink_to(Path("../../blobs") / path.name)
    assert load_vlm(str(snapshot)).digest() == load_vlm("paligemma_tiny").digest()
    (snapshot / "chat_template.jinja").symlink_to(secret)
    with pytest.raises(UserError, match="is a link that leads out"):
        load_vlm(str(snapshot))


def test_pickled_weights_that_unpack_to_more_than_they_are_are_not_read(tmp_path: Path) -> None:
    folder = changed("tiny", tmp_path / "model", "open_clip_config.json", {})
    with zipfile.ZipFile(folder / "more.bin", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data", bytes(10**6))
    with pytest.raises(UserError, match="more.bin: is not read"):
        load_vlm(str(folder))


def test_the_packaged_folders_pass_as_they_are() -> None:
    for name in ("tiny", "paligemma_tiny"):
        check_library_files(PACKAGED / name)
