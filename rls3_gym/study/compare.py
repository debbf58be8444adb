"""From runs to a comparison: those of a study with its arms, and any others, sorted into arms by what differs."""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from rls3_gym.experiment.same import settings_of
from rls3_gym.study.analysis import Comparison, analyze
from rls3_gym.study.archive import load_run
from rls3_gym.study.numbers import AXES, Axis, curve
from rls3_gym.study.run_rows import RunRows
from rls3_gym.study.study_config import StudyConfig
from rls3_registry.errors import UserError, unknown

USUAL_BASELINES = ("random", "stratified")
_WHERE = ("--out", "--resume")
"""Options of `rls3 run` that say where and not what."""


def compare_study(study: StudyConfig, arms: Mapping[str, Sequence[RunRows]], missing: int, command: str) -> Comparison:
    """The comparison that a study asks for, of the runs that there are; `command` makes it again.

    Baselines without a run yet are left out.
    """
    at: dict[Axis, Sequence[int]] = {"n_trained": study.at.n_trained, "n_generated": study.at.n_generated}
    commands = {}
    for arm in arms:
        changes = [word for change in study.changes_of(arm) for word in ("--set", change)]
        commands[arm] = shlex.join(["rls3", "run", study.experiment, *changes, "--seed", str(study.seeds.first)])
    return Comparison(
        name=study.name,
        description=study.description,
        arms=arms,
        analysis=analyze(arms, study.sets, at, [name for name in study.baselines if name in arms]),
        command=command,
        commands=commands,
        noise_floor=study.noise_floor,
        missing=missing,
        headline=tuple(name for name in study.headline if name in arms),
    )


def compare_runs(given: Sequence[str], baselines: Sequence[str] = ()) -> Comparison:
    """Compare runs at the largest budgets that all of them came to, and at half of these.

    Args:
        given: Run directories, or small files of a results folder, each with its arm in front (`ARM=RUN`) or not.
        baselines: Arms that the others are compared with; `random` and `stratified`, where there, when left out.

    Raises:
        UserError: For what is no run, for an unknown baseline, and for runs that can't be compared.
    """
    named, unnamed = _read(given)
    arms = dict(named)
    for arm, runs in _sorted_out(unnamed).items():
        arms.setdefault(arm, []).extend(runs)
    for name in baselines:
        if name not in arms:
            raise unknown("arm", name, arms, where="--baseline")
    everyone = [run for runs in arms.values() for run in runs]
    sets = [name for name in everyone[0].sets if all(name in run.sets for run in everyone)]
    if not sets:
        raise UserError("compare: there is no evaluation set on which all of these runs were measured")
    return Comparison(
        name="comparison",
        description=f"{len(everyone)} runs of {len(arms)} arms",
        arms=arms,
        analysis=analyze(
            arms, sets, _budgets(everyone, sets[0]), baselines or [b for b in USUAL_BASELINES if b in arms]
        ),
        command=shlex.join(["rls3", "compare", *given, *(word for b in baselines for word in ("--baseline", b))]),
        commands={arm: _command(runs[0]) for arm, runs in arms.items()},
    )


def _read(given: Sequence[str]) -> tuple[dict[str, list[RunRows]], list[RunRows]]:
    """Runs with a given arm, and runs without."""
    named: dict[str, list[RunRows]] = {}
    unnamed = []
    for text in given:
        arm, separator, path = text.partition("=")
        if not separator or os.path.exists(text):
            unnamed.append(load_run(Path(text)))
        elif not arm or not path:
            raise UserError(f"{text}: should be a run directory, or ARM=RUN")
        else:
            named.setdefault(arm, []).append(load_run(Path(path)))
    return named, unnamed


def _sorted_out(runs: Sequence[RunRows]) -> dict[str, list[RunRows]]:
    """Runs by arm: by agent, and where runs of one agent differ in other settings than the seed, by these too."""
    by_agent: dict[str, list[tuple[dict[str, object], RunRows]]] = {}
    for run in runs:
        own = {key: value for key, value in settings_of(run.config).items() if key != "seed"}
        by_agent.setdefault(str(own["agent.name"]), []).append((own, run))
    arms: dict[str, list[RunRows]] = {}
    for agent, found in by_agent.items():
        keys = list(dict.fromkeys(key for own, _ in found for key in own))
        differing = [key for key in keys if any(own.get(key) != found[0][0].get(key) for own, _ in found)]
        for own, run in found:
            arm = " ".join([agent, *(f"{key}={own.get(key)}" for key in differing)])
            arms.setdefault(arm, []).append(run)
    return arms


def _budgets(runs: Sequence[RunRows], name: str) -> dict[Axis, Sequence[int]]:
    """The largest counts that every run came to, and half of them."""
    found: dict[Axis, Sequence[int]] = {}
    for axis in AXES:
        end = math.floor(min(curve(run, name, axis)[0][-1] for run in runs))
        found[axis] = sorted({n for n in (end // 2, end) if n > 0})
    if not any(found.values()):
        raise UserError("compare: a run has not generated any sample at its last evaluation")
    return found


def _command(run: RunRows) -> str:
    """The command that began a run, without the places on the machine where it was made."""
    try:
        words = shlex.split(run.command.splitlines()[0]) if run.command else []
    except ValueError:  # a quote that is never closed: no command that can be typed again
        return ""
    kept = []
    skip = False
    for word in words:
        if not skip and word.partition("=")[0] not in _WHERE:
            kept.append(word)
        skip = word in _WHERE
    return shlex.join(kept)
