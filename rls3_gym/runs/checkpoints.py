"""Checkpoints of a run: environment, agent and the lengths of the logs, each complete or not there at all."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from rls3_gym.runs.codec import load_tree, save_tree
from rls3_gym.runs.directory import RunDirectory, remove_tree, replacing_folder, writing
from rls3_gym.runs.rows import read_metrics
from rls3_registry.errors import UserError, first_line

FORMAT = "rls3_gym checkpoint 2"
KEPT = 2
FINAL = "final"
_DAMAGED = (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, SafetensorError)


@dataclass(frozen=True)
class Checkpoint:
    """What a run continues from; `agent` is the folder that `SamplerAgent.load` reads."""

    state: dict[str, Any]
    agent: Path


@contextmanager
def taking_up(checkpoint: Path) -> Iterator[None]:
    """Turn an error inside, where a checkpoint's state is restored, into one line for the user."""
    try:
        yield
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        what = f"{type(error).__name__}: {first_line(error)}"
        raise UserError(f"{checkpoint}: does not hold what a run needs to continue ({what})") from error


def save_checkpoint(folder: Path, step: int, state: dict[str, Any], save_agent: Callable[[Path], None]) -> None:
    """Write `folder/<step>` and drop all but the newest two. Raises `UserError` when it can't be written."""

    with replacing_folder(folder / f"{step:09d}") as partial:
        (partial / "agent").mkdir()
        save_agent(partial / "agent")
        save_tree({"format": FORMAT, **state}, partial)
    for old in _all(folder)[:-KEPT]:
        remove_tree(old)


def save_final_vlm(folder: Path, state: Mapping[str, Any]) -> None:
    """Write the VLM as the run left it to `folder/final`; `state` is what its `load_state` takes."""
    with replacing_folder(folder / FINAL) as partial:
        save_tree({"format": FORMAT, "vlm": state}, partial)


def is_final(folder: Path) -> bool:
    """Whether the run of these checkpoints came to its end."""
    return (folder / FINAL).is_dir()


def has_checkpoint(folder: Path) -> bool:
    """Whether there is one to continue from."""
    return bool(_all(folder))


def reopen(run: RunDirectory) -> None:
    """Take back what only a complete run has, for one that goes on: it isn't complete until its new end."""
    remove_tree(run.checkpoints / FINAL)
    for path in (run.metrics_table, run.sample_table, run.report):
        with writing(path):
            path.unlink(missing_ok=True)


def load_vlm_state(run: RunDirectory, round_: int | None = None) -> Mapping[str, Any]:
    """The state of a run's VLM: as the run left it, or, of an unfinished run, at the newest checkpoint.

    Args:
        run: Its directory.
        round_: The state after that round instead, which has to be that of a checkpoint.

    Raises:
        UserError: There is none, it is damaged, or the run has not kept that round's.
    """
    folder = run.checkpoints
    if round_ is not None:
        return _state_after(run, round_)
    if is_final(folder):
        return _final_vlm(folder)
    return _vlm_of(folder, load_checkpoint(folder).state)


def _state_after(run: RunDirectory, round_: int) -> Mapping[str, Any]:
    kept = [0]
    end = read_metrics(run.metrics).end if is_final(run.checkpoints) else None
    if end is not None:
        if end.round == round_:
            return _final_vlm(run.checkpoints)
        kept.append(end.round)
    life = None
    for path in reversed(_all(run.checkpoints)):
        state = _read(path, "")
        with taking_up(path):
            monitor = state["monitor"]
            at, life = int(monitor["budget"]["counts"]["round"]), monitor["life"] if life is None else life
            if monitor["life"] != life:
                continue
            if at == round_:
                return _vlm_of(run.checkpoints, state)
        kept.append(at)
    rounds = ", ".join(str(number) for number in sorted(set(kept)))
    raise UserError(f"{run.path}@{round_}: the run has no weights of round {round_}; it has those of: {rounds}")


def _final_vlm(folder: Path) -> Mapping[str, Any]:
    with taking_up(folder / FINAL):
        return dict(_read(folder / FINAL, "")["vlm"])


def _vlm_of(folder: Path, state: Mapping[str, Any]) -> Mapping[str, Any]:
    with taking_up(folder):
        vlm = state["environment"]["scheduler"]["vlm"]
    if vlm is None:
        raise UserError(f"{folder}: the run does not teach its VLM; take the VLM itself")
    return dict(vlm)


def load_checkpoint(folder: Path) -> Checkpoint:
    """The newest checkpoint. Raises `UserError` when there is none, or when it is damaged or not one of ours."""
    found = _all(folder)
    if not found:
        raise UserError(
            f"{folder}: holds no checkpoint yet (one is written after each round); remove the run and start it again"
        )
    newest = found[-1]
    older = f"; delete it to continue from {found[-2].name}" if len(found) > 1 else ""
    return Checkpoint(_read(newest, older), newest / "agent")


def _read(path: Path, remedy: str) -> dict[str, Any]:
    try:
        state = load_tree(path)
        form = state["format"] if isinstance(state, dict) else None
    except _DAMAGED as error:
        raise UserError(f"{path}: is not a readable checkpoint ({first_line(error)}){remedy}") from error
    if form != FORMAT:
        raise UserError(f"{path}: is a checkpoint of another format ({form!r}, not {FORMAT!r}){remedy}")
    return dict(state)


def _all(folder: Path) -> list[Path]:
    """All complete checkpoints, oldest first."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and path.name.isdigit())
