"""Ctrl-C, SIGTERM, a closed terminal: the first asks the run to save and stop, the second ends it at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


@contextmanager
def graceful_stop(ask: Callable[[], None]) -> Iterator[None]:
    """Within, the first SIGINT, SIGTERM or SIGHUP calls `ask`; the next raises `KeyboardInterrupt`.

    SIGHUP stays ignored where it was, as under `nohup`. Signals reach the main thread only; in another thread nothing
    is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        ask()

    heeded = [n for n in _SIGNALS if n is signal.SIGINT or signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handle) for number in heeded}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
