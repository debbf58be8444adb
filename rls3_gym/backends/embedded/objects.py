"""Object kinds as geometry: a YAML file of `registry/objects` becomes a tuple of meshes with a surface each."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal, assert_never

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

import rls3_registry
from rls3_gym.backends.embedded import meshes
from rls3_gym.backends.embedded.meshes import Mesh, Part
from rls3_gym.scene.catalog import load_catalog
from rls3_registry.errors import UserError
from rls3_registry.validation import check

TOLERANCE = 0.02
"""How far `radius` and `height` of a file may be from those of its parts, as a share."""

_Number = Annotated[float, Field(ge=-1000, le=1000)]
_Vector = tuple[_Number, _Number, _Number]
_Point = tuple[_Number, _Number]
_Unit = Annotated[float, Field(ge=0, le=1)]
_Positive = Annotated[float, Field(gt=0, le=1000)]
_Segments = Annotated[int, Field(ge=3, le=64)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Placed(_Strict):
    """What every part says besides its shape: where it is, and what its surface looks like."""

    translate: _Vector = (0.0, 0.0, 0.0)
    rotate_deg: _Vector = (0.0, 0.0, 0.0)
    scale: _Number | _Vector = 1.0
    around: Annotated[int, Field(ge=1, le=32)] = 1
    """Number of copies, evenly spaced about the object's z axis."""
    color: tuple[_Unit, _Unit, _Unit]
    texture: str | None = None
    specular: _Unit = 0.1


class _Lathe(_Placed):
    shape: Literal["lathe"]
    profile: Annotated[tuple[_Point, ...], Field(min_length=2)]
    segments: _Segments = 20
    smooth: bool = True


class _Cylinder(_Placed):
    shape: Literal["cylinder"]
    radius: _Positive
    height: _Positive
    top_radius: Annotated[float, Field(ge=0, le=1000)] | None = None
    segments: _Segments = 20


class _Sphere(_Placed):
    shape: Literal["sphere"]
    radii: tuple[_Positive, _Positive, _Positive]
    segments: _Segments = 16


class _Box(_Placed):
    shape: Literal["box"]
    size: tuple[_Positive, _Positive, _Positive]


class _Torus(_Placed):
    shape: Literal["torus"]
    radius: _Positive
    tube_radius: _Positive
    arc_deg: _Point = (0.0, 360.0)
    plane: meshes.Plane = "xy"
    segments: _Segments = 16


class _Tube(_Placed):
    shape: Literal["tube"]
    points: Annotated[tuple[_Vector, ...], Field(min_length=2)]
    radius: _Positive | tuple[_Positive, ...]
    segments: _Segments = 10


_AnyPart = _Lathe | _Cylinder | _Sphere | _Box | _Torus | _Tube


class _ObjectSpec(_Strict):
    name: Annotated[str, Field(min_length=1)]
    """What a person would say."""
    held_out: bool
    """Never trained on: kept for the test set of unseen kinds."""
    radius: _Positive
    """Of the footprint with handles and all, meters."""
    height: _Positive
    """Meters."""
    parts: Annotated[tuple[Annotated[_AnyPart, Field(discriminator="shape")], ...], Field(min_length=1)]


def build_object(spec: Mapping[str, Any], where: str = "object") -> tuple[Part, ...]:
    """The meshes of an object kind, standing on z = 0 about the z axis, meters.

    Parts that look alike come back as one. Raises `UserError`, beginning with `where`, for a spec that breaks
    the rules: an unknown or missing key, a wrong value, or a radius or height that its parts do not have.
    """
    checked = check(_ObjectSpec, spec, where)
    surfaces: dict[tuple[_Vector, str | None, float], list[Mesh]] = {}
    for number, part in enumerate(checked.parts):
        try:
            made = _meshes(part)
        except ValueError as error:
            raise UserError(f"{where}: parts.{number}: {error}") from error
        surfaces.setdefault((part.color, part.texture, part.specular), []).extend(made)
    parts = tuple(Part(meshes.join(made), *surface) for surface, made in surfaces.items())
    _check_size(checked, parts, where)
    return parts


@cache
def load_object(name: str) -> tuple[Part, ...]:
    """The meshes of a registered kind by its name, e.g. `small pot`. Raises `UserError` for an unknown one."""
    slug = load_catalog()[name].slug
    return build_object(rls3_registry.load("objects", slug), str(rls3_registry.path_of("objects", slug)))


def _meshes(part: _AnyPart) -> list[Mesh]:
    mesh = meshes.transform(_mesh(part), part.translate, part.rotate_deg, part.scale)
    turns = [360.0 * i / part.around for i in range(part.around)]
    return [meshes.transform(mesh, rotate_deg=(0.0, 0.0, turn)) for turn in turns]


def _mesh(part: _AnyPart) -> Mesh:
    match part:
        case _Lathe():
            return meshes.lathe(part.profile, part.segments, part.smooth)
        case _Cylinder():
            return meshes.cylinder(part.radius, part.height, part.top_radius, part.segments)
        case _Sphere():
            return meshes.sphere(part.radii, part.segments)
        case _Box():
            return meshes.box(part.size)
        case _Torus():
            return meshes.torus(part.radius, part.tube_radius, part.arc_deg, part.plane, part.segments)
        case _Tube():
            return meshes.tube(part.points, part.radius, part.segments)
        case _:
            assert_never(part)


def _check_size(spec: _ObjectSpec, parts: tuple[Part, ...], where: str) -> None:
    """Placement trusts `radius` and `height`, so a file that gets them wrong is an error."""
    vertices = np.concatenate([part.mesh.vertices for part in parts])
    radius, height = float(np.hypot(vertices[:, 0], vertices[:, 1]).max()), float(vertices[:, 2].max())
    if vertices[:, 2].min() < -1e-5:
        raise UserError(f"{where}: parts reach {-vertices[:, 2].min():.4f} m below z = 0; move them up")
    if not radius - 1e-5 <= spec.radius <= radius * (1 + TOLERANCE):
        raise UserError(f"{where}: radius is {spec.radius} m but the parts reach {radius:.4f} m from the z axis")
    if abs(spec.height - height) > TOLERANCE * height:
        raise UserError(f"{where}: height is {spec.height} m but the parts are {height:.4f} m high")
