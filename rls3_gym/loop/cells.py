"""What is known of each relation cell: how often it was made of late, and how often the VLM was wrong there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rls3_gym.loop.running_mean import RunningMean
from rls3_gym.sample import Sample
from rls3_gym.scene.relations import RELATIONS
from rls3_gym.vlm.base import Feedback

Float = NDArray[np.float64]
CELLS = len(RELATIONS)
Cells = NDArray[np.int64]
"""Relation cells: indices into `RELATIONS`."""

CELL_RATE = 0.05
"""Weight of one sample in the running errors per relation cell."""
COUNT_KEPT = 0.9995
"""Factor on all counts at each sample: they fade over about 2,000 samples."""
COUNT_PRIOR = 5.0
"""Added to every cell's count: the first samples of an experiment do not say what is seldom made."""


def _antonym_matrix() -> Float:
    """(26, 26): row c averages over the cells that cell c turns into when any of its terms are flipped."""
    axes = [frozenset(term.axis for term in relation.terms) for relation in RELATIONS]
    same = np.array([[a == b for b in axes] for a in axes], dtype=np.float64)
    return np.asarray(same / same.sum(axis=1, keepdims=True))


ANTONYMS = _antonym_matrix()
"""`ANTONYMS @ per_cell` averages every cell with its antonym cells (2, 4 or 8 together). The failure of a single sample
chases the VLM's antonym bias: a VLM that always says "left" makes an agent produce "right", then it turns round."""


class CellRecord:
    """Running counts and errors of the 26 relation cells over the samples of an experiment."""

    def __init__(self) -> None:
        self.counts: Float = np.zeros(CELLS)
        """(26,) samples made, the older ones faded."""
        self._error = RunningMean(CELLS, CELL_RATE, 0.5)
        self._average()

    def count(self, sample: Sample) -> None:
        """Take in a sample that was made."""
        self.counts *= COUNT_KEPT
        self.counts[sample.relation.index] += 1

    def judge(self, samples: Sequence[Sample], feedback: Feedback) -> None:
        """Take in the VLM's feedback on samples."""
        self._error.add_all((sample.relation.index for sample in samples), 1.0 - feedback.pairwise)
        self._average()

    def _average(self) -> None:
        self.error: Float = ANTONYMS @ self._error.values
        """(26,) how often the VLM was wrong of late, 0..1, averaged over each cell and its antonyms; 0.5 at first."""

    @property
    def scarcity(self) -> Float:
        """(26,) mean count / count of each cell: above 1 where it was made less often than others; 1 at first."""
        made = self.counts + COUNT_PRIOR
        return np.asarray(made.sum() / CELLS / made)

    def clear(self) -> None:
        """Forget all."""
        self.counts[:] = 0.0
        self._error.clear()
        self._average()

    def state(self) -> dict[str, Any]:
        """What a continued run needs."""
        return {"error": self._error.values.copy(), "counts": self.counts.copy()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""
        self._error.values[:] = state["error"]
        self._average()
        self.counts[:] = state["counts"]
