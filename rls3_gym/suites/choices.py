"""Asking a VLM to choose the true caption: in the picture, in its mirror image, and in a plain gray one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from rls3_gym.sample import CaptionItem
from rls3_gym.scene.captions import Change, Negative
from rls3_gym.suites.base import ChoiceItem, Measure, fit_of, share
from rls3_gym.suites.left_right import exchanged
from rls3_gym.vlm.base import VLM, by_likelihood

Bools = NDArray[np.bool_]
BATCH = 64
"""Pictures in memory at once."""
GRAY = 128


@dataclass(frozen=True, eq=False)
class Verdicts:
    """Answers about n items, all (n,): whether the true caption is preferred to every false one."""

    right: Bools
    blind: Bools
    """In a plain gray picture."""
    mirrored: Bools
    """In the picture, and in its mirror image with left and right exchanged; False for items that don't mirror."""
    blind_mirrored: Bools
    """Both in a plain gray picture."""

    def __getitem__(self, part: Bools) -> Verdicts:
        """The verdicts on some of the items."""
        return Verdicts(**{f.name: getattr(self, f.name)[part] for f in fields(self)})


def choose(vlm: VLM, items: Sequence[ChoiceItem]) -> Verdicts:
    """Ask about every item, as many pictures at once as fit into memory."""
    parts = [np.zeros((4, 0), np.bool_), *(_choose(vlm, lot) for lot in batches(items))]
    return Verdicts(*np.concatenate(parts, axis=1))


def batches(items: Sequence[ChoiceItem]) -> Iterator[Sequence[ChoiceItem]]:
    """The items in lots whose pictures fit into memory."""
    return (items[start : start + BATCH] for start in range(0, len(items), BATCH))


def gray_picture(size: int) -> NDArray[np.uint8]:
    """(size, size, 3), the same gray everywhere: it tells nothing, so captions alone decide."""
    return np.full((size, size, 3), GRAY, np.uint8)


def flipped(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The left-right mirror image."""
    return np.ascontiguousarray(rgb[:, ::-1])


def caption_item(rgb: NDArray[np.uint8], caption: str, false: Sequence[str]) -> CaptionItem:
    """A picture and its captions as a VLM takes them."""
    return CaptionItem(rgb, caption, tuple(Negative(text, Change.OTHER) for text in false))


def _choose(vlm: VLM, lot: Sequence[ChoiceItem]) -> Bools:
    """(4, n) the fields of `Verdicts` for a few items."""
    gray = gray_picture(vlm.image_size)
    pictures = [item.picture.show(vlm.image_size, fit_of(vlm)) for item in lot]
    turning = np.array([item.mirrors for item in lot])
    turned = [
        (flipped(rgb), exchanged(item.caption), [exchanged(text) for text in item.false])
        for rgb, item in zip(pictures, lot, strict=True)
        if item.mirrors
    ]
    shown = [caption_item(rgb, item.caption, item.false) for rgb, item in zip(pictures, lot, strict=True)]
    shown += [caption_item(gray, item.caption, item.false) for item in lot]
    shown += [caption_item(rgb, caption, false) for rgb, caption, false in turned]
    shown += [caption_item(gray, caption, false) for _, caption, false in turned]
    n, m = len(lot), len(turned)
    right, blind, mirror, blind_mirror = np.split(by_likelihood(vlm, shown).correct, [n, 2 * n, 2 * n + m])
    both, blind_both = np.zeros(n, np.bool_), np.zeros(n, np.bool_)
    both[turning] = right[turning] & mirror
    blind_both[turning] = blind[turning] & blind_mirror
    return np.stack([right, blind, both, blind_both])


def chance_of(items: Sequence[ChoiceItem]) -> float:
    """Expected share of right guesses."""
    return float(np.mean([1 / (1 + len(item.false)) for item in items]))


def accuracy(name: str, items: Sequence[ChoiceItem], verdicts: Verdicts) -> Measure | None:
    """The share of items whose true caption is chosen; None for no items."""
    return share(name, verdicts.right, verdicts.blind, chance_of(items)) if items else None


def mirrored(items: Sequence[ChoiceItem], verdicts: Verdicts) -> Measure | None:
    """Of the items that mirror, the share chosen rightly both in the picture and in its mirror image; None for none."""
    turning = np.array([item.mirrors for item in items], np.bool_)
    if not turning.any():
        return None
    chance = float(np.mean([1 / (1 + len(item.false)) ** 2 for item in items if item.mirrors]))
    return share("mirrored", verdicts.mirrored[turning], verdicts.blind_mirrored[turning], chance)


def together(
    name: str, groups: Iterable[Sequence[int]], items: Sequence[ChoiceItem], verdicts: Verdicts
) -> Measure | None:
    """The share of groups, places in `items`, of which every item is right; None for no groups."""
    places = [list(group) for group in groups]
    if not places:
        return None
    right, blind = (np.array([answers[p].all() for p in places]) for answers in (verdicts.right, verdicts.blind))
    chance = np.mean([np.prod([1 / (1 + len(items[i].false)) for i in group]) for group in places])
    return share(name, right, blind, float(chance))


def by_part(items: Sequence[ChoiceItem], verdicts: Verdicts) -> list[Measure | None]:
    """The accuracy of each part, where there are several."""
    parts = list(dict.fromkeys(item.part for item in items))
    if len(parts) < 2:
        return []
    measures = []
    for part in parts:
        chosen = np.array([item.part == part for item in items])
        measures.append(accuracy(part, [item for item in items if item.part == part], verdicts[chosen]))
    return measures


def present(measures: Sequence[Measure | None]) -> tuple[Measure, ...]:
    """Without those that nothing was measured for."""
    return tuple(measure for measure in measures if measure is not None)
