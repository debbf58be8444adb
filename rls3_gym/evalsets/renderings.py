"""From specs to items: a backend shows each scene once, a cache folder keeps the pixels.

The cache lies in `$XDG_CACHE_HOME/rls3_gym` (or `~/.cache/rls3_gym`). It is named by the set's hash, the backend's
fingerprint and a digest of our own code, so that it can never be stale. Where nothing can be written there, sets are
rendered in every process.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import zipfile
from collections.abc import Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import rls3_gym.backends
import rls3_gym.scene
import rls3_registry
from rls3_gym.backends.base import Frame, SceneBackend
from rls3_gym.evalsets.specs import ItemSpec
from rls3_gym.sample import CaptionItem, make_sample
from rls3_gym.scene.captions import Change, Negative

Arrays = dict[str, NDArray[Any]]
_FIELDS = ("rgb", "visible", "pixels", "positions")
_UNKEPT_IDS = np.empty((0, 0), np.int16)
_UNKEPT_DEPTH = np.empty((0, 0), np.float32)


def presence_caption(kind_a: str, kind_b: str) -> str:
    """A caption that says only what is there, as in the tiny model's pre-training."""
    return f"a photo of a {kind_a} and a {kind_b}."


def render(specs: Sequence[ItemSpec], name: str, backend: SceneBackend) -> tuple[CaptionItem, ...]:
    """The items of `specs`, in order; `name` (the set's hash) and the backend's fingerprint identify them in the cache.

    A backend that was in use has to be reset afterwards.
    """
    shown_by = hashlib.sha256(f"{backend.fingerprint} {_code_digest()}".encode()).hexdigest()[:16]
    path = _cache_folder() / f"{name}-{shown_by}.npz"
    arrays = _read(path, len(specs))
    if arrays is None:
        arrays = _show(specs, backend)
        _keep(path, arrays)
    return tuple(_item(spec, _frame(arrays, i)) for i, spec in enumerate(specs))


def _frame(arrays: Arrays, index: int) -> Frame:
    """A frame from the cache, without ids and depth: no sample needs them."""
    values = {field: arrays[field][index] for field in _FIELDS}
    return Frame(ids=_UNKEPT_IDS, depth=_UNKEPT_DEPTH, **values)


def _item(spec: ItemSpec, frame: Frame) -> CaptionItem:
    sample = make_sample(spec.arrangement, frame, spec.slot_a, spec.slot_b)
    if spec.absent is None:
        return sample
    position, kind = spec.absent
    named = [sample.kind_a, sample.kind_b]
    truth = presence_caption(*named)
    named[position] = kind
    return CaptionItem(sample.rgb, truth, (Negative(presence_caption(*named), Change.OBJECT),))


def _show(specs: Sequence[ItemSpec], backend: SceneBackend) -> Arrays:
    """Render every item; layout by layout, because setting up a room costs more than a picture."""
    frames: dict[int, Frame] = {}
    room = None
    for index in sorted(range(len(specs)), key=lambda i: (specs[i].arrangement.layout.key, i)):
        scene = specs[index].arrangement
        if scene.layout.key != room:
            backend.reset(scene, seed=scene.layout.index)
            room = scene.layout.key
        backend.apply(scene)
        frames[index] = backend.capture()
    return {field: np.stack([getattr(frames[i], field) for i in range(len(specs))]) for field in _FIELDS}


def _cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "rls3_gym" / "sets"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # there are platforms without a wheel
        return "not installed"


@cache
def _code_digest() -> str:
    """Hash of all of ours that decides about pixels: while it is being changed, no version tells."""
    folders = [root / name for root in rls3_registry.folders() for name in ("objects", "rooms")]
    folders += [Path(str(package.__file__)).parent for package in (rls3_gym.scene, rls3_gym.backends)]
    installed = [f"{package} {_version(package)}" for package in ("numpy", "embreex")]
    digest = hashlib.sha256(" ".join(installed).encode())
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.suffix in (".py", ".yaml"):
                digest.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def _read(path: Path, count: int) -> Arrays | None:
    """The arrays of a cache file; None when it isn't there or was cut short."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {field: stored[field] for field in _FIELDS}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return arrays if len(arrays["rgb"]) == count else None


def _keep(path: Path, arrays: Arrays) -> None:
    """Write the cache file under its name only when complete; a folder that can't be written is no error."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as part:
            try:
                np.savez(part, allow_pickle=False, **arrays)
                part.close()
                os.replace(part.name, path)
            finally:
                Path(part.name).unlink(missing_ok=True)
    except OSError:
        return
