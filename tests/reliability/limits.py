"""A limit of processor time: what is tested here must end, on a busy machine as well."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class TookTooLong(BaseException):
    """Not an `Exception`: nothing that is tested may take it for one of its own."""


@contextmanager
def processor_seconds(most: float) -> Iterator[None]:
    """Raise `TookTooLong` inside once this process has computed for so long."""

    def end(number: int, frame: FrameType | None) -> None:
        raise TookTooLong(f"more than {most} seconds of processor time")

    before = signal.signal(signal.SIGPROF, end)
    signal.setitimer(signal.ITIMER_PROF, most)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        signal.signal(signal.SIGPROF, before)
