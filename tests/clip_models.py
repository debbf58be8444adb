"""Small models of open_clip's own kinds under names of their own, as ViT-B-32 or SigLIP have one."""

from __future__ import annotations

import json
from pathlib import Path

from rls3_gym.vlm.open_clip.weights import open_clip_module

_TEXT = {"context_length": 24, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
_IMAGE = {"image_size": 32, "layers": 3, "width": 32, "patch_size": 16, "head_width": 16}
CLIP, SIGLIP, TIMM = "rls3-test-clip", "rls3-test-sigmoid", "rls3-test-timm"
_CONFIGS = {
    CLIP: {"embed_dim": 16, "vision_cfg": _IMAGE, "text_cfg": _TEXT},
    SIGLIP: {
        "embed_dim": 16,
        "init_logit_bias": -10,
        "custom_text": True,
        "vision_cfg": {"timm_model_name": "test_vit", "timm_pool": "", "image_size": 160},
        "text_cfg": {**_TEXT, "no_causal_mask": True, "pool_type": "last", "proj_bias": True},
    },
    TIMM: {
        "embed_dim": 16,
        "custom_text": True,
        "vision_cfg": {"timm_model_name": "test_vit", "timm_pool": "", "image_size": 160},
        "text_cfg": _TEXT,
    },
}


def register(folder: Path) -> None:
    """Make the names known to open_clip, from files in `folder`, which may be gone later."""
    for name, config in _CONFIGS.items():
        (folder / f"{name}.json").write_text(json.dumps(config), encoding="utf-8")
    open_clip_module().add_model_config(folder)
