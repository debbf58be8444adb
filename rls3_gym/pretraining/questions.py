"""What the tiny PaliGemma is told about its pictures before any fine-tuning: prompts, each with its answer.

Descriptions name what is there. Asked to find objects it says where they are, and asked to compare two how they lie to
each other, in words that no relation caption uses. Asked the question that relation captions answer, it is told a
relation drawn at random: it knows the form of the answer and nothing of its content.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from rls3_gym.pretraining.pretraining_captions import CaptionWriter, Written
from rls3_gym.pretraining.scenes import SceneTable
from rls3_gym.scene.captions import describe
from rls3_gym.scene.relations import RELATIONS

DESCRIBE = "caption en"
FIND = "answer en find {}"
COMPARE = "answer en compare the {a} with the {b}"
RELATE = "answer en where is the {a} relative to the {b}?"
"""The question of relation captions, as `registry/vlms/paligemma_tiny.yaml` asks it."""


@dataclass(frozen=True)
class Exchange:
    """A prompt and its answer, true of a scene unless it is the random relation."""

    prompt: str
    answer: str


class QuestionWriter:
    """Draws exchanges about the scenes of a table."""

    def __init__(self, table: SceneTable, names: Sequence[str], shares: tuple[float, float, float]) -> None:
        """`shares` of descriptions, places and comparisons; the rest are relations drawn at random."""
        self._writer = CaptionWriter(table, names)
        self._kinds = table.kinds
        self._names = names
        self._edges = np.cumsum(shares)

    def draw(self, scene: int, ticket: float, rng: Generator) -> Exchange:
        """One exchange; `ticket` in [0, 1) chooses its type."""
        kind = int(np.searchsorted(self._edges, ticket, side="right"))
        if kind == 0:
            return self.description(scene, rng)[0]
        if kind == 1:
            return self.place(scene, rng)[0]
        if kind == 2:
            return self.comparison(scene, rng)[0]
        there = [int(k) for k in self._kinds[scene] if k >= 0]
        if len(there) < 2:
            return self.place(scene, rng)[0]
        a, b = (self._names[int(k)] for k in rng.permutation(there)[:2])
        return Exchange(RELATE.format(a=a, b=b), describe(a, RELATIONS[int(rng.integers(len(RELATIONS)))], b))

    def description(self, scene: int, rng: Generator) -> tuple[Exchange, Exchange]:
        """Which objects are there, and the same with one that is not."""
        while True:
            true, false = self._writer.presence(scene, rng)
            if not true.caption.startswith("The "):  # those have the grammar of relations
                return Exchange(DESCRIBE, true.caption), Exchange(DESCRIBE, false.caption)

    def place(self, scene: int, rng: Generator) -> tuple[Exchange, Exchange]:
        """Where one or two objects are; and a false answer to that."""
        return self._asked(*self._writer.location(scene, rng))

    def comparison(self, scene: int, rng: Generator) -> tuple[Exchange, Exchange]:
        """How two objects lie to each other, or where they are if they hardly differ; and a false answer to that."""
        return self._asked(*self._writer.comparison(scene, rng))

    def _asked(self, true: Written, false: Written) -> tuple[Exchange, Exchange]:
        prompt = self._prompt(true)
        return Exchange(prompt, true.caption), Exchange(prompt, false.caption)

    def _prompt(self, written: Written) -> str:
        named = [self._names[kind] for kind in written.meaning]
        if " than " in written.caption:
            return COMPARE.format(a=named[0], b=named[1])
        return FIND.format(" and ".join(f"the {name}" for name in named))


def prompts() -> list[str]:
    """Texts that together hold every word of the prompts."""
    return [DESCRIBE, FIND.format("the a and the b"), COMPARE.format(a="a", b="b"), RELATE.format(a="a", b="b")]
