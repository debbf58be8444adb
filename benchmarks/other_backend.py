"""Does what a VLM learns in one world hold in the other? The test set `test`, shown by both.

An agent teaches one VLM in the embedded world and one through the Unity backend, with the same experiment and seed; the
VLM as it was at first and both taught ones are then judged on the same scenes in both worlds. The player is the one
that RLS3_UNITY_PLAYER names. Without it the stand-in of tests/unity_player shows the same rooms with other colors of
walls, floors and furniture, no textures, warmer and dimmer light, and another camera: a change of looks, and not yet of
worlds.

    python benchmarks/other_backend.py [--rounds N] [--items N] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from unity_player.launch import stand_in
from unity_player.look import OTHER

from rls3_gym.backends.base import SceneBackend, load_backend
from rls3_gym.backends.unity.settings import VARIABLE
from rls3_gym.evalsets.loader import load_set
from rls3_gym.evaluation.metrics import accuracy_table
from rls3_gym.experiment.config import load_config
from rls3_gym.experiment.run import start
from rls3_gym.runs.taught import find_vlm
from rls3_registry.errors import one_line_errors

WORLDS = ("embedded", "unity")
ITEMS_WHILE_TEACHING = 102


def teach(world: str, rounds: int, agent: str, out: Path) -> str:
    """Teach a VLM in a world; the name of what was taught."""
    changes = [
        f"environment.backend={world}", f"budget.rounds={rounds}", f"agent={agent}",
        f"evaluation.items={ITEMS_WHILE_TEACHING}", "images_per_round=0",
    ]  # fmt: skip
    run = start(load_config("quickstart", changes), ["benchmarks/other_backend.py"], out / world)
    return str(run.directory)


def judge(vlm: str, backend: SceneBackend, items: int) -> dict[str, float]:
    """Accuracies in percent over every k-th item of the test set."""
    samples = load_set("test", backend).samples
    table = accuracy_table(find_vlm(vlm), samples[:: max(1, len(samples) // items)]).as_dict()
    return {key: 100 * float(table[key]) for key in ("strict_accuracy", "pairwise_accuracy")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="fine-tunings, of 400 samples each")
    parser.add_argument("--agent", default="sb3/ppo_select", help="what teaches")
    parser.add_argument("--items", type=int, default=1224, help="items of the test set")
    parser.add_argument("--json", type=Path, help="also write the table to this file")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault(VARIABLE, str(stand_in(Path(folder), look=OTHER)))
        names = {"untaught": "tiny"}
        for world in WORLDS:
            names[f"taught in {world}"] = teach(world, options.rounds, options.agent, Path(folder))
        backends = {world: load_backend(world, 64) for world in WORLDS}
        print(f"{'strict (pairwise) accuracy, %':32} {'in embedded':>16} {'in unity':>16}")
        for name, vlm in names.items():
            found = {world: judge(vlm, backend, options.items) for world, backend in backends.items()}
            rows.append({"vlm": name, **found})
            cells = [
                f"{found[world]['strict_accuracy']:.1f} ({found[world]['pairwise_accuracy']:.1f})" for world in WORLDS
            ]
            print(f"{name:32} {cells[0]:>16} {cells[1]:>16}", flush=True)
        worlds = {world: backend.fingerprint for world, backend in backends.items()}
        for backend in backends.values():
            backend.close()
    if options.json:
        content = {"rounds": options.rounds, "agent": options.agent, "items": options.items, "worlds": worlds}
        options.json.write_text(json.dumps({**content, "rows": rows}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    with one_line_errors("other_backend.py"):
        main()
