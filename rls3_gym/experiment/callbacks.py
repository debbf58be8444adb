"""What a run tells those who watch it: its recorder, the progress display, and whoever else is handed in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rls3_gym.runs.rows import EndRow, EpisodeRow, EvaluationRow, FinetuneRow


class RunCallback:
    """Hears of a run as it goes on. Every method does nothing until a subclass overrides it.

    The monitor calls its callbacks in their order, the recorder first: what a callback is told is written down already.
    """

    def run_begun(self, directory: Path, resumed: bool) -> None:
        """All parts are made, and the run goes on in `directory`; `resumed`: from a checkpoint."""

    def episode_begun(self) -> None:
        """The environment was reset. An episode that has not ended by now was given up."""

    def stepped(self, info: Mapping[str, Any], round_: int) -> None:
        """A step was taken: the environment's `info`, and the round the step belongs to, 0 for the first."""

    def episode_ended(self, row: EpisodeRow) -> None:
        """An episode ended, before it is said that its round ended too."""

    def round_ended(self, row: FinetuneRow) -> None:
        """The VLM was fine-tuned."""

    def evaluated(self, row: EvaluationRow) -> None:
        """The VLM was measured on one set."""

    def run_ended(self, row: EndRow, early_stopped: bool) -> None:
        """The run is complete."""

    def note(self, line: str) -> None:
        """Something a person should read now."""
