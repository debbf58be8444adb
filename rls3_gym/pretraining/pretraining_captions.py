"""What the tiny CLIP is told about its pictures before any fine-tuning: which objects, and where.

Three types of caption, each with a hard negative. Presence: "a photo of a small pot and a yellow bowl."; a part of them
use the grammar of relations with a relation drawn at random, so that relation words carry no information yet.
Location: "The small pot is far west, on a table." in words that no relation caption uses.
Comparison: "The small pot is higher and farther west than the yellow bowl.", likewise. So the model knows what
relations are about, under other names; what it lacks is the language of relation captions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from rls3_gym.pretraining.scenes import SceneTable
from rls3_gym.scene.captions import describe
from rls3_gym.scene.relations import RELATIONS

LATERAL = ("far west", "west", "central", "east", "far east")
LATERAL_EDGES = (-0.65, -0.22, 0.22, 0.65)
"""Boundaries of the lateral words, camera-frame x, meters."""
DEPTH = ("nearest", "near", "distant", "farthest")
DEPTH_EDGES = (1.85, 2.3, 2.75)
"""Boundaries of the depth words, camera-frame z, meters."""
HEIGHT = ("on the floor", "on a seat", "on a table", "on a shelf")
HEIGHT_EDGES = (0.1, 0.54, 0.95)
"""Boundaries of the height words, base above the floor, meters."""
COMPARISONS = (
    ("farther west", "farther east"),
    ("lower", "higher"),
    ("nearer", "more distant"),
)
"""Comparative words by camera axis (x, y, z), for a negative and a positive offset."""
COMPARISON_MIN_OFFSET = (0.15, 0.15, 0.2)
"""Offsets below these are not spoken of, meters."""
PLACES: tuple[tuple[str, ...], ...] = (LATERAL, DEPTH, HEIGHT)
PLACE_AXES = (0, 2, 1)
"""Camera axis that each of `PLACES` is about."""

_TEMPLATES = ("a photo of {}.", "there is {}.", "a picture showing {}.", "{}.")
_RANDOM_RELATION_SHARE = 0.1
_SIMILAR_SHARE = 0.4


def presence_caption(names: Sequence[str], template: str = _TEMPLATES[0]) -> str:
    """E.g. `a photo of a small pot and a yellow bowl.`"""
    return template.format(" and ".join(f"a {name}" for name in names))


def place_bins(table: SceneTable) -> NDArray[np.int64]:
    """(n, 3, 3) indices of the lateral, depth and height word of every object."""
    lateral = np.searchsorted(LATERAL_EDGES, table.positions[..., 0])
    depth = np.searchsorted(DEPTH_EDGES, table.positions[..., 2])
    height = np.searchsorted(HEIGHT_EDGES, table.heights)
    return np.stack([lateral, depth, height], axis=-1)


def vocabulary_texts(names: Sequence[str]) -> Iterator[str]:
    """Texts that together hold every word the model must know."""
    yield from names
    yield from (t.format("a and the") for t in _TEMPLATES)
    yield from (word for words in PLACES for word in words)
    yield from (describe("a", relation, "b") for relation in RELATIONS)
    yield from (f"{word} than" for words in COMPARISONS for word in words)
    yield "a, b."


@dataclass(frozen=True)
class Written:
    """A caption and what it says: by kind index, a value in [-1, 1] for each camera axis (x, y, z) it mentions."""

    caption: str
    meaning: Mapping[int, Mapping[int, float]]
    """Kinds named, each with the axes spoken of; empty where only presence is said."""


class CaptionWriter:
    """Draws a true and a false caption for scenes of a table."""

    def __init__(self, table: SceneTable, names: Sequence[str]) -> None:
        self._kinds = table.kinds
        self._points = table.positions.copy()
        self._points[..., 1] = table.heights
        self._bins = place_bins(table)
        self._names = list(names)

    def presence(self, scene: int, rng: Generator) -> tuple[Written, Written]:
        """Which objects are there; the negative names one that is not."""
        kinds = [int(k) for k in self._kinds[scene] if k >= 0]
        chosen = [int(k) for k in rng.permutation(kinds)[: int(rng.integers(1, len(kinds) + 1))]]
        wrong = list(chosen)
        position = int(rng.integers(len(chosen)))
        wrong[position] = self._absent(kinds, chosen[position], rng)
        if len(chosen) == 2 and rng.random() < _RANDOM_RELATION_SHARE:
            relation = RELATIONS[int(rng.integers(len(RELATIONS)))]

            def write(pair: Sequence[int]) -> str:
                return describe(self._names[pair[0]], relation, self._names[pair[1]])
        else:
            template = _TEMPLATES[int(rng.integers(len(_TEMPLATES)))]

            def write(pair: Sequence[int]) -> str:
                return presence_caption([self._names[k] for k in pair], template)

        true, false = (Written(write(ks), {k: {} for k in ks}) for ks in (chosen, wrong))
        return true, false

    def location(self, scene: int, rng: Generator) -> tuple[Written, Written]:
        """Where one or two objects are; the negative has a wrong place, or another object at that place."""
        slots = np.flatnonzero(self._kinds[scene] >= 0)
        chosen = rng.permutation(slots)[: int(rng.integers(1, min(len(slots), 2) + 1))]
        phrases: list[tuple[int, dict[int, int]]] = []
        for slot in chosen:
            count = int(rng.integers(1, 3 if len(chosen) > 1 else 4))
            axes = sorted(int(a) for a in rng.permutation(3)[:count])
            phrases.append((int(self._kinds[scene, slot]), {a: int(self._bins[scene, slot, a]) for a in axes}))
        wrong = [(kind, dict(places)) for kind, places in phrases]
        at = int(rng.integers(len(wrong)))
        kind, places = wrong[at]
        ticket = rng.random()
        others = [
            s
            for s in slots
            if self._kinds[scene, s] not in [k for k, _ in phrases]
            and any(self._bins[scene, s, a] != v for a, v in places.items())
        ]
        if ticket < 0.4 and others:
            wrong[at] = (int(self._kinds[scene, others[int(rng.integers(len(others)))]]), places)
        elif ticket < 0.85:
            axis = list(places)[int(rng.integers(len(places)))]
            words = len(PLACES[axis])
            places[axis] = int((places[axis] + rng.integers(1, words)) % words)
        else:
            wrong[at] = (self._absent([int(k) for k in self._kinds[scene]], kind, rng), places)
        return self._location(phrases), self._location(wrong)

    def comparison(self, scene: int, rng: Generator) -> tuple[Written, Written]:
        """How two objects lie to each other, in comparative words; a location caption where they hardly differ.

        The negative turns some of the words round, or swaps the objects.
        """
        slots = np.flatnonzero(self._kinds[scene] >= 0)
        if len(slots) < 2:
            return self.location(scene, rng)
        a, b = (int(s) for s in rng.permutation(slots)[:2])
        offset = self._points[scene, a] - self._points[scene, b]
        clear = [axis for axis in (1, 2, 0) if abs(offset[axis]) >= COMPARISON_MIN_OFFSET[axis]]
        if not clear:
            return self.location(scene, rng)
        spoken = {int(axis) for axis in rng.permutation(clear)[: int(rng.integers(1, len(clear) + 1))]}
        signs = {axis: 1 if offset[axis] > 0 else -1 for axis in clear if axis in spoken}
        pair = (int(self._kinds[scene, a]), int(self._kinds[scene, b]))
        true = self._comparison(pair, signs)
        ticket = rng.random()
        if ticket < 0.2:
            return true, self._comparison((pair[1], pair[0]), signs)
        count = 1 if ticket < 0.7 else int(rng.integers(1, len(signs) + 1))
        turned = {int(axis) for axis in rng.permutation(list(signs))[:count]}
        return true, self._comparison(pair, {k: -v if k in turned else v for k, v in signs.items()})

    def _location(self, phrases: Sequence[tuple[int, dict[int, int]]]) -> Written:
        spoken, meaning = [], {}
        for kind, places in phrases:
            words = ", ".join(PLACES[place][value] for place, value in places.items())
            spoken.append(f"the {self._names[kind]} is {words}")
            meaning[kind] = {
                PLACE_AXES[place]: 2 * value / (len(PLACES[place]) - 1) - 1 for place, value in places.items()
            }
        caption = " and ".join(spoken) + "."
        return Written(caption[0].upper() + caption[1:], meaning)

    def _comparison(self, pair: tuple[int, int], signs: Mapping[int, int]) -> Written:
        words = [COMPARISONS[axis][sign > 0] for axis, sign in signs.items()]
        head = f"{', '.join(words[:-1])} and " if len(words) > 1 else ""
        caption = f"The {self._names[pair[0]]} is {head}{words[-1]} than the {self._names[pair[1]]}."
        first = {axis: float(sign) for axis, sign in signs.items()}
        return Written(caption, {pair[0]: first, pair[1]: {axis: -value for axis, value in first.items()}})

    def _absent(self, present: Sequence[int], replaced: int, rng: Generator) -> int:
        """A kind that is not in the scene; often one that shares a word with the replaced kind."""
        absent = [k for k in range(len(self._names)) if k not in present]
        words = set(self._names[replaced].split())
        similar = [k for k in absent if words & set(self._names[k].split())]
        pool = similar if similar and rng.random() < _SIMILAR_SHARE else absent
        return pool[int(rng.integers(len(pool)))]
