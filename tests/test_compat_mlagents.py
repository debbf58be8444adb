"""mlagents-envs' old message modules beside today's protobuf, and pictures in either order of their shape."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rls3_gym._compat import mlagents

IMPORT = "from mlagents_envs.communicator_objects.unity_message_pb2 import UnityMessageProto"


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_the_shim_is_still_needed_and_is_enough() -> None:
    """When the first half fails, an mlagents-envs with new modules is out: remove the shim."""
    unaided = run(IMPORT)
    assert "Descriptors cannot be created directly" in unaided.stderr
    aided = run(
        f"from rls3_gym._compat import mlagents\nmlagents.install()\nmlagents.install()\n{IMPORT}\n"
        "message = UnityMessageProto()\n"
        "message.unity_output.rl_output.agentInfos['RLS3?team=0'].value.add().id = 7\n"
        "again = UnityMessageProto.FromString(message.SerializeToString())\n"
        "import sys\n"
        "print(again.unity_output.rl_output.agentInfos['RLS3?team=0'].value[0].id)\n"
        "print(sum(type(finder) is mlagents._Finder for finder in sys.meta_path))"
    )
    assert aided.stdout.split() == ["7", "1"], aided.stderr


def test_the_shim_leaves_everything_else_alone(tmp_path: Path) -> None:
    finder = mlagents._Finder()
    assert finder.find_spec("mlagents_envs.environment", None) is None
    assert finder.find_spec("json", None) is None
    folder = tmp_path / "mlagents_envs" / "communicator_objects"
    folder.mkdir(parents=True)
    modern = "from google.protobuf.internal import builder as _builder\nDESCRIPTOR = pool.AddSerializedFile(b'')\n"
    (folder / "new_pb2.py").write_text(modern, encoding="utf-8")
    assert finder.find_spec("mlagents_envs.communicator_objects.new_pb2", [str(folder)]) is None
    assert finder.find_spec("mlagents_envs.communicator_objects.absent_pb2", [str(folder)]) is None


class Picture:
    """What is read of an `ObservationProto`."""

    def __init__(self, data: bytes, *shape: int) -> None:
        self.compressed_data, self.shape = data, shape


def png(mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    pixels = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    Image.fromarray(pixels).convert(mode).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("shape", [(4, 6, 3), (3, 4, 6)])
def test_a_picture_is_read_in_either_order_of_its_shape(shape: tuple[int, ...]) -> None:
    found = mlagents.picture(Picture(png(), *shape))
    assert found.shape == (4, 6, 3) and found.dtype == np.uint8 and found[0, 1].tolist() == [3, 4, 5]
    assert (mlagents.picture(Picture(png("RGBA"), *shape)) == found).all()


@pytest.mark.parametrize(
    ("data", "shape"),
    [(png(), (4, 4, 3)), (png()[:-30], (4, 6, 3)), (png()[:20], (4, 6, 3)), (b"", (4, 6, 3)), (b"\x89PNG", (3, 4, 6))],
)
def test_a_picture_that_is_broken_is_an_error(data: bytes, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="it is"):
        mlagents.picture(Picture(data, *shape))
