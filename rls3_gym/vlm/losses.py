"""The paper's dual loss: image-text contrastive, and true caption against hard negative caption."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


def contrastive_loss(images: Tensor, texts: Tensor, same: Tensor, scale: Tensor) -> Tensor:
    """CLIP's symmetric cross entropy over a batch.

    `images`, `texts` (n, d) normalized; `same` (n, n) bool: pairs with the very same caption, which are not negatives
    of each other; `scale` the logit scale. Returns a scalar, nats.
    """
    logits = scale * images @ texts.T
    off_diagonal = ~torch.eye(len(images), dtype=torch.bool, device=images.device)
    logits = logits.masked_fill(same & off_diagonal, -1e4)
    target = torch.arange(len(images), device=images.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def hard_negative_loss(images: Tensor, texts: Tensor, negatives: Tensor, scale: Tensor) -> Tensor:
    """Mean log loss of preferring each true caption to its hard negative; all (n, d) normalized. Scalar, nats."""
    margin = scale * (images * (texts - negatives)).sum(-1)
    return F.softplus(-margin).mean()


def same_caption(captions: Sequence[str], device: torch.device) -> Tensor:
    """(n, n) bool: pairs that have the very same caption; each caption with itself too."""
    ids = np.unique(captions, return_inverse=True)[1]
    return torch.from_numpy(ids[:, None] == ids[None, :]).to(device)
