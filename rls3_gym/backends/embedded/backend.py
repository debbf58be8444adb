"""The default world: ray-traced rooms built from the registry's YAML, no display, no downloads."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from functools import cache
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
from pydantic import Field

from rls3_gym.backends.base import Frame
from rls3_gym.backends.embedded.clutter import MOST_CLUTTER, shown_clutter
from rls3_gym.backends.embedded.furniture_meshes import build_room
from rls3_gym.backends.embedded.objects import load_object
from rls3_gym.backends.embedded.textures import texture, texture_names
from rls3_gym.backends.embedded.tracer import LayerCache, Movable, ObjectGeometry, Tracer, prepare_object
from rls3_gym.scene.arrangement import Arrangement
from rls3_gym.scene.rooms import Layout
from rls3_registry.validation import Settings, check

_KEPT_RAYS = 120 * (2 * 64) ** 2
"""Rooms are kept up to this many rays of their static pictures: all 100 training rooms at 64 pixels with 2x2 samples
(about 2 MB each); a training run that visits rooms in random order would otherwise build most of them over and over."""
_SHARED: WeakValueDictionary[tuple[Layout, int, int], Tracer] = WeakValueDictionary()
"""The rooms that the backends of this process have built, by layout, size and samples: its lanes share them."""

WORLD_VERSION = 1
"""Raised whenever rooms, objects or the tracer show something else than before: results of different versions are not
compared. A test holds pictures of this version against the code."""


class EmbeddedSettings(Settings):
    """Settings of the embedded backend."""

    supersampling: int = Field(2, ge=1, le=8, strict=True)
    """Its square is the number of rays per pixel."""
    clutter: int = Field(0, ge=0, le=MOST_CLUTTER, strict=True)
    """Things that stand about in every room, which no action moves and no caption names."""


@cache
def _geometry(kind: str) -> ObjectGeometry:
    return prepare_object(load_object(kind))


def _shared_tracer(layout: Layout, size: int, samples: int) -> Tracer:
    tracer = _SHARED.get((layout, size, samples))
    if tracer is None:
        textures = {name: texture(name) for name in texture_names()}
        tracer = Tracer(build_room(layout), textures, layout.camera, layout.light, size, samples)
        _SHARED[layout, size, samples] = tracer
    return tracer


class EmbeddedBackend:
    """Traces arrangements with Embree. The same arrangement gives the same bytes, in any process of the machine."""

    def __init__(self, settings: Mapping[str, Any] | None = None, *, image_size: int = 64) -> None:
        """Square pictures of `image_size` pixels; see `EmbeddedSettings`. Raises `UserError` for a wrong setting."""
        self.settings = check(EmbeddedSettings, settings or {}, section="settings")
        self.image_size = image_size
        self._tracers: OrderedDict[tuple[str, int], Tracer] = OrderedDict()
        self._layers = LayerCache()
        self._arrangement: Arrangement | None = None

    @property
    def fingerprint(self) -> str:
        """World and settings: backends with the same one show the same pixels."""
        clutter = f"-clutter{self.settings.clutter}" if self.settings.clutter else ""
        return f"embedded-{WORLD_VERSION}-{self.image_size}px-{self.settings.supersampling}x{clutter}"

    def __getstate__(self) -> dict[str, Any]:
        """Leave out Embree's scenes, which can't be copied: a copy builds its rooms again, the same to the byte."""
        return self.__dict__ | {"_tracers": OrderedDict(), "_layers": LayerCache()}

    def reset(self, arrangement: Arrangement, seed: int) -> None:
        """Build (or look up) the arrangement's room. The embedded world has no randomness: `seed` is not used."""
        self._tracer(arrangement.layout, self.image_size)
        self._arrangement = arrangement

    def apply(self, arrangement: Arrangement) -> None:
        """Move the objects; a new layout is built as by `reset`."""
        self._arrangement = arrangement

    def capture(self, size: int | None = None) -> Frame:
        """Trace the current arrangement. Raises `RuntimeError` before the first `reset`."""
        arrangement = self._arrangement
        if arrangement is None:
            raise RuntimeError("nothing to capture: call reset with an arrangement first")
        movables, slots = self.movables(arrangement), len(arrangement.objects)
        tracer, count = self._tracer(arrangement.layout, size or self.image_size), self.settings.clutter
        clutter = shown_clutter(arrangement, movables, tracer.camera, count) if count else []
        traced = tracer.trace(movables, self._layers, clutter)
        return Frame(
            rgb=traced.rgb,
            ids=np.where(traced.ids < slots, traced.ids, np.int16(-1)),
            depth=traced.depth,
            visible=traced.visible[:slots],
            pixels=traced.pixels[:slots],
            positions=arrangement.camera_positions().astype(np.float32),
        )

    def movables(self, arrangement: Arrangement) -> list[Movable]:
        """The active objects as the tracer knows them."""
        return [Movable(_geometry(o.kind), o.position, o.yaw) for o in arrangement.objects]

    def close(self) -> None:
        """Drop all kept rooms."""
        self._tracers.clear()
        self._layers = LayerCache()
        self._arrangement = None

    def _tracer(self, layout: Layout, size: int) -> Tracer:
        key = (layout.key, size)
        tracer = self._tracers.get(key)
        if tracer is None:
            samples = self.settings.supersampling
            tracer = _shared_tracer(layout, size, samples)
            self._tracers[key] = tracer
            while len(self._tracers) > 2 and sum((kept * samples) ** 2 for _, kept in self._tracers) > _KEPT_RAYS:
                self._tracers.popitem(last=False)
        self._tracers.move_to_end(key)
        return tracer
