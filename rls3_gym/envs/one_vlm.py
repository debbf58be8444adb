"""One learning VLM: why a vector wrapper must not make copies of a learning environment, and how that is noticed.

`SyncVectorEnv`, `AsyncVectorEnv`, SB3's `DummyVecEnv` and `SubprocVecEnv`, and Tianshou's vector environments make
several environments. Each learning one would teach a VLM of its own, and none of them would be the one that all samples
taught. Several frozen ones are fine.
"""

from __future__ import annotations

import os
import socket
import sys
import weakref
from types import FrameType
from typing import Any

from rls3_registry.errors import UserError

WRAPPERS = ("gymnasium.vector", "stable_baselines3.common.vec_env", "tianshou.env")
"""Modules of the vector wrappers."""
PROCESSES = ("_worker", "_async_worker")
"""Main functions of the processes that they start."""
MESSAGE = (
    "a vector wrapper is making a second environment that teaches a VLM: each would teach a copy of its own; "
    'use gymnasium.make_vec("RLS3Scene-v0", num_envs=...), which has one VLM for all lanes '
    "(rls3_gym.envs.vector_env.RLS3SceneVectorEnv), or finetune=False"
)
_made: weakref.WeakKeyDictionary[Any, weakref.ref[Any]] = weakref.WeakKeyDictionary()
"""Learning environments that are alive, each with the wrapper that made it."""
_held: list[socket.socket] = []
"""A name that only one of the processes with the same parent can hold; it is free again when the process ends."""


def refuse_copies(env: Any) -> None:
    """Note a new learning environment. Raises `UserError` when a vector wrapper makes a second one."""
    frame = _wrapper_frame(sys._getframe(1))
    if frame is None:
        return
    values = frame.f_locals
    if frame.f_code.co_name in PROCESSES:
        if not _first_of_the_siblings():
            raise UserError(MESSAGE)
        return
    wrapper = values["self"]
    # AsyncVectorEnv makes one here, to look at its spaces, before its processes make all of them.
    several = frame.f_globals["__name__"].endswith("async_vector_env") and len(values.get("env_fns", ())) > 1
    if several or any(made() is wrapper for made in _made.values()):
        raise UserError(MESSAGE)
    _made[env] = weakref.ref(wrapper)


def _wrapper_frame(frame: FrameType | None) -> FrameType | None:
    """Of the calls under way, the main function of a wrapper's process, or else the outermost `__init__` of a wrapper.
    A forked process still has the calls of its parent, further out."""
    found = None
    while frame is not None:
        if str(frame.f_globals.get("__name__", "")).startswith(WRAPPERS):
            name = frame.f_code.co_name
            if name in PROCESSES:
                return frame
            if name == "__init__" and "self" in frame.f_locals:
                found = frame
        frame = frame.f_back
    return found


def _first_of_the_siblings() -> bool:
    """Whether this process is the first, of those with the same parent, to have a learning environment."""
    if sys.platform != "linux":  # elsewhere such names are files, which would be left behind
        return True
    name = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        name.bind(f"\0rls3_gym-learning-{os.getuid()}-{os.getppid()}")
    except OSError:
        name.close()
        return False
    _held.append(name)
    return True
