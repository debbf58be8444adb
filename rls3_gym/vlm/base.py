"""What a VLM is: it scores pictures with captions, and it can be taught with them. And how one is described."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

import rls3_registry
from rls3_gym.sample import CaptionItem
from rls3_registry.errors import UserError
from rls3_registry.plugins import PluginSection, PluginSpec

Float = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Feedback:
    """Scores of n items; made by `rls3_gym.vlm.feedback`. Logits are the VLM's own."""

    correct: NDArray[np.bool_]
    """(n,) strict: the true caption is preferred to every hard negative."""
    pairwise: Float
    """(n,) share of the single-opposite negatives the true caption is preferred to; chance 0.5."""
    by_term: Float
    """(n, 6) per true term: 1.0 when preferred to the caption with that term turned, else 0.0; NaN: not a true term."""
    margin: Float
    """(n,) true caption minus hardest negative, logits."""
    hardest: NDArray[np.int64]
    """(n,) index of the hardest negative in the item's `negatives`."""
    loss: Float
    """(n,) cross entropy of the true caption among it and its negatives, nats."""
    p_true: Float
    """(n,) softmax share of the true caption among it and its negatives."""
    p_opposite: Float
    """(n,) mean over single opposites of the probability of the true caption in that pair; 0.5 is undecided."""

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
    losses: dict[str, float]
    """`total_first` and `total_last`: mean weighted total over the first and the last tenth of the steps; and for every
    loss by its name the mean over the round, before weighting. Nats."""
    digest_before: str
    digest_after: str
    seconds: float
    rolled_back: str | None = None
    """Why the weights from before the round were restored; None when they were not."""
    images_per_second: float | None = None
    """Pictures of all batches, replayed ones too, by the time of the round."""
    peak_memory: int | None = None
    """Bytes: of the tensors of the round on a GPU, or of the process so far (`rls3_gym.vlm.memory`)."""

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready; JSON has no NaN, so a loss that became one is null."""
        losses = {name: value if math.isfinite(value) else None for name, value in self.losses.items()}
        return {**asdict(self), "losses": losses}


class VLM(Protocol):
    """A vision-language model that scores and learns; `vlm/open_clip/adapter.py` is one.

    A plugin class is called as `Class(settings, name=..., finetune=...)`: its own settings, the name it goes by, and
    its settings for fine-tuning, both mappings that it checks; see `rls3_registry.plugins`. It need not do all by
    itself: `rls3_gym.vlm.finetuner.Finetuner` has batches, replay, roll-back and state for every model, and
    `rls3_gym.vlm.feedback` makes feedback from logits.
    """

    name: str
    """The registry name, path or `module:Class` it was loaded by."""
    image_size: int
    """Side of the square pictures it works on, pixels; others are resized."""

    def evaluate(self, items: Sequence[CaptionItem]) -> Feedback:
        """Score items in batches, without gradients and without changing the model.

        Args:
            items: Pictures (height, width, 3) uint8 with a true caption and at least one negative each.

        Returns:
            One score per item, in their order; of length 0 for no items.
        """

    def finetune(self, items: Sequence[CaptionItem], rng: np.random.Generator) -> FineTuneReport:
        """Teach one round. A non-finite loss or a collapse restores the weights from before it and says so.

        Args:
            items: What to teach with, at least one.
            rng: The only source of chance: order, replay, which negatives.

        Raises:
            ValueError: There are no items.
        """

    def state(self) -> dict[str, Any]:
        """What teaching can change: trainable weights, optimizer, replay. The rest is only named, by its digest.

        Returns:
            A tree of dictionaries with tensors (on the CPU), numpy arrays and JSON values, as `rls3_gym.runs.codec`
            saves it. Later teaching leaves it as it is.
        """

    def load_state(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`.

        Args:
            state: What `state` returned, or what was read back of it.

        Raises:
            UserError: The state belongs to other frozen weights, or to other trainable ones.
            KeyError, ValueError: It is not the state of a VLM.
        """

    def digest(self) -> str:
        """Name of the VLM's state in every log row.

        Returns:
            12 hex digits of a hash over all weights, the same on every device (`rls3_gym.vlm.digest`).
        """


@runtime_checkable
class GradientVLM(Protocol):
    """A VLM whose gradient can be followed: what rewards need that compare samples by what they would teach."""

    def nudged(self, items: Sequence[CaptionItem], rng: np.random.Generator, share: float) -> VLM:
        """A copy that has taken one small step straight down the gradient of its loss on `items`.

        Args:
            items: Pictures with captions, at least one.
            rng: What the loss draws from: which negatives.
            share: How much of that loss the step takes away, to first order, in (0, 1).
        """


@runtime_checkable
class ScoringVLM(Protocol):
    """A VLM that tells the scores by which it prefers captions: what a threshold between true and false needs."""

    def logits(self, items: Sequence[CaptionItem]) -> Float:
        """The scores of captions, comparable between pictures.

        Args:
            items: As for `VLM.evaluate`, few enough to be scored at once.

        Returns:
            (n, 1 + most negatives): the true caption's score, then those of the negatives; -inf where an item has no
            more.
        """


