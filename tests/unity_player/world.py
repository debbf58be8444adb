"""What the stand-in shows and says: commands in, observations out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rls3_gym.backends.base import Frame
from rls3_gym.backends.embedded.backend import WORLD_VERSION, EmbeddedBackend
from rls3_gym.backends.unity import messages
from rls3_gym.scene.arrangement import ActiveObject, Arrangement, Edit, place
from rls3_gym.scene.catalog import load_catalog
from rls3_gym.scene.layouts import draw_layout
from rls3_gym.scene.rooms import CameraPose
from rls3_registry.errors import UserError
from unity_player.look import Look

_SAMPLES = {"low": 1, "medium": 2, "high": 2}
_COLORS = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)


@dataclass(frozen=True, eq=False)
class View:
    """What goes out with one observation."""

    message: dict[str, Any]
    pictures: dict[str, NDArray[np.uint8]]
    positions: NDArray[np.float32]


class World:
    """The scene as it stands."""

    def __init__(self, look: Look) -> None:
        self.look = look
        self._show: messages.Show | None = None
        self._plain: Arrangement | None = None
        """With the registry's layout, whose look is not changed."""
        self._backends: dict[str, EmbeddedBackend] = {}

    def obey(self, text: str, action: tuple[list[float], list[int]] | None) -> View:
        """Carry out one command."""
        number = 0
        try:
            command = messages.decode_command(text)
            number = command.number
            if isinstance(command, messages.Show):
                self._plain, self._show = _arrangement(command), command
                return self.view(number, None)
            if self._plain is None or action is None:
                raise UserError("there is nothing to edit yet")
            placement = place(self._plain, _edit(*action))
            self._plain = placement.arrangement or self._plain
            return self.view(number, {"feasible": placement.feasible, "reason": placement.reason})
        except messages.SchemaError as error:
            return self._problem(number, "schema", str(error))
        except UserError as error:
            said = str(error)
            problem = "kind" if "object kind" in said else "layout" if "layout" in said or "room" in said else "command"
            return self._problem(number, problem, said)

    def view(self, number: int, edit: dict[str, Any] | None) -> View:
        """The scene as it stands."""
        if self._show is None or self._plain is None:
            return self._problem(number, "command", "nothing to show yet")
        frame = self._capture(self._plain, self._show)
        heading, catalog = self._plain.layout.camera.heading, load_catalog()
        where = self._plain.camera_positions() if self._plain.objects else []
        objects = [
            {
                "kind": thing.kind, "position": position.tolist(), "yaw": thing.yaw + heading,
                "radius": catalog[thing.kind].radius, "height": catalog[thing.kind].height,
                "visible": float(frame.visible[slot]), "pixels": int(frame.pixels[slot]),
            }
            for slot, (thing, position) in enumerate(zip(self._plain.objects, where, strict=True))
        ]  # fmt: skip
        message = {
            "schema": messages.SCHEMA, "type": "state", "number": number, "layout": self._plain.layout.key,
            "size": self._show.size, "quality": self._show.quality, "objects": objects, "edit": edit,
            "player": self._who(),
        }  # fmt: skip
        positions = np.zeros(messages.POSITIONS_SIZE, np.float32)
        positions[0] = number % messages.NUMBER_RANGE
        positions[1 : 1 + 3 * len(objects)] = np.array([o["position"] for o in objects], np.float32).ravel()
        return View(message, _pictures(frame, self.look), positions)

    def _capture(self, plain: Arrangement, show: messages.Show) -> Frame:
        dressed = plain.layout if self.look == Look() else self.look.dress(plain.layout)
        backend = self._backends.get(show.quality)
        if backend is None:
            backend = self._backends[show.quality] = EmbeddedBackend({"supersampling": _SAMPLES[show.quality]})
        backend.apply(Arrangement(dressed, plain.objects))
        return backend.capture(show.size)

    def _who(self) -> dict[str, str]:
        return {
            "name": "stand-in", "version": "1", "build": self.look.name, "device": "embree",
            "world": f"embedded{WORLD_VERSION}",
        }  # fmt: skip

    def _problem(self, number: int, problem: str, detail: str) -> View:
        size = 8 if self._show is None else self._show.size
        black = np.zeros((size, size, 3), np.uint8)
        message = {
            "schema": messages.SCHEMA, "type": "error", "number": number, "problem": problem, "detail": detail,
        }  # fmt: skip
        names = (messages.CAMERA_SENSOR, messages.IDS_SENSOR, messages.DEPTH_SENSOR)
        return View(message, dict.fromkeys(names, black), np.zeros(messages.POSITIONS_SIZE, np.float32))


def _arrangement(command: messages.Show) -> Arrangement:
    family, _, index = command.layout.rpartition("/")
    if not index.isdecimal():
        raise UserError(f"no layout {command.layout!r}")
    layout = draw_layout(family, int(index))
    camera = CameraPose(**command.camera.model_dump())
    if camera != layout.camera:
        layout = replace(layout, camera=camera)
    for thing in command.objects:
        load_catalog()[thing.kind]
    return Arrangement(layout, tuple(ActiveObject(o.kind, o.position, o.yaw) for o in command.objects))


def _edit(continuous: list[float], discrete: list[int]) -> Edit:
    x, y, level, yaw = continuous
    slot, kind = discrete
    return Edit(slot=slot, kind=load_catalog().kinds[kind].name, x=x, y=y, level=level, yaw=yaw)


def _pictures(frame: Frame, look: Look) -> dict[str, NDArray[np.uint8]]:
    nothing = frame.depth >= 65.0
    millimeters = np.where(nothing, messages.NO_DEPTH, np.rint(frame.depth * 1e3)).astype(np.int64)
    depth = np.stack([millimeters // 256, millimeters % 256, np.zeros_like(millimeters)], -1).astype(np.uint8)
    return {
        messages.CAMERA_SENSOR: look.grade(frame.rgb),
        messages.IDS_SENSOR: _COLORS[frame.ids + 1],
        messages.DEPTH_SENSOR: depth,
    }
