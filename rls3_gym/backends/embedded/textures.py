"""Procedural textures by name: tileable, pale (they are multiplied with a part's color), always the same.

One repeat stands for one meter on furniture and walls. Contrasts are soft and details coarse: a small
picture takes few samples per texture, and fine patterns would flicker.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from rls3_registry.errors import unknown

SIZE = 256
Gray = NDArray[np.float64]
"""(256, 256) brightness, 0..1; (256, 256, 3) where a texture has colors of its own."""


def _grid() -> tuple[Gray, Gray]:
    """u (to the right) and v (down), 0..1."""
    axis = (np.arange(SIZE) + 0.5) / SIZE
    u, v = np.meshgrid(axis, axis)
    return u, v


def _noise(seed: int, across: int, down: int) -> Gray:
    """Smooth tileable noise 0..1 with about that many bumps across and down."""
    rng = np.random.default_rng(seed)
    spectrum = np.fft.rfft2(rng.standard_normal((SIZE, SIZE)))
    fy = np.fft.fftfreq(SIZE)[:, None] * SIZE / down
    fx = np.fft.rfftfreq(SIZE)[None, :] * SIZE / across
    field = np.fft.irfft2(spectrum * np.exp(-(fx**2 + fy**2)), s=(SIZE, SIZE))
    low, high = field.min(), field.max()
    return np.asarray((field - low) / (high - low))


def _cells(rows: int, columns: int, shift: float, joint: float) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """A bond of blocks: the block's number at each pixel, and where the joints are (`joint` in repeats)."""
    u, v = _grid()
    row = np.floor(v * rows).astype(np.int64)
    along = (u * columns + row * shift) % columns
    column = np.floor(along).astype(np.int64)
    edge_u = np.minimum(along - column, 1 - (along - column)) / columns
    edge_v = np.minimum(v * rows - row, 1 - (v * rows - row)) / rows
    return row * columns + column, np.minimum(edge_u, edge_v) < joint / 2


def _planks(seed: int, rows: int, spread: float, grain: float) -> Gray:
    block, joint = _cells(rows, 2, 0.7 if rows % 2 else 0.5, 0.006)
    tones = 1 - spread * np.random.default_rng(seed).random(block.max() + 1)
    image = tones[block] * (1 - grain * _noise(seed + 1, 3, 40))
    return np.asarray(np.where(joint, image * 0.72, image))


def _wood() -> Gray:
    return np.asarray(1.06 * (1 - 0.22 * _noise(11, 2, 24) - 0.14 * _noise(12, 4, 60)))


def _lightwood() -> Gray:
    return 1.02 * (1 - 0.14 * _noise(13, 2, 16) - 0.06 * _noise(14, 3, 50))


def _tile() -> Gray:
    block, joint = _cells(4, 4, 0.0, 0.016)
    tones = 1 - 0.07 * np.random.default_rng(15).random(block.max() + 1)
    return np.where(joint, 0.74, tones[block])


def _small_tile() -> Gray:
    block, joint = _cells(8, 5, 0.5, 0.012)
    tones = 1 - 0.06 * np.random.default_rng(16).random(block.max() + 1)
    return np.where(joint, 0.78, tones[block])


def _plaster() -> Gray:
    return 1 - 0.05 * _noise(17, 8, 8) - 0.03 * _noise(18, 30, 30)


def _marble() -> Gray:
    veins = np.abs(_noise(19, 4, 4) + 0.25 * _noise(20, 14, 14) - 0.62)
    return np.asarray(0.98 - 0.3 * np.exp(-veins * 22) - 0.05 * _noise(21, 6, 6))


def _fabric() -> Gray:
    u, v = _grid()
    weave = np.sin(2 * np.pi * 20 * u) * np.sin(2 * np.pi * 20 * v)
    return 0.98 + 0.02 * weave - 0.1 * _noise(22, 14, 14)


def _stripes() -> Gray:
    u, _ = _grid()
    return np.where(np.floor(u * 12) % 2 == 0, 1.0, 0.82)


