"""All suites by name, and scoring a VLM on one of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rls3_gym.suites.aro import AroRelation
from rls3_gym.suites.base import Measure, Suite, SuiteItem, thinned
from rls3_gym.suites.blink import BlinkSpatial
from rls3_gym.suites.folder import Folder
from rls3_gym.suites.sugarcrepe import SugarCrepe
from rls3_gym.suites.vsr import VSR
from rls3_gym.suites.whatsup import WHATSUP
from rls3_gym.vlm.base import VLM
from rls3_registry.errors import unknown

_ALONE: Sequence[Suite[Any]] = (SugarCrepe(), AroRelation(), BlinkSpatial(), Folder())
SUITES: Mapping[str, Suite[Any]] = {**WHATSUP, **VSR, **{suite.name: suite for suite in _ALONE}}
"""What `--suite` can name."""


@dataclass(frozen=True)
class SuiteResult:
    """What one VLM state reaches on the items of one suite."""

    suite: str
    items_hash: str
    """Identity of the items, 16 hex digits over picture names and captions; not of the pictures' content."""
    n: int
    """Items asked about."""
    measures: tuple[Measure, ...]
    """The first one is the suite's main number."""
    details: Mapping[str, float]

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "suite": self.suite,
            "items_hash": self.items_hash,
            "n": self.n,
            "measures": [measure.as_dict() for measure in self.measures],
            "details": dict(self.details),
        }


class OpenSuite:
    """A suite whose files have been read: every VLM is asked about the same items."""

    def __init__(self, name: str, data: Path, limit: int | None = None) -> None:
        """Read a suite.

        Args:
            name: One of `SUITES`.
            data: The folder with the authors' files.
            limit: About the largest number of items of each part, taken evenly; all when None.

        Raises:
            UserError: The name is unknown (the nearest are listed), or the files are not as expected.
        """
        if name not in SUITES:
            raise unknown("suite", name, SUITES)
        self.name = name
        self._suite = SUITES[name]
        self._items = thinned(self._suite.load(data), limit)
        self._hash = items_hash(self._items)

    def score(self, vlm: VLM) -> SuiteResult:
        """Ask a VLM. Raises `UserError` for a picture that can't be shown."""
        score = self._suite.score(self._items, vlm)
        return SuiteResult(self.name, self._hash, len(self._items), score.measures, score.details)


def items_hash(items: Sequence[SuiteItem]) -> str:
    """16 hex digits over the items, in order."""
    content = json.dumps([item.identity for item in items]).encode()
    return hashlib.sha256(content).hexdigest()[:16]
