"""Checkpoints of a run: environment, agent and the lengths of the logs, each complete or not there at all."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from rls3_gym.runs.codec import load_tree, save_tree
from rls3_gym.runs.directory import RunDirectory, remove_tree, replacing_folder, sync, writing
from rls3_gym.runs.rows import read_metrics
from rls3_registry.errors import UserError, first_line
from rls3_registry.reading import read_text

FORMAT = "rls3_gym checkpoint 4"
_EARLIER = ("rls3_gym checkpoint 2", "rls3_gym checkpoint 3")
"""Of earlier versions; the weights of the VLM are read from them, but a run can't be continued from them."""
KEPT = 2
FINAL = "final"
SUMS = "SHA256SUMS"
"""Checksums of all other files of a checkpoint, as `sha256sum --check` reads them."""
MOST_SUMS = 2**20
"""Bytes of it; a line has about a hundred, and a checkpoint a handful of files."""
_DAMAGED = (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, SafetensorError, UserError)


@dataclass(frozen=True)
class Checkpoint:
    """What a run continues from; `agent` is the folder that `SamplerAgent.load` reads."""

    path: Path
    state: dict[str, Any]
    damaged: tuple[tuple[Path, str], ...] = ()
    """Newer ones that can't be used, and why."""

    @property
    def agent(self) -> Path:
        return self.path / "agent"


@contextmanager
def taking_up(checkpoint: Path) -> Iterator[None]:
    """Turn an error inside, where a checkpoint's state is restored, into one line for the user."""
    try:
        yield
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        what = f"{type(error).__name__}: {first_line(error)}"
        raise UserError(f"{checkpoint}: does not hold what a run needs to continue ({what})") from error


def save_checkpoint(folder: Path, step: int, state: dict[str, Any], save_agent: Callable[[Path], None]) -> None:
    """Write `folder/<step>` and drop all but the newest two. Raises `UserError` when it can't be written.

    A checkpoint is never replaced, so that there is none at no time: a second one at a step gets the next number.
    """
    newest = max((int(path.name) for path in _all(folder)), default=-1)
    with replacing_folder(folder / f"{max(step, newest + 1):09d}") as partial:
        (partial / "agent").mkdir()
        save_agent(partial / "agent")
        save_tree({"format": FORMAT, **state}, partial)
        seal(partial)
        for path in (*partial.rglob("*"), partial):
            sync(path)
    for old in _all(folder)[:-KEPT]:
        remove_tree(old)


def save_final_vlm(folder: Path, state: Mapping[str, Any]) -> None:
    """Write the VLM as the run left it to `folder/final`; `state` is what its `load_state` takes."""
    with replacing_folder(folder / FINAL) as partial:
        save_tree({"format": FORMAT, "vlm": state}, partial)
        seal(partial)
        for path in (*partial.rglob("*"), partial):
            sync(path)


def seal(checkpoint: Path) -> None:
    """Write the checksums of a checkpoint's files."""
    lines = [f"{digest}  {name}\n" for name, digest in _sums(checkpoint).items()]
    (checkpoint / SUMS).write_text("".join(lines), encoding="utf-8")


def _sums(checkpoint: Path) -> dict[str, str]:
    found = {}
    for path in sorted(checkpoint.rglob("*")):
        if path.is_file() and path != checkpoint / SUMS:
            with path.open("rb") as file:
                found[path.relative_to(checkpoint).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def _check_sums(checkpoint: Path) -> None:
    """Raise `ValueError` or `OSError` unless the files are those that were written."""
    lines = read_text(checkpoint / SUMS, MOST_SUMS, follow=False).splitlines()
    written = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    found = _sums(checkpoint)
    for name in sorted(written.keys() | found.keys()):
        if written.get(name) != found.get(name):
            fault = "is missing" if name not in found else "has another checksum than when it was written"
            raise ValueError(f"{name} {fault}")


def is_final(folder: Path) -> bool:
    """Whether the run of these checkpoints came to its end."""
    return (folder / FINAL).is_dir()


def has_checkpoint(folder: Path) -> bool:
    """Whether there is one to continue from."""
    return bool(_all(folder))


def reopen(run: RunDirectory) -> None:
    """Take back what only a complete run has, for one that goes on: it isn't complete until its new end."""
    remove_tree(run.checkpoints / FINAL)
    for path in (run.metrics_table, run.report):
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
    newest = _all(folder)[-1:]
    if not newest:
        raise UserError(f"{folder}: holds no checkpoint yet")
    return _vlm_of(folder, _read(newest[0]))


def _state_after(run: RunDirectory, round_: int) -> Mapping[str, Any]:
    kept = [0]
    end = read_metrics(run.metrics).end if is_final(run.checkpoints) else None
    if end is not None:
        if end.round == round_:
            return _final_vlm(run.checkpoints)
        kept.append(end.round)
    life = None
    for path in reversed(_all(run.checkpoints)):
        state = _read(path)
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
        return dict(_read(folder / FINAL)["vlm"])


def _vlm_of(folder: Path, state: Mapping[str, Any]) -> Mapping[str, Any]:
    with taking_up(folder):
        vlm = state["environment"]["scheduler"]["vlm"]
    if vlm is None:
        raise UserError(f"{folder}: the run does not teach its VLM; take the VLM itself")
    return dict(vlm)


def load_checkpoint(folder: Path) -> Checkpoint:
    """The newest checkpoint that is not damaged. Raises `UserError` when there is none, or when it is not of this
    version."""
    damaged: list[tuple[Path, str]] = []
    for path in reversed(_all(folder)):
        try:
            state = _load(path)
        except _DAMAGED as error:
            damaged.append((path, first_line(error)))
            continue
        if state["format"] != FORMAT:
            raise _other_format(path, state["format"])
        return Checkpoint(path, state, tuple(damaged))
    if damaged:
        path, fault = damaged[0]
        raise UserError(f"{path}: is not a readable checkpoint ({fault}), and there is no other; start the run again")
    raise UserError(f"{folder}: holds no checkpoint yet")


def set_aside(checkpoint: Path) -> None:
    """Rename a damaged checkpoint, so that it is neither read nor counted any more."""
    with writing(checkpoint):
        checkpoint.rename(checkpoint.with_name(f"{checkpoint.name}.damaged"))


def _read(path: Path) -> dict[str, Any]:
    """A checkpoint of this version or of the two before. Raises `UserError`."""
    try:
        state = _load(path)
    except _DAMAGED as error:
        raise UserError(f"{path}: is not a readable checkpoint ({first_line(error)})") from error
    if state["format"] not in (FORMAT, *_EARLIER):
        raise _other_format(path, state["format"])
    return state


def _load(path: Path) -> dict[str, Any]:
    """What was saved, of whatever format. Raises one of `_DAMAGED`."""
    state = load_tree(path)
    if not isinstance(state, dict) or "format" not in state:
        raise ValueError("it does not say what it is")
    if state["format"] in (FORMAT, *_EARLIER[1:]):  # the first had no checksums
        _check_sums(path)
    return dict(state)


def _other_format(path: Path, found: object) -> UserError:
    return UserError(f"{path}: is a checkpoint of another format ({found!r}, not {FORMAT!r}); start the run again")


def _all(folder: Path) -> list[Path]:
    """All complete checkpoints, oldest first."""
    return sorted((p for p in folder.glob("*") if p.is_dir() and p.name.isdigit()), key=lambda path: int(path.name))
