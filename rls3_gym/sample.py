"""A sample: one captioned picture with its hard negatives, and where it came from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rls3_gym.backends.base import Frame
from rls3_gym.scene.arrangement import Arrangement
from rls3_gym.scene.captions import Change, Negative, describe, negatives
from rls3_gym.scene.relations import Relation, relation


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
