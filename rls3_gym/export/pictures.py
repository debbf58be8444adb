"""The picture of every sample: the file that the run kept, or the same picture taken again."""

from __future__ import annotations

import hashlib
import io

import numpy as np
from PIL import Image

from rls3_gym.backends.base import SceneBackend
from rls3_gym.runs.directory import RunDirectory, png_of
from rls3_gym.runs.rows import SampleRow
from rls3_gym.runs.taught import backend_of
from rls3_gym.scene.arrangement import Arrangement
from rls3_registry.errors import UserError, first_line


class Pictures:
    """Gives the pictures of a run's samples as PNG files: the bytes that the run wrote, or would have written."""

    def __init__(self, run: RunDirectory, world: str) -> None:
        """`world` is the fingerprint of the backend at the time. Raises `UserError` when it is another one now."""
        self._run = run
        self._backend: SceneBackend = backend_of(run)
        if self._backend.fingerprint != world:
            raise UserError(
                f"{run.path}: its pictures were taken in {world}, and this package shows {self._backend.fingerprint}; "
                "export it with the version of the package that made it (environment.txt)"
            )
        self.rendered = 0
        """Pictures that were taken again."""
        self.differing = 0
        """Those of them in which objects cover other numbers of pixels than the run wrote down: on another machine the
        last digits of a ray may differ."""

    def png(self, row: SampleRow, arrangement: Arrangement) -> bytes:
        """The picture of a sample. Raises `UserError` for a kept one that was changed after the run."""
        return self._kept(row) or self._taken_again(row, arrangement)

    def close(self) -> None:
        self._backend.close()

    def _taken_again(self, row: SampleRow, arrangement: Arrangement) -> bytes:
        self._backend.reset(arrangement, seed=arrangement.layout.index)
        self._backend.apply(arrangement)
        frame = self._backend.capture()
        self.rendered += 1
        self.differing += tuple(int(n) for n in frame.pixels) != row.pixels
        return png_of(frame.rgb)

    def _kept(self, row: SampleRow) -> bytes | None:
        """The file's bytes, if there is one. It is named by its pixels, so that no other file can pass for it."""
        png = None if row.file is None else self._run.read_picture(row.file)
        if row.file is None or png is None:
            return None
        path = self._run.samples / row.file
        try:
            with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
                pixels = np.ascontiguousarray(np.array(image.convert("RGB")))
        except (OSError, ValueError, SyntaxError) as error:
            raise UserError(f"{path}: is not a readable picture ({first_line(error)})") from error
        if hashlib.sha256(pixels.tobytes()).hexdigest()[:20] != path.stem:
            raise UserError(f"{path}: was changed after the run; remove it, and it is taken again")
        return png
