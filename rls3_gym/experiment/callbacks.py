"""What a run reports to its callbacks: the recorder, the progress display, and any others that are handed in."""

from __future__ import annotations

from pathlib import Path

from rls3_gym.loop.learning_loop import LaneStep
from rls3_gym.runs.rows import (
    AgentRow,
    EndRow,
    EpisodeRow,
    EvaluationRow,
    FinetuneRow,
    LifeRow,
    SuiteRow,
    WarningRow,
)


class RunCallback:
    """Follows a run. Every method does nothing until a subclass overrides it.

    The monitor calls its callbacks in order, the recorder first: what a callback is told has been written already. Of
    the lives before the last, the recorder is told the end alone.
    """

    def run_begun(self, directory: Path, resumed: bool) -> None:
        """All parts are made, and the run begins in `directory`; `resumed`: from a checkpoint."""

    def life_begun(self, life: int) -> None:
        """What is told from now on is of this life of the VLM, 1 for the first; a continued run may begin in any."""

    def episode_begun(self, lane: int) -> None:
        """A lane was reset. An episode of it that has not ended by now is dropped."""

    def stepped(self, step: LaneStep, round_: int) -> None:
        """A step was taken on a lane; `round_` is the round it belongs to, 0 for the first."""

    def episode_ended(self, row: EpisodeRow) -> None:
        """An episode ended; called before the end of its round is reported."""

    def agent_said(self, row: AgentRow) -> None:
        """The agent has said something about its training since the last row of this class; after `episode_ended`."""

    def round_ended(self, row: FinetuneRow) -> None:
        """The VLM was fine-tuned."""

    def evaluated(self, row: EvaluationRow) -> None:
        """The VLM was measured on one set."""

    def suite_scored(self, row: SuiteRow) -> None:
        """The VLM was scored on one suite, or by the forgetting probe."""

    def life_ended(self, row: LifeRow) -> None:
        """The VLM begins anew, and all counts with it; the agent keeps what it has learned. Before `life_begun`."""

    def warned(self, row: WarningRow) -> None:
        """The run makes no progress."""

    def run_ended(self, row: EndRow, early_stopped: bool) -> None:
        """The run is complete."""

    def note(self, line: str) -> None:
        """Something a person should read now."""
