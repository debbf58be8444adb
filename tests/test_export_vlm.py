"""The VLM that a run has taught as a model folder for open_clip, and what an upload would do."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
import yaml
from experiment_tools import TINY, metrics, run, tiny
from generative_parts import write_family
from test_cli import rls3

from rls3_gym.evalsets.loader import load_set
from rls3_gym.export.model import export_vlm
from rls3_gym.export.push import Upload
from rls3_gym.runs.taught import describe, find_vlm
from rls3_gym.vlm.base import VLMS, FolderVLM
from rls3_gym.vlm.digest import digest_of
from rls3_gym.vlm.loading import load_vlm
from rls3_gym.vlm.open_clip.adapter import OpenClipVLM
from rls3_gym.vlm.open_clip.weights import open_clip_module
from rls3_gym.vlm.transformers.library import transformers
from rls3_registry.errors import UserError


@pytest.fixture(scope="module")
def exported(taught_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_vlm(str(taught_run), tmp_path_factory.mktemp("exported") / "vlm").folder


def card(folder: Path) -> str:
    return (folder / "README.md").read_text(encoding="utf-8")


def test_the_folder_is_the_same_vlm(taught_run: Path, exported: Path) -> None:
    last = metrics(taught_run, "finetune")[-1]["digest_after"]
    again, taught = load_vlm(str(exported), settings={"device": "cpu"}), find_vlm(str(taught_run))
    assert again.digest() == taught.digest() == last
    assert VLMS.find(str(exported))[1].finetune == describe(str(taught_run)).finetune  # is taught further as before
    some = load_set("validation").samples[::60]
    assert np.array_equal(again.evaluate(some).margin, taught.evaluate(some).margin)


def test_a_round_can_be_exported_and_evaluated(
    taught_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert rls3("export-vlm", f"{taught_run}@2", "--out", str(tmp_path / "vlm"), "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said == {"path": str(tmp_path / "vlm"), "vlm_digest": metrics(taught_run, "finetune")[1]["digest_after"]}
    words = ("evaluate", "--vlm", str(tmp_path / "vlm"), "--set", "validation", "--items", "26", "--json")
    assert rls3(*words) == 0
    measured = json.loads(capsys.readouterr().out)
    at = [row for row in metrics(taught_run, "evaluation") if row["round"] == 2]
    assert [measured[key] for key in ("vlm_digest", "pairwise_accuracy")] == [
        said["vlm_digest"],
        at[0]["pairwise_accuracy"],
    ]
    assert "after round 2" in card(tmp_path / "vlm")


def test_the_card_says_what_it_was_taught_and_what_it_scores(taught_run: Path, exported: Path) -> None:
    text = card(exported)
    head = yaml.safe_load(text.split("---")[1])
    assert (head["license"], head["library_name"]) == ("apache-2.0", "open_clip")
    taught, measured = metrics(taught_run, "finetune")[-1], metrics(taught_run, "evaluation")
    assert f"{taught['n_trained']} captioned pictures, of {taught['n_generated']} that the sampler made" in text
    made = [row for row in metrics(taught_run, "episode") if row["round"] < 3]
    assert f"by term: left {sum(row['terms']['left'] for row in made)}, right" in text
    assert f"above+behind+left {sum(row['cells'][11] for row in made)}" in text
    for row in (measured[0], measured[-1]):
        assert (
            f"| validation ({row['n']} items, `{row['set_hash']}`) | {row['round']} | {row['pairwise_accuracy']:.3f} ["
            in text
        )
    assert "rls3 run tiny.yaml" in text and "batch_size: 8" in text
    assert (
        "Whether it has forgotten objects was not asked" in text and "nothing has been measured on photographs" in text
    )


def test_the_card_says_which_share_trained(tmp_path: Path) -> None:
    mined = run(tiny(environment={**TINY["environment"], "selection": "mined"}, budget={"rounds": 1}), tmp_path / "run")
    folder = export_vlm(str(mined.directory), tmp_path / "vlm").folder
    assert "(the share of it that the VLM failed most trained)" in card(folder)


def test_the_examples_of_the_card_load_the_packaged_model(exported: Path) -> None:
    """open_clip with our image tower gives the embeddings that the VLM scores with."""
    loading, scoring = re.findall(r"^```python\n(.*?)^```$", card(exported), re.MULTILINE | re.DOTALL)
    code = loading.replace("DIR", str(exported)) + "print(','.join(str(v) for v in text[0].tolist()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert scoring == 'from rls3_gym.vlm.loading import load_vlm\n\nvlm = load_vlm("DIR")\n'
    vlm = load_vlm(str(exported))
    assert isinstance(vlm, OpenClipVLM)
    with torch.inference_mode():
        text = vlm.clip.embed_texts(["The red bowl is above the blue cup."])[0]
    assert np.allclose([float(v) for v in done.stdout.split(",")], text.cpu().numpy(), atol=1e-5)


@pytest.fixture
def small_vit(tmp_path: Path) -> Path:
    """A model of open_clip's own architecture, small: a folder with a configuration and random weights."""
    open_clip = open_clip_module()
    model = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "patch_size": 16, "head_width": 16},
        "text_cfg": {"context_length": 24, "vocab_size": 49408, "width": 16, "heads": 1, "layers": 1},
    }
    folder = tmp_path / "small"
    folder.mkdir()
    content = {"model_cfg": model, "preprocess_cfg": {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4]}}
    (folder / "open_clip_config.json").write_text(json.dumps(content))
    from safetensors.torch import save_file

    save_file(open_clip.model.CLIP(**model).state_dict(), str(folder / "open_clip_model.safetensors"))
    return folder


