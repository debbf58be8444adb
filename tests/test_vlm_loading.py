"""Finding VLMs by name, YAML or folder, and what is said to a mistake in any of them."""

from __future__ import annotations

import pathlib
import shutil
import subprocess
import sys

import pytest
import torch

from rls3_gym.vlm.device import find_device
from rls3_gym.vlm.loading import load_vlm
from rls3_gym.vlm.open_clip.adapter import OpenClipVLM
from rls3_gym.vlm.open_clip.folder_config import CONFIG_FILE
from rls3_gym.vlm.open_clip.weights import PACKAGED, WEIGHTS_FILE
from rls3_registry.errors import UserError


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rat": 1e-3}, r"unknown key 'finetune.learning_rat'; did you mean 'learning_rate'"),
        ({"batch_size": 1}, r"finetune.batch_size: .*greater than or equal to 2"),
        ({"replay": 1.0}, r"^finetune.replay: .*less than 1"),
        ({"batch_size": 8, "accumulation_steps": 5}, r"finetune: accumulation_steps should leave two pictures"),
        ({"loss_weights": {"contrastive": -1}}, r"finetune.loss_weights.contrastive: .*greater than or equal to 0"),
        ({"loss_weights": {"contrast": 1}}, r"finetune.loss_weights: unknown loss 'contrast'; .*'contrastive'"),
        ({"train": []}, r"finetune.train: leaves no parameter to train"),
        ({"train": ["txt.*"]}, r"unknown parameter pattern .*'txt.\*'.*'text.\*'"),
    ],
)
def test_a_wrong_setting_is_named_with_what_would_be_right(settings, message):
    with pytest.raises(UserError, match=message):
        load_vlm("tiny", settings)


def test_unknown_names_foreign_folders_and_unreadable_weights_are_clear_errors(tmp_path):
    with pytest.raises(UserError, match="unknown VLM 'tinny'; did you mean 'tiny'"):
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
        ("plugin: open_clip\nsettings: {model: ViT-B-33}", "unknown open_clip model 'ViT-B-33'; did you mean"),
        ("plugin: open_clip\nsettings: {model: ViT-B-32, pretrained: no/no.pt}", "no/no.pt: there is no such file"),
        ("plugin: open_clop", "unknown VLM 'open_clop'; did you mean 'open_clip'"),
        ("settings: {model: packaged:tiny}", "plugin: is missing"),
        ("plugin: open_clip\nsettings: {model: packaged:tiny, pretrained: no.pt}", "packaged:tiny has weights and"),
        ("plugin: open_clip\nsettings: {modle: tiny}", "unknown key 'settings.modle'; did you mean 'model'"),
        (
            "plugin: open_clip\nsettings: {model: RN50, device: gpu}",
            "settings.device: should be auto, cpu, cuda, cuda:N",
        ),
        (
            "plugin: open_clip\nsettings: {model: RN50, device: cuda:99999999999999999999}",
            "settings.device: should be auto, cpu, cuda, cuda:N",
        ),
        (
            "plugin: open_clip\nsettings: {model: RN50, device: cuda:99}",
            "cuda:99 is not available; this machine has cpu",
        ),
        (
            "plugin: open_clip\nsettings: {model: packaged:tiny}\nfinetune: {epochs: 0}",
            "finetune.epochs: should be great",
        ),
        ("plugin: open_clip\nfinetuning: {}", "unknown key 'finetuning'; did you mean 'finetune'"),
        ("adapter: open_clip\nmodel: packaged:tiny", "'adapter' is now called 'plugin', 'model' is now called"),
    ],
)
def test_a_mistake_in_a_vlms_yaml_is_named(tmp_path, content, said):
    spec = tmp_path / "vlm.yaml"
    spec.write_text(content + "\n")
    with pytest.raises(UserError) as raised:
        load_vlm(str(spec))
    assert str(raised.value).startswith(f"{spec}: ") and said in str(raised.value)
    assert str(raised.value).count(str(spec)) == 1 and "\n" not in str(raised.value)


class LoudVLM(OpenClipVLM):
    """An adapter of somebody else's, with a key of its own."""

    def __init__(self, settings, *, name, finetune):
        own = dict(settings)
        self.loudness = own.pop("loudness")
        super().__init__(own, name=name, finetune=finetune)


def test_an_adapter_may_be_a_class_of_ones_own(tmp_path):
    spec = tmp_path / "loud.yaml"
    spec.write_text(
        "plugin: test_vlm_loading:LoudVLM\nsettings: {model: packaged:tiny, loudness: 3}\nfinetune: {epochs: 2}\n"
    )
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
    spec.write_text(f"plugin: open_clip\nsettings: {{model: RN50, pretrained: {checkpoint}}}\n")
    with pytest.raises(UserError, match="weights.pt"):
        load_vlm(str(spec))
    assert not trace.exists()


def test_auto_is_the_best_device_that_is_there(monkeypatch):
    for n_cuda, mps, expected in ((0, False, "cpu"), (0, True, "mps"), (2, False, "cuda")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda n=n_cuda: n > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda n=n_cuda: n)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda there=mps: there)
        assert find_device("auto").type == expected
    assert find_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(UserError, match="cuda:2 is not available; this machine has cpu, cuda:0, cuda:1"):
        find_device("cuda:2")


def test_naming_and_describing_vlms_brings_no_torch():
    code = (
        "import sys; from rls3_gym.vlm import base, feedback, finetune_settings, loading; "
        "assert base.VLMS.find('tiny')[1].plugin == 'open_clip'; "
        "print([name for name in ('torch', 'open_clip') if name in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
