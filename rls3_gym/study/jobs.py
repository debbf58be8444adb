"""The runs of a study: which there are, which are done, and what a missing one is started with."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rls3_registry
from rls3_gym.experiment.config import parse_config
from rls3_gym.experiment.same import check_wanted
from rls3_gym.runs.directory import RunDirectory
from rls3_gym.study.archive import SUFFIX, read_archive, write_archive
from rls3_gym.study.run_rows import RunRows, is_complete, read_run
from rls3_gym.study.study_config import StudyConfig
from rls3_registry.errors import UserError, unknown
from rls3_registry.trust import is_allowed, is_restricted


@dataclass(frozen=True)
class Job:
    """One run of a study."""

    study: StudyConfig
    arm: str
    seed: int
    directory: Path
    """Its run directory."""
    archive: Path
    """Its small file in the results folder."""
    config: dict[str, Any]
    """The resolved configuration that it must have."""

    @property
    def name(self) -> str:
        return f"{self.arm} seed {self.seed}"

    @property
    def log(self) -> Path:
        return self.directory.with_name(f"{self.directory.name}.log")

    @property
    def checkpoint(self) -> bool:
        """Whether there is a checkpoint to go on from."""
        return any(path.name.isdigit() for path in (self.directory / "checkpoints").glob("*"))

    @property
    def begun(self) -> bool:
        """Whether there is a run directory to go on with; without a checkpoint it begins again by that."""
        return self.checkpoint or RunDirectory(self.directory).config.is_file()

    def done(self) -> bool:
        """Whether the run was made: it is in the results folder, or its run directory is complete. Changes nothing.

        Raises `UserError` for a run of another configuration.
        """
        if self.archive.is_file():
            check_wanted(
                read_archive(self.archive).config, self.config, self.archive,
                "name another folder with --results, or remove the file to run it again",
            )  # fmt: skip
            return True
        made = RunDirectory(self.directory).config
        if made.is_file():
            check_wanted(
                rls3_registry.load_file(made), self.config, self.directory,
                "name another folder with --out, or remove the run to make it again",
            )  # fmt: skip
        return is_complete(self.directory)

    def keep(self) -> RunRows | None:
        """Put the run into the results folder if it is complete and not there yet; returns it then."""
        if self.archive.is_file() or not is_complete(self.directory):
            return None
        run = read_run(self.directory)
        write_archive(run, self.archive)
        return run

    def arguments(self, directory: Path | None = None, experiment: Path | None = None) -> list[str]:
        """Arguments of `rls3` that make the run, or continue it.

        Args:
            directory: Where its run directory is instead, on another machine.
            experiment: A file that has its configuration there.
        """
        where = str(directory or self.directory)
        config = parse_config(self.config, str(self.directory))
        # The user's own study names it, or the user has; in a run of somebody else, the second alone counts.
        named = [] if is_restricted() or not self.begun else config.own(of_runs=False)
        trusted = [word for name in config.own() if name in named or is_allowed(name) for word in ("--trust", name)]
        if self.begun:
            return ["run", "--resume", where, *trusted]
        return ["run", *([str(experiment)] if experiment else self.words()), "--out", where, *trusted]

    def words(self) -> list[str]:
        """Arguments of `rls3 run` that make the run anywhere."""
        changes = [word for change in self.study.changes_of(self.arm) for word in ("--set", change)]
        return [self.study.experiment, *changes, "--seed", str(self.seed)]


def plan(study: StudyConfig, out: Path, results: Path, arms: Sequence[str] = (), seeds: int | None = None) -> list[Job]:
    """All runs of a study, or of some arms or another number of seeds; seeds outermost, so that a study that is cut off
    has whole pairs.

    Raises `UserError` for an unknown arm, and for an arm that is no valid experiment.
    """
    for arm in arms:
        if arm not in study.arms:
            raise unknown("arm", arm, study.arms, where=f"study {study.name}")
    study.check_arms()
    return list(_jobs(study, out, results, [arm for arm in study.arms if not arms or arm in arms], seeds))


def _jobs(study: StudyConfig, out: Path, results: Path, arms: Sequence[str], seeds: int | None) -> Iterator[Job]:
    resolved = {arm: study.experiment_of(arm, study.seeds.first).resolved() for arm in arms}
    of_arm = {arm: study.seeds_of(arm, seeds) for arm in arms}
    for seed in range(study.seeds.first, max(numbers.stop for numbers in of_arm.values())):
        for arm in arms:
            if seed in of_arm[arm]:
                name = f"{arm}-seed{seed}"
                config = resolved[arm].model_copy(update={"seed": seed}).model_dump(mode="json")
                yield Job(study, arm, seed, out / name, results / "runs" / f"{name}{SUFFIX}", config)


def finished(study: StudyConfig, results: Path) -> dict[str, list[RunRows]]:
    """The runs in a results folder, by arm of the study; arms without a run are left out.

    Raises `UserError` for a run of another configuration than the study's.
    """
    found: dict[str, list[RunRows]] = {}
    for arm in study.arms:
        wanted = None
        mine = re.compile(rf"{re.escape(arm)}-seed\d+{re.escape(SUFFIX)}")
        for path in sorted(path for path in (results / "runs").glob(f"*{SUFFIX}") if mine.fullmatch(path.name)):
            run = read_archive(path)
            wanted = wanted or study.experiment_of(arm, study.seeds.first).resolved().model_dump(mode="json")
            check_wanted(run.config, wanted | {"seed": run.seed}, path, "remove the file, or name another --results")
            found.setdefault(arm, []).append(run)
    return found


def check_agents(jobs: Sequence[Job]) -> None:
    """Build the agent of every arm once, so that a wrong setting shows before hours of runs. Raises `UserError`."""
    from rls3_agents.base import make_agent

    for job in {job.arm: job for job in jobs}.values():
        agent = job.config["agent"]
        try:
            make_agent(agent["name"], job.seed, agent["settings"])
        except UserError as error:
            raise UserError(f"study {job.study.name}: arm {job.arm}: {error}") from error
