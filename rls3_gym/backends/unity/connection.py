"""The line to a player: mlagents-envs' `UnityEnvironment`, as far as one behavior and one side channel need it.

What differs from a bare `UnityEnvironment`, and why:

- the port is bound to this machine's loopback addresses, not to all interfaces, and never shared with another process;
- a player that has died is noticed within a fraction of a second, and one that stops during the handshake at all;
- the threads that serve the player never keep the program from ending;
- pictures are read by `_compat.mlagents.picture`, in either order of their shape, and stay bytes.
"""

from __future__ import annotations

import atexit
import logging
import socket
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from dataclasses import dataclass
from threading import Thread
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

from rls3_gym._compat import mlagents
from rls3_gym.backends.unity.messages import BEHAVIOR, CHANNEL

mlagents.install()

from mlagents_envs.base_env import ActionTuple, DecisionSteps, TerminalSteps  # noqa: E402  after the shim
from mlagents_envs.communicator_objects.observation_pb2 import PNG  # noqa: E402
from mlagents_envs.communicator_objects.unity_to_external_pb2_grpc import (  # noqa: E402
    add_UnityToExternalProtoServicer_to_server,
)
from mlagents_envs.environment import UnityEnvironment  # noqa: E402
from mlagents_envs.exception import UnityException, UnityTimeOutException  # noqa: E402
from mlagents_envs.rpc_communicator import (  # noqa: E402
    RpcCommunicator,
    UnityToExternalServicerImplementation,
)
from mlagents_envs.side_channel import IncomingMessage, OutgoingMessage, SideChannel  # noqa: E402

_POLL_SECONDS = 0.1
_LARGEST_MESSAGE = 64 * 2**20
for _name in ("environment", "side_channel.side_channel_manager"):  # they print what they do on standard output
    logging.getLogger(f"mlagents_envs.{_name}").setLevel(logging.ERROR)


class LineError(Exception):
    """The player did not answer, or not as ML-Agents does."""


class PortInUse(Exception):
    """Something else listens there."""


@dataclass(frozen=True, eq=False)
class Observation:
    """What came with one exchange."""

    messages: list[str]
    pictures: dict[str, Any]
    """Observations with a PNG by sensor name; see `picture`."""
    vectors: dict[str, NDArray[np.float32]]
    """All others."""


class Connection(UnityEnvironment):  # type: ignore[misc]  # it has no type hints
    """One player's end of the line."""

    def __init__(self, port: int, timeout: float, start: Callable[[int], Callable[[], str | None]]) -> None:
        """Listen, start the player, and wait until it has connected.

        Args:
            port: 0 for any that is free.
            timeout: Seconds for it to connect.
            start: Is given the port, starts the player, and returns what says how it has ended (None: it runs).

        Raises:
            PortInUse: It is.
            LineError: The player did not connect.
        """
        self._start = start
        self._channel = Channel()
        self._death: Callable[[], str | None] = lambda: None
        self._seen: dict[str, Any] = {}
        self._loaded = False
        try:
            super().__init__(base_port=port, timeout_wait=timeout, side_channels=[self._channel])
        except (UnityException, EOFError, OSError) as error:
            self.close()
            raise LineError(_said(error)) from error
        finally:
            atexit.unregister(self._close)  # whoever owns the connection closes it; this would keep it for ever

    def exchange(self, command: str | None, action: tuple[list[float], list[int]] | None, timeout: float) -> Any:
        """Send a command and an action (continuous, discrete), and wait for the observation.

        Raises `LineError` when none comes in `timeout` seconds, or when it is not of the player's one agent.
        """
        self._communicator.timeout_wait = timeout
        if command is not None:
            message = OutgoingMessage()
            message.write_string(command)
            self._channel.queue_message_to_send(message)
        try:
            if self._is_first_message:
                self.reset()
            else:
                if action is not None:
                    continuous, discrete = action
                    values = np.array([continuous], np.float32), np.array([discrete], np.int32)
                    self.set_actions(self._behavior(), ActionTuple(*values))
                self.step()
        except (UnityException, EOFError, OSError) as error:
            raise LineError(_said(error)) from error
        agents = self._seen.get(self._behavior(), [])
        if len(agents) != 1:
            raise LineError(f"it has {len(agents)} agents of the behavior {BEHAVIOR!r}, and not one")
        return _observation(self._channel.take(), agents[0])

    def close(self) -> None:
        """Tell the player to quit, and free the port. Closing twice is fine."""
        self._loaded = False
        with suppress(OSError):
            self._communicator.close()

    @property
    def port(self) -> int:
        """Where the player connected to."""
        port: int = self._communicator.port
        return port

    def _behavior(self) -> str:
        for name in self._env_specs:
            if name.split("?")[0] == BEHAVIOR:
                return str(name)
        raise LineError(f"it has no behavior {BEHAVIOR!r}; it has {', '.join(self._env_specs) or 'none'}")

    def _get_communicator(self, worker_id: int, base_port: int, timeout_wait: float) -> RpcCommunicator:
        communicator = _Communicator(worker_id, base_port, timeout_wait)
        try:
            self._death = self._start(communicator.port)
        except BaseException:
            communicator.close()
            raise
        return communicator

    def _poll_process(self) -> None:
        death = self._death()
        if death is not None:
            raise UnityException(death)

    def _update_state(self, output: Any) -> None:
        """Keep the agents' observations as they came. `step` wants to know how many agents there are."""
        for name in self._env_specs:
            agents = [agent for agent in output.agentInfos[name].value if not agent.done]
            ids, none = np.array([agent.id for agent in agents], np.int32), np.zeros(len(agents), np.float32)
            steps = DecisionSteps([], none, ids, None, ids, none)
            self._env_state[name] = (steps, TerminalSteps.empty(self._env_specs[name]))
            self._seen[name] = agents
        self._side_channel_manager.process_side_channel_message(output.side_channel)


