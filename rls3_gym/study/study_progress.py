"""What a person sees while a study goes on."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from time import monotonic
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn


class StudyProgress:
    """A live line for each run under way, one for the whole study with the time left, and a lasting line for each run
    that ended. Where the console is no terminal only the lasting lines are written.
    """

    def __init__(self, console: Console, total: int, done: int) -> None:
        """`total` runs make the study, `done` of them were made before."""
        plain = partial(TextColumn, markup=False)
        columns = (plain("{task.description}"), BarColumn(bar_width=24), plain("{task.fields[state]}"))
        live = console.is_terminal
        self._progress = Progress(*columns, TimeElapsedColumn(), console=console, disable=not live, transient=True)
        self._whole = self._progress.add_task("study", total=total, completed=done, state="")
        self._tasks: dict[str, TaskID] = {}
        self._total, self._done = total, done
        self._shares: dict[str, float] = {}
        self._gained = 0.0
        self._began = monotonic()

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    @property
    def seconds_left(self) -> float | None:
        """Estimate from the work done since the start; None before anything was done."""
        if self._gained <= 0:
            return None
        missing = self._total - self._done - sum(self._shares.values())
        return (monotonic() - self._began) / self._gained * max(missing, 0.0)

    def began(self, name: str, share: float) -> None:
        """A run was started, or is continued with `share` of it done."""
        self._tasks[name] = self._progress.add_task(name, total=1.0, state="starting")
        self._progress.update(self._tasks[name], completed=share)
        self._shares[name] = share

    def running(self, name: str, share: float, n_generated: int, accuracy: float | None) -> None:
        """How far a run is."""
        self._advance(name, share)
        state = f"{n_generated:,} samples" + ("" if accuracy is None else f" · accuracy {accuracy:.1%}")
        self._progress.update(self._tasks[name], completed=share, state=state)

    def finished(self, name: str, seconds: float, n_trained: int, final: Mapping[str, float | None]) -> None:
        """A run is complete and kept."""
        self._advance(name, 1.0)
        self._done += 1
        self._drop(name)
        accuracies = ", ".join(f"{y:.1%} on {set_}" for set_, y in final.items() if y is not None)
        self.note(
            f"{self._done} of {self._total}  {name}: {accuracies} after {n_trained:,} trained on, "
            f"in {duration(seconds)}{self._left()}"
        )

    def stopped(self, name: str, saved: bool) -> None:
        """A run was stopped on the way."""
        self._drop(name)
        self.note(f"{name}: " + ("saved" if saved else "had not come to a checkpoint yet; it will begin again"))

    def lost(self, name: str, said: str, saved: bool) -> None:
        """A run was ended from outside."""
        self._drop(name)
        self.note(f"{name}: {said}; it " + ("goes on from its last checkpoint" if saved else "begins again"))

    def failed(self, name: str, said: str) -> None:
        """A run ended with an error."""
        self._drop(name)
        self._total -= 1
        self.note(f"{name} failed: {said}")

    def refresh(self) -> None:
        """Bring the study's own line up to date."""
        whole = self._done + sum(self._shares.values())
        state = f"{self._done} of {self._total} runs{self._left()}"
        self._progress.update(self._whole, completed=whole, total=self._total, state=state)

    def note(self, line: str) -> None:
        """A lasting line above the live ones."""
        self._progress.console.print(line, highlight=False, soft_wrap=True, markup=False, emoji=False)

    def _left(self) -> str:
        left = self.seconds_left
        return "" if left is None or self._done == self._total else f", about {duration(left)} left"

    def _advance(self, name: str, share: float) -> None:
        before = self._shares[name]
        self._gained += max(share - before, 0.0)
        self._shares[name] = max(share, before)

    def _drop(self, name: str) -> None:
        self._progress.remove_task(self._tasks.pop(name))
        del self._shares[name]


def duration(seconds: float) -> str:
    """`42 s`, `7 min`, `3 h 05 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"
