"""Finding a VLM by name or path: registry YAML -> class -> VLM. Importing this brings no torch; loading a VLM does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rls3_gym.vlm.base import VLM, VLMS
from rls3_registry.errors import SettingError, UserError


def load_vlm(
    name: str,
    finetune: Mapping[str, Any] | None = None,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
) -> VLM:
    """A new VLM, as its files describe it.

    Args:
        name: A registry name, a YAML file, an open_clip model folder, an installed plugin's name, or `module:Class`.
        finetune: Put over the YAML's own `finetune`.
        seed: Fixes the first weights of a model without pre-trained ones; unused otherwise.
        settings: Put over the YAML's own `settings`.

    Raises:
        UserError: An unknown name or key, weights that don't load, a device that is not there.
    """
    from rls3_gym.vlm.seeding import seeded_torch

    where, spec = VLMS.find(name)
    with seeded_torch(seed):
        try:
            taught = {**spec.finetune, **(finetune or {})}
            vlm: VLM = VLMS.build(where, spec, {**spec.settings, **(settings or {})}, name=name, finetune=taught)
        except SettingError:
            raise
        except UserError as error:
            said = str(error)
            raise UserError(said if where in said else f"{where}: {said}") from error
    return vlm
