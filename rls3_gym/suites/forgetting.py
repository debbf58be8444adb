"""The forgetting probe: does a VLM that was taught relations still know which objects it sees?

Every picture of the packaged `presence` set names two of its objects. For each of the two, the VLM has to prefer
"a photo of a {kind}" to the same words with every training kind that is not in the scene. The number is the share of
objects for which it does; guessing gives about one in 34.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rls3_gym.backends.base import SceneBackend
from rls3_gym.evalsets.loader import kinds_shown, load_set
from rls3_gym.evaluation.metrics import wilson_interval
from rls3_gym.sample import CaptionItem
from rls3_gym.scene.catalog import load_catalog
from rls3_gym.suites.base import Measure
from rls3_gym.suites.catalog import SuiteResult
from rls3_gym.suites.choices import caption_item, gray_picture
from rls3_gym.vlm.base import VLM, by_likelihood

NAME = "forgetting"
_SET = "presence"


def forgetting(vlm: VLM, backend: SceneBackend | None = None, limit: int | None = None) -> SuiteResult:
    """Zero-shot classification of object kinds.

    Args:
        vlm: Is asked, and not changed.
        backend: Shows the scenes; the default one at 64 pixels when None. One that is in use has to be reset.
        limit: About the largest number of pictures, taken evenly; all when None.

    Returns:
        One measure, `kinds`: a share of objects, two a picture.
    """
    whole = load_set(_SET, backend)
    stride = 1 if limit is None else -(-len(whole) // limit)
    classes = [kind.name for kind in load_catalog().training]
    items: list[CaptionItem] = []
    for item, shown in list(zip(whole.items, kinds_shown(_SET), strict=True))[::stride]:
        absent = [photo_of(kind) for kind in classes if kind not in shown]
        items += [caption_item(item.rgb, photo_of(kind), absent) for kind in named(item.caption, sorted(shown))]
    gray = gray_picture(vlm.image_size)
    right = by_likelihood(vlm, items).correct
    blind = by_likelihood(vlm, [CaptionItem(gray, item.caption, item.negatives) for item in items]).correct
    value, n = float(right.mean()), len(items)
    chance = float(np.mean([1 / (1 + len(item.negatives)) for item in items]))
    measure = Measure("kinds", value, n, float(blind.mean()), chance, wilson_interval(value, n))
    identity = whole.hash if stride == 1 else f"{whole.hash}/{stride}"
    return SuiteResult(NAME, identity, n, (measure,), {})


def photo_of(kind: str) -> str:
    """The words that name a class."""
    return f"a photo of a {kind}"


def named(caption: str, kinds: Sequence[str]) -> list[str]:
    """Those of the kinds that a presence caption names."""
    return [kind for kind in kinds if f" a {kind} and" in caption or caption.endswith(f" a {kind}.")]
