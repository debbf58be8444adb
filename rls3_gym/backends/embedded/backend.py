"""The default world: ray-traced rooms built from the registry's YAML, no display, no downloads."""

from __future__ import annotations

from collections import OrderedDict
from functools import cache
from typing import Any

import numpy as np

from rls3_gym.backends.base import Frame
from rls3_gym.backends.embedded.furniture_meshes import build_room
from rls3_gym.backends.embedded.objects import load_object
from rls3_gym.backends.embedded.textures import texture, texture_names
from rls3_gym.backends.embedded.tracer import Movable, ObjectGeometry, Tracer, prepare_object
from rls3_gym.scene.arrangement import Arrangement
from rls3_gym.scene.rooms import Layout
from rls3_registry.errors import UserError

_KEPT_RAYS = 120 * (2 * 64) ** 2
"""Rooms are kept up to this many rays of their static pictures: all 100 training rooms at 64 pixels with 2x2 samples
(about 2 MB each); a training run that visits rooms in random order would otherwise build most of them over and over."""


@cache
def _geometry(kind: str) -> ObjectGeometry:
    return prepare_object(load_object(kind))


class EmbeddedBackend:
    """Traces arrangements with Embree. The same arrangement gives the same bytes, in any process of the machine."""

    def __init__(self, image_size: int = 64, supersampling: int = 2) -> None:
        """Square pictures of `image_size` pixels, `supersampling`^2 rays each. Raises `UserError` out of 1 to 8."""
        if isinstance(supersampling, bool) or not isinstance(supersampling, int) or not 1 <= supersampling <= 8:
            raise UserError(f"supersampling must be a whole number from 1 to 8, not {supersampling!r}")
        self.image_size = image_size
        self.supersampling = supersampling
        self._tracers: OrderedDict[str, Tracer] = OrderedDict()
        self._arrangement: Arrangement | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Without Embree's scenes, which can't be copied: a copy builds its rooms anew, the same to the byte."""
        return self.__dict__ | {"_tracers": OrderedDict()}

    def reset(self, arrangement: Arrangement, seed: int) -> None:
        """Build (or look up) the arrangement's room. The embedded world has no randomness: `seed` is not used."""
        self._tracer(arrangement.layout)
        self._arrangement = arrangement

    def apply(self, arrangement: Arrangement) -> None:
        """Move the objects; a new layout is built as by `reset`."""
        self._arrangement = arrangement

    def capture(self) -> Frame:
        """Trace the current arrangement. Raises `RuntimeError` before the first `reset`."""
        arrangement = self._arrangement
        if arrangement is None:
            raise RuntimeError("nothing to capture: call reset with an arrangement first")
        movables = [Movable(_geometry(o.kind), o.position, o.yaw) for o in arrangement.objects]
        traced = self._tracer(arrangement.layout).trace(movables)
        return Frame(
            rgb=traced.rgb,
            ids=np.where(traced.ids < len(movables), traced.ids, np.int16(-1)),
            depth=traced.depth,
            visible=traced.visible,
            pixels=traced.pixels,
            positions=arrangement.camera_positions().astype(np.float32),
        )

    def close(self) -> None:
        """Drop all kept rooms."""
        self._tracers.clear()
        self._arrangement = None

    def _tracer(self, layout: Layout) -> Tracer:
        tracer = self._tracers.get(layout.key)
        if tracer is None:
            textures = {name: texture(name) for name in texture_names()}
            tracer = Tracer(
                build_room(layout), textures, layout.camera, layout.light, self.image_size, self.supersampling
            )
            self._tracers[layout.key] = tracer
            kept = max(2, _KEPT_RAYS // (self.image_size * self.supersampling) ** 2)
            while len(self._tracers) > kept:
                self._tracers.popitem(last=False)
        self._tracers.move_to_end(layout.key)
        return tracer
