"""Checkpoints of a run: environment, agent and the lengths of the logs, whole or not there at all."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from rls3_gym.experiment.codec import load_tree, save_tree
from rls3_gym.experiment.directory import remove_tree, writing
from rls3_registry.errors import UserError

FORMAT = "rls3_gym checkpoint 1"
KEPT = 2
_DAMAGED = (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, SafetensorError)


@dataclass(frozen=True)
class Checkpoint:
    """What a run continues from; `agent` is the folder that `SamplerAgent.load` reads."""

    state: dict[str, Any]
    agent: Path


def save_checkpoint(folder: Path, step: int, state: dict[str, Any], save_agent: Callable[[Path], None]) -> Path:
    """Write `folder/<step>` and drop all but the newest two. Raises `UserError` when the disk does not take it."""
    final = folder / f"{step:09d}"
    partial = folder / f".{final.name}.partial"
    with writing(final):
        remove_tree(partial)
        try:
            (partial / "agent").mkdir(parents=True)
            save_agent(partial / "agent")
            save_tree({"format": FORMAT, **state}, partial)
            remove_tree(final)
            os.replace(partial, final)
        except BaseException:
            remove_tree(partial)
            raise
    for old in _all(folder)[:-KEPT]:
        remove_tree(old)
    return final


def load_checkpoint(folder: Path) -> Checkpoint:
    """The newest checkpoint. Raises `UserError` when there is none, or when it is damaged or not one of ours."""
    found = _all(folder)
    if not found:
        raise UserError(f"{folder}: holds no checkpoint yet (one is written after each round); start the run anew")
    newest = found[-1]
    older = f"; delete it to continue from {found[-2].name}" if len(found) > 1 else ""
    try:
        state = load_tree(newest)
        kind = state["format"] if isinstance(state, dict) else None
    except _DAMAGED as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{newest}: is not a readable checkpoint ({reason}){older}") from error
    if kind != FORMAT:
        raise UserError(f"{newest}: is a checkpoint of another kind ({kind!r}, not {FORMAT!r}){older}")
    return Checkpoint(state, newest / "agent")


def _all(folder: Path) -> list[Path]:
    """All complete checkpoints, oldest first."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and path.name.isdigit())
