"""What `open_clip_config.json` of a model folder may say: known keys, with values of a size that a model can have.

A folder is data. open_clip itself hands what stands there on to timm and transformers, which may fetch a model from the
Hub, read any other folder, and run Python code that they find; none of the keys that can ask for that are here.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from rls3_registry.errors import UserError
from rls3_registry.reading import parse_json, read_bytes
from rls3_registry.validation import Settings, check

CONFIG_FILE = "open_clip_config.json"
MOST_BYTES = 2**18
MOST_PARTS = 2**14
"""Patches of a picture."""
_TIMM_NAME = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*")

Layers = Annotated[int, Field(ge=1, le=256)]
Heads = Annotated[int, Field(ge=1, le=512)]
Width = Annotated[int, Field(ge=1, le=16_384)]
Length = Annotated[int, Field(ge=4, le=4_096)]
Vocabulary = Annotated[int, Field(ge=4, le=2_000_000)]
TokenId = Annotated[int, Field(ge=0, lt=2_000_000)]
Ratio = Annotated[float, Field(gt=0, le=64)]
Side = Annotated[int, Field(ge=8, le=4_096)]
Sides = Side | Annotated[tuple[Side, Side], Field(strict=False)]
Chance = Annotated[float, Field(ge=0, le=1)]
HubName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?$", max_length=200)]
Mean = Annotated[float, Field(ge=-1000, le=1000)]
Deviation = Annotated[float, Field(gt=0, le=1000)]


class _Part(Settings):
    model_config = ConfigDict(strict=True)


class _Activation(_Part):
    approximate: Literal["none", "tanh"] = "none"


class _Norm(_Part):
    eps: Annotated[float, Field(gt=0, le=1)] = 1e-5


class _Tower(_Part):
    """Keys of both towers."""

    width: Width | None = None
    mlp_ratio: Ratio | None = None
    ls_init_value: Annotated[float, Field(ge=-1000, le=1000)] | None = None
    final_ln_after_pool: bool | None = None
    pool_type: Literal["tok", "avg", "argmax", "first", "last", "eos", "none"] | None = None
    output_tokens: bool | None = None
    act_kwargs: _Activation | None = None
    norm_kwargs: _Norm | None = None
    block_type: Literal["default", "custom"] | None = None
    qk_norm: bool | None = None
    scaled_cosine_attn: bool | None = None
    scale_heads: bool | None = None
    scale_attn_inner: bool | None = None
    scale_attn: bool | None = None
    scale_fc: bool | None = None


class VisionConfig(_Tower):
    """`vision_cfg`: a vision transformer, a ResNet (`layers` is a list), or a model that timm has under a name."""

    layers: Layers | Annotated[tuple[Layers, Layers, Layers, Layers], Field(strict=False)] | None = None
    head_width: Width | None = None
    patch_size: Annotated[int, Field(ge=1, le=512)] | None = None
    image_size: Sides | None = None
    patch_dropout: Chance | None = None
    attentional_pool: bool | Literal["parallel", "cascade"] | None = None
    attn_pooler_queries: Length | None = None
    attn_pooler_heads: Heads | None = None
    no_ln_pre: bool | None = None
    pos_embed_type: Literal["learnable", "sin_cos_2d"] | None = None
    timm_model_name: Annotated[str, Field(max_length=100)] | None = None
    timm_model_pretrained: Literal[False] | None = None
    timm_pool: Literal["abs_attn", "rot_attn", "avg", "token", "map", "max", "avgmax", ""] | None = None
    timm_proj: Literal["linear", "mlp", "none", ""] | None = None
    timm_proj_bias: bool | None = None
    timm_drop: Chance | None = None
    timm_drop_path: Chance | None = None


class _TokenizerOptions(_Part):
    """What open_clip's own wrapper takes; all else would go to transformers."""

    clean: Literal["whitespace", "lower", "canonicalize"] | None = None
    strip_sep_token: bool | None = None


