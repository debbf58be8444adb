"""Tiny generative VLMs with random weights, built offline as model folders of three families."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rls3_gym.pretraining.pretraining_captions import vocabulary_texts
from rls3_gym.scene.catalog import load_catalog
from rls3_gym.vlm.seeding import seeded_torch
from rls3_gym.vlm.transformers.library import transformers

WIDTH, SIDE, PATCH = 32, 32, 8
TEXT = {
    "hidden_size": WIDTH, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 16, "max_position_embeddings": 512, "initializer_range": 0.3,
}  # fmt: skip
VISION = {
    "hidden_size": WIDTH, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2,
    "image_size": SIDE, "patch_size": PATCH,
}  # fmt: skip


def _tokenizer(*special: str) -> Any:
    """Byte-level BPE over the captions' words."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    raw: Any = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=["<pad>", "<eos>", "<bos>", *special],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(list(vocabulary_texts([kind.name for kind in load_catalog().kinds])), trainer)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>"
    )


def _ids(tokenizer: Any) -> dict[str, int]:
    return {name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}


def _paligemma(folder: Path) -> None:
    images = transformers.SiglipImageProcessor(size={"height": SIDE, "width": SIDE})
    images.image_seq_length = (SIDE // PATCH) ** 2
    processor = transformers.PaliGemmaProcessor(image_processor=images, tokenizer=_tokenizer())
    tokens = _ids(processor.tokenizer)
    config = transformers.PaliGemmaConfig(
        vision_config={
            **VISION, "projection_dim": WIDTH, "vision_use_head": False, "model_type": "siglip_vision_model",
        },
        text_config={**TEXT, **tokens, "vocab_size": len(processor.tokenizer), "model_type": "gemma"},
        image_token_index=processor.image_token_id, projection_dim=WIDTH, hidden_size=WIDTH, **tokens,
    )  # fmt: skip
    _save(transformers.PaliGemmaForConditionalGeneration(config), processor, folder)


def _idefics3(folder: Path) -> None:
    template = (
        "{% for m in messages %}{{ m['role'] | capitalize }}:{% for c in m['content'] %}"
        "{% if c['type'] == 'image' %}<image>{% else %} {{ c['text'] }}{% endif %}{% endfor %}<end_of_utterance>\n"
        "{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
    )
    images = transformers.Idefics3ImageProcessor(
        size={"longest_edge": SIDE}, max_image_size={"longest_edge": SIDE}, do_image_splitting=False
    )
    processor = transformers.Idefics3Processor(
        image_processor=images,
        tokenizer=_tokenizer("<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>"),
        image_seq_len=(SIDE // PATCH) ** 2 // 4,
        chat_template=template,
    )
    tokens = _ids(processor.tokenizer)
    config = transformers.Idefics3Config(
        vision_config=VISION,
        text_config={**TEXT, **tokens, "vocab_size": len(processor.tokenizer), "model_type": "llama"},
        scale_factor=2, image_token_id=processor.image_token_id, pad_token_id=tokens["pad_token_id"],
    )  # fmt: skip
    _save(transformers.Idefics3ForConditionalGeneration(config), processor, folder)


def _qwen2_vl(folder: Path) -> None:
    template = (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for c in m['content'] %}{% if c['type'] == 'image' %}"
        "<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ c['text'] }}{% endif %}{% endfor %}<|im_end|>\n"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    special = ("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
    tokenizer = _tokenizer(*special)
    images = transformers.Qwen2VLImageProcessor(
        patch_size=PATCH, merge_size=2, size={"shortest_edge": SIDE * SIDE, "longest_edge": SIDE * SIDE}
    )
    processor = transformers.Qwen2VLProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        video_processor=transformers.Qwen2VLVideoProcessor(patch_size=PATCH, merge_size=2),
        chat_template=template,
    )
    config = transformers.Qwen2VLConfig(
        text_config={
            **TEXT, **_ids(tokenizer), "vocab_size": len(tokenizer), "tie_word_embeddings": False,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]},
        },
        vision_config={
            "depth": 1, "embed_dim": WIDTH, "hidden_size": WIDTH, "num_heads": 2, "mlp_ratio": 2, "patch_size": PATCH,
        },
        **{
            f"{name}_token_id": tokenizer.convert_tokens_to_ids(f"<|{token}|>")
            for name, token in (
                ("image", "image_pad"), ("video", "video_pad"),
                ("vision_start", "vision_start"), ("vision_end", "vision_end"),
            )
        },
    )  # fmt: skip
    _save(transformers.Qwen2VLForConditionalGeneration(config), processor, folder)


def _save(model: Any, processor: Any, folder: Path) -> None:
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


FAMILIES: dict[str, Callable[[Path], None]] = {
    "paligemma": _paligemma, "idefics3": _idefics3, "qwen2_vl": _qwen2_vl,
}  # fmt: skip


def write_family(family: str, folder: Path) -> Path:
    """A model folder of a family, the same on every call."""
    with seeded_torch(0):
        FAMILIES[family](folder)
    return folder
