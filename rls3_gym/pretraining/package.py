"""Writing a pre-trained CLIP as a model folder: open_clip's own format, and the vocabulary."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import save_file

from rls3_gym.pretraining.train import model_config
from rls3_gym.vlm.open_clip.clip_model import ClipModel
from rls3_gym.vlm.open_clip.folder_config import CONFIG_FILE
from rls3_gym.vlm.open_clip.tokenizer import CompactTokenizer
from rls3_gym.vlm.open_clip.weights import VOCABULARY_FILE, WEIGHTS_FILE


def write_model_folder(clip: ClipModel, tokenizer: CompactTokenizer, folder: Path) -> None:
    """Config, weights and vocabulary in `folder`; `rls3_gym.vlm.open_clip.weights.load_folder` reads it."""
    folder.mkdir(parents=True, exist_ok=True)
    config = json.dumps(model_config(tokenizer.vocab_size), indent=2) + "\n"
    (folder / CONFIG_FILE).write_text(config, encoding="utf-8")
    tokenizer.save(folder / VOCABULARY_FILE)
    weights = {name: tensor.detach().contiguous() for name, tensor in clip.model.state_dict().items()}
    save_file(weights, str(folder / WEIGHTS_FILE))
