"""Checkpoints of a run: environment, agent and the lengths of the logs, each complete or not there at all."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from rls3_gym.runs.codec import load_tree, save_tree
from rls3_gym.runs.directory import remove_tree, writing
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

    def write(partial: Path) -> None:
        (partial / "agent").mkdir()
        save_agent(partial / "agent")
        save_tree({"format": FORMAT, **state}, partial)

    _write_whole(folder / f"{step:09d}", write)
    for old in _all(folder)[:-KEPT]:
        remove_tree(old)


def save_final_vlm(folder: Path, state: Mapping[str, Any]) -> None:
    """Write the VLM as the run left it to `folder/final`; `state` is the VLM's own."""
    _write_whole(folder / FINAL, lambda partial: save_tree({"format": FORMAT, "vlm": state}, partial))


def is_final(folder: Path) -> bool:
    """Whether the run of these checkpoints came to its end."""
    return (folder / FINAL).is_dir()


def load_vlm_state(folder: Path) -> Mapping[str, Any]:
    """The state of a run's VLM: as the run left it, or, of an unfinished run, at the newest checkpoint."""
    if is_final(folder):
        state: Mapping[str, Any] = _read(folder / FINAL, "")["vlm"]
        return state
    scheduler: Mapping[str, Any] = load_checkpoint(folder).state["environment"]["scheduler"]
    if scheduler["vlm"] is None:
        raise UserError(f"{folder}: the run does not teach its VLM; evaluate the VLM itself")
    return dict(scheduler["vlm"])


def _write_whole(final: Path, write: Callable[[Path], None]) -> None:
    partial = final.with_name(f".{final.name}.partial")
    with writing(final):
        remove_tree(partial)
        try:
            partial.mkdir()
            write(partial)
            remove_tree(final)
            os.replace(partial, final)
        except BaseException:
            remove_tree(partial)
            raise


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
