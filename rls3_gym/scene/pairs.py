"""Object pairs kept out of training: the `test` set asks about pairs that no training caption names.

A fixed hash of the two names decides, so that a new kind changes no other pair's side, and the order of the
two makes no difference.
"""

from __future__ import annotations

import hashlib
from functools import cache

HELD_OUT_PAIRS = 0.2
"""Share of unordered kind pairs kept out of training."""


@cache
def is_held_out_pair(kind_a: str, kind_b: str) -> bool:
    """Whether captions about these two kinds, in either order, are kept for the `test` set."""
    digest = hashlib.sha256("|".join(sorted((kind_a, kind_b))).encode()).digest()
    return int.from_bytes(digest[:4], "big") < HELD_OUT_PAIRS * 2**32
