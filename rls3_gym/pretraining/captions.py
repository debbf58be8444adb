"""What the tiny CLIP is told about its pictures before any fine-tuning: which objects, and roughly where.

Two kinds of caption, each with a hard negative. Presence: "a photo of a small pot and a yellow bowl."; a part of them
use the grammar of relations with a relation drawn at random, so that relation words carry no information yet.
Location: "a small pot far west, near, on a table." in words that no relation caption uses.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from rls3_gym.pretraining.scenes import SceneTable
from rls3_gym.scene.captions import describe
from rls3_gym.scene.relations import RELATIONS

LATERAL = ("far west", "west", "central", "east", "far east")
LATERAL_EDGES = (-0.65, -0.22, 0.22, 0.65)
"""Boundaries of the lateral words, camera-frame x, metres."""
DEPTH = ("nearest", "near", "distant", "farthest")
DEPTH_EDGES = (1.85, 2.3, 2.75)
"""Boundaries of the depth words, camera-frame z, metres."""
HEIGHT = ("on the floor", "on a seat", "on a table", "on a shelf")
HEIGHT_EDGES = (0.1, 0.54, 0.95)
"""Boundaries of the height words, base above the floor, metres."""
PLACES: tuple[tuple[str, ...], ...] = (LATERAL, DEPTH, HEIGHT)

_TEMPLATES = ("a photo of {}.", "there is {}.", "a picture showing {}.", "{}.")
_RANDOM_RELATION_SHARE = 0.3
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
    yield "a, b."


class CaptionWriter:
    """Draws a true and a false caption for scenes of a table."""

    def __init__(self, table: SceneTable, names: Sequence[str]) -> None:
        self._kinds = table.kinds
        self._bins = place_bins(table)
        self._names = list(names)

    def presence(self, scene: int, rng: Generator) -> tuple[str, str]:
        """Which objects are there; the negative names one that is not."""
        kinds = [int(k) for k in self._kinds[scene] if k >= 0]
        chosen = [int(k) for k in rng.permutation(kinds)[: int(rng.integers(1, len(kinds) + 1))]]
        wrong = list(chosen)
        position = int(rng.integers(len(chosen)))
        wrong[position] = self._absent(kinds, chosen[position], rng)
        true_names, wrong_names = ([self._names[k] for k in ks] for ks in (chosen, wrong))
        if len(chosen) == 2 and rng.random() < _RANDOM_RELATION_SHARE:
            relation = RELATIONS[int(rng.integers(len(RELATIONS)))]
            return describe(true_names[0], relation, true_names[1]), describe(wrong_names[0], relation, wrong_names[1])
        template = _TEMPLATES[int(rng.integers(len(_TEMPLATES)))]
        return presence_caption(true_names, template), presence_caption(wrong_names, template)

    def location(self, scene: int, rng: Generator) -> tuple[str, str]:
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
            if self._kinds[scene, s] != kind and any(self._bins[scene, s, a] != v for a, v in places.items())
        ]
        if ticket < 0.4 and others:
            wrong[at] = (int(self._kinds[scene, others[int(rng.integers(len(others)))]]), places)
        elif ticket < 0.85:
            axis = list(places)[int(rng.integers(len(places)))]
            words = len(PLACES[axis])
            places[axis] = int((places[axis] + rng.integers(1, words)) % words)
        else:
            wrong[at] = (self._absent([int(k) for k in self._kinds[scene]], kind, rng), places)
        return self._location_caption(phrases), self._location_caption(wrong)

    def _location_caption(self, phrases: Sequence[tuple[int, dict[int, int]]]) -> str:
        spoken = []
        for kind, places in phrases:
            words = ", ".join(PLACES[axis][value] for axis, value in places.items())
            spoken.append(f"a {self._names[kind]} {words}")
        return " and ".join(spoken) + "."

    def _absent(self, present: Sequence[int], replaced: int, rng: Generator) -> int:
        """A kind that is not in the scene; often one that shares a word with the replaced kind."""
        absent = [k for k in range(len(self._names)) if k not in present]
        words = set(self._names[replaced].split())
        similar = [k for k in absent if words & set(self._names[k].split())]
        pool = similar if similar and rng.random() < _SIMILAR_SHARE else absent
        return pool[int(rng.integers(len(pool)))]
