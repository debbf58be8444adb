"""Time of one capture by the embedded tracer, beside a plain retrace of everything, in a real room.

    python benchmarks/tracer.py [--family kitchen] [--captures 40] [--json FILE]

Two ways to arrive at a capture are timed: `edit` moves one of the three objects, as a step of the environment does;
`new` moves all three, as a new arrangement does. `plain` puts room and objects in one scene and traces and lights
every sample again. Times are medians in milliseconds, wall clock and (in brackets) processor time of the process; the
ratios are of processor time, which a busy machine disturbs less.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import numpy as np

import rls3_registry
from rls3_gym.backends.embedded.furniture_meshes import build_room
from rls3_gym.backends.embedded.objects import load_object
from rls3_gym.backends.embedded.textures import texture, texture_names
from rls3_gym.backends.embedded.tracer import Movable, ObjectGeometry, Traced, Tracer, prepare_object
from rls3_gym.scene.catalog import load_catalog
from rls3_gym.scene.layouts import draw_layout
from rls3_gym.scene.rooms import Layout
from rls3_registry.errors import one_line_errors

SETTINGS = ((64, 1), (64, 2), (112, 1), (112, 2), (224, 1), (224, 2))
"""Image side in pixels, and n for n x n samples per pixel."""
OBJECTS = 3


def stand_somewhere(rng: np.random.Generator, layout: Layout, kinds: list[ObjectGeometry]) -> Movable:
    """Any kind on any surface of the layout's stage."""
    surface = layout.surfaces[rng.integers(len(layout.surfaces))]
    x0, x1, y0, y1 = layout.stage
    x = rng.uniform(max(surface.x0, x0), max(surface.x0, x0, min(surface.x1, x1)))
    y = rng.uniform(max(surface.y0, y0), max(surface.y0, y0, min(surface.y1, y1)))
    return Movable(kinds[rng.integers(len(kinds))], (x, y, surface.z), rng.uniform(-np.pi, np.pi))


def arrangements(rng: np.random.Generator, layout: Layout, kinds: list[ObjectGeometry]) -> Iterator[list[Movable]]:
    """Alternates a wholly new arrangement and the same one with one object moved."""
    while True:
        objects = [stand_somewhere(rng, layout, kinds) for _ in range(OBJECTS)]
        yield objects
        objects = list(objects)
        objects[rng.integers(OBJECTS)] = stand_somewhere(rng, layout, kinds)
        yield objects


def clocked(trace: Callable[[list[Movable]], Traced], objects: list[Movable]) -> tuple[float, float]:
    """Wall and processor milliseconds of one capture."""
    wall, cpu = time.perf_counter(), time.process_time()
    trace(objects)
    return (time.perf_counter() - wall) * 1e3, (time.process_time() - cpu) * 1e3


def measure(
    layout: Layout, kinds: list[ObjectGeometry], size: int, supersampling: int, captures: int
) -> dict[str, float]:
    """Medians over `captures` arrangements of each sort; keys ending in `_cpu` are processor time."""
    textures = {name: texture(name) for name in texture_names()}
    start = time.perf_counter()
    tracer = Tracer(build_room(layout), textures, layout.camera, layout.light, size, supersampling)
    row: dict[str, float] = {"size": size, "supersampling": supersampling}
    row["room"] = (time.perf_counter() - start) * 1e3
    scenes = arrangements(np.random.default_rng(0), layout, kinds)
    for _ in range(4):
        tracer.trace(next(scenes))
    times: dict[str, list[tuple[float, float]]] = {"new": [], "edit": []}
    edited = []
    for _ in range(captures):
        times["new"].append(clocked(tracer.trace, next(scenes)))
        edited.append(next(scenes))
        times["edit"].append(clocked(tracer.trace, edited[-1]))
    times["plain"] = [clocked(tracer.trace_plain, objects) for objects in edited]
    for name, pairs in times.items():
        row[name], row[f"{name}_cpu"] = (median(clock) for clock in zip(*pairs, strict=True))
    row["plain_per_edit"] = row["plain_cpu"] / row["edit_cpu"]
    row["plain_per_new"] = row["plain_cpu"] / row["new_cpu"]
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", default="kitchen", choices=rls3_registry.names("rooms"), help="room family")
    parser.add_argument("--captures", type=int, default=40, help="arrangements timed per setting")
    parser.add_argument("--json", type=Path, help="also write the table to this file")
    options = parser.parse_args()
    layout = draw_layout(options.family, 0)
    kinds = [prepare_object(load_object(kind.name)) for kind in load_catalog().kinds]
    print(f"{layout.key}, {OBJECTS} of {len(kinds)} kinds, median ms of {options.captures} captures")
    print(
        f"{'image':>10} {'room once':>10} {'edit':>15} {'new':>15} {'plain':>15} {'plain/edit':>11} {'plain/new':>10}"
    )
    rows = []
    for size, supersampling in SETTINGS:
        row = measure(layout, kinds, size, supersampling, options.captures)
        rows.append(row)
        cells = [f"{row[name]:.2f} ({row[name + '_cpu']:.2f})" for name in ("edit", "new", "plain")]
        print(
            f"{size:>4} px {supersampling}x{supersampling} {row['room']:>10.1f} {cells[0]:>15} {cells[1]:>15} "
            f"{cells[2]:>15} {row['plain_per_edit']:>11.1f} {row['plain_per_new']:>10.1f}"
        )
    if options.json:
        options.json.write_text(json.dumps({"layout": layout.key, "objects": OBJECTS, "rows": rows}, indent=2) + "\n")
    full = next(row for row in rows if (row["size"], row["supersampling"]) == (224, 1))
    print(f"ratio at 224 px, 1 sample: {full['plain_per_edit']:.1f}")


if __name__ == "__main__":
    with one_line_errors("tracer.py"):
        main()
