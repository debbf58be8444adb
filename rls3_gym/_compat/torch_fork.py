"""torch in a forked process.

Torch computes with a pool of OpenMP threads, and GNU's OpenMP does not survive a fork: once the pool has been used, the
first parallel computation of the child waits forever for threads that it does not have. A Gymnasium `AsyncVectorEnv`
forks, and makes an environment, with its VLM, before it does. A child that computes with one thread never asks the
pool, so that is what children do; torch's own `DataLoader` makes the same setting in its workers.

Does nothing where Python cannot fork, and in a child of a process that has not loaded torch.
"""

from __future__ import annotations

import os
import sys
from functools import cache


@cache
def compute_alone_after_a_fork() -> None:
    """From now on, forked processes compute with one torch thread. Calling it again changes nothing."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_one_thread)


def _one_thread() -> None:
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)
