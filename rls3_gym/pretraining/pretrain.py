"""`rls3 pretrain`: packaged weights from nothing, in one call that can be stopped and taken up again."""

from __future__ import annotations

import json
import shutil
import time
import zipfile
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from rls3_gym.pretraining.card import measure, write_card
from rls3_gym.pretraining.package import write_model_folder
from rls3_gym.pretraining.pretraining_captions import vocabulary_texts
from rls3_gym.pretraining.scenes import SceneTable, draw_scenes
from rls3_gym.pretraining.train import CONTEXT_LENGTH, Pretraining, PretrainSettings
from rls3_gym.scene.catalog import load_catalog
from rls3_gym.vlm.open_clip.tokenizer import CompactTokenizer
from rls3_gym.vlm.open_clip.weights import open_clip_module
from rls3_registry.errors import UserError, first_line

Report = Callable[[str, int, int, dict[str, float]], None]
"""Called with the phase (`scenes`, `train`, `measure`), how far it is, out of how much, and its numbers."""

WORK_FOLDER = "work"
CHECKPOINT = "checkpoint.pt"
_SAVE_EVERY = 250
_REPORT_EVERY = 10


class PretrainingSettings(Protocol):
    """What the settings of every model have."""

    @property
    def scenes_per_layout(self) -> int: ...
    @property
    def threads(self) -> int: ...
    @property
    def seed(self) -> int: ...
    def as_dict(self) -> dict[str, Any]: ...


class PretrainingRun(Protocol):
    """A training, or one stage of it, that can be stopped after any step."""

    step: int
    losses: dict[str, float]

    @property
    def steps(self) -> int: ...

    def advance(self) -> None: ...
    def save(self, path: Path) -> None: ...
    def load(self, path: Path) -> None: ...


Carry = Callable[[PretrainingRun, str, str], None]
"""Takes a run through all its steps; see `carry_out`."""


def pretrain(out: Path, settings: PretrainSettings | None = None, report: Report | None = None) -> Path:
    """Draw scenes, train the tiny CLIP, measure it and write a model folder to `out` (config, weights, vocabulary,
    model card).

    Stopped (Ctrl-C included) and called again with the same settings, it continues where it was; scenes and
    checkpoint lie in `out/work` until it is done. The same settings give the same weights on the same machine.
    Raises `UserError` for a folder that can't be written or that holds another run's work.
    """
    settings = settings or PretrainSettings()
    open_clip_module()  # the tokenizer lives in open_clip: make it importable first
    catalog = load_catalog()
    tokenizer = CompactTokenizer.for_texts(vocabulary_texts([k.name for k in catalog.kinds]), CONTEXT_LENGTH)

    def train(table: SceneTable, carry: Carry) -> None:
        run = Pretraining(table, [k.name for k in catalog.training], tokenizer, settings)
        carry(run, "train", CHECKPOINT)
        run.clip.model.eval()
        write_model_folder(run.clip, tokenizer, out)

    def finish(table: SceneTable) -> None:
        write_card(out, measure(out, table, settings))

    return carry_out(out, settings, train, finish, report)


def carry_out(
    out: Path,
    settings: PretrainingSettings,
    train: Callable[[SceneTable, Carry], None],
    finish: Callable[[SceneTable], None],
    report: Report | None,
) -> Path:
    """What every model's pre-training goes through: scenes, steps and checkpoints, weights and model card.

    Args:
        out: Folder of the model; see `pretrain`.
        settings: The same when it is taken up again.
        train: Trains, and writes the model to `out`. It is handed a function that takes a run through all its steps,
            under a name for reports, with checkpoints in a file of a name: what is there already is not done again.
        finish: Measures the model that was written.
        report: Told how far it is.
    """
    say = report or (lambda phase, done, total, numbers: None)
    work = out / WORK_FOLDER
    try:
        work.mkdir(parents=True, exist_ok=True)
        started = time.perf_counter()
        table = _scenes(work / "scenes.npz", settings, say)
        torch.set_num_threads(settings.threads)
        losses: dict[str, float] = {}

        def carry(run: PretrainingRun, phase: str, file: str) -> None:
            _carry(run, phase, work / file, say)
            losses.update(run.losses)

        train(table, carry)
        (out / "pretraining.json").write_text(
            json.dumps({"settings": settings.as_dict(), "losses": losses}, indent=2) + "\n", encoding="utf-8"
        )
        say("measure", 0, 1, {})
        finish(table)
        say("measure", 1, 1, {"seconds": time.perf_counter() - started})
        shutil.rmtree(work)
    except OSError as error:
        raise UserError(f"{error.filename or out}: cannot be written ({error.strerror or error})") from error
    return out


def _carry(run: PretrainingRun, phase: str, checkpoint: Path, say: Report) -> None:
    if checkpoint.exists():
        run.load(checkpoint)
    try:
        while run.step < run.steps:
            run.advance()
            if run.step % _REPORT_EVERY == 0:
                say(phase, run.step, run.steps, run.losses)
            if run.step % _SAVE_EVERY == 0:
                run.save(checkpoint)
    except KeyboardInterrupt:
        run.save(checkpoint)
        raise
    run.save(checkpoint)


def _scenes(path: Path, settings: PretrainingSettings, say: Report) -> SceneTable:
    drawn = {"scenes_per_layout": settings.scenes_per_layout, "seed": settings.seed}
    if path.exists():
        try:
            with np.load(path, allow_pickle=False) as stored:
                before = {name: int(stored[name]) for name in drawn}
                table = SceneTable(**{field.name: stored[field.name] for field in fields(SceneTable)})
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise UserError(f"{path}: cannot be read ({first_line(error)}); remove it to start over") from error
        if before != drawn:
            raise UserError(f"{path}: belongs to a run with other settings, {before}; remove it to start over")
        return table
    table = draw_scenes(
        "train",
        settings.scenes_per_layout,
        seed=settings.seed + 1,
        progress=lambda done, total: say("scenes", done, total, {}),
    )
    part = path.with_name("scenes.part.npz")
    arrays: dict[str, Any] = {field.name: getattr(table, field.name) for field in fields(SceneTable)}
    np.savez(part, allow_pickle=False, **arrays, **drawn)
    part.replace(path)
    return table
