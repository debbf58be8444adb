"""What a player's failure is, as an error for users."""

from __future__ import annotations

from rls3_registry.errors import UserError


class PlayerFault(UserError):
    """A player failed."""


class PassingFault(PlayerFault):
    """A player failed in a way that a new one may not."""


class Refused(PlayerFault):
    """A player does not know what it was asked for. It goes on showing what it showed."""
