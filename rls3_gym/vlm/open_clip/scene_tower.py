"""The image tower of the packaged tiny CLIP, registered with timm so that open_clip builds it like any other.

A small convolutional stem with coordinate channels (CoordConv, Liu et al. 2018), one transformer block on its
8x8 tokens, and attention pooling with many queries. A ViT of the same size with usual position embeddings did
not learn left from right; coordinate channels fixed that.
"""

from __future__ import annotations

from typing import Any

import torch
from timm.models import register_model
from torch import Tensor, nn
from torch.nn import functional as F


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch norm and a shortcut: (n, c_in, h, w) -> (n, c_out, h / stride, w / stride)."""

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels_out)
        same = stride == 1 and channels_in == channels_out
        self.shortcut: nn.Module = nn.Identity() if same else nn.Conv2d(channels_in, channels_out, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class TokenBlock(nn.Module):
    """A pre-norm transformer block on (n, tokens, width)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        n, tokens, width = x.shape
        qkv = self.qkv(self.norm1(x)).view(n, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2])
        x = x + self.out(attended.transpose(1, 2).reshape(n, tokens, width))
        tokens_out: Tensor = x + self.mlp(self.norm2(x))
        return tokens_out


class SceneTower(nn.Module):
    """(n, 3, 64, 64) normalized pictures -> (n, num_classes) embeddings, through a `stem` that can stay frozen."""

    GRID = 8
    STRIDE = 8

    def __init__(self, num_classes: int = 256, width: int = 128, queries: int = 32, **_: Any) -> None:
        super().__init__()
        self.num_features = num_classes
        self.stem = Stem(width)
        self.position = nn.Parameter(torch.zeros(1, self.GRID**2, width))
        nn.init.normal_(self.position, std=0.02)
        self.block = TokenBlock(width, heads=4)
        self.key_value = nn.Linear(width, 64)
        self.queries = nn.Parameter(torch.zeros(queries, 32))
        nn.init.normal_(self.queries, std=0.3)
        self.projection = nn.Linear(queries * 32, num_classes)

    def forward_stem(self, x: Tensor) -> Tensor:
        """(n, 3, 64, 64) -> (n, width, 8, 8): the trunk that fine-tuning may leave frozen and cache."""
        features: Tensor = self.stem(x)
        return features

    def forward_tokens(self, features: Tensor) -> Tensor:
        """Stem features -> (n, 64, width) contextual tokens."""
        tokens: Tensor = self.block(features.flatten(2).transpose(1, 2) + self.position)
        return tokens

    def forward_pool(self, tokens: Tensor) -> Tensor:
        """Tokens -> (n, num_classes)."""
        key, value = self.key_value(tokens).chunk(2, dim=-1)
        attention = (self.queries @ key.transpose(1, 2) * (2 * 32**-0.5)).softmax(-1)
        embeddings: Tensor = self.projection((attention @ value).flatten(1))
        return embeddings

    def forward_head(self, features: Tensor) -> Tensor:
        """Stem features -> embeddings."""
        return self.forward_pool(self.forward_tokens(features))

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_stem(x))


class Stem(nn.Module):
    """(n, 3, 64, 64) -> (n, width, 8, 8), with learned coordinate channels added after the first convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.patches = nn.Sequential(nn.Conv2d(3, 48, 4, 4), nn.BatchNorm2d(48), nn.ReLU())
        line = torch.linspace(-1, 1, 16)
        coordinates = torch.zeros(1, 48, 16, 16)
        coordinates[0, 0] = line[None, :]
        coordinates[0, 24] = line[:, None]
        self.coordinates = nn.Parameter(coordinates)
        self.blocks = nn.Sequential(ResidualBlock(48, 64), ResidualBlock(64, width, 2))

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.blocks(self.patches(x) + self.coordinates)
        return features


@register_model
def rls3_scene_tower(pretrained: bool = False, **kwargs: Any) -> SceneTower:
    """timm's entry point; weights come with the CLIP, never from a hub."""
    if pretrained:
        raise ValueError("rls3_scene_tower has no weights of its own: they are part of a CLIP checkpoint")
    return SceneTower(num_classes=kwargs.pop("num_classes", 256))
