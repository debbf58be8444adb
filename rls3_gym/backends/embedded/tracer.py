"""The embedded backend's ray tracer: pictures, instance ids, depth and visibility of one room with movable objects.

The camera, the light and the furniture of a room stand still, so their picture is traced once. Every movable is a
layer of its own over it, traced inside its screen box and its shadow cone, and kept while it may be needed again.
A capture puts the layers together; `trace_plain` gets the same picture by tracing everything again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rls3_gym.backends.embedded import plain_trace
from rls3_gym.backends.embedded.meshes import Float32, Int32, Part
from rls3_gym.backends.embedded.movable_layer import Movable, MovableLayer, ObjectGeometry, prepare_object
from rls3_gym.backends.embedded.rays import Camera
from rls3_gym.backends.embedded.shading import Shader, Textures, UInt8
from rls3_gym.backends.embedded.static_layer import STATIC_IDS, StaticLayer, resolve
from rls3_gym.scene.rooms import CameraPose, Light
from rls3_registry.errors import UserError

__all__ = ["STATIC_IDS", "LayerCache", "Movable", "ObjectGeometry", "Traced", "Tracer", "prepare_object"]

_KEPT_LAYERS = 8
_KEPT_STANDING = 32
"""A room's whole clutter: which of it is shown depends on where the active objects are."""


@dataclass(frozen=True, eq=False)
class Traced:
    """One capture. Images are (H, W) from the top left; ids and depth are those of a pixel's first sub-sample."""

    rgb: UInt8
    """(H, W, 3) uint8 sRGB."""
    ids: NDArray[np.int16]
    """(H, W) index into the movables; `STATIC_IDS` + index of a static part; -1 where nothing is."""
    depth: Float32
    """(H, W) meters along the ray; 1e4 where nothing is."""
    visible: Float32
    """(k,) share of a movable's own pixels that nothing hides; 0 for one out of view."""
    pixels: Int32
    """(k,) visible pixels of each movable, rounded from its visible sub-samples."""


class LayerCache:
    """The layers that were needed last, of one room. An edit needs those of the objects that stay; after one that came
    to nothing, the next needs that of the object it moved too. It saves time and decides nothing."""

    def __init__(self, kept: int = _KEPT_LAYERS) -> None:
        self._kept = kept
        self._layers: OrderedDict[Movable, MovableLayer] = OrderedDict()
        self._tracer: Tracer | None = None

    def of(self, tracer: Tracer, movables: Sequence[Movable]) -> list[MovableLayer]:
        """Those of some objects in a tracer's room, in order; traced where they are not there."""
        if tracer is not self._tracer:
            self._layers.clear()
            self._tracer = tracer
        found = []
        for movable in movables:
            if movable not in self._layers:
                self._layers[movable] = tracer.layer(movable)
            self._layers.move_to_end(movable)
            found.append(self._layers[movable])
        while len(self._layers) > max(self._kept, len(movables)):
            self._layers.popitem(last=False)
        return found


