"""What a VLM is asked about and taught with: a picture with a true caption and false ones.

A `CaptionItem` is all that a VLM needs, wherever it comes from. A `Sample` is an item of this world: it also knows the
arrangement it shows, and caption and negatives follow from that.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rls3_gym.backends.base import Frame
from rls3_gym.scene.arrangement import Arrangement
from rls3_gym.scene.captions import Change, Negative, describe, negatives
from rls3_gym.scene.relations import Relation, Term, relation


@dataclass(frozen=True, eq=False)
class CaptionItem:
    """A picture, its true caption, and captions that are false of it.

    `negatives` with `Change.OPPOSITE` come first: they are the pairwise test.
    """

    rgb: NDArray[np.uint8]
    """(height, width, 3)."""
    caption: str
    negatives: tuple[Negative, ...]

    def __eq__(self, other: object) -> bool:
        """Items are equal when they show and say the same, whoever made them."""
        if self is other:
            return True
        if not isinstance(other, CaptionItem):
            return NotImplemented
        return (self.caption, self.negatives, self.picture_hash) == (other.caption, other.negatives, other.picture_hash)

    def __hash__(self) -> int:
        return hash((self.caption, self.picture_hash))

    def __deepcopy__(self, memo: Mapping[int, Any]) -> CaptionItem:
        # Nobody changes an item, and RL libraries copy every info dictionary they are given.
        return self

    @cached_property
    def opposites(self) -> tuple[Negative, ...]:
        """The single-opposite negatives, one per true term."""
        return tuple(n for n in self.negatives if n.change is Change.OPPOSITE)

    @cached_property
    def picture_hash(self) -> str:
        """Name of the picture: 20 hex digits over its pixels."""
        return hashlib.sha256(np.ascontiguousarray(self.rgb).tobytes()).hexdigest()[:20]

    @cached_property
    def png(self) -> bytes:
        """The picture as PNG, encoded once."""
        buffer = io.BytesIO()
        Image.fromarray(self.rgb).save(buffer, format="PNG", compress_level=1)
        return buffer.getvalue()


@dataclass(frozen=True, eq=False)
class Sample(CaptionItem):
    """An item of this world; made by `make_sample`."""

    relation: Relation
    """The relation of A to B."""
    arrangement: Arrangement
    slot_a: int
    """The object the caption is about, and ..."""
    slot_b: int
    """... the one it is related to (the reference)."""
    offset: tuple[float, float, float]
    """A minus B, meters, in the gravity-aligned camera frame."""
    visible: tuple[float, ...]
    """Visible share of each slot's object, 0..1."""
    pixels: tuple[int, ...]
    """Visible pixels of each slot's object."""

    @property
    def kind_a(self) -> str:
        return self.arrangement.objects[self.slot_a].kind

    @property
    def kind_b(self) -> str:
        return self.arrangement.objects[self.slot_b].kind

    @property
    def scene_key(self) -> str:
        """Identity of the scene, checked against the held-out sets."""
        return self.arrangement.key

    @property
    def provenance(self) -> dict[str, Any]:
        """Where the sample comes from, JSON-ready: enough to render and caption it again."""
        return {
            "scene_key": self.scene_key,
            "split": self.arrangement.layout.split,
            **self.arrangement.encode(),
            "slot_a": self.slot_a,
            "slot_b": self.slot_b,
            "offset": [round(v, 5) for v in self.offset],
            "visible": [round(v, 4) for v in self.visible],
            "pixels": list(self.pixels),
        }


def make_sample(arrangement: Arrangement, frame: Frame, slot_a: int, slot_b: int) -> Sample:
    """Caption the ordered pair (slot_a, slot_b) of a captured arrangement."""
    seen = frame.visible.tolist(), frame.pixels.tolist()
    return _sample(frame.rgb, arrangement, slot_a, slot_b, frame.offset(slot_a, slot_b), *seen)


def _sample(
    rgb: NDArray[np.uint8],
    arrangement: Arrangement,
    slot_a: int,
    slot_b: int,
    offset: Sequence[float],
    visible: Sequence[float],
    pixels: Sequence[int],
) -> Sample:
    kind_a, kind_b = arrangement.objects[slot_a].kind, arrangement.objects[slot_b].kind
    truth = relation(offset)
    return Sample(
        rgb=rgb,
        caption=describe(kind_a, truth, kind_b),
        negatives=negatives(kind_a, kind_b, offset, truth),
        relation=truth,
        arrangement=arrangement,
        slot_a=slot_a,
        slot_b=slot_b,
        offset=(offset[0], offset[1], offset[2]),
        visible=tuple(visible),
        pixels=tuple(pixels),
    )


def encode_items(items: Sequence[CaptionItem]) -> dict[str, Any]:
    """Items as plain data for a checkpoint: JSON-ready rows, and their PNGs as one uint8 array, end to end."""
    pictures = [item.png for item in items]
    return {
        "rows": [_row(item) for item in items],
        "png": np.frombuffer(b"".join(pictures), np.uint8),
        "png_ends": np.cumsum([len(picture) for picture in pictures], dtype=np.int64),
    }


def _row(item: CaptionItem) -> dict[str, Any]:
    if isinstance(item, Sample):
        return {
            **item.arrangement.encode(),
            "slots": [item.slot_a, item.slot_b],
            "offset": list(item.offset),
            "visible": list(item.visible),
            "pixels": list(item.pixels),
        }
    false = [[n.caption, n.change.value, None if n.term is None else int(n.term)] for n in item.negatives]
    return {"caption": item.caption, "negatives": false}


MOST_PIXELS = 2**24
"""Of a picture of a run: a small file may claim to be a picture that fills all memory."""


def decode_items(state: Mapping[str, Any]) -> list[CaptionItem]:
    """The inverse of `encode_items`. Raises `ValueError` or `KeyError` for anything else."""
    png, ends = np.asarray(state["png"], np.uint8), [int(end) for end in state["png_ends"]]
    pictures = [png[start:end].tobytes() for start, end in zip([0, *ends], ends, strict=False)]
    return [_item(row, picture) for row, picture in zip(state["rows"], pictures, strict=True)]


def decode_samples(state: Mapping[str, Any]) -> list[Sample]:
    """The inverse of `encode_items` for items that are all samples. Raises `ValueError` for others."""
    items = decode_items(state)
    samples = [item for item in items if isinstance(item, Sample)]
    if len(samples) < len(items):
        raise ValueError("an item does not say which arrangement it shows")
    return samples


def _item(row: Mapping[str, Any], picture: bytes) -> CaptionItem:
    try:
        with Image.open(io.BytesIO(picture), formats=["PNG"]) as image:  # reads its head alone
            if image.width * image.height > MOST_PIXELS:
                raise ValueError(f"a picture of {image.width:,} x {image.height:,} pixels")
            rgb = np.array(image.convert("RGB"))
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"not a readable picture ({error})") from error
    if "slots" in row:
        slots: tuple[int, int] = (row["slots"][0], row["slots"][1])
        arrangement = Arrangement.decode(row)
        return _sample(rgb, arrangement, *slots, row["offset"], row["visible"], row["pixels"])
    false = tuple(
        Negative(text, Change(change), None if t is None else Term(t)) for text, change, t in row["negatives"]
    )
    return CaptionItem(rgb, row["caption"], false)
