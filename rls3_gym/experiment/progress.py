"""What a person sees while a run goes on."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class RunProgress:
    """A live line with samples, round, accuracy, valid rate and reward, and one lasting line per evaluation.

    Where the console is no terminal only the lasting lines are written.
    """

    def __init__(self, console: Console, total: int, unit: str) -> None:
        """`total` of `unit` ("samples" or "rounds") is what the run is going to do."""
        self._console = console
        self._unit = unit
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[state]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._task = self._progress.add_task(unit, total=total, state="")
        self._accuracy = float("nan")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

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
