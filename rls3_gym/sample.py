"""A sample: one captioned picture with its hard negatives, and where it came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rls3_gym.backends.base import Frame
from rls3_gym.scene.arrangement import Arrangement
from rls3_gym.scene.captions import Change, Negative, describe, negatives
from rls3_gym.scene.relations import RELATIONS, Relation, Term, relation


@dataclass(frozen=True, eq=False)
class Sample:
    """An image-caption pair the VLM is scored on and taught with.

    `negatives` are false in the scene; those with `Change.OPPOSITE` come first (the pairwise test).
    """

    rgb: NDArray[np.uint8]
    """(size, size, 3)."""
    caption: str
    negatives: tuple[Negative, ...]
    relation: Relation
    kind_a: str
    kind_b: str
    provenance: dict[str, Any]
    """JSON-ready: scene key, layout, family, split, objects with poses, slots of the pair, offset, visibility, ..."""

    def __eq__(self, other: object) -> bool:
        """Samples are equal when they show and say the same, whoever made them."""
        if self is other:
            return True
        if not isinstance(other, Sample):
            return NotImplemented
        return (
            self.caption == other.caption
            and self.negatives == other.negatives
            and self.provenance == other.provenance
            and np.array_equal(self.rgb, other.rgb)
        )

    def __hash__(self) -> int:
        return hash((self.scene_key, self.caption))

    def __deepcopy__(self, memo: Mapping[int, Any]) -> Sample:
        # Nobody changes a sample, and RL libraries copy every info dictionary they are given.
        return self

    @property
    def scene_key(self) -> str:
        """Identity of the scene, checked against the held-out sets."""
        return str(self.provenance["scene_key"])

    @cached_property
    def opposites(self) -> tuple[Negative, ...]:
        """The single-opposite negatives, one per true term."""
        return tuple(n for n in self.negatives if n.change is Change.OPPOSITE)


def make_sample(arrangement: Arrangement, frame: Frame, slot_a: int, slot_b: int, **provenance: Any) -> Sample:
    """Caption the ordered pair (slot_a, slot_b) of a captured arrangement."""
    offset = frame.positions[slot_a].astype(np.float64) - frame.positions[slot_b].astype(np.float64)
    truth = relation(offset)
    kind_a, kind_b = arrangement.objects[slot_a].kind, arrangement.objects[slot_b].kind
    layout = arrangement.layout
    facts = {
        "scene_key": arrangement.key,
        "family": layout.family,
        "layout": layout.index,
        "split": layout.split,
        "objects": [{"kind": o.kind, "position": list(o.position), "yaw": o.yaw} for o in arrangement.objects],
        "slot_a": slot_a,
        "slot_b": slot_b,
        "offset": [round(float(v), 5) for v in offset],
        "visible": [round(float(v), 4) for v in frame.visible],
        "pixels": [int(v) for v in frame.pixels],
    }
    return Sample(
        rgb=frame.rgb,
        caption=describe(kind_a, truth, kind_b),
        negatives=negatives(kind_a, kind_b, offset),
        relation=truth,
        kind_a=kind_a,
        kind_b=kind_b,
        provenance=facts | provenance,
    )


def encode_samples(samples: Sequence[Sample]) -> dict[str, Any]:
    """Samples as plain data for a checkpoint: one uint8 array (n, size, size, 3) and JSON-ready rows."""
    rows = [
        {
            "caption": s.caption,
            "negatives": [[n.caption, n.change.value, None if n.term is None else int(n.term)] for n in s.negatives],
            "relation": s.relation.index,
            "kind_a": s.kind_a,
            "kind_b": s.kind_b,
            "provenance": s.provenance,
        }
        for s in samples
    ]
    rgb = np.stack([s.rgb for s in samples]) if samples else np.zeros((0, 0, 0, 3), np.uint8)
    return {"rgb": rgb, "rows": rows}


def decode_samples(state: Mapping[str, Any]) -> list[Sample]:
    """The inverse of `encode_samples`."""
    return [
        Sample(
            rgb=np.ascontiguousarray(rgb, dtype=np.uint8),
            caption=row["caption"],
            negatives=tuple(
                Negative(caption, Change(change), None if term is None else Term(term))
                for caption, change, term in row["negatives"]
            ),
            relation=RELATIONS[row["relation"]],
            kind_a=row["kind_a"],
            kind_b=row["kind_b"],
            provenance=dict(row["provenance"]),
        )
        for rgb, row in zip(np.asarray(state["rgb"]), state["rows"], strict=True)
    ]
