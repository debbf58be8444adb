"""One writer at a time: a lock on a folder that ends with the process that holds it, however that ends."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from rls3_gym.runs.directory import write_text
from rls3_registry.errors import UserError


@contextmanager
def locked(folder: Path, name: str) -> Iterator[None]:
    """Hold the lock `name` of a folder while inside.

    The operating system holds it (flock), so that the lock of a process that was killed is free at once. Who it is
    stands beside it in `name.json`, for the message of whoever comes second.

    Raises `UserError` when another process holds the lock, or when it can't be written.
    """
    path, holder = folder / name, folder / f"{name}.json"
    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise UserError(f"{folder}: is in use by {_holder(holder)}; wait until it has ended, or stop it") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be locked ({error.strerror or error})") from error
    try:
        mine = {"pid": os.getpid(), "host": platform.node(), "since": f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"}
        write_text(holder, json.dumps(mine))
        yield
    finally:
        with suppress(OSError):
            holder.unlink(missing_ok=True)
        lock.release()


def _holder(path: Path) -> str:
    """Who holds a lock, as far as it is known."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return f"process {found['pid']} on {found['host']} since {found['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
