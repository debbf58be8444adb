"""The curves of a run for other tools: TensorBoard files in its directory, and Weights & Biases."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from rls3_gym.experiment.callbacks import RunCallback
from rls3_gym.experiment.config import ExperimentConfig
from rls3_gym.runs.rows import AgentRow, EpisodeRow, EvaluationRow, FinetuneRow, SuiteRow
from rls3_registry.errors import UserError

FOLDER = "tensorboard"
"""Of the run directory."""


class _Curves(RunCallback):
    """Names the numbers of a run's rows; subclasses say where they go. The step is `n_generated`. Those of a second
    life and later ones are called `life 2/...`."""

    _life = ""

    def write(self, values: Mapping[str, float], step: int) -> None:
        """Take in values by name."""
        raise NotImplementedError

    def close(self) -> None:
        """No more is coming."""

    def episode_ended(self, row: EpisodeRow) -> None:
        names = ("valid_rate", "intrinsic", "extrinsic", "accuracy", "pairwise")
        self._write("episode", {name: getattr(row, name) for name in names}, row.n_generated)

    def agent_said(self, row: AgentRow) -> None:
        self._write("agent", row.values, row.n_generated)

    def round_ended(self, row: FinetuneRow) -> None:
        self._write("finetune", {**row.losses, "n_trained": row.n_trained}, row.n_generated)

    def evaluated(self, row: EvaluationRow) -> None:
        named = {"pairwise": row.pairwise_accuracy, "strict": row.strict_accuracy}
        self._write(f"accuracy/{row.set}", named | row.by_term, row.n_generated)

    def suite_scored(self, row: SuiteRow) -> None:
        self._write(f"suite/{row.suite}", row.value, row.n_generated)

    def life_begun(self, life: int) -> None:
        self._life = f"life {life}/" if life > 1 else ""

    def _write(self, group: str, values: Mapping[str, float | None], step: int) -> None:
        known = {f"{self._life}{group}/{name}": value for name, value in values.items() if value is not None}
        self.write(known, step)


class TensorBoardCurves(_Curves):
    """Event files that `tensorboard --logdir RUN` shows."""

    def __init__(self) -> None:
        """Raises `UserError` when tensorboard is not installed."""
        try:
            import tensorboard  # noqa: F401  torch's writer needs it
            from torch.utils.tensorboard import SummaryWriter
        except ModuleNotFoundError as error:
            raise UserError('--tensorboard needs tensorboard: pip install "rls3_gym[tensorboard]"') from error
        self._make: Any = SummaryWriter
        self._writer: Any = None

    def run_begun(self, directory: Path, resumed: bool) -> None:
        self._folder = directory / FOLDER

    def write(self, values: Mapping[str, float], step: int) -> None:
        if self._writer is None:
            # What a run that is continued had written after its checkpoint comes again: TensorBoard drops it.
            self._writer = self._make(str(self._folder), purge_step=step)
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


class WandbCurves(_Curves):
    """A run of Weights & Biases for each command, in a group of the run directory's name."""

    def __init__(self, config: ExperimentConfig) -> None:
        """Raises `UserError` when wandb is not installed."""
        try:
            self._module = import_module("wandb")  # no dependency of any extra
        except ModuleNotFoundError as error:
            raise UserError("--wandb needs wandb: pip install wandb") from error
        self._config = config
        self._run: Any = None

    def run_begun(self, directory: Path, resumed: bool) -> None:
        settings = self._config.model_dump(mode="json")
        self._run = self._module.init(project="rls3_gym", group=directory.name, dir=str(directory), config=settings)

    def write(self, values: Mapping[str, float], step: int) -> None:
        self._run.log({**values, "n_generated": step})

    def close(self) -> None:
        if self._run is not None:
            self._run.finish()
