"""The catalog of object kinds, as far as scenes need them: name, footprint and height."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property

import rls3_registry
from rls3_registry.errors import UserError, unknown


@dataclass(frozen=True)
class ObjectKind:
    """One kind of object. `radius` of the footprint and `height` in meters."""

    name: str
    slug: str
    """The registry name: `objects/<slug>.yaml`."""
    radius: float
    height: float
    held_out: bool
    """Never generated in training; kept for the `test_unseen_kinds` set."""


@dataclass(frozen=True)
class Catalog:
    """All object kinds, sorted by name; `training` is the container an agent draws from."""

    kinds: tuple[ObjectKind, ...]

    @property
    def training(self) -> tuple[ObjectKind, ...]:
        return tuple(k for k in self.kinds if not k.held_out)

    @property
    def held_out(self) -> tuple[ObjectKind, ...]:
        return tuple(k for k in self.kinds if k.held_out)

    def __getitem__(self, name: str) -> ObjectKind:
        kind = self._by_name.get(name)
        if kind is None:
            raise unknown("object kind", name, self._by_name)
        return kind

    @cached_property
    def _by_name(self) -> dict[str, ObjectKind]:
        return {kind.name: kind for kind in self.kinds}


@cache
def load_catalog() -> Catalog:
    """The catalog of all registered kinds. Raises `UserError` for a YAML file without the needed keys, and for two with
    one name."""
    kinds: dict[str, ObjectKind] = {}
    for slug in rls3_registry.names("objects"):
        spec = rls3_registry.load("objects", slug)
        try:
            kind = ObjectKind(
                str(spec["name"]), slug, float(spec["radius"]), float(spec["height"]), bool(spec["held_out"])
            )
        except KeyError as error:
            raise UserError(f"objects/{slug}.yaml: key {error.args[0]!r} is missing") from error
        except (TypeError, ValueError) as error:
            raise UserError(f"objects/{slug}.yaml: {error}") from error
        if kind.name in kinds:
            files = " and ".join(str(rls3_registry.path_of("objects", k.slug)) for k in (kinds[kind.name], kind))
            raise UserError(f"{files}: have the same name {kind.name!r}; give one of them another")
        kinds[kind.name] = kind
    return Catalog(tuple(sorted(kinds.values(), key=lambda k: k.name)))
