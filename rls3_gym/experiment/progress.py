"""What a person sees while a run goes on."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class _Live:
    """A rich display that is drawn while it is entered, and only where the console is a terminal."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()


class RunProgress(_Live):
    """A live line with samples, round, accuracy, valid rate and reward, and one lasting line per evaluation.

    Where the console is no terminal only the lasting lines are written.
    """

    def __init__(self, console: Console, total: int, unit: str) -> None:
        """`total` of `unit` ("samples" or "rounds") is what the run is going to do."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[state]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        super().__init__(Progress(*columns, console=console, disable=not console.is_terminal, transient=True))
        self._task = self._progress.add_task(unit, total=total, state="")
        self._accuracy = float("nan")

    def episode(self, done: float, n_generated: int, round_: int, valid_rate: float, reward: float) -> None:
        """Show the state after an episode; `done` is in the run's unit."""
        state = (
            f"{n_generated:,} samples · round {round_} · accuracy {self._accuracy:.1%} · "
            f"valid {valid_rate:.0%} · reward {reward:+.3f}"
        )
        self._progress.update(self._task, completed=done, state=state)

    def evaluated(self, round_: int, n_generated: int, n_trained: int, set_: str, pairwise: float, shown: bool) -> None:
        """One lasting line per evaluation; that of the set that is `shown` also goes into the live line."""
        if shown:
            self._accuracy = pairwise
        self.note(
            f"round {round_:>2}  {n_generated:>7,} samples generated  {n_trained:>6,} trained on  "
            f"pairwise accuracy {pairwise:.1%} on {set_}"
        )

    def note(self, line: str) -> None:
        """A lasting line above the live one."""
        self._progress.console.print(line, highlight=False, soft_wrap=True)


class PhaseProgress(_Live):
    """A bar for each phase of a long command; where the console is no terminal, a line for each phase."""

    def __init__(self, console: Console) -> None:
        columns = (
            TextColumn("{task.description:<18}"),
            BarColumn(bar_width=24),
            TextColumn("{task.completed:,.0f} of {task.total:,.0f}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[state]}"),
        )
        super().__init__(Progress(*columns, console=console, disable=not console.is_terminal))
        self._tasks: dict[str, TaskID] = {}

    def show(self, phase: str, done: int, total: int, numbers: Mapping[str, float] | None = None) -> None:
        """How far a phase is, with the numbers it has to tell."""
        if phase not in self._tasks:
            self._tasks[phase] = self._progress.add_task(phase, total=total, state="")
            if self._progress.disable:
                self._progress.console.print(f"{phase}: {total:,}", highlight=False)
        state = "  ".join(f"{name} {value:.3f}" for name, value in (numbers or {}).items())
        self._progress.update(self._tasks[phase], completed=done, total=total, state=state)
