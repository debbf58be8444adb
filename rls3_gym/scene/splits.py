"""What training may see: layouts of its split alone, and object pairs that the `test` set does not ask about.

A layout's index decides its split, so no layout is ever in two.

Of a family's layouts the first `train` indices train, the next `validation` validate and the last `test`
test. Layouts are drawn independently of each other, so the order of the indices carries no meaning. And which object
pairs are kept out of training: a fixed hash of the two names decides, so that a new kind changes no other pair's side,
and the order of the two makes no difference.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache

from rls3_gym.scene.rooms import Split

SPLITS: tuple[Split, ...] = ("train", "validation", "test")


@dataclass(frozen=True)
class SplitSizes:
    """How many layouts of a family each split gets."""

    train: int
    validation: int
    test: int

    @property
    def total(self) -> int:
        return self.train + self.validation + self.test

    def of(self, index: int) -> Split:
        """The split of layout `index`. Raises `IndexError` outside 0..total-1."""
        if not 0 <= index < self.total:
            raise IndexError(f"layout index {index} is outside 0..{self.total - 1}")
        if index < self.train:
            return "train"
        return "validation" if index < self.train + self.validation else "test"

    def indices(self, split: Split) -> range:
        """The layout indices of a split, ascending."""
        start = {"train": 0, "validation": self.train, "test": self.train + self.validation}[split]
        return range(start, start + getattr(self, split))


HELD_OUT_PAIRS = 0.2
"""Share of unordered kind pairs kept out of training."""


@cache
def is_held_out_pair(kind_a: str, kind_b: str) -> bool:
    """Whether captions about these two kinds, in either order, are kept for the `test` set."""
    digest = hashlib.sha256("|".join(sorted((kind_a, kind_b))).encode()).digest()
    return int.from_bytes(digest[:4], "big") < HELD_OUT_PAIRS * 2**32


def may_train(kind_a: str, kind_b: str) -> bool:
    """Whether training may see captions about these two kinds."""
    return not is_held_out_pair(kind_a, kind_b)


def any_pair(kind_a: str, kind_b: str) -> bool:
    """The rule outside training: captions may be about any two kinds."""
    return True
