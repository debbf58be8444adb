"""What the values of a run's rows can be: counts, shares, names, and mappings with the keys that they have to have.

The rows of somebody else's run are drawn and added up: what can't be a count or a share is refused where it is read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

import numpy as np
from pydantic import AfterValidator, BeforeValidator, Field

from rls3_gym.scene.relations import RELATIONS, Term

TERM_NAMES = tuple(term.name.lower() for term in Term)
COMPLEXITIES = ("1", "2", "3")
MOST_NAMES = 64
"""Sets, suites, or names that a mapping of the rows has, such as reasons, in all rows of a file: each is drawn."""
_LARGEST = 1e30
"""A number beyond it is written as one that is not finite is."""


def _are(*names: str) -> AfterValidator:
    """A mapping has these keys."""

    def has_them(content: dict[str, Any]) -> dict[str, Any]:
        if content.keys() != set(names):
            raise ValueError(f"should have the keys {', '.join(names)}")
        return content

    return AfterValidator(has_them)


def _printable(name: str) -> str:
    if not name.isprintable():
        raise ValueError("should have printable characters alone")
    return name


Name = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_printable)]
Text = Annotated[str, Field(max_length=10_000)]
Count = Annotated[int, Field(ge=0, le=2**53)]
Share = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(ge=0, le=1e12)]
Numbers = Annotated[dict[Name, float | None], Field(max_length=MOST_NAMES)]
Counts = Annotated[dict[Name, Count], Field(max_length=MOST_NAMES)]
ByTerm = Annotated[dict[str, Share | None], _are(*TERM_NAMES)]
CountsByTerm = Annotated[dict[str, Count], _are(*TERM_NAMES)]
ByComplexity = Annotated[dict[str, Share | None], _are(*COMPLEXITIES)]
CountsByComplexity = Annotated[dict[str, Count], _are(*COMPLEXITIES)]
ByCell = Annotated[tuple[Share | None, ...], Field(strict=False, min_length=len(RELATIONS), max_length=len(RELATIONS))]
Cells = Annotated[tuple[Count, ...], Field(strict=False, min_length=len(RELATIONS), max_length=len(RELATIONS))]
Offset = Annotated[tuple[float, ...], Field(strict=False, min_length=3, max_length=3)]
BySlotShares = Annotated[tuple[Share, ...], Field(strict=False, max_length=MOST_NAMES)]
BySlotCounts = Annotated[tuple[Count, ...], Field(strict=False, max_length=MOST_NAMES)]


class PlacedObject(NamedTuple):
    """One object of a sample's scene, as `Arrangement.encode` gives it: world frame, meters, and yaw in radians."""

    kind: str
    x: float
    y: float
    z: float
    yaw: float


def _placed(objects: Any) -> Any:
    """Lists of five, as JSON has them, as `PlacedObject`; anything else is left for the check to refuse."""
    if not isinstance(objects, list | tuple) or not all(isinstance(o, list | tuple) and len(o) == 5 for o in objects):
        return objects
    return tuple(PlacedObject(*values) for values in objects)


Objects = Annotated[tuple[PlacedObject, ...], BeforeValidator(_placed), Field(strict=False, max_length=MOST_NAMES)]


def plain(value: Any) -> Any:
    """JSON's own types: numpy's become Python's, and a number that is not finite, or as good as that, becomes None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, float) and not (math.isfinite(value) and abs(value) < _LARGEST):
        return None
    return value
