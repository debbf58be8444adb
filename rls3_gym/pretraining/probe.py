"""What a picture's embedding tells of left/right, front/behind and above/below: a linear probe per axis."""

from __future__ import annotations

import numpy as np
import torch
from numpy.random import Generator

from rls3_gym.pretraining.scenes import SceneTable
from rls3_gym.vlm.open_clip.clip_model import ClipModel

AXES = {"left/right": 0, "above/below": 1, "front/behind": 2}
_MIN_OFFSET = 0.15
_RIDGE = 1e-3


def embed(clip: ClipModel, table: SceneTable) -> np.ndarray:
    """(n, d) normalized image embeddings."""
    clip.model.eval()
    rows = []
    with torch.inference_mode():
        for start in range(0, len(table), 256):
            pixels = clip.pixels(list(table.rgb[start : start + 256]))
            features = clip.model.encode_image(pixels)  # type: ignore[operator]
            rows.append(torch.nn.functional.normalize(features, dim=-1).cpu().numpy())
    return np.concatenate(rows)


def linear_probe(
    clip: ClipModel, train: SceneTable, test: SceneTable, n_kinds: int, rng: Generator
) -> dict[str, float]:
    """Accuracy per axis of a ridge regression from embedding and kind to position, judged on ordered pairs.

    For every kind, a linear map from the embedding gives its coordinates; a pair counts as right when the sign of
    the difference is that of the true offset (offsets under 0.15 m left out). Trained on `train`, judged on `test`.
    """
    x_train, x_test = _with_bias(embed(clip, train)), _with_bias(embed(clip, test))
    maps = _maps(x_train, train, n_kinds)
    right = {axis: [0, 0] for axis in AXES}
    for row in range(len(test)):
        slots = np.flatnonzero(test.kinds[row] >= 0)
        if len(slots) < 2:
            continue
        a, b = (int(s) for s in rng.permutation(slots)[:2])
        guess = x_test[row] @ (maps[test.kinds[row, a]] - maps[test.kinds[row, b]])
        truth = _coordinates(test, row, a) - _coordinates(test, row, b)
        for name, axis in AXES.items():
            if abs(truth[axis]) >= _MIN_OFFSET:
                right[name][0] += int(guess[axis] * truth[axis] > 0)
                right[name][1] += 1
    return {name: hits / max(1, n) for name, (hits, n) in right.items()}


def _coordinates(table: SceneTable, row: int, slot: int) -> np.ndarray:
    x, _, z = table.positions[row, slot]
    return np.array([x, table.heights[row, slot], z])


def _with_bias(x: np.ndarray) -> np.ndarray:
    return np.concatenate([x, np.ones((len(x), 1), x.dtype)], axis=1).astype(np.float64)


def _maps(x: np.ndarray, table: SceneTable, n_kinds: int) -> np.ndarray:
    """(kinds, d + 1, 3) ridge solutions, one per kind over the scenes that hold it."""
    maps = np.zeros((n_kinds, x.shape[1], 3))
    for kind in range(n_kinds):
        rows, slots = np.nonzero(table.kinds == kind)
        if not len(rows):
            continue
        y = np.stack([_coordinates(table, int(r), int(s)) for r, s in zip(rows, slots, strict=True)])
        gram = x[rows].T @ x[rows] / len(rows) + _RIDGE * np.eye(x.shape[1])
        maps[kind] = np.linalg.solve(gram, x[rows].T @ y / len(rows))
    return maps