def test_a_model_of_open_clips_own_loads_with_open_clip_alone(small_vit: Path, tmp_path: Path) -> None:
    vlm = {"name": str(small_vit), "finetune": {**TINY["vlm"]["finetune"], "train": ["text.*", "logit_scale"]}}
    taught = run(tiny(vlm=vlm, budget={"rounds": 1}), tmp_path / "run").directory
    out = export_vlm(str(taught), tmp_path / "out").folder
    assert load_vlm(str(out)).digest() == metrics(taught, "finetune")[0]["digest_after"]
    loading, _ = re.findall(r"^```python\n(.*?)^```$", card(out), re.MULTILINE | re.DOTALL)
    code = (
        "from rls3_gym._compat import torchvision; torchvision.install()\n"  # for this machine's torch
        + loading.replace("DIR", str(out))
        + "import sys\n"
        + "assert not any(name.startswith('rls3_gym.vlm') for name in sys.modules)\n"
        + "print(model.visual.image_mean, model.encode_text(tokenizer(['a cup']))[0, 0].item())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    mean, value = done.stdout.rsplit(" ", 1)
    found = find_vlm(str(taught))
    assert isinstance(found, OpenClipVLM)
    with torch.inference_mode():
        assert np.isclose(float(value), float(found.clip.embed_texts(["a cup"])[0, 0]), atol=1e-5)
    assert mean in ("[0.4, 0.5, 0.6]", "(0.4, 0.5, 0.6)")
    assert yaml.safe_load(card(out).split("---")[1])["license"] == "other"


@pytest.mark.slow
def test_a_model_that_open_clip_knows_by_name_is_written_with_its_settings(tmp_path: Path) -> None:
    spec = tmp_path / "rn50.yaml"
    spec.write_text("plugin: open_clip\nsettings: {model: RN50, quick_gelu: true}\nfinetune: {train: [logit_scale]}\n")
    vlm = load_vlm(str(spec))
    assert isinstance(vlm, FolderVLM)
    (tmp_path / "out").mkdir()
    vlm.save_folder(tmp_path / "out")
    assert json.loads((tmp_path / "out" / "open_clip_config.json").read_text())["model_cfg"]["quick_gelu"] is True
    assert load_vlm(str(tmp_path / "out")).digest() == vlm.digest()


def test_what_is_no_run_and_a_full_folder_are_refused(taught_run: Path, exported: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="tiny: is not a run directory of rls3; name RUN, or RUN@round"):
        export_vlm("tiny", tmp_path / "out")
    with pytest.raises(UserError, match="is there already and not empty"):
        export_vlm(str(taught_run), exported)
    assert list(tmp_path.iterdir()) == []


# Uploading


@pytest.fixture
def no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)


@pytest.mark.usefixtures("no_token")
def test_push_says_what_it_would_upload_and_does_not(
    taught_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub, "HfApi", None)  # is not touched
    vlm, data = tmp_path / "vlm", tmp_path / "data"
    assert rls3("export-vlm", str(taught_run), "--out", str(vlm), "--push", "somebody/tiny") == 0
    said = capsys.readouterr().out
    assert "would upload 5 files" in said and "https://huggingface.co/somebody/tiny (add --yes to do it)" in said
    assert "\n  open_clip_model.safetensors  4,1" in said
    words = ("export", str(taught_run), "--format", "parquet", "--out", str(data), "--push", "somebody/rooms")
    assert rls3(*words, "--json") == 0
    said_ = json.loads(capsys.readouterr().out)
    assert (said_["push"], said_["uploaded"]) == ("https://huggingface.co/datasets/somebody/rooms", False)


