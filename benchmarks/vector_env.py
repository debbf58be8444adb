"""Many lanes with one VLM: steps and samples a second and memory, against processes with a VLM each and against bounds.

Everything in one run, with frozen VLMs and uniform actions in the default view, in the 20 rooms of one family, which
are built before anything is measured (a run builds each of its rooms once in every process, at about 30 ms):

- N = 1, 2, 4, 8, 16 lanes with the shared VLM, stages in `--workers` processes;
- N processes, each with an environment and a VLM of its own, all at once;
- the bounds: the same pictures captured by the bare backend (tracer alone) in one process and in `--workers` at once,
  and the same samples scored by the bare VLM (VLM alone).

Wanted at 8 lanes on 2 cores: at least 0.8 of min(tracer alone, VLM alone) in samples a second, and at most a quarter of
the memory of 8 processes. Memory is the proportional set size of all processes together. Fine-tuning is measured by
`finetune.py`; here it would be the same work on both sides. On a machine that is busy otherwise, the ratios of
processor time tell more than those of wall time; both are printed.

    python benchmarks/vector_env.py [--episodes N] [--lanes 1 2 4 8 16] [--workers N] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import gymnasium
import torch

import rls3_gym
from rls3_gym.backends.base import load_backend
from rls3_gym.sample import Sample, decode_samples, encode_items
from rls3_gym.scene.arrangement import Arrangement
from rls3_gym.vlm.loading import load_vlm
from rls3_registry.errors import one_line_errors

TARGET, MEMORY_TARGET = 0.8, 0.25
ID = "RLS3SceneFrozen-v0"
ROOMS: dict[str, Any] = {"families": ("kitchen",)}
SEEN_SCENES = 100
"""Scenes that every process has set up before it is measured: 20 rooms are all among them but once in eight runs."""


def warm_up(lanes_of_a_process: int) -> int:
    """Episodes that set up so many scenes; one has a new scene every 10 of its 32 steps."""
    return -(-SEEN_SCENES // (4 * lanes_of_a_process))


def memory_mb(pids: list[int]) -> float:
    """Proportional set size of some processes together, MB: shared pages count once."""
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total / 1024


def cpu_seconds(pids: list[int]) -> float:
    """Processor time that some processes have used."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def shared(lanes: int, workers: int, episodes: int) -> tuple[dict[str, float], list[Sample]]:
    """N lanes with the shared VLM; its figures, and the samples that were made, lane by lane."""
    env: Any = gymnasium.make_vec(ID, num_envs=lanes, workers=workers, **ROOMS)
    team = [os.getpid(), *(env.loop._lanes.pids if workers else [])]
    env.reset(seed=0)
    env.action_space.seed(0)
    steps = env.settings.steps_per_episode
    for _ in range(warm_up(-(-lanes // max(workers, 1))) * steps):
        env.step(env.action_space.sample())
    made: list[list[Sample]] = [[] for _ in range(lanes)]
    start, used = perf_counter(), cpu_seconds(team)
    for _ in range(episodes * steps):
        env.step(env.action_space.sample())
        for number, step in env.taken.items():
            made[number] += [] if step.sample is None else [step.sample]
    wall, cpu = perf_counter() - start, cpu_seconds(team) - used
    samples = [sample for lane in made for sample in lane]
    figures = _figures(episodes * steps * lanes, len(samples), wall, cpu, memory_mb(team))
    env.close()
    return figures, samples


def _figures(steps: int, samples: int, wall: float, cpu: float, memory: float) -> dict[str, float]:
    return {
        "steps_per_s": steps / wall,
        "samples_per_s": samples / wall,
        "samples_per_cpu_s": samples / cpu,
        "memory_mb": memory,
    }


def _own(pipe: Connection, number: int, episodes: int) -> None:
    """A process with an environment and a VLM of its own."""
    torch.set_num_threads(1)
    rls3_gym.register_envs()
    env: Any = gymnasium.make(ID, disable_env_checker=True, **ROOMS).unwrapped
    env.reset(seed=number)
    env.action_space.seed(number)
    made = 0

    def play(count: int) -> int:
        found = 0
        for _ in range(count * env.settings.steps_per_episode):
            *_, ended, info = env.step(env.action_space.sample())
            found += info["feasible"]
            if ended:
                env.reset()
        return found

    play(warm_up(1))
    pipe.send("ready")
    pipe.recv()
    used = process_time()
    made = play(episodes)
    pipe.send((made, episodes * env.settings.steps_per_episode, process_time() - used))
    pipe.recv()  # alive until its memory has been measured


def separate(processes: int, episodes: int) -> dict[str, float]:
    """N processes with a VLM each, all at once."""
    context = multiprocessing.get_context("spawn")
    pipes, team = [], []
    for number in range(processes):
        mine, theirs = context.Pipe()
        process = context.Process(target=_own, args=(theirs, number, episodes), daemon=True)
        process.start()
        pipes.append(mine)
        team.append(process)
    for pipe in pipes:
        pipe.recv()
    start = perf_counter()
    for pipe in pipes:
        pipe.send("go")
    results = [pipe.recv() for pipe in pipes]
    wall = perf_counter() - start
    memory = memory_mb([process.pid or 0 for process in team])
    for pipe, process in zip(pipes, team, strict=True):
        pipe.send("end")
        process.join()
    made, steps, cpu = (sum(part) for part in zip(*results, strict=True))
    return _figures(steps, made, wall, cpu, memory)


def _trace(pipe: Connection, scenes: list[Arrangement]) -> None:
    """Capture scenes with the bare backend; sends the wall and the processor seconds."""
    backend = load_backend("embedded", 64)
    for scene in scenes:  # rooms are built once in a run; that is not measured
        backend.reset(scene, seed=scene.layout.index)
    pipe.send("ready")
    pipe.recv()
    start, used = perf_counter(), process_time()
    for scene in scenes:
        backend.apply(scene)
        backend.capture()
    pipe.send((perf_counter() - start, process_time() - used))


def tracer_alone(samples: list[Sample], workers: int) -> dict[str, float]:
    """The samples' pictures captured again by the bare backend, in so many processes at once."""
    context = multiprocessing.get_context("spawn")
    pipes, team = [], []
    for number in range(workers):
        mine, theirs = context.Pipe()
        first, last = (len(samples) * end // workers for end in (number, number + 1))
        scenes = [sample.arrangement for sample in samples[first:last]]
        process = context.Process(target=_trace, args=(theirs, scenes), daemon=True)
        process.start()
        pipes.append(mine)
        team.append(process)
    for pipe in pipes:
        pipe.recv()
    for pipe in pipes:
        pipe.send("go")
    results = [pipe.recv() for pipe in pipes]
    for process in team:
        process.join()
    wall, cpu = max(wall for wall, _ in results), sum(cpu for _, cpu in results)
    return {"samples_per_s": len(samples) / wall, "samples_per_cpu_s": len(samples) / cpu}


def vlm_alone(samples: list[Sample]) -> dict[str, float]:
    """The samples scored again by the bare VLM, as many at once as end their episodes together."""
    vlm, at_once = load_vlm("tiny"), 208
    copies = [decode_samples(encode_items(samples[i : i + at_once])) for i in range(0, len(samples), at_once)]
    vlm.evaluate(decode_samples(encode_items(samples)))  # captions are tokenized once in a run
    start, used = perf_counter(), process_time()
    for batch in copies:
        vlm.evaluate(batch)
    return {
        "samples_per_s": len(samples) / (perf_counter() - start),
        "samples_per_cpu_s": len(samples) / (process_time() - used),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=4)
    parser.add_argument("--lanes", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    load = os.getloadavg()[0]
    for lanes in arguments.lanes:
        together, samples = shared(lanes, min(arguments.workers, lanes), arguments.episodes)
        apart = separate(lanes, arguments.episodes)
        row: dict[str, Any] = {"lanes": lanes, "shared": together, "separate": apart}
        if lanes == min(arguments.lanes, key=lambda n: abs(n - 8)):
            row["tracer"] = {str(n): tracer_alone(samples, n) for n in sorted({1, arguments.workers})}
            row["vlm"] = vlm_alone(samples)
        rows.append(row)
        print(
            f"{lanes:3} lanes: shared {together['steps_per_s']:.0f} steps/s {together['samples_per_s']:.0f} samples/s "
            f"{together['memory_mb']:.0f} MB; {lanes} processes {apart['steps_per_s']:.0f} steps/s "
            f"{apart['samples_per_s']:.0f} samples/s {apart['memory_mb']:.0f} MB; "
            f"memory {together['memory_mb'] / apart['memory_mb']:.2f}",
            flush=True,
        )
        if "vlm" in row:
            vlm = row["vlm"]["samples_per_s"]
            for n, tracer in row["tracer"].items():
                bound = min(tracer["samples_per_s"], vlm)
                print(
                    f"    bound, tracer in {n} process(es): min({tracer['samples_per_s']:.0f}, {vlm:.0f}) samples/s; "
                    f"reached {together['samples_per_s'] / bound:.2f} (wanted: at least {TARGET})"
                )
            print(f"    memory (wanted: at most {MEMORY_TARGET} of the processes')")
    result = {"load_before": load, "workers": arguments.workers, "episodes": arguments.episodes, "rows": rows}
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    with one_line_errors("vector_env.py"):
        main()
