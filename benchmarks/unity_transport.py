"""What the Unity backend adds to ML-Agents: its captures a second over bare `UnityEnvironment.step`.

Both drive the stand-in player of tests/unity_player, a process of its own each, with the same scenes: one object moves
at every step, and the picture, the ids and the depth come back as PNG. The bare one sends the commands that the backend
would, and decodes with mlagents-envs' own code, to floats; it looks at nothing. The backend decodes to bytes, reads the
message, checks it against the command and the pictures, and makes a frame of it. They take turns at every step, so that
a busy machine slows both alike. It measures the transport: a Unity player renders in its own time. At least 0.9 of the
bare one is wanted.

    python benchmarks/unity_transport.py [--steps N] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import logging
import socket
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from unity_player.launch import stand_in

from rls3_gym.backends.unity import messages
from rls3_gym.backends.unity.backend import UnityBackend
from rls3_gym.backends.unity.connection import Channel, OutgoingMessage, UnityEnvironment
from rls3_gym.scene.arrangement import Arrangement, place
from rls3_gym.scene.catalog import load_catalog
from rls3_gym.scene.layouts import draw_layout
from rls3_gym.scene.proposals import random_arrangement, random_edit
from rls3_registry.errors import one_line_errors

logging.getLogger("mlagents_envs.env_utils").setLevel(logging.INFO)  # else players print here
SIZES = (128, 224, 336)
TARGET = 0.9
WARM_UP = 20


def edits(count: int) -> list[Arrangement]:
    """Scenes of a run: each differs from the one before by one object."""
    rng = np.random.default_rng(0)
    kinds = [kind.name for kind in load_catalog().training]
    now = random_arrangement(rng, draw_layout("kitchen", 0), kinds)
    found = [now]
    while len(found) < count:
        placed = place(now, random_edit(rng, now, kinds)).arrangement
        if placed is not None:
            now = placed
            found.append(now)
    return found


class Bare:
    """`UnityEnvironment`, and commands on a side channel."""

    def __init__(self, player: Path, size: int, first: Arrangement) -> None:
        self._channel = Channel()
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        self._env = UnityEnvironment(str(player), base_port=port, side_channels=[self._channel], timeout_wait=60)
        self._size, self._number = size, 0
        self._queue(first)
        self._env.reset()
        (self._name,) = self._env.behavior_specs

    def capture(self, scene: Arrangement) -> None:
        self._queue(scene)
        self._env.step()
        self._env.get_steps(self._name)
        self._channel.take()

    def close(self) -> None:
        self._env.close()

    def _queue(self, scene: Arrangement) -> None:
        self._number += 1
        command = messages.Show.of(scene, number=self._number, seed=0, quality="high", size=self._size)
        message = OutgoingMessage()
        message.write_string(messages.encode(command))
        self._channel.queue_message_to_send(message)


class Ours:
    """The backend, as a stage uses it."""

    def __init__(self, player: Path, size: int, first: Arrangement) -> None:
        self._backend = UnityBackend({"file_name": str(player)}, image_size=size)
        self._backend.reset(first, seed=0)

    def capture(self, scene: Arrangement) -> None:
        self._backend.apply(scene)
        self._backend.capture()

    def close(self) -> None:
        self._backend.close()


def timed(capture: Callable[[Arrangement], None], scene: Arrangement) -> tuple[float, float]:
    """Wall and processor seconds of a capture, the latter of this process alone."""
    wall, cpu = perf_counter(), process_time()
    capture(scene)
    return perf_counter() - wall, process_time() - cpu


def measure(player: Path, size: int, steps: int) -> dict[str, float]:
    """Medians over all steps, after some to warm up."""
    scenes = edits(WARM_UP + steps)
    both: dict[str, Any] = {"bare": Bare(player, size, scenes[0]), "ours": Ours(player, size, scenes[0])}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in both}
    for number, scene in enumerate(scenes):
        for name in ("bare", "ours") if number % 2 else ("ours", "bare"):
            took = timed(both[name].capture, scene)
            if number >= WARM_UP:
                times[name].append(took)
    for driver in both.values():
        driver.close()
    row: dict[str, float] = {"size": size}
    for name, found in times.items():
        wall, cpu = (median(clock) for clock in zip(*found, strict=True))
        row |= {f"{name}_per_second": 1 / wall, f"{name}_cpu_ms": 1e3 * cpu}
    return row | {"ratio": row["ours_per_second"] / row["bare_per_second"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300, help="captures timed")
    parser.add_argument("--json", type=Path, help="also write the table to this file")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        # mlagents-envs 0.28 decodes pictures of this order alone.
        player = stand_in(Path(folder), layout="hwc")
        for size in SIZES:
            row = measure(player, size, options.steps)
            rows.append(row)
            print(
                f"{size:>4} px  bare {row['bare_per_second']:6.1f}/s ({row['bare_cpu_ms']:.1f} ms cpu)  "
                f"backend {row['ours_per_second']:6.1f}/s ({row['ours_cpu_ms']:.1f} ms cpu)  ratio {row['ratio']:.2f}",
                flush=True,
            )
    if options.json:
        content = {"steps": options.steps, "target": TARGET, "rows": rows}
        options.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    print(f"ratio, the lowest of all sizes (at least {TARGET} wanted): {min(row['ratio'] for row in rows):.2f}")


if __name__ == "__main__":
    with one_line_errors("unity_transport.py"):
        main()