def picture(observation: Any) -> NDArray[np.uint8]:
    """(size, size, 3). Raises `LineError` for a picture that is broken."""
    try:
        return mlagents.picture(observation)
    except ValueError as error:
        raise LineError(f"picture {observation.name!r}: {error}") from error


def _observation(messages: list[str], agent: Any) -> Observation:
    pictures, vectors = {}, {}
    for observation in agent.observations:
        if observation.compression_type == PNG:
            pictures[observation.name] = observation
        else:
            vectors[observation.name] = np.array(observation.float_data.data, np.float32)
    return Observation(messages, pictures, vectors)


def _said(error: BaseException) -> str:
    if isinstance(error, UnityTimeOutException):
        return "it did not answer in time"
    return " ".join(str(error).split()) or type(error).__name__


class Channel(SideChannel):  # type: ignore[misc]
    """The messages that came with an exchange."""

    def __init__(self) -> None:
        super().__init__(uuid.UUID(CHANNEL))
        self._messages: list[str] = []

    def on_message_received(self, msg: IncomingMessage) -> None:
        self._messages.append(msg.read_string())

    def take(self) -> list[str]:
        messages, self._messages = self._messages, []
        return messages


class _Communicator(RpcCommunicator):  # type: ignore[misc]
    """The gRPC server that a player connects to."""

    def create_server(self) -> None:
        """Listen on the loopback addresses; sets `port` where any was asked for. Raises `PortInUse`."""
        # Without SO_REUSEPORT: two servers on one port would get each other's players.
        options = (("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", _LARGEST_MESSAGE))
        self.server = grpc.server(thread_pool=_Threads(), options=options)
        self.unity_to_external = UnityToExternalServicerImplementation()
        add_UnityToExternalProtoServicer_to_server(self.unity_to_external, self.server)
        self.port = self._bind("127.0.0.1")
        if _has_ipv6():
            self._bind("[::1]")
        self.server.start()
        self.is_open = True

    def _bind(self, address: str) -> int:
        try:
            bound: int = self.server.add_insecure_port(f"{address}:{self.port}")
        except RuntimeError as error:
            raise PortInUse from error
        if not bound:
            raise PortInUse
        return bound

    def poll_for_timeout(self, poll_callback: Callable[[], None] | None = None) -> None:
        """Wait for the player. Raises `UnityTimeOutException`, or what the callback raises when it has died."""
        deadline = time.monotonic() + self.timeout_wait
        while not self.unity_to_external.parent_conn.poll(_POLL_SECONDS):
            if poll_callback is not None:
                poll_callback()
            if time.monotonic() > deadline:
                raise UnityTimeOutException

    def initialize(self, inputs: Any, poll_callback: Callable[[], None] | None = None) -> Any:
        """The handshake. mlagents-envs' own waits without end for the player's second message."""
        self.poll_for_timeout(poll_callback)
        greeting = self.unity_to_external.parent_conn.recv()
        answer = type(greeting)()
        answer.header.status = 200
        answer.unity_input.CopyFrom(inputs)
        self.unity_to_external.parent_conn.send(answer)
        self.poll_for_timeout(poll_callback)
        self.unity_to_external.parent_conn.recv()
        return greeting.unity_output


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


class _Threads(Executor):
    """A thread for each call, which does not keep the interpreter from ending."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()

        def work() -> None:
            try:
                future.set_result(fn(*args, **kwargs))
            except BaseException as error:
                future.set_exception(error)

        Thread(target=work, daemon=True).start()
        return future
