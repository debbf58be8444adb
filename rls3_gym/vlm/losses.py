"""The losses of contrastive VLMs, from embeddings: CLIP's and SigLIP's, each as the paper's dual loss or as NegCLIP's.

`LOSSES` names them. All embeddings are normalized, (n, d); all losses are scalars, nats.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True, eq=False)
class Embedded:
    """A batch: n pictures, their captions, and a hard negative of each."""

    images: Tensor
    texts: Tensor
    negatives: Tensor
    captions: Sequence[str]
    negative_captions: Sequence[str]
    scale: Tensor
    """What similarities are multiplied by."""
    bias: Tensor | None
    """What is added then, of models that judge each pair by itself (SigLIP); None: of those that compare (CLIP)."""


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


def negclip_loss(
    images: Tensor, texts: Tensor, negatives: Tensor, same: Tensor, same_negative: Tensor, scale: Tensor
) -> Tensor:
    """NegCLIP's contrastive loss (Yuksekgonul et al., arXiv 2210.01936): the hard negatives of the whole batch are
    further captions that each picture has to be told from; captions are told from pictures as in CLIP.

    `same` as in `contrastive_loss`; `same_negative` (n, n) bool: the negative in the column is the caption of the row.
    """
    off_diagonal = ~torch.eye(len(images), dtype=torch.bool, device=images.device)
    logits = (scale * images @ texts.T).masked_fill(same & off_diagonal, -1e4)
    wrong = (scale * images @ negatives.T).masked_fill(same_negative, -1e4)
    target = torch.arange(len(images), device=images.device)
    by_image = F.cross_entropy(torch.cat([logits, wrong], dim=1), target)
    return (by_image + F.cross_entropy(logits.T, target)) / 2


def sigmoid_loss(images: Tensor, texts: Tensor, same: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """SigLIP's loss (Zhai et al., arXiv 2303.15343): each pair by itself, true or false; the sum over all pairs by the
    number of pictures. `texts` may have more rows than `images`, all of them false: (m, d) with m >= n. Pairs in `same`
    (n, m) that are not on the diagonal do not count.
    """
    logits = scale * images @ texts.T + bias
    true = torch.eye(*logits.shape, dtype=torch.bool, device=images.device)
    losses = F.softplus(torch.where(true, -logits, logits))
    return losses.masked_fill(same & ~true, 0.0).sum() / len(images)


def hard_negative_loss(images: Tensor, texts: Tensor, negatives: Tensor, scale: Tensor) -> Tensor:
    """Mean log loss of preferring each true caption to its hard negative; all (n, d) normalized. Scalar, nats."""
    margin = scale * (images * (texts - negatives)).sum(-1)
    return F.softplus(-margin).mean()


def same_caption(captions: Sequence[str], device: torch.device) -> Tensor:
    """(n, n) bool: pairs that have the very same caption; each caption with itself too."""
    ids = np.unique(captions, return_inverse=True)[1]
    return torch.from_numpy(ids[:, None] == ids[None, :]).to(device)


def dual(batch: Embedded) -> dict[str, Tensor]:
    """The paper's dual loss: image-text contrastive, and true caption against hard negative caption."""
    same = same_caption(batch.captions, batch.images.device)
    if batch.bias is None:
        contrastive = contrastive_loss(batch.images, batch.texts, same, batch.scale)
    else:
        contrastive = sigmoid_loss(batch.images, batch.texts, same, batch.scale, batch.bias)
    negative = hard_negative_loss(batch.images, batch.texts, batch.negatives, batch.scale)
    return {"contrastive": contrastive, "hard_negative": negative}


def negclip(batch: Embedded) -> dict[str, Tensor]:
    """The contrastive loss alone, with the hard negatives among the captions of the batch."""
    n = len(batch.captions)
    same = same_caption([*batch.captions, *batch.negative_captions], batch.images.device)[:n]
    if batch.bias is None:
        parts = (batch.images, batch.texts, batch.negatives)
        return {"contrastive": negclip_loss(*parts, same[:, :n], same[:, n:], batch.scale)}
    texts = torch.cat([batch.texts, batch.negatives])
    return {"contrastive": sigmoid_loss(batch.images, texts, same, batch.scale, batch.bias)}


@dataclass(frozen=True)
class Loss:
    """A loss that `finetune.loss` can name."""

    parts: tuple[str, ...]
    """What it is the weighted sum of."""
    of: Callable[[Embedded], Mapping[str, Tensor]]
    """The parts by name."""


LOSSES = {"dual": Loss(("contrastive", "hard_negative"), dual), "negclip": Loss(("contrastive",), negclip)}
