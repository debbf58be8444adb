"""Pictures that hold a version of the embedded world: every family and every kind, with clutter and without.

`python tests/world_pictures.py` writes the sheets of the present version; do so when `WORLD_VERSION` is raised.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rls3_gym.backends.base import load_backend
from rls3_gym.backends.embedded.backend import WORLD_VERSION
from rls3_gym.scene.catalog import load_catalog
from rls3_gym.scene.layouts import draw_layout, family_names
from rls3_gym.scene.proposals import spread_arrangement

DATA = Path(__file__).parent / "data"
SHEETS = {
    "embedded": DATA / f"world_{WORLD_VERSION}.png",
    "embedded_cluttered": DATA / f"world_{WORLD_VERSION}_cluttered.png",
}
SIZE = 64


def draw(name: str) -> NDArray[np.uint8]:
    """(64, 64 n, 3): scenes that show all kinds, three at a time, in all families by turns, as a backend shows them."""
    kinds, families = [kind.name for kind in load_catalog().kinds], family_names()
    backend = load_backend(name, SIZE)
    pictures = []
    for number, start in enumerate(range(0, len(kinds), 3)):
        layout = draw_layout(families[number % len(families)], number)
        shown = [kinds[(start + i) % len(kinds)] for i in range(3)]
        scene = spread_arrangement(np.random.default_rng(number), layout, shown)
        backend.reset(scene, seed=0)
        pictures.append(backend.capture().rgb)
    return np.concatenate(pictures, axis=1)


if __name__ == "__main__":
    DATA.mkdir(exist_ok=True)
    for name, sheet in SHEETS.items():
        Image.fromarray(draw(name)).save(sheet, optimize=True)