def _checker() -> Gray:
    u, v = _grid()
    return np.where((np.floor(u * 4) + np.floor(v * 4)) % 2 == 0, 1.0, 0.62)


def _gingham() -> Gray:
    u, v = _grid()
    lines = (np.floor(u * 16) % 2) + (np.floor(v * 16) % 2)
    return np.asarray(1.0 - 0.17 * lines)


def _knit() -> Gray:
    u, v = _grid()
    stitch = np.sin(2 * np.pi * (16 * v + 0.25 * np.abs(np.sin(2 * np.pi * 8 * u))))
    return 0.9 + 0.08 * stitch


def _carpet() -> Gray:
    return 1.0 - 0.16 * _noise(23, 40, 40) - 0.06 * _noise(24, 6, 6)


def _rug() -> Gray:
    u, v = _grid()
    rings = np.maximum(np.abs(u - 0.5), np.abs(v - 0.5)) * 2
    band = ((rings > 0.78) & (rings < 0.88)) | ((rings > 0.4) & (rings < 0.46))
    diamond = (np.abs(u - 0.5) + np.abs(v - 0.5)) < 0.14
    return np.where(band | diamond, 0.66, 0.96) - 0.05 * _noise(25, 24, 24)


def _brick() -> Gray:
    block, joint = _cells(12, 4, 0.5, 0.012)
    tones = 1 - 0.24 * np.random.default_rng(26).random(block.max() + 1)
    image = np.repeat((tones[block] * (1 - 0.08 * _noise(27, 30, 30)))[..., None], 3, axis=2)
    return np.where(joint[..., None], np.array([1.0, 1.0, 1.0]), image)


def _floorboards() -> Gray:
    return _planks(28, 8, 0.2, 0.16)


def _parquet() -> Gray:
    """Basket weave: squares of four staves, turned by a quarter from square to square."""
    u, v = _grid()
    turned = (np.floor(u * 4) + np.floor(v * 4)) % 2 == 0
    along = np.where(turned, u, v) * 16
    stave = np.floor(along).astype(np.int64)
    square = (np.floor(u * 4) * 4 + np.floor(v * 4)).astype(np.int64)
    tones = 1 - 0.2 * np.random.default_rng(29).random(256)
    image = tones[square * 16 + stave % 16] * np.where(turned, 1.0, 0.9)
    return np.asarray(np.where(np.abs(along - np.round(along)) < 0.06, image * 0.8, image))


def _wallpaper() -> Gray:
    u, v = _grid()
    stripes = np.where(np.floor(u * 8) % 2 == 0, 1.0, 0.91)
    du, dv = (u * 8) % 2 - 1.5, (v * 8) % 2 - 1.0
    return np.where(np.abs(du) * 1.6 + np.abs(dv) < 0.42, 0.8, stripes)


_MAKERS: dict[str, Callable[[], Gray]] = {
    "brick": _brick,
    "carpet": _carpet,
    "checker": _checker,
    "fabric": _fabric,
    "floorboards": _floorboards,
    "gingham": _gingham,
    "knit": _knit,
    "lightwood": _lightwood,
    "marble": _marble,
    "parquet": _parquet,
    "plaster": _plaster,
    "rug": _rug,
    "small_tile": _small_tile,
    "stripes": _stripes,
    "tile": _tile,
    "wallpaper": _wallpaper,
    "wood": _wood,
}


def texture_names() -> tuple[str, ...]:
    """Names of all textures, sorted."""
    return tuple(sorted(_MAKERS))


@cache
def texture(name: str) -> NDArray[np.uint8]:
    """The texture (256, 256, 3) uint8 sRGB; read-only. Raises `UserError` for an unknown name."""
    if name not in _MAKERS:
        raise unknown("texture", name, _MAKERS)
    image = _MAKERS[name]()
    if image.ndim == 2:
        image = np.repeat(image[..., None], 3, axis=2)
    pixels: NDArray[np.uint8] = np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)
    pixels.setflags(write=False)
    return pixels
