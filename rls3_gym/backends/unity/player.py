"""One running player: it is started, tested, asked, and ended. Its faults are errors that name it."""

from __future__ import annotations

import os
import sys
import weakref
from collections.abc import Callable
from dataclasses import dataclass

from rls3_gym.backends.base import Frame
from rls3_gym.backends.unity import connection as line
from rls3_gym.backends.unity import messages
from rls3_gym.backends.unity.checks import check_scene, check_self_test, frame_of, self_test_scenes
from rls3_gym.backends.unity.faults import PassingFault, PlayerFault, Refused
from rls3_gym.backends.unity.messages import CarryOut, Problem, SchemaError, Show, State
from rls3_gym.backends.unity.process import QUIT_SECONDS, PlayerProcess, find_program
from rls3_gym.backends.unity.settings import UnitySettings
from rls3_gym.scene.arrangement import Arrangement, Edit, Reason
from rls3_gym.scene.catalog import load_catalog
from rls3_registry.errors import UserError


@dataclass(frozen=True, eq=False)
class Shown:
    """A player's answer to a command."""

    frame: Frame
    reason: Reason | None
    """Why an edit was refused; None where none was."""


class Player:
    """A player that shows scenes, of one picture size and quality at a time."""

    def __init__(self, settings: UnitySettings, size: int) -> None:
        """Start it, or wait for the Editor, and have it show two scenes of `size` pixels as a test.

        Raises `PlayerFault`, and `UserError` where there is no player to start.
        """
        self._settings = settings
        file = settings.player()
        program = None if file is None else find_program(file)
        self._name = "in the Unity Editor" if program is None else program
        self._number = 0
        self._last = "none"
        self._timeout = settings.start_timeout
        self._who: messages.Player | None = None
        self._held = _Held()
        self._end = weakref.finalize(self, self._held.close, failed=False)
        try:
            self._connect(program)
            scenes = self_test_scenes()
            one, other = (self.show(scene, 0, size).frame for scene in scenes)
            try:
                check_self_test(scenes, (one, other))
            except line.LineError as error:
                raise self._fault(str(error)) from error
        except BaseException:
            self.close(failed=True)
            raise

    @property
    def who(self) -> messages.Player:
        """What it says it is."""
        assert self._who is not None
        return self._who

    @property
    def is_mine(self) -> bool:
        """Whether this process has started it, and not one that it was forked from."""
        return self._held.owner == os.getpid()

    def show(self, arrangement: Arrangement, seed: int, size: int) -> Shown:
        """Show a scene. Raises `PlayerFault`."""
        self._number += 1
        quality = self._settings.quality
        command = Show.of(arrangement, number=self._number, seed=seed, quality=quality, size=size)
        self._last = f"show {command.layout} at {size} pixels (number {self._number})"
        return self._ask(command, None, lambda state: check_scene(state, command, arrangement))

    def edit(self, edit: Edit) -> Shown:
        """Let the player carry out an edit of what it shows, by its own rules. Raises `PlayerFault`."""
        self._number += 1
        self._last = f"edit slot {edit.slot} (number {self._number})"
        kinds = [kind.name for kind in load_catalog().kinds]
        action = [edit.x, edit.y, edit.level, edit.yaw], [edit.slot, kinds.index(edit.kind)]
        return self._ask(CarryOut(number=self._number), action, _check_edited)

    def close(self, failed: bool = False) -> None:
        """End it; at once where it has `failed`, whose log is kept. Closing twice is fine."""
        if self._end.detach() is not None:
            self._held.close(failed)

    def _connect(self, program: str | None) -> None:
        held, settings = self._held, self._settings

        def start(port: int) -> Callable[[], str | None]:
            if program is None:
                return lambda: None
            held.process = PlayerProcess(program, port, settings.extra_args, settings.log_folder)
            return held.process.death

        try:
            held.connection = line.Connection(settings.port(), settings.start_timeout, start)
        except line.PortInUse as error:
            free = "" if settings.editor else ", or leave base_port out to get a free one"
            raise self._fault(f"port {settings.port()} is in use; end what listens there{free}") from error
        except line.LineError as error:
            raise self._fault(f"{error}{self._hint(program)}", PassingFault) from error

    def _hint(self, program: str | None) -> str:
        if program is None:
            return f"; press Play in the Unity Editor while Python listens on port {self._settings.port()}"
        if sys.platform == "linux" and not os.environ.get("DISPLAY"):
            return "; a player needs a display: without one, start Python through xvfb-run"
        return ""

    def _ask(
        self, command: Show | CarryOut, action: tuple[list[float], list[int]] | None, check: Callable[[State], None]
    ) -> Shown:
        assert self._held.connection is not None
        try:
            told = self._held.connection.exchange(messages.encode(command), action, self._timeout)
            state = self._state(told.messages, command.number)
            check(state)
            frame = frame_of(state, told)
        except line.LineError as error:
            raise self._fault(str(error), PassingFault) from error
        self._timeout, self._who = self._settings.step_timeout, state.player
        return Shown(frame, None if state.edit is None else state.edit.reason)

    def _state(self, told: list[str], number: int) -> State:
        if len(told) != 1:
            raise line.LineError(f"it sent {len(told)} messages with its pictures, and not one")
        try:
            answer = messages.decode(told[0])
        except SchemaError as error:
            raise self._fault(f"it speaks {error}; build it again from unity_project of this version") from error
        except UserError as error:
            raise line.LineError(f"it sent {error}") from error
        unread = isinstance(answer, Problem) and answer.number == 0
        if answer.number != number and not unread:
            raise line.LineError(f"it answered command {answer.number}, and not {number}")
        if isinstance(answer, Problem):
            said = f"it says: {answer.detail} ({answer.problem})"
            raise self._fault(said, _PROBLEMS.get(answer.problem, PlayerFault))
        return answer

    def _fault(self, what: str, fault: type[PlayerFault] = PlayerFault) -> PlayerFault:
        """The error for a fault: what happened, the last command, and where to look."""
        process = self._held.process
        log = "the Editor's console" if process is None else str(process.log)
        words = process.last_words() if process is not None and process.death() is not None else ""
        said = f"; its last words: {words}" if words else ""
        return fault(f"Unity player {self._name}: {what}; last command: {self._last}; log: {log}{said}")


_PROBLEMS = {"internal": PassingFault, "layout": Refused, "kind": Refused, "command": Refused}
"""Errors for the problems that a player may tell."""


def _check_edited(state: State) -> None:
    if state.edit is None or state.edit.feasible != (state.edit.reason is None):
        raise line.LineError("it does not say what became of the edit")


class _Held:
    """What has to be ended with a player. Known to its finalizer, so it must not know the player."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self.connection: line.Connection | None = None
        self.process: PlayerProcess | None = None

    def close(self, failed: bool) -> None:
        if os.getpid() != self.owner:  # in a fork: the connection is the parent's
            return
        if self.connection is not None:
            self.connection.close()
        if self.process is not None:
            self.process.close(0.0 if failed else QUIT_SECONDS, failed)
