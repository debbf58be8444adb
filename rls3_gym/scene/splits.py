"""Which layouts a split may use: by layout index, so no layout is ever in two splits.

Of a family's layouts the first `train` indices train, the next `validation` validate and the last `test`
test. Layouts are drawn independently of each other, so the order of the indices carries no meaning.
"""

from __future__ import annotations

from dataclasses import dataclass

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
