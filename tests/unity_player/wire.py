"""The player's end of ML-Agents' wire: a gRPC client that speaks communication API 1.5.0."""

from __future__ import annotations

import io
import struct
import uuid
from collections.abc import Sequence
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rls3_gym._compat import mlagents
from rls3_gym.backends.unity import messages

mlagents.install()

from mlagents_envs.communicator_objects import command_pb2, observation_pb2  # noqa: E402  after the shim
from mlagents_envs.communicator_objects.agent_info_pb2 import AgentInfoProto  # noqa: E402
from mlagents_envs.communicator_objects.unity_message_pb2 import UnityMessageProto  # noqa: E402
from mlagents_envs.communicator_objects.unity_to_external_pb2_grpc import UnityToExternalProtoStub  # noqa: E402

CHANNEL = uuid.UUID(messages.CHANNEL)
BEHAVIOR = f"{messages.BEHAVIOR}?team=0"
RESET = command_pb2.RESET
_CAPABILITIES = (
    "baseRLCapabilities", "concatenatedPngObservations", "compressedChannelMapping", "hybridActions",
    "trainingAnalytics", "variableLengthObservation", "multiAgentGroups",
)  # fmt: skip


class Line:
    """One connection to Python."""

    def __init__(self, port: int, api: str = "1.5.0") -> None:
        self._channel = grpc.insecure_channel(f"localhost:{port}")
        grpc.channel_ready_future(self._channel).result(timeout=30)
        self._stub = UnityToExternalProtoStub(self._channel)
        self._described = False
        greeting = _message()
        hello = greeting.unity_output.rl_initialization_output
        hello.name, hello.communication_version, hello.package_version = "AcademySingleton", api, "4.0.0"
        for name in _CAPABILITIES:
            setattr(hello.capabilities, name, True)
        self._stub.Exchange(greeting)

    def exchange(self, agent: AgentInfoProto | None, told: Sequence[str], kinds: int) -> Any:
        """Send an observation; the input that comes back. None when Python has ended the connection."""
        message = _message()
        if agent is not None:
            output = message.unity_output.rl_output
            output.agentInfos[BEHAVIOR].value.append(agent)
            output.side_channel = b"".join(_pack(text) for text in told)
            if not self._described:
                self._described = True
                brain = message.unity_output.rl_initialization_output.brain_parameters.add()
                brain.brain_name, brain.is_training = BEHAVIOR, True
                brain.action_spec.num_continuous_actions = 4
                brain.action_spec.num_discrete_actions = 2
                brain.action_spec.discrete_branch_sizes.extend([3, kinds])
        try:
            answer = self._stub.Exchange(message)
        except grpc.RpcError:
            return None
        return None if answer.header.status != 200 else answer.unity_input.rl_input


def commands(given: Any) -> list[str]:
    """The messages for us in an input."""
    data, found, offset = given.side_channel, [], 0
    while offset < len(data):
        channel = uuid.UUID(bytes_le=data[offset : offset + 16])
        (size,) = struct.unpack_from("<i", data, offset + 16)
        payload = data[offset + 20 : offset + 20 + size]
        offset += 20 + size
        if channel == CHANNEL:
            (length,) = struct.unpack_from("<i", payload)
            found.append(payload[4 : 4 + length].decode("ascii"))
    return found


def action(given: Any) -> tuple[list[float], list[int]] | None:
    """The agent's action in an input, if there is one."""
    if BEHAVIOR not in given.agent_actions:
        return None
    (taken,) = given.agent_actions[BEHAVIOR].value
    return list(taken.continuous_actions), list(taken.discrete_actions)


def agent_info(pictures: dict[str, bytes], vector: NDArray[np.float32], size: int, channels_first: bool) -> Any:
    """An observation as ML-Agents sends it: sensors sorted by name."""
    agent = AgentInfoProto(id=1)
    agent.action_mask.extend([False] * 3)
    for name in sorted([*pictures, messages.POSITIONS_SENSOR]):
        sensor = agent.observations.add(name=name)
        if name in pictures:
            sensor.shape.extend([3, size, size] if channels_first else [size, size, 3])
            sensor.dimension_properties.extend([1, 2, 2] if channels_first else [2, 2, 1])
            sensor.compression_type = observation_pb2.PNG
            sensor.compressed_channel_mapping.extend([0, 1, 2])
            sensor.compressed_data = pictures[name]
        else:
            sensor.shape.append(len(vector))
            sensor.dimension_properties.append(1)
            sensor.compression_type = observation_pb2.NONE
            sensor.float_data.data.extend(vector.tolist())
    return agent


def png(picture: NDArray[np.uint8]) -> bytes:
    """Quickly compressed, as Unity does it."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG", compress_level=1)
    return file.getvalue()


def _message() -> Any:
    message = UnityMessageProto()
    message.header.status = 200
    return message


def _pack(text: str) -> bytes:
    payload = struct.pack("<i", len(text)) + text.encode("ascii")
    return CHANNEL.bytes_le + struct.pack("<i", len(payload)) + payload
