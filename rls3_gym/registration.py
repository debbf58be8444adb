"""The table of environment ids. Registering twice does nothing the second time."""

from __future__ import annotations

from typing import Any

import gymnasium

ENTRY_POINT = "rls3_gym.envs.scene_env:RLS3SceneEnv"
VECTOR_ENTRY_POINT = "rls3_gym.envs.vector_env:RLS3SceneVectorEnv"

ENV_IDS: dict[str, dict[str, Any]] = {
    "RLS3Scene-v0": {},
    "RLS3SceneFrozen-v0": {"finetune": False},
    "RLS3SceneSelect-v0": {"action_view": "select"},  # the default of today, by its name
    "RLS3ScenePreference-v0": {"action_view": "preference"},
    "RLS3SceneBox-v0": {"action_view": "box"},
    "RLS3SceneMultiDiscrete-v0": {"action_view": "multi_discrete"},
    "RLS3SceneRelation-v0": {"action_view": "relation"},
    "RLS3ScenePixels-v0": {"observation": "pixels"},
}
"""Every id and the arguments it fixes; any of them can be given to `gymnasium.make` and `gymnasium.make_vec` all the
same."""


def register_envs() -> None:
    """Register the ids that are not registered yet."""
    for env_id, kwargs in ENV_IDS.items():
        if env_id not in gymnasium.registry:
            gymnasium.register(id=env_id, entry_point=ENTRY_POINT, vector_entry_point=VECTOR_ENTRY_POINT, kwargs=kwargs)
