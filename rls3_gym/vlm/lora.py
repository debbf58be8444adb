"""LoRA for any VLM: low-rank adapters beside frozen weights, through peft.

`add_lora` changes a module in place; only adapters train after it. `merged_weights` are the weights of the same model
without adapters, under the names they had before: what a model folder holds.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rls3_gym._compat import torchvision as torchvision_compat
from rls3_gym.vlm.finetune_settings import LoraSettings
from rls3_gym.vlm.seeding import seeded_torch
from rls3_registry.errors import SettingError, UserError, unknown

_ADAPTER = "default"
"""peft's name for a model's only adapter."""
_SEED = 0
"""Of the adapters' first weights. Every model begins as it was: the second factor of each adapter begins at zero."""


def add_lora(module: nn.Module, settings: LoraSettings, public_name: Callable[[str], str] = str) -> None:
    """Put adapters beside the linear and convolution layers that `settings.targets` names, and freeze all else.

    Args:
        module: Changed in place. Its `nn.MultiheadAttention` are replaced by `LinearAttention` where one is a target.
        settings: Rank, scale, dropout, targets.
        public_name: From a module's name to the one that the patterns are about.

    Raises:
        UserError: peft is not installed, or a pattern that names no layer.
    """
    peft = _peft()
    _open_attention(module, settings.targets, public_name)
    layers = {public_name(name): name for name, part in module.named_modules() if isinstance(part, _ADAPTABLE)}
    for pattern in settings.targets:
        if not any(fnmatchcase(layer, pattern) for layer in layers):
            said = unknown("layer pattern", pattern, {f"*.{layer.rsplit('.', 1)[-1]}" for layer in layers} or layers)
            raise SettingError("", ("finetune", "lora", "targets"), f": {said}")
    names = [name for layer, name in layers.items() if any(fnmatchcase(layer, p) for p in settings.targets)]
    config = peft.LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules="|".join(re.escape(name) for name in names),
    )
    with seeded_torch(_SEED):
        peft.inject_adapter_in_model(config, module)
    for name, weight in module.named_parameters():
        weight.requires_grad_(is_adapter(name))
        if weight.requires_grad:
            weight.data = weight.data.float()  # beside a base in half precision, too


def is_adapter(name: str) -> bool:
    """Whether a parameter of that name in the module is an adapter's."""
    return ".lora_" in name


def readable_name(name: str) -> str:
    """A parameter's name without what peft adds to it: `text.mlp.c_fc.lora_A.weight`, and `text.mlp.c_fc.weight`."""
    return re.sub(rf"(\.lora_\w+)\.{_ADAPTER}", r"\1", name).replace(".base_layer", "")


def is_untaught(module: nn.Module) -> bool:
    """Whether there are adapters, and none of them adds anything: the module is the model that it was without them."""
    seconds = [weight for name, weight in module.named_parameters() if ".lora_B." in name]
    return bool(seconds) and not any(weight.any() for weight in seconds)


@torch.no_grad()
def merged_weights(module: nn.Module) -> dict[str, Tensor]:
    """All weights and buffers as a model without adapters has them, by the names it has them under. Tensors to which no
    adapter adds anything are the module's own; nothing is changed."""
    weights = {}
    attentions = tuple(name for name, part in module.named_modules() if isinstance(part, LinearAttention))
    for name, tensor in module.state_dict().items():
        if is_adapter(name):
            continue
        if name.endswith(".base_layer.weight"):
            layer: Any = module.get_submodule(name.removesuffix(".base_layer.weight"))
            if layer.lora_B[_ADAPTER].weight.any():
                tensor = tensor + layer.get_delta_weight(_ADAPTER).to(tensor.dtype)
        name = name.replace(".base_layer", "")
        if name.startswith(tuple(f"{attention}.in_proj." for attention in attentions)):
            name = re.sub(r"\.in_proj\.(\w+)$", r".in_proj_\1", name)
        weights[name] = tensor
    return weights


class LinearAttention(nn.Module):
    """`nn.MultiheadAttention` with its two projections as linear layers of their own, which adapters can be put beside.

    peft's own layer for it adds the adapters to the frozen weights before each forward pass and subtracts them after:
    the frozen weights then drift by rounding, and their digest with them.
    """

    def __init__(self, attention: nn.MultiheadAttention) -> None:
        """Takes over the weights of `attention`, whose query, key and value have one width."""
        super().__init__()
        self.num_heads, self.dropout, self.batch_first = attention.num_heads, attention.dropout, attention.batch_first
        width = attention.embed_dim
        self.in_proj = nn.Linear(width, 3 * width, bias=attention.in_proj_bias is not None, device="meta")
        self.in_proj.weight = attention.in_proj_weight
        self.in_proj.bias = attention.in_proj_bias
        self.out_proj = nn.Linear(width, width, bias=attention.out_proj.bias is not None, device="meta")
        self.out_proj.weight = attention.out_proj.weight
        self.out_proj.bias = attention.out_proj.bias

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = False,
        attn_mask: Tensor | None = None,
    ) -> tuple[Tensor, None]:
        """As `nn.MultiheadAttention`, for self-attention and without its weights; a boolean mask is True where a token
        is not looked at."""
        if need_weights or key is not query or value is not query:
            raise UserError(
                "finetune.lora.targets: an attention layer that is no plain self-attention can't be adapted"
            )
        x = query if self.batch_first else query.transpose(0, 1)
        n, length, width = x.shape
        q, k, v = self.in_proj(x).view(n, length, 3, self.num_heads, width // self.num_heads).permute(2, 0, 3, 1, 4)
        mask = _additive(attn_mask, q)
        if mask is not None and mask.dim() == 3:
            mask = mask.view(n, self.num_heads, length, length)
        if key_padding_mask is not None:
            padding = _additive(key_padding_mask, q)
            assert padding is not None
            mask = padding[:, None, None, :] if mask is None else mask + padding[:, None, None, :]
        dropout = self.dropout if self.training else 0.0
        seen = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
        out = self.out_proj(seen.transpose(1, 2).reshape(n, length, width))
        return (out if self.batch_first else out.transpose(0, 1)), None


def _additive(mask: Tensor | None, like: Tensor) -> Tensor | None:
    """A mask to be added to the scores, whatever form it came in."""
    if mask is None:
        return None
    if mask.dtype == torch.bool:
        return torch.zeros_like(mask, dtype=like.dtype).masked_fill(mask, float("-inf"))
    return mask.to(like.dtype)


_ADAPTABLE = (nn.Linear, nn.Conv2d)


def _open_attention(module: nn.Module, patterns: tuple[str, ...], public_name: Callable[[str], str]) -> None:
    """Replace attention whose projections are targets."""
    found = [(name, part) for name, part in module.named_modules() if isinstance(part, nn.MultiheadAttention)]
    for name, part in found:
        layers = [public_name(f"{name}.{layer}") for layer in ("in_proj", "out_proj")]
        one_width = part.in_proj_weight is not None and part.bias_k is None and not part.add_zero_attn
        if one_width and any(fnmatchcase(layer, pattern) for layer in layers for pattern in patterns):
            module.set_submodule(name, LinearAttention(part))


def _peft() -> Any:
    torchvision_compat.install()
    try:
        import peft
    except ModuleNotFoundError as error:
        raise UserError(
            f'finetune.lora needs {(error.name or "peft").split(".")[0]}: pip install "rls3_gym[paligemma]"'
        ) from error
    return peft
