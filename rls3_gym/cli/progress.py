"""What a person sees while a command runs: a live line on a terminal, lasting lines everywhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from rls3_gym.experiment.callbacks import RunCallback
from rls3_gym.experiment.config import ExperimentConfig
from rls3_gym.runs.rows import EndRow, EpisodeRow, EvaluationRow, FinetuneRow, LifeRow, SuiteRow, WarningRow


class _Live:
    """A rich display that is drawn while it is entered, and only where the console is a terminal."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()


class RunProgress(_Live, RunCallback):
    """A live line with round, accuracy, valid rate and the time left, and one lasting line per evaluation.

    Where the console is no terminal only the lasting lines are written. The live line fits into 80 columns. The time
    left is extrapolated from the whole command so far, evaluations and fine-tunings included; rich's own estimate
    looks at the last seconds only, in which no round may have ended.
    """

    def __init__(self, console: Console, config: ExperimentConfig, clock: Callable[[], float] = monotonic) -> None:
        """`clock` gives seconds."""
        columns = (
            TextColumn("{task.fields[state]}", markup=False),
            BarColumn(bar_width=14),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}", markup=False),
        )
        hidden = not console.is_terminal
        super().__init__(Progress(*columns, console=console, disable=hidden, transient=True, get_time=clock))
        self._task = self._progress.add_task("run", total=1.0, state="preparing", left="")
        self._config = config
        self._clock = clock
        self._accuracy: float | None = None
        self._begun: tuple[float, float] | None = None
        """Time and share of the budget when the clock of the estimate began."""
        self._share = 0.0
        self._life = 1

    def run_begun(self, directory: Path, resumed: bool) -> None:
        config = self._config
        self.note(f"{config.name}: {config.agent.name} chooses samples for {config.vlm.name}, in {directory}")
        if not resumed:
            self._begun = (self._clock(), 0.0)

    def episode_ended(self, row: EpisodeRow) -> None:
        self._share = self._share_of_budget(row)
        if self._begun is None:  # a continued run: how far it was when it began is known from its first episode
            self._begun = (self._clock(), self._share)
        accuracy = "" if self._accuracy is None else f"{self._accuracy:.1%}"
        state = f"round {row.round + 1:>2}  accuracy {accuracy}  valid {row.valid_rate:4.0%}"
        self._progress.update(self._task, completed=self._share, state=state, left=self.time_left())

    def round_ended(self, row: FinetuneRow) -> None:
        if row.rolled_back is not None:
            self.note(f"round {row.round} was undone: {row.rolled_back}")

    def evaluated(self, row: EvaluationRow) -> None:
        """One lasting line; the accuracy on the experiment's first set also goes into the live one."""
        if row.set == self._config.evaluation.sets[0]:
            self._accuracy = row.pairwise_accuracy
        accuracy = "unknown" if row.pairwise_accuracy is None else f"{row.pairwise_accuracy:.1%}"
        self.note(
            f"round {row.round:>2}  {row.n_generated:>7,} samples  {row.n_trained:>7,} trained  "
            f"pairwise {accuracy} on {row.set}  {self.time_left()}".rstrip()
        )

    def suite_scored(self, row: SuiteRow) -> None:
        """One lasting line with the suite's main number."""
        name, value = next(iter(row.value.items()))
        told = "unknown" if value is None else f"{value:.1%}"
        self.note(f"round {row.round:>2}  {name} {told} on {row.suite}")

    def life_begun(self, life: int) -> None:
        self._life = life

    def life_ended(self, row: LifeRow) -> None:
        name = self._config.evaluation.sets[0]
        accuracy = row.pairwise_accuracy[name]
        told = "unknown" if accuracy is None else f"{accuracy:.1%}"
        self.note(
            f"life {row.life} of {self._config.lives}: {row.n_trained:,} trained, pairwise {told} on {name}; "
            f"the VLM begins anew  {self.time_left()}".rstrip()
        )

    def warned(self, row: WarningRow) -> None:
        self.note(f"warning: {row.text}")

    def run_ended(self, row: EndRow, early_stopped: bool) -> None:
        if early_stopped:
            self.note("early stopping: the validation score no longer rises")

    def note(self, line: str) -> None:
        """A lasting line above the live one. A terminal that has gone away does not stop the run."""
        with suppress(OSError):
            self._progress.console.print(line, highlight=False, soft_wrap=True, markup=False, emoji=False)

    def time_left(self) -> str:
        """What the rest of the budget takes at the rate so far; "" when that is not known yet, or nothing is left."""
        if self._begun is None:
            return ""
        since, share = self._begun
        done = self._share - share
        if done <= 0 or self._share >= 1:
            return ""
        seconds = round((self._clock() - since) * (1 - self._share) / done)
        hours, minutes = seconds // 3600, seconds // 60 % 60
        return f"{hours}:{minutes:02}:{seconds % 60:02} left" if hours else f"{minutes}:{seconds % 60:02} left"

    def _share_of_budget(self, row: EpisodeRow) -> float:
        """How much of the run is done, 0..1: by the limit that will be reached first."""
        budget, shares = self._config.budget, [0.0]
        if budget.n_generated is not None:
            shares.append(row.n_generated / budget.n_generated)
        if budget.rounds is not None:
            shares.append(self._config.environment.rounds_of(row.episode, row.n_generated) / budget.rounds)
        return (self._life - 1 + min(1.0, max(shares))) / self._config.lives


class PhaseProgress(_Live):
    """A bar for each phase of a long command; where the console is no terminal, a line for each phase."""

    def __init__(self, console: Console) -> None:
        columns = (
            TextColumn("{task.description:<18}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.completed:,.0f} of {task.total:,.0f}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[state]}", markup=False),
        )
        super().__init__(Progress(*columns, console=console, disable=not console.is_terminal))
        self._tasks: dict[str, TaskID] = {}

    def show(self, phase: str, done: int, total: int, numbers: Mapping[str, float] | None = None) -> None:
        """How far a phase is, with the numbers it reports."""
        if phase not in self._tasks:
            self._tasks[phase] = self._progress.add_task(phase, total=total, state="")
            if self._progress.disable:
                self._progress.console.print(f"{phase}: {total:,}", highlight=False, markup=False)
        state = "  ".join(f"{name} {value:.3f}" for name, value in (numbers or {}).items())
        self._progress.update(self._tasks[phase], completed=done, total=total, state=state)
