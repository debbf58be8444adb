"""Settings of the Unity backend."""

from __future__ import annotations

import os
from typing import Annotated, Self

from pydantic import ConfigDict, Field, model_validator

from rls3_gym.backends.unity.messages import Quality
from rls3_registry.errors import UserError
from rls3_registry.validation import Settings

VARIABLE = "RLS3_UNITY_PLAYER"
"""Environment variable: the player, where the settings name none."""
EDITOR_PORT = 5004
"""Where the Unity Editor connects to when Play is pressed."""


class UnitySettings(Settings):
    """How a player is started, and how long it may take."""

    model_config = ConfigDict(strict=True, use_attribute_docstrings=True)

    file_name: str | None = None
    """The player: a file that `Build.cs` made, without or with its ending. The environment variable
    `RLS3_UNITY_PLAYER` when left out."""
    editor: bool = False
    """Wait for the Unity Editor instead: nothing is started, and Play is pressed there."""
    base_port: Annotated[int, Field(ge=1024, le=65000)] | None = None
    """Port of worker 0. Left out: 5004 with `editor`, else any free port."""
    worker_id: Annotated[int, Field(ge=0, le=500)] = 0
    """Added to `base_port`, as ML-Agents has it."""
    quality: Quality = "high"
    """Shadows and anti-aliasing; part of the fingerprint."""
    start_timeout: Annotated[float, Field(gt=0, le=86_400)] = 120.0
    """Seconds that a player may take to start and to show its first picture."""
    step_timeout: Annotated[float, Field(gt=0, le=86_400)] = 30.0
    """Seconds that it may take for each further picture."""
    restarts: Annotated[int, Field(ge=0, le=10_000)] = 0
    """How often a player that died, hung or sent something broken is replaced by a new one, which is shown the same."""
    log_folder: str | None = None
    """Where the players' logs are kept. Left out: in the temporary folder, and only of players that failed."""
    extra_args: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Further arguments of the player."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.editor and self.file_name is not None:
            raise ValueError("editor and file_name: give one of them")
        if self.worker_id and self.base_port is None:
            raise ValueError("worker_id is added to base_port: give that too")
        return self

    def player(self) -> str | None:
        """The player to start; None for the Editor. Raises `UserError` when there is none."""
        if self.editor:
            return None
        found = self.file_name or os.environ.get(VARIABLE)
        if not found:
            raise UserError(
                f"backend unity: no player: set {VARIABLE} to the file of one, or settings.file_name in a YAML file of "
                "your own; `unity_editor` is the backend that waits for the Editor"
            )
        return found

    def port(self) -> int:
        """The port to listen on; 0 for any that is free."""
        base = self.base_port if self.base_port is not None else EDITOR_PORT if self.editor else 0
        return base + self.worker_id
