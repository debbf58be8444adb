"""The tiny PaliGemma before training: its sizes, its tokenizer, its first weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rls3_gym.pretraining.pretraining_captions import vocabulary_texts
from rls3_gym.pretraining.questions import prompts
from rls3_gym.pretraining.scenes import GRID, IMAGE_SIZE
from rls3_gym.scene.catalog import load_catalog
from rls3_gym.vlm.seeding import seeded_torch
from rls3_gym.vlm.transformers.library import transformers

VISION_WIDTH, VISION_LAYERS = 96, 3
TEXT_WIDTH, TEXT_LAYERS = 128, 2
_HEADS = 4
_FREQUENCIES = (0.5, 1.0, 2.0)
_ROPE_THETA = 1e6
"""Slower turns than Gemma's 10,000: attention by content reaches over the whole prompt then."""
_LOOKING = 0.5
"""How sharply a kind's name looks for its patches at first."""


def new_processor() -> Any:
    """Pictures as they are, normalized. Text has a token for each kind and for each other word of this package's
    captions, and bytes for the rest."""
    images = transformers.SiglipImageProcessor(
        size={"height": IMAGE_SIZE, "width": IMAGE_SIZE}, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    images.image_seq_length = GRID**2
    return transformers.PaliGemmaProcessor(image_processor=images, tokenizer=_new_tokenizer())


def _new_tokenizer() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    raw: Any = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    names = [kind.name for kind in load_catalog().kinds]
    texts = [*vocabulary_texts(names), *prompts(), *(f"the {name}" for name in names), *(f"The {n}" for n in names)]
    words = [*texts, *(f" {word}" for text in texts for word in text.split())]
    trainer = trainers.BpeTrainer(
        vocab_size=4096,  # more than there are words: each becomes one token
        special_tokens=["<pad>", "<eos>", "<bos>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(words * 2, trainer)
    raw.add_tokens([kind_token(name) for name in names])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>"
    )


def kind_token(name: str) -> str:
    """The one token of a kind's name, with the space before it."""
    return f" {name}"


VISION = {
    "model_type": "siglip_vision_model", "hidden_size": VISION_WIDTH, "intermediate_size": 2 * VISION_WIDTH,
    "num_hidden_layers": VISION_LAYERS, "num_attention_heads": _HEADS, "image_size": IMAGE_SIZE,
    "patch_size": IMAGE_SIZE // GRID, "projection_dim": TEXT_WIDTH, "vision_use_head": False,
}  # fmt: skip


def new_tower(seed: int) -> Any:
    """The untrained image tower: SigLIP on 8x8 patches of 8 pixels."""
    with seeded_torch(seed):
        tower = transformers.SiglipVisionModel(transformers.SiglipVisionConfig(**VISION))
        waves = _waves()
        mixing = torch.randn(waves.shape[1], VISION_WIDTH) / math.sqrt(waves.shape[1])
        tower.embeddings.position_embedding.weight.data.copy_(waves @ mixing)
    return tower


def new_model(processor: Any, tower: Any, seed: int) -> Any:
    """The untrained model around an image tower: Gemma, and a linear layer between them."""
    tokenizer = processor.tokenizer
    tokens = {name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    text = {
        "model_type": "gemma", "vocab_size": len(tokenizer), "hidden_size": TEXT_WIDTH,
        "intermediate_size": 2 * TEXT_WIDTH, "num_hidden_layers": TEXT_LAYERS, "num_attention_heads": _HEADS,
        "num_key_value_heads": _HEADS, "head_dim": TEXT_WIDTH // _HEADS, "max_position_embeddings": 512, **tokens,
        "rope_parameters": {"rope_type": "default", "rope_theta": _ROPE_THETA},
    }  # fmt: skip
    config = transformers.PaliGemmaConfig(
        vision_config=VISION, text_config=text, image_token_index=processor.image_token_id,
        projection_dim=TEXT_WIDTH, hidden_size=TEXT_WIDTH, **tokens,
    )  # fmt: skip
    with seeded_torch(seed):
        model = transformers.PaliGemmaForConditionalGeneration(config)
        for layer in model.model.language_model.layers:
            for part in (*layer.self_attn.children(), *layer.mlp.children()):
                if isinstance(part, nn.Linear):
                    nn.init.normal_(part.weight, std=1 / math.sqrt(part.in_features))
    model.model.vision_tower.load_state_dict(tower.state_dict())
    return model


@torch.no_grad()
def wire(model: Any, kinds: Sequence[int], kind: nn.Linear, place: nn.Linear, features: Tensor, seed: int) -> None:
    """Let the language model begin with what the image tower was taught.

    The projector starts as the read-outs of the first stage: a patch is a code of its own for the kind that stands
    there, and a direction for each coordinate. In the first layer the token of a kind's name then looks for patches
    with that kind's code. Training goes on from there; without it, several times as many steps are needed before names
    and pictures have to do with each other at all.

    Args:
        model: As `new_model` gives it.
        kinds: The token of each kind's name.
        kind: From a patch's features to the scores of all kinds, and of none.
        place: From a patch's features to coordinates.
        features: (n, 64, width) of some scenes: what scores are common.
        seed: Fixes the codes.
    """
    scores, n = kind(features), len(kinds)
    found = scores.argmax(-1) < n
    shown = scores[found if found.any() else torch.ones_like(found)][:, :n]  # none are found before there was training
    usual = scores[..., :n].mean((0, 1))
    gain = 1 / (shown.max(-1).values - usual.mean()).mean()
    names = model.get_input_embeddings().weight[list(kinds)]
    size = names.norm(dim=-1).mean() * math.sqrt(TEXT_WIDTH)
    with seeded_torch(seed):
        codes = nn.init.orthogonal_(torch.empty(n + 3, TEXT_WIDTH))
        mixing = torch.randn(TEXT_WIDTH, n) * _LOOKING / math.sqrt(n)
    projector = model.model.multi_modal_projector.linear
    projector.weight.copy_(size * (gain * codes[:n].T @ kind.weight[:n] + codes[n:].T @ place.weight))
    projector.bias.copy_(size * (gain * codes[:n].T @ (kind.bias[:n] - usual) + codes[n:].T @ place.bias))
    attention = model.model.language_model.layers[0].self_attn
    attention.q_proj.weight.copy_(mixing @ (names / names.norm(dim=-1, keepdim=True)))
    attention.k_proj.weight.copy_(mixing @ codes[:n])


def _waves() -> Tensor:
    """(64, 12) sines and cosines of the patches' columns and rows: positions that are near look alike. With the usual
    random ones a tower of this size does not learn left from right."""
    line = torch.linspace(-1, 1, GRID)
    rows, columns = torch.meshgrid(line, line, indexing="ij")
    angles = [frequency * axis.flatten() * math.pi / 2 for axis in (columns, rows) for frequency in _FREQUENCIES]
    return torch.stack([wave(angle) for angle in angles for wave in (torch.sin, torch.cos)], dim=1)
