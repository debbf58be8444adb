"""What Python and the Unity player say to each other beside the pictures: JSON on one ML-Agents side channel.

`unity_project/PROTOCOL.md` has the same for people, with units, frames and the order of events. Whoever changes a
message changes both, and raises `SCHEMA`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rls3_gym.scene.arrangement import SLOTS, Arrangement, Reason
from rls3_gym.scene.rooms import CameraPose
from rls3_registry.errors import UserError

SCHEMA: Final = 1
"""Version of all messages. A side that is told another one answers with an error."""
CHANNEL = "7c1f3f6a-9d3b-4b5e-8f2a-0c6b1d2e3f40"
"""Id of the side channel."""
BEHAVIOR = "RLS3"
"""The one behavior of the player; ML-Agents adds `?team=0` to it."""
CAMERA_SENSOR, IDS_SENSOR, DEPTH_SENSOR, POSITIONS_SENSOR = "camera", "ids", "depth", "positions"
"""Names of the player's sensors. Sensors come sorted by name, so they are looked up by it."""
POSITIONS_SIZE = 1 + 3 * SLOTS
"""Numbers in the vector observation: the command's number modulo `NUMBER_RANGE`, then the positions by slot."""
NUMBER_RANGE = 65536
"""Numbers below it are exact as a float32."""
NO_DEPTH = 65535
"""In the depth picture, millimeters: there is nothing."""

Quality = Literal["low", "medium", "high"]
Vector = tuple[float, float, float]


class SchemaError(UserError):
    """A message of another schema version."""


class Message(BaseModel):
    """Base of all messages: unknown keys and numbers that are none are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Camera(Message):
    """The camera in the world of rls3_gym: see `CameraPose`."""

    eye: Vector
    heading: float
    pitch: float
    fov_deg: float

    @classmethod
    def of(cls, pose: CameraPose) -> Self:
        """The message for a pose."""
        return cls(eye=pose.eye, heading=pose.heading, pitch=pose.pitch, fov_deg=pose.fov_deg)


class PlacedObject(Message):
    """An object to be shown: base center in world meters (z up), yaw in radians, counter-clockwise from above."""

    kind: str
    position: Vector
    yaw: float


class Show(Message):
    """Command: show this scene. Complete in itself, so that a new player shows the same after it alone."""

    schema_: Literal[1] = Field(SCHEMA, alias="schema")
    type: Literal["show"] = "show"
    number: Annotated[int, Field(ge=1)]
    """Counts the commands of one player; its answer repeats it."""
    layout: str
    """`Layout.key`, e.g. `kitchen/3`: the room of that name in the world file."""
    seed: Annotated[int, Field(ge=0)]
    """Fixes whatever the player draws."""
    camera: Camera
    quality: Quality
    size: Annotated[int, Field(ge=1)]
    """Side of all pictures from now on, pixels."""
    objects: Annotated[tuple[PlacedObject, ...], Field(max_length=SLOTS)]
    """By slot."""

    @classmethod
    def of(cls, arrangement: Arrangement, *, number: int, seed: int, quality: Quality, size: int) -> Self:
        """The command that shows an arrangement."""
        return cls(
            number=number, layout=arrangement.layout.key, seed=seed, camera=Camera.of(arrangement.layout.camera),
            quality=quality, size=size,
            objects=tuple(PlacedObject(kind=o.kind, position=o.position, yaw=o.yaw) for o in arrangement.objects),
        )  # fmt: skip


class CarryOut(Message):
    """Command: carry out the action of this exchange as an edit of what is shown. Without it actions are ignored."""

    schema_: Literal[1] = Field(SCHEMA, alias="schema")
    type: Literal["edit"] = "edit"
    number: Annotated[int, Field(ge=1)]


class Player(Message):
    """Who shows the pictures; part of the backend's fingerprint."""

    name: str
    version: str
    build: str
    """Names the build: two with the same one show the same pixels on the same device."""
    device: str
    """The graphics device."""
    world: str
    """First 16 hex digits of the SHA-256 of the world file that the player has loaded."""


class SeenObject(Message):
    """An object as the player shows it."""

    kind: str
    position: Vector
    """Base center in the gravity-aligned camera frame, meters: x right, y up, z away from the camera."""
    yaw: float
    """World yaw plus the camera's heading, radians, any multiple of a full turn away."""
    radius: float
    """Of the footprint, meters."""
    height: float
    """Meters."""
    visible: Annotated[float, Field(ge=0, le=1)]
    """Visible pixels / pixels it would cover with nothing in front of it; 0 when it is out of view."""
    pixels: Annotated[int, Field(ge=0)]
    """Visible pixels in a picture of the asked size."""


class EditResult(Message):
    """What became of an edit."""

    feasible: bool
    reason: Annotated[Reason | None, Field(strict=False)]
    """Why not; null when feasible. After an infeasible edit everything stands where it stood."""


class State(Message):
    """The player's message with each observation: what is true of its pictures."""

    schema_: Literal[1] = Field(alias="schema")
    type: Literal["state"]
    number: Annotated[int, Field(ge=0)]
    """Of the last command that was carried out; 0 before the first."""
    layout: str
    size: Annotated[int, Field(ge=1)]
    quality: Quality
    objects: Annotated[tuple[SeenObject, ...], Field(max_length=SLOTS)]
    """By slot."""
    edit: EditResult | None
    """Of the command `edit`; null after `show`."""
    player: Player


class Problem(Message):
    """The player's message instead of a `State`: it could not do what the command said."""

    schema_: Literal[1] = Field(alias="schema")
    type: Literal["error"]
    number: Annotated[int, Field(ge=0)]
    """Of the command, as far as it could be read; else 0."""
    problem: Literal["schema", "command", "layout", "kind", "internal"]
    """Other schema; unreadable or impossible command; unknown layout; unknown kind; the player's own fault."""
    detail: str


def encode(message: Message) -> str:
    """One line of ASCII JSON, keys in the order of the fields."""
    return json.dumps(message.model_dump(mode="json", by_alias=True), separators=(",", ":"), allow_nan=False)


def decode(text: str) -> State | Problem:
    """What the player said. Raises `SchemaError` for another version, `UserError` for anything else that is wrong."""
    message = _decode({"state": State, "error": Problem}, text)
    assert isinstance(message, State | Problem)
    return message


def decode_command(text: str) -> Show | CarryOut:
    """What Python said: for players written in Python. Raises as `decode` does."""
    message = _decode({"show": Show, "edit": CarryOut}, text)
    assert isinstance(message, Show | CarryOut)
    return message


def _decode(models: Mapping[str, type[Message]], text: str) -> Message:
    content = _parsed(text)
    schema, name = content.get("schema"), str(content.get("type"))
    if schema != SCHEMA:
        raise SchemaError(f"message schema {schema!r}, and this side speaks {SCHEMA}")
    if name not in models:
        raise UserError(f"a message of the unknown type {name!r}")
    try:
        return models[name].model_validate_json(text)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(step) for step in problem["loc"])
        raise UserError(f"a message's {where}: {problem['msg']}") from error


def _parsed(text: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except ValueError as error:
        raise UserError(f"a message is no JSON ({error})") from error
    if not isinstance(content, dict):
        raise UserError("a message is no JSON object")
    return content
