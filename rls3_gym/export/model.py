"""Exporting the VLM that a run has taught: a model folder of its library, with a card."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

from rls3_gym.export.dataset import CARD, check_empty
from rls3_gym.export.model_card import model_card
from rls3_gym.runs.directory import replacing_folder
from rls3_gym.runs.run_data import read_run
from rls3_gym.runs.taught import TaughtVLM, describe, find_vlm
from rls3_gym.vlm.base import FINETUNE_FILE, FolderVLM
from rls3_registry.errors import UserError


@dataclass(frozen=True)
class ExportedVLM:
    """What was written."""

    folder: Path
    digest: str
    """Of its weights: what `rls3 evaluate --vlm FOLDER` says too."""


def export_vlm(name: str, out: Path) -> ExportedVLM:
    """Write the VLM of a run as a folder that its library loads, open_clip or transformers, and this package too
    (`--vlm FOLDER`).

    Args:
        name: `RUN` or `RUN@round`.
        out: A folder that is new or empty.

    Raises:
        UserError: Not a run, a round without weights, a VLM that can't be written as a folder or is not to be trusted
            (`rls3_registry.trust`), or a folder that is not empty.
    """
    folder = check_empty(out)
    taught = TaughtVLM.named(name)
    if taught is None:
        raise UserError(f"{name}: is not a run directory of rls3; name RUN, or RUN@round")
    run = read_run(taught.run.path)
    vlm = find_vlm(name)
    if not isinstance(vlm, FolderVLM):
        raise UserError(f"{name}: its VLM, a {type(vlm).__name__}, can't be written as a model folder")
    with replacing_folder(folder) as partial:
        digest = vlm.save_folder(partial)
        how = yaml.safe_dump(describe(name).finetune, sort_keys=False)
        (partial / FINETUNE_FILE).write_text(how, encoding="utf-8")
        (partial / CARD).write_text(model_card(run, vlm.digest(), digest, partial), encoding="utf-8")
    return ExportedVLM(out, digest)
