"""The stand-in's main program: python -m unity_player.player --mlagents-port PORT [options]."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from rls3_gym.backends.unity import messages
from rls3_gym.scene.catalog import load_catalog
from unity_player import wire
from unity_player.look import Look
from unity_player.world import View, World

FAULTS = (
    "die", "hang", "truncate", "not_png", "schema", "silent", "nan", "nan_vector", "swap_layout", "move", "count",
    "constant", "frozen", "mirror", "repeat", "blur_ids", "no_camera", "internal",
    "unread",
)  # fmt: skip


class StandIn:
    """Obeys commands until Python ends the connection, but for the fault that it was told to have."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._world = World(Look.from_json(options.look))
        self._seen = 0
        self._before: View | None = None
        self._sent: tuple[Any, list[str]] | None = None

    def run(self) -> int:
        options, kinds = self._options, len(load_catalog().kinds)
        if options.fault == "die" and options.at == 0:
            print("Failed to initialize graphics.", flush=True)
            return 3
        line = wire.Line(options.mlagents_port, options.api)
        given = line.exchange(None, (), kinds)
        number = 0
        while given is not None:
            told = wire.commands(given)
            view = self._world.view(number, None)
            for text in told:
                view = self._world.obey(text, wire.action(given))
                number = view.message["number"]
            given = line.exchange(*self._observation(view), kinds)
        return 0

    def _observation(self, view: View) -> tuple[Any, list[str]]:
        """What is sent, with or without a fault."""
        self._seen += 1
        fault = self._options.fault if self._is_due() else None
        before, self._before = self._before or view, view
        if fault == "die":
            os._exit(3)
        if fault == "hang":
            time.sleep(3600)
        if fault == "repeat" and self._sent is not None:
            return self._sent
        view = _falsified(view, before, fault)
        size = int(view.message.get("size", 8))
        pictures = {name: wire.png(picture) for name, picture in view.pictures.items()}
        if fault == "truncate":
            pictures["camera"] = pictures["camera"][: len(pictures["camera"]) // 2]
        if fault == "not_png":
            pictures["camera"] = b"no picture at all"
        if fault == "no_camera":
            del pictures["camera"]
        agent = wire.agent_info(pictures, view.positions, size, self._options.layout == "chw")
        told = [] if fault == "silent" else [json.dumps(view.message, separators=(",", ":"))]
        self._sent = agent, told
        return self._sent

    def _is_due(self) -> bool:
        options = self._options
        if options.fault is None or self._seen < options.at:
            return False
        if options.once:
            try:
                Path(options.once).touch(exist_ok=False)
            except FileExistsError:
                return False
        return True


def _falsified(view: View, before: View, fault: str | None) -> View:
    message = json.loads(json.dumps(view.message))
    pictures, positions = dict(view.pictures), view.positions.copy()
    if fault == "schema":
        message["schema"] = messages.SCHEMA + 1
    elif fault == "nan":
        message["objects"][0]["position"][0] = float("nan")
    elif fault == "nan_vector":
        positions[2] = np.nan
    elif fault == "swap_layout":
        message["layout"] = before.message["layout"] if before is not view else "kitchen/99"
        pictures = dict(before.pictures)
    elif fault == "move":
        message["objects"][0]["position"][0] += 0.1
        positions[1] += 0.1
    elif fault == "count":
        message["objects"][0]["pixels"] += 500
    elif fault == "constant":
        pictures["camera"] = np.full_like(pictures["camera"], 90)
    elif fault == "frozen":
        pictures["camera"] = before.pictures["camera"]
    elif fault == "mirror":
        pictures = {name: np.ascontiguousarray(picture[:, ::-1]) for name, picture in pictures.items()}
    elif fault == "blur_ids":
        pictures["ids"] = (pictures["ids"] // 2).astype(np.uint8)
    elif fault == "internal":
        keep = ("schema", "number")
        message = {key: message[key] for key in keep} | {"type": "error", "problem": "internal", "detail": "no memory"}
    elif fault == "unread":
        message = {"schema": 1, "type": "error", "number": 0, "problem": "command", "detail": "what was that?"}
    return replace(view, message=message, pictures=pictures, positions=positions)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--mlagents-port", type=int, default=5004)
    parser.add_argument("--look", default=Look().to_json())
    parser.add_argument("--layout", choices=("chw", "hwc"), default="chw", help="order of a picture's stated shape")
    parser.add_argument("--api", default="1.5.0")
    parser.add_argument("--starts", help="file that its process number is added to")
    parser.add_argument("--fault", choices=FAULTS)
    parser.add_argument("--at", type=int, default=1, help="from this observation on; 1 is the first of the self-test")
    parser.add_argument("--once", help="only where this file is not there yet; it is made")
    options, others = parser.parse_known_args()
    print("stand-in player", os.getpid(), "also given:", *others, flush=True)
    if options.starts:
        with open(options.starts, "a", encoding="utf-8") as file:
            print(os.getpid(), file=file)
    return StandIn(options).run()


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # gRPC takes its time to end