Reading = Literal["likelihood", "generation"]
"""What counts as the performance of a VLM that writes: how likely it finds the true caption beside the false ones, or
how well its own words agree with the true one."""


@runtime_checkable
class GenerativeVLM(Protocol):
    """A VLM that writes. Its `evaluate` is one of two readings of its performance; both are reported."""

    def evaluate_as(self, items: Sequence[CaptionItem], reading: Reading) -> Feedback:
        """What `VLM.evaluate` gives, in a reading that is named.

        Args:
            items: As for `VLM.evaluate`.
            reading: See `Reading`.
        """

    def answers(self, items: Sequence[CaptionItem]) -> list[str]:
        """What it says when it is asked where the first object of each item's caption is, relative to the second.

        Args:
            items: Pictures with a caption, of which only the two objects are told. An item whose caption is about
                something else is to be described.

        Returns:
            One text per item, always the same for the same weights.
        """


def by_likelihood(vlm: VLM, items: Sequence[CaptionItem]) -> Feedback:
    """What `vlm.evaluate` gives, but of a VLM that writes always in the reading that all VLMs have in common."""
    return vlm.evaluate_as(items, "likelihood") if isinstance(vlm, GenerativeVLM) else vlm.evaluate(items)


@runtime_checkable
class WeightsVLM(Protocol):
    """A VLM that can tell its weights from what only further teaching needs. Others keep their whole state."""

    def weights(self) -> dict[str, Any]:
        """What `load_state` needs to bring these weights back, with a new optimizer and nothing to replay.

        Returns:
            A tree as `VLM.state` gives it.
        """


@runtime_checkable
class FittingVLM(Protocol):
    """A VLM that has a way of its own to bring a picture to its size. Others get pictures squeezed into the square."""

    def fit(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A picture (height, width, 3) RGB as (image_size, image_size, 3)."""


@runtime_checkable
class FolderVLM(Protocol):
    """A VLM that can be written as a model folder of its library, which `--vlm FOLDER` loads again."""

    def save_folder(self, folder: Path) -> str:
        """Write configuration, weights, and what tokenizer and processor need.

        Args:
            folder: Is there, and has no files of these names.

        Returns:
            The digest of the VLM that the folder loads as: the same one, unless adapters were merged into weights.
        """


@runtime_checkable
class ClosingVLM(Protocol):
    """A VLM that holds something beyond its memory."""

    def close(self) -> None:
        """Give it back; the VLM can't be asked any more. Closing twice is fine."""


FINETUNE_FILE = "rls3_finetune.yaml"
"""In a model folder: how the model is taught further, as `finetune` of a VLM's YAML. May be missing."""
SETTINGS_FILE = "rls3_settings.yaml"
"""In a model folder of transformers: how the model is asked, as `settings` of a VLM's YAML. May be missing."""
_OPEN_CLIP_CONFIG = "open_clip_config.json"
_FORMER_KEYS = {"adapter": "plugin"} | {key: f"settings.{key}" for key in ("model", "pretrained", "quick_gelu")}


class VlmSpec(PluginSpec):
    """One YAML of `registry/vlms`."""

    finetune: dict[str, Any] = {}
    """How the VLM is taught; handed to the class beside `settings`."""

    @model_validator(mode="before")
    @classmethod
    def _former_keys(cls, content: Any) -> Any:
        """Older files have an `adapter`, and its keys at the top."""
        old = [f"{key!r} is now called {new!r}" for key, new in _FORMER_KEYS.items() if key in content]
        if old:
            raise ValueError(", ".join(old))
        return content


class VlmSection(PluginSection[VlmSpec]):
    """Finds VLMs as other plugins are found, and model folders of open_clip and transformers by their path as well."""

    def find(self, name: str) -> tuple[str, VlmSpec]:
        """Where `name` is described (for messages), and how.

        Args:
            name: A registry name, a path ending in .yaml, a model folder, an installed plugin's name, or
                `module:Class`.

        Raises:
            UserError: The name is unknown (the nearest are listed), or its file has a wrong key.
        """
        if name not in rls3_registry.names(self.section) and not name.endswith((".yaml", ".yml")):
            if os.path.isdir(name):
                theirs = Path(name, "config.json").is_file() and not Path(name, _OPEN_CLIP_CONFIG).is_file()
                plugin = "transformers" if theirs else "open_clip"
                asked = _content(Path(name, SETTINGS_FILE)) if theirs else {}
                finetune = _content(Path(name, FINETUNE_FILE))
                return name, VlmSpec(plugin=plugin, settings={**asked, "model": name}, finetune=finetune)
            if os.path.isfile(name):
                raise UserError(
                    f"{name}: a bare checkpoint does not say which model it belongs to; "
                    "write a YAML with plugin and settings: {model, pretrained}, and give that"
                )
        return super().find(name)


def _content(file: Path) -> dict[str, Any]:
    """What a file that may be missing says."""
    return rls3_registry.load_file(file) if file.is_file() else {}


_EXTRAS = {"transformers": "paligemma"}
VLMS = VlmSection("vlms", "VLM", ("evaluate", "finetune", "state", "load_state", "digest"), VlmSpec, _EXTRAS)
