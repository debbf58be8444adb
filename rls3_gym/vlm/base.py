"""What a VLM is to the loop: it says how well it does on samples, and it can be taught with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rls3_gym.sample import CaptionItem

Float = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Feedback:
    """Scores of n samples. Logits are the VLM's own similarity logits."""

    correct: NDArray[np.bool_]
    """(n,) strict: the true caption is preferred to every hard negative."""
    pairwise: Float
    """(n,) share of the single-opposite negatives the true caption is preferred to; chance 0.5."""
    by_term: Float
    """(n, 6) per true term: 1.0 when preferred to the caption with that term turned, else 0.0; NaN: not a true term."""
    margin: Float
    """(n,) true caption minus hardest negative, logits."""
    hardest: NDArray[np.int64]
    """(n,) index of the hardest negative in the sample's `negatives`."""
    loss: Float
    """(n,) cross entropy of the true caption among it and its negatives, nats."""
    p_true: Float
    """(n,) softmax share of the true caption among it and its negatives."""
    p_opposite: Float
    """(n,) mean over single opposites of the chance given to the true caption in that pair; 0.5 is undecided."""

    def __len__(self) -> int:
        return len(self.correct)

    def __getitem__(self, part: slice) -> Feedback:
        """The feedback on some of the items."""
        return Feedback(**{f.name: getattr(self, f.name)[part] for f in fields(self)})

    @property
    def pairwise_accuracy(self) -> float:
        return float(self.pairwise.mean()) if len(self) else float("nan")


@dataclass(frozen=True)
class FineTuneReport:
    """What one round of fine-tuning did."""

    n_samples: int
    optimizer_steps: int
    loss_first: float
    loss_last: float
    """Mean total loss over the first and last tenth of the steps, nats."""
    contrastive: float
    hard_negative: float
    """Mean parts of the dual loss over the round, nats, before weighting."""
    digest_before: str
    digest_after: str
    seconds: float
    rolled_back: str | None = None
    """Why the weights from before the round were restored; None when they were not."""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class VLM(Protocol):
    """A vision-language model that scores and learns; `vlm/open_clip/adapter.py` is one.

    A class that YAML names as `adapter` also has the class method `from_yaml(name, options, finetune, where)`: the VLM
    that goes by `name`, from the YAML's own keys and its settings for fine-tuning; `where` is for error messages.
    """

    name: str
    image_size: int
    """Side of the square pictures it likes best, pixels; others are resized."""

    def evaluate(self, samples: Sequence[CaptionItem]) -> Feedback:
        """Score samples in batches, without gradients and without changing the model."""

    def finetune(self, samples: Sequence[CaptionItem], rng: np.random.Generator) -> FineTuneReport:
        """Teach one round. A non-finite loss or a collapse restores the weights from before it and says so."""

    def state(self) -> dict[str, Any]:
        """Everything a continued run needs: trainable weights, optimizer, replay; tensors by name."""

    def load_state(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""

    def digest(self) -> str:
        """Short hash of the weights: names VLM states in every log row."""
