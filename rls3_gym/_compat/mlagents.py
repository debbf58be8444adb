"""Let mlagents-envs be imported beside today's protobuf, and read pictures of any player.

Reason for `install`: every release of mlagents-envs up to 1.1.0 ships message modules that a protoc of 2018 generated.
They build descriptors by hand, which protobuf 4 and later refuse (`Descriptors cannot be created directly`), and
protobuf's variable `PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION=python` does not help. Each such module also holds the whole
description of its messages in serialized form. `install` adds an import hook that takes this description and builds
the module with protobuf's own builder, as a module generated today does.

It does nothing for a module that a newer protoc generated, for any other module, where mlagents-envs is not installed,
and on a second call. Remove it when an mlagents-envs that this Python can install brings newer modules.

Reason for `picture`: a picture's shape is (height, width, 3) with the Unity package before 3.0 and (3, height, width)
with later ones, the versions do not tell, and mlagents-envs takes only one of them: 0.28.0 the first, 1.0 the second.
"""

from __future__ import annotations

import ast
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import io
import re
import struct
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_GENERATED = re.compile(r"mlagents_envs\.communicator_objects\.\w+_pb2")


def install() -> None:
    """Make `import mlagents_envs.environment` possible. Call it before the first such import."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def picture(observation: Any) -> NDArray[np.uint8]:
    """The PNG of an `ObservationProto`, (height, width, 3), in whichever order the player states its shape.

    Raises `ValueError` when it is no complete RGB picture, or not of the stated shape.
    """
    stated = tuple(observation.shape)
    try:
        with Image.open(io.BytesIO(observation.compressed_data), formats=("PNG",)) as image:
            size = (image.height, image.width)
            if stated not in ((*size, 3), (3, *size)):
                raise ValueError(f"it is {image.width} x {image.height} and its shape is said to be {stated}")
            return np.array(image.convert("RGB"))
    except (OSError, SyntaxError, EOFError, struct.error, zlib.error) as error:
        raise ValueError(f"it is no complete PNG ({error})") from error


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if not _GENERATED.fullmatch(fullname):
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if spec is None or spec.origin is None:
            return None
        description = _description(Path(spec.origin).read_text(encoding="utf-8"))
        if description is None:
            return None
        return importlib.util.spec_from_loader(fullname, _Loader(description), origin=spec.origin)


class _Loader(importlib.abc.Loader):
    """Fills a module from the serialized `FileDescriptorProto` of its messages."""

    def __init__(self, description: bytes) -> None:
        self._description = description

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        """The usual module."""

    def exec_module(self, module: ModuleType) -> None:
        from google.protobuf import descriptor_pb2, descriptor_pool
        from google.protobuf.internal import builder

        for needed in descriptor_pb2.FileDescriptorProto.FromString(self._description).dependency:
            importlib.import_module(needed.removesuffix(".proto").replace("/", ".") + "_pb2")
        content: dict[str, Any] = vars(module)
        file = descriptor_pool.Default().AddSerializedFile(self._description)
        content["DESCRIPTOR"] = file
        builder.BuildMessageAndEnumDescriptors(file, content)
        builder.BuildTopDescriptorsAndMessages(file, module.__name__, content)


def _description(source: str) -> bytes | None:
    """The serialized description in the source of a module that an old protoc generated; None for any other source.

    It is read and not run: `_descriptor.FileDescriptor(..., serialized_pb=_b('...'))`.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("FileDescriptor"):
            for keyword in node.keywords:
                if keyword.arg == "serialized_pb":
                    written = keyword.value.args[0] if isinstance(keyword.value, ast.Call) else keyword.value
                    value = ast.literal_eval(written)
                    return value.encode("latin1") if isinstance(value, str) else bytes(value)
    return None
