"""The paper's own setting: a Unity player shows the arrangements. See docs/unity.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gymnasium import logger

from rls3_gym.backends.base import Frame
from rls3_gym.backends.unity.faults import PassingFault, Refused
from rls3_gym.backends.unity.settings import UnitySettings
from rls3_gym.scene.arrangement import Arrangement, Edit, Reason, place
from rls3_registry.errors import UserError
from rls3_registry.validation import check

if TYPE_CHECKING:
    from rls3_gym.backends.unity.player import Player, Shown

_NEEDS = ("mlagents_envs", "grpc", "google", "distutils")
_SAME_PLACE = 1e-3
"""Meters."""


class UnityBackend:
    """Shows arrangements in a Unity player of its own, which is started when it is first needed.

    One player shows everything: samples, evaluation sets, pictures for people. It is ended by `close`, by an exception
    that it caused or interrupted, when the backend is garbage, and with the program, whatever ends that.
    """

    def __init__(self, settings: Mapping[str, Any] | None = None, *, image_size: int = 64) -> None:
        """Square pictures of `image_size` pixels; see `UnitySettings`. Raises `UserError` for a wrong setting."""
        self.settings = check(UnitySettings, settings or {}, section="settings")
        self.image_size = image_size
        self._restarts = 0
        self._identity = ""
        self._player: Player | None = None
        self._arrangement: Arrangement | None = None
        self._seed = 0
        self._fresh: tuple[Arrangement, int, Frame] | None = None
        """What `reset` has captured, until `capture` is asked for it."""

    @staticmethod
    def reaches_for(settings: Mapping[str, Any]) -> list[str]:
        """The player that would be started, its arguments, and where logs would be written (`rls3_registry.trust`)."""
        arguments = settings.get("extra_args") or ()
        named = [settings.get("file_name"), *(arguments if isinstance(arguments, list | tuple) else [arguments])]
        return [str(name) for name in (*named, settings.get("log_folder")) if name is not None]

    @property
    def fingerprint(self) -> str:
        """Player, graphics device, world and settings. Starts the player. Raises `UserError`."""
        self._running()
        return f"unity-{self._identity}-{self.settings.quality}-{self.image_size}px"

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the player: a copy starts one of its own."""
        return self.__dict__ | {"_player": None}

    def reset(self, arrangement: Arrangement, seed: int) -> None:
        """Show an arrangement. Raises `UserError` when the player does not know the layout or a kind of object."""
        self._arrangement, self._seed, self._fresh = arrangement, seed, None
        self._fresh = (arrangement, self.image_size, self.capture())

    def apply(self, arrangement: Arrangement) -> None:
        """Note what to show next."""
        self._arrangement = arrangement

    def capture(self, size: int | None = None) -> Frame:
        """Take the picture of the current arrangement.

        Raises `RuntimeError` before the first `reset`, and `UserError` when the player fails and may not be started
        again.
        """
        arrangement, size = self._arrangement, size or self.image_size
        if arrangement is None:
            raise RuntimeError("nothing to capture: call reset with an arrangement first")
        fresh, self._fresh = self._fresh, None
        if fresh is not None and fresh[:2] == (arrangement, size):
            return fresh[2]
        return self._ask(arrangement, size, None).frame

    def carry_out(self, edit: Edit) -> Reason | None:
        """Let the player place an object by its own rules: how a build is checked against `place`.

        Returns why it refuses; None when the object stands there now. Raises `UserError` when it stands elsewhere than
        where `place` puts it.
        """
        before = self._arrangement
        if before is None:
            raise RuntimeError("nothing to edit: call reset with an arrangement first")
        shown = self._ask(before, self.image_size, edit)
        after = place(before, edit).arrangement
        if shown.reason is None and after is not None:
            off = float(abs(after.camera_positions() - shown.frame.positions).max())
            if off > _SAME_PLACE:
                raise UserError(f"the Unity player placed the {edit.kind} {off:.3f} m from where the rules put it")
            self._arrangement = after
        return shown.reason

    def close(self) -> None:
        """End the player. Closing twice is fine."""
        self._end()
        self._arrangement = self._fresh = None

    def _ask(self, arrangement: Arrangement, size: int, edit: Edit | None) -> Shown:
        """Have an arrangement shown, and an edit made of it; by a new player where one fails and may be replaced."""
        while True:
            try:
                player = self._running()
                shown = player.show(arrangement, self._seed, size)
                return shown if edit is None else player.edit(edit)
            except Refused:
                raise
            except PassingFault as fault:
                self._end(failed=True)
                if self._restarts >= self.settings.restarts:
                    raise
                self._restarts += 1
                logger.warn(f"{fault}; it is started again ({self._restarts} of {self.settings.restarts})")
            except BaseException:  # Ctrl-C too: the answer that is under way would be taken for the next one
                self._end(failed=True)
                raise

    def _running(self) -> Player:
        if self._player is not None and not self._player.is_mine:
            self._player = None
        if self._player is None:
            self._player = self._start()
            who = self._player.who
            identity = "-".join((who.name, who.version, who.build, who.device, who.world))
            if self._identity not in ("", identity):
                self._end(failed=True)
                raise UserError(f"the Unity player was {self._identity} and is {identity} now; its pictures differ")
            self._identity = identity
        return self._player

    def _start(self) -> Player:
        try:
            from rls3_gym.backends.unity.player import Player
        except ModuleNotFoundError as error:
            library = (error.name or "").split(".")[0]
            if library not in _NEEDS:
                raise
            raise UserError(f'backend unity needs {library}: pip install "rls3_gym[unity]"') from error
        return Player(self.settings, self.image_size)

    def _end(self, failed: bool = False) -> None:
        player, self._player = self._player, None
        if player is not None and player.is_mine:
            player.close(failed)