@pytest.mark.usefixtures("no_token")
def test_without_a_token_nothing_is_exported_in_vain(
    taught_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("export", str(taught_run), "--format", "hf", "--out", str(tmp_path / "out"))
    assert rls3(*words, "--push", "somebody/rooms", "--yes") == 2
    assert "there is no Hugging Face token; log in with `hf auth login`, or set HF_TOKEN" in capsys.readouterr().err
    assert rls3(*words, "--push", "some body/rooms") == 2
    assert capsys.readouterr().err.startswith("rls3: --push some body/rooms: ")
    assert rls3(*words, "--push", "rooms") == 2
    assert "must look like USER/NAME" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_without_a_network_the_error_says_how_to_upload_later(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_no_token_of_anybody")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError) as raised:
        Upload.to("somebody/tiny", "model").upload(exported)
    assert re.match(
        r"--push somebody/tiny: not uploaded \(OfflineModeIsEnabled: .*\); the folder is ", str(raised.value)
    )
    assert str(raised.value).endswith(f"hf upload somebody/tiny {exported} --repo-type model")


def test_an_upload_makes_a_private_repository_and_sends_the_folder(
    exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, dict[str, Any]]] = []

    class Api:
        def create_repo(self, name: str, **settings: Any) -> None:
            calls.append((name, settings))

        def upload_folder(self, **settings: Any) -> None:
            calls.append(("upload", settings))

    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_no_token_of_anybody")
    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    assert Upload.to("somebody/rooms", "dataset").upload(exported) == "https://huggingface.co/datasets/somebody/rooms"
    (name, made), (_, sent) = calls
    assert (name, made["private"], made["repo_type"]) == ("somebody/rooms", True, "dataset")
    assert sent == {"repo_id": "somebody/rooms", "repo_type": "dataset", "folder_path": str(exported)}


def test_a_vlm_taught_with_adapters_is_written_without_them_and_loads_under_the_digest_that_was_said(
    small_vit: Path, tmp_path: Path
) -> None:
    lora = {"rank": 2, "targets": ["text.*"]}
    vlm = {"name": str(small_vit), "finetune": {**TINY["vlm"]["finetune"], "lora": lora, "learning_rate": 0.02}}
    taught = run(tiny(vlm=vlm, budget={"rounds": 1}), tmp_path / "run").directory
    exported = export_vlm(str(taught), tmp_path / "out")
    assert load_vlm(str(exported.folder)).digest() == exported.digest != metrics(taught, "finetune")[0]["digest_after"]
    assert "after round 1" in card(exported.folder) and exported.digest in card(exported.folder)
    some = load_set("validation").samples[::60]
    margins = [load_vlm(str(exported.folder)).evaluate(some).margin, find_vlm(str(taught)).evaluate(some).margin]
    assert np.allclose(*margins, atol=1e-3)


@pytest.mark.parametrize("adapters", [False, True])
def test_a_generative_vlm_is_a_folder_that_transformers_loads(adapters: bool, tmp_path: Path) -> None:
    folder = write_family("paligemma", tmp_path / "model")
    how = {"lora": {"rank": 2, "targets": ["*q_proj"]}} if adapters else {"train": ["model.language_model.*"]}
    asked = {"model": str(folder), "device": "cpu", "question": "where is the {a}? the {b} is there", "scale": 5.0}
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump({"plugin": "transformers", "settings": asked, "finetune": how}), encoding="utf-8")
    finetune = {"batch_size": 4, "epochs": 1.0, "learning_rate": 0.01}
    config = tiny(vlm={"name": str(file), "finetune": finetune}, budget={"rounds": 1})
    taught_run = run(config, tmp_path / "run").directory

    exported = export_vlm(str(taught_run), tmp_path / "vlm")
    again, taught = load_vlm(str(exported.folder)), find_vlm(str(taught_run))
    assert again.digest() == exported.digest
    assert (taught.digest() == exported.digest) == (not adapters)
    some = load_set("validation").samples[::120]
    assert np.allclose(again.evaluate(some).margin, taught.evaluate(some).margin, atol=1e-4)

    alone = transformers.AutoModelForImageTextToText.from_pretrained(exported.folder)
    assert digest_of(alone.state_dict()) == exported.digest
    head = yaml.safe_load(card(exported.folder).split("---")[1])
    assert (head["library_name"], head["pipeline_tag"], head["license"]) == (
        "transformers", "image-text-to-text", "other",
    )  # fmt: skip
    assert "AutoModelForImageTextToText" in card(exported.folder)
