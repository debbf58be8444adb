"""Finding a backend by name."""

from __future__ import annotations

from rls3_gym.backends.base import SceneBackend
from rls3_registry.errors import unknown

BACKENDS = ("embedded",)


def load_backend(name: str, image_size: int) -> SceneBackend:
    """A new backend that takes square pictures of `image_size` pixels. Raises `UserError` for an unknown name."""
    if name not in BACKENDS:
        raise unknown("backend", str(name), BACKENDS, "backend")
    # Imported here: naming a backend must not need the libraries of the others.
    from rls3_gym.backends.embedded.backend import EmbeddedBackend

    return EmbeddedBackend(image_size=image_size)
