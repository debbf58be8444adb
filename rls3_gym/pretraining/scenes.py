"""The pictures the tiny CLIP is pre-trained on: random scenes of the training layouts, without relations."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from rls3_gym.backends.embedded.backend import EmbeddedBackend
from rls3_gym.scene.arrangement import SLOTS
from rls3_gym.scene.camera import CameraFrame
from rls3_gym.scene.catalog import load_catalog
from rls3_gym.scene.layouts import draw_layout, layouts
from rls3_gym.scene.proposals import random_arrangement, spread_arrangement
from rls3_gym.scene.rooms import Split
from rls3_gym.stage import FeasibilityRules

IMAGE_SIZE = 64
GRID = 8
_N_OBJECTS = (0.1, 0.2, 0.7)
_SPREAD_SHARE = 0.7


@dataclass(frozen=True, eq=False)
class SceneTable:
    """n scenes. Kinds are indices into the training catalog, -1 for an empty slot."""

    rgb: NDArray[np.uint8]
    """(n, 64, 64, 3)."""
    kinds: NDArray[np.int64]
    """(n, 3)."""
    positions: NDArray[np.float32]
    """(n, 3, 3) base centers, camera frame, meters."""
    heights: NDArray[np.float32]
    """(n, 3) of the base above the floor, meters."""
    cells: NDArray[np.int64]
    """(n, 3) cell of the 8x8 grid that holds the projected middle of the object."""

    def __len__(self) -> int:
        return len(self.rgb)


def draw_scenes(
    split: Split, per_layout: int, seed: int, processes: int = 2, progress: Callable[[int, int], None] | None = None
) -> SceneTable:
    """`per_layout` scenes in each layout of a split; the same whatever the number of processes."""
    jobs = [(room.family, room.index, per_layout, seed) for room in layouts(split)]
    tables = []
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for table in pool.imap(_draw_layout_scenes, jobs):
            tables.append(table)
            if progress:
                progress(len(tables), len(jobs))
    names = [field.name for field in fields(SceneTable)]
    return SceneTable(**{name: np.concatenate([getattr(t, name) for t in tables]) for name in names})


def _draw_layout_scenes(job: tuple[str, int, int, int]) -> SceneTable:
    family, index, count, seed = job
    layout = draw_layout(family, index)
    catalog = load_catalog()
    kinds = [k.name for k in catalog.training]
    number = {name: i for i, name in enumerate(kinds)}
    rng = np.random.default_rng([seed, index, *family.encode()])
    rules, frame, backend = FeasibilityRules(), CameraFrame(layout.camera), EmbeddedBackend(image_size=IMAGE_SIZE)
    rgb = np.zeros((count, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    table_kinds = np.full((count, SLOTS), -1, np.int64)
    positions = np.zeros((count, SLOTS, 3), np.float32)
    heights = np.zeros((count, SLOTS), np.float32)
    cells = np.full((count, SLOTS), -1, np.int64)
    done = 0
    while done < count:
        n = 1 + int(rng.choice(SLOTS, p=_N_OBJECTS))
        draw = spread_arrangement if rng.random() < _SPREAD_SHARE else random_arrangement
        arrangement = draw(rng, layout, kinds, n)
        backend.apply(arrangement)
        picture = backend.capture()
        if any(rules.visibility(picture, slot) is not None for slot in range(n)):
            continue
        rgb[done] = picture.rgb
        positions[done, :n] = picture.positions
        for slot, thing in enumerate(arrangement.objects):
            table_kinds[done, slot] = number[thing.kind]
            heights[done, slot] = thing.position[2]
            middle = np.array(thing.position) + [0, 0, catalog[thing.kind].height / 2]
            x, y, _ = frame.project(middle)
            column, row = (int(np.clip((v + 1) / 2 * GRID, 0, GRID - 1)) for v in (x, y))
            cells[done, slot] = row * GRID + column
        done += 1
    return SceneTable(rgb, table_kinds, positions, heights, cells)