class TextConfig(_Tower):
    """`text_cfg`: a transformer, and how its tokenizer goes about a caption. The tokenizer lies in the folder."""

    context_length: Length = 77
    vocab_size: Vocabulary | None = None
    hf_tokenizer_name: Annotated[str, Field(max_length=200)] | None = None
    tokenizer_mode: Literal["clips", ""] | None = None
    tokenizer_kwargs: _TokenizerOptions | None = None
    heads: Heads | None = None
    layers: Layers | None = None
    embed_cls: bool | None = None
    pad_id: TokenId | None = None
    eos_id: TokenId | None = None
    no_causal_mask: bool | None = None
    proj_bias: bool | None = None
    proj_type: Literal["linear", "none"] | None = None
    hf_model_name: HubName | None = None
    hf_model_pretrained: bool | None = None
    hf_proj_type: Literal["linear", "mlp"] | None = None
    hf_pooler_type: Literal["max_pooler", "mean_pooler", "cls_pooler", "cls_last_hidden_state_pooler"] | None = None


class ModelConfig(_Part):
    """`model_cfg`."""

    embed_dim: Width
    vision_cfg: VisionConfig
    text_cfg: TextConfig
    quick_gelu: bool | None = None
    custom_text: bool | None = None
    init_logit_scale: Annotated[float, Field(ge=-100, le=100)] | None = None
    init_logit_bias: Annotated[float, Field(ge=-1000, le=1000)] | None = None
    nonscalar_logit_scale: bool | None = None


class PreprocessConfig(_Part):
    """`preprocess_cfg`: how pictures are brought to the model."""

    size: Sides | None = None
    mode: Literal["RGB"] | None = None
    mean: Annotated[tuple[Mean, Mean, Mean], Field(strict=False)] | Mean | None = None
    std: Annotated[tuple[Deviation, Deviation, Deviation], Field(strict=False)] | Deviation | None = None
    interpolation: Literal["bicubic", "bilinear", "random"] | None = None
    resize_mode: Literal["shortest", "longest", "squash"] | None = None
    fill_color: Annotated[int, Field(ge=0, le=255)] | None = None


def read_config(folder: Path) -> dict[str, Any]:
    """The content of a folder's `open_clip_config.json`, checked.

    Raises:
        UserError: A key is unknown, a value can't be, or the configuration leads out of the folder: one line with file
            and key. A CoCa is refused with a reason of its own.
    """
    path = folder / CONFIG_FILE
    content = parse_json(read_bytes(path, MOST_BYTES), f"{path}:")
    model = content.get("model_cfg") if isinstance(content, dict) else None
    if not isinstance(model, dict):
        raise UserError(f"{path}: should hold model_cfg, the configuration of a model")
    if "multimodal_cfg" in model:
        refuse_coca(str(folder), model)
    _check_model(model, str(path))
    preprocess = content.get("preprocess_cfg")
    check_preprocess(preprocess, str(path))
    # What else a file says, open_clip does not read.
    return {"model_cfg": model} | ({} if preprocess is None else {"preprocess_cfg": preprocess})


def _check_model(content: dict[str, Any], where: str) -> None:
    config = check(ModelConfig, content, where, section="model_cfg")
    vision, sides = config.vision_cfg, config.vision_cfg.image_size
    side = max(sides) if isinstance(sides, tuple) else sides or 224
    if vision.timm_model_name is None and (side / (vision.patch_size or 16)) ** 2 > MOST_PARTS:
        raise UserError(
            f"{where}: model_cfg.vision_cfg: pictures of {side} pixels have more than {MOST_PARTS:,} patches"
        )
    if vision.timm_model_name is not None:
        import timm

        import rls3_gym.vlm.open_clip.scene_tower  # noqa: F401  registers the tower with timm

        # `hf-hub:` and `local-dir:` in front of a name lead elsewhere.
        if not _TIMM_NAME.fullmatch(vision.timm_model_name) or not timm.is_model(vision.timm_model_name):
            raise UserError(
                f"{where}: model_cfg.vision_cfg.timm_model_name: timm has no model {vision.timm_model_name!r}"
            )


def check_preprocess(content: Any, where: str) -> None:
    """Raise `UserError` for a `preprocess_cfg` with an unknown key or a value that can't be."""
    if content is not None and not isinstance(content, dict):
        raise UserError(f"{where}: preprocess_cfg: should be a mapping of keys to values")
    check(PreprocessConfig, content or {}, where, section="preprocess_cfg")


def refuse_coca(name: str, config: Any) -> None:
    """Raises `UserError` for the configuration of a CoCa."""
    if "multimodal_cfg" in config:
        raise UserError(
            f"{name}: is a CoCa, whose caption decoder reads the same image tokens; a contrastive loss alone would "
            "teach the towers away from it. Name a CLIP or SigLIP model"
        )