class Tracer:
    """Draws one room from one camera in one light, with any movables."""

    def __init__(
        self,
        static_parts: Sequence[Part],
        textures: Mapping[str, UInt8],
        camera: CameraPose,
        light: Light,
        size: int,
        supersampling: int = 2,
    ) -> None:
        """`textures`: uint8 (256, 256, 3) by name; `size`: side of the square image, pixels;
        `supersampling`: n for n x n samples per pixel. `light.color` multiplies linear light."""
        if size < 1 or supersampling < 1:
            raise UserError(f"image size {size} and supersampling {supersampling}; both must be at least 1")
        self.camera = Camera(camera)
        self.size = size
        self._shader = Shader(self.camera.eye, light, Textures(textures))
        self._static = StaticLayer(static_parts, self.camera, self._shader, size, supersampling)
        self._kept, self._standing = LayerCache(), LayerCache(_KEPT_STANDING)

    def trace(
        self, movables: Sequence[Movable], kept: LayerCache | None = None, standing: Sequence[Movable] = ()
    ) -> Traced:
        """Capture the room with `movables`, and after them those that are `standing` about in this room.

        Traces only those that are not in `kept`; left out, a cache of the tracer's own, which all who draw this room
        without one share. What is standing is kept by the tracer.
        """
        static, samples = self._static, self._static.samples
        layers = (kept or self._kept).of(self, movables) + self._standing.of(self, standing)
        ids, depth = static.ids.copy(), static.depth.copy()
        for index, layer in enumerate(layers):
            nearer = layer.depth < depth.take(layer.samples)
            where = layer.samples[nearer]
            ids[where] = index
            depth[where] = layer.depth[nearer]
        seen = [np.flatnonzero(ids.take(layer.samples) == index) for index, layer in enumerate(layers)]

        changed = np.zeros(self.size**2, np.bool_)
        shaded = [layer.shadow[ids.take(layer.shadow) >= STATIC_IDS] for layer in layers]
        for where in (*shaded, *(layer.samples[part] for layer, part in zip(layers, seen, strict=True))):
            changed[where // samples] = True
        pixels = np.flatnonzero(changed)
        slots = np.empty(self.size**2, np.intp)
        slots[pixels] = np.arange(len(pixels))
        light = static.light.reshape(3, -1, samples).take(pixels, axis=1).reshape(3, -1)
        for where in shaded:
            light[:, slots[where // samples] * samples + where % samples] = static.ambient.take(where, axis=1)
        for index, part in enumerate(seen):
            where = layers[index].samples[part]
            light[:, slots[where // samples] * samples + where % samples] = self._radiance(layers, index, part)

        rgb = static.rgb.copy()
        rgb[pixels] = resolve(light, samples)
        count = np.array([len(part) for part in seen], np.int64)
        own = np.array([layer.own for layer in layers], np.int64)
        return self._traced(rgb, ids, depth, count, own)

    def trace_plain(self, movables: Sequence[Movable]) -> Traced:
        """The same capture with nothing kept: one scene of everything, every sample traced and lit again.

        The reference for tests and the benchmark; many times slower than `trace`.
        """
        rgb, ids, depth = plain_trace.picture(movables, self._static, self.camera, self._shader)
        count = np.bincount(ids[(ids >= 0) & (ids < STATIC_IDS)], minlength=len(movables))
        own = plain_trace.own_samples(movables, self._static, self.camera)
        return self._traced(rgb, ids, depth, count, own)

    def layer(self, movable: Movable) -> MovableLayer:
        """Trace one object in the room."""
        return MovableLayer.trace(movable, self._static, self.camera, self._shader)

    def _radiance(self, layers: Sequence[MovableLayer], index: int, part: NDArray[np.intp]) -> Float32:
        """Light (3, n) of the samples `part` of one layer, with the shadows of the other movables on it."""
        layer = layers[index]
        direct = layer.lit.direct.take(part, axis=1)
        from_light, distance = layer.lit.from_light.take(part, axis=1), layer.lit.range.take(part)
        for other in layers:
            if other is layer or not other.cone.may_shade(layer.cone):
                continue
            near = other.cone.holds(from_light, distance)
            dark = other.scene.blocks(self._shader.light, from_light.take(near, axis=1), distance.take(near))
            direct[:, near[dark]] = 0
        return layer.lit.ambient.take(part, axis=1) + direct

    def _traced(
        self, rgb: UInt8, ids: NDArray[np.int16], depth: Float32, count: NDArray[np.int64], own: NDArray[np.int64]
    ) -> Traced:
        side, samples = self.size, self._static.samples
        return Traced(
            rgb=rgb.reshape(side, side, 3),
            ids=np.ascontiguousarray(ids[::samples]).reshape(side, side),
            depth=np.ascontiguousarray(depth[::samples]).reshape(side, side),
            visible=(count / np.maximum(own, 1)).astype(np.float32),
            pixels=np.rint(count / samples).astype(np.int32),
        )
