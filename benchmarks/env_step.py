"""What the environment adds: wall time of a default episode over its captures and its VLM evaluation alone.

Plays whole episodes of uniform random actions with default arguments but without fine-tuning, which `finetune.py`
measures, noting every picture that was captured and every set of samples the VLM was asked about. Then the same
pictures are captured again from the bare backend, and the same samples scored again by the bare VLM. The ratio of the
two times is printed last, the median over the episodes with an interval: at most 1.15 is wanted. The ratio of all the
time is printed too; single slow episodes weigh in it, some because torch prepares kernels for a size of batch that the
VLM sees for the first time, and finds them prepared when the same samples are scored again. Of the time that is added,
what the proposals take is printed: at most 1.5 ms a step is wanted.
The two are timed in turns, episode by episode, so that a busy machine slows both alike.

    python benchmarks/env_step.py [--episodes N] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import gymnasium
import numpy as np
import torch

import rls3_gym  # noqa: F401  registers the ids
from rls3_gym.backends.base import Frame, SceneBackend
from rls3_gym.sample import Sample, decode_samples, encode_items
from rls3_gym.scene.arrangement import ActiveObject, Arrangement
from rls3_gym.scene.layouts import layouts
from rls3_gym.vlm.base import VLM
from rls3_gym.vlm.loading import load_vlm
from rls3_registry.errors import one_line_errors

TARGET = 1.15
PROPOSALS_TARGET_MS = 1.5
Times = tuple[float, float]


class NotingBackend:
    """A backend that notes what was captured."""

    def __init__(self, backend: SceneBackend) -> None:
        self.backend = backend
        self.image_size = backend.image_size
        self.fingerprint = backend.fingerprint
        self.captured: list[Arrangement] = []
        self._arrangement: Arrangement | None = None

    def reset(self, arrangement: Arrangement, seed: int) -> None:
        self._arrangement = arrangement
        self.backend.reset(arrangement, seed)

    def apply(self, arrangement: Arrangement) -> None:
        self._arrangement = arrangement
        self.backend.apply(arrangement)

    def capture(self, size: int | None = None) -> Frame:
        assert self._arrangement is not None
        self.captured.append(self._arrangement)
        return self.backend.capture(size)

    def close(self) -> None:
        self.backend.close()


class TimedOffer:
    """A lane's `draw_offer`, and the wall seconds it has taken."""

    def __init__(self, draw: Callable[[int], None]) -> None:
        self.draw = draw
        self.seconds = 0.0

    def __call__(self, k: int) -> None:
        start = perf_counter()
        self.draw(k)
        self.seconds += perf_counter() - start


def timed(work: Callable[[], Any]) -> tuple[Any, Times]:
    """What `work` gives, and the wall and processor seconds it took."""
    wall, cpu = perf_counter(), process_time()
    result = work()
    return result, (perf_counter() - wall, process_time() - cpu)


def episode(env: gymnasium.Env[Any, Any], actions: list[Any]) -> list[Sample]:
    """Play one episode; its samples."""
    env.reset()
    samples = []
    for action in actions:
        env.step(action)
        sample = env.unwrapped.sample  # type: ignore[attr-defined]
        if sample is not None:
            samples.append(sample)
    return samples


def bare(backend: SceneBackend, vlm: VLM, captured: list[Arrangement], samples: list[Sample]) -> None:
    """The captures and the evaluation of an episode, and nothing else."""
    for arrangement in captured:
        backend.apply(arrangement)
        backend.capture()
    if samples:
        vlm.evaluate(samples)


def measure(episodes: int) -> dict[str, float]:
    """Seconds and counts over `episodes` episodes, after a few to warm up."""
    env: Any = gymnasium.make("RLS3SceneFrozen-v0", disable_env_checker=True).unwrapped
    noting = NotingBackend(env.stage.backend)
    env.stage.backend = noting
    lane = env.loop.lane()
    proposals = lane.draw_offer = TimedOffer(lane.draw_offer)
    # Rooms and objects are built once in a run; that is not what is measured here.
    for layout in layouts("train"):
        noting.reset(Arrangement(layout, ()), seed=layout.index)
    for kind in env.stage.kinds:
        noting.apply(Arrangement(layouts("train")[0], (ActiveObject(kind, (0.0, 0.0, 0.0), 0.0),)))
        noting.capture()
    # A second VLM, so that neither finds captions tokenized that only the other has seen.
    vlm = load_vlm("tiny")
    env.reset(seed=0)
    env.action_space.seed(0)
    whole: list[Times] = []
    alone: list[Times] = []
    captures = count = 0
    warm_up, steps = 5, env.scheduler.schedule.steps_per_episode
    for number in range(warm_up + episodes):
        if number == warm_up:
            proposals.seconds = 0.0
        actions = [env.action_space.sample() for _ in range(steps)]
        noting.captured.clear()
        samples, took = timed(lambda actions=actions: episode(env, actions))
        # Fresh copies: the VLM keeps image features for as long as a sample lives.
        copies = decode_samples(encode_items(samples))
        _, took_alone = timed(lambda copies=copies: bare(noting.backend, vlm, noting.captured, copies))
        if number >= warm_up:
            whole.append(took)
            alone.append(took_alone)
            captures += len(noting.captured)
            count += len(samples)
    episode_times, alone_times = np.array(whole).T, np.array(alone).T
    ratios = episode_times / alone_times
    # Medians of resampled episodes: how far another run of the same machine may be.
    resampled = np.random.default_rng(0).integers(episodes, size=(2000, episodes))
    low, high = np.quantile(np.median(ratios[0][resampled], axis=1), (0.025, 0.975))
    return {
        "episodes": episodes,
        "captures": captures,
        "samples": count,
        "episode_ms": 1e3 * float(np.median(episode_times[0])),
        "alone_ms": 1e3 * float(np.median(alone_times[0])),
        "proposals_ms_per_step": 1e3 * proposals.seconds / (episodes * steps),
        "wall_ratio": float(np.median(ratios[0])),
        "wall_ratio_low": float(low),
        "wall_ratio_high": float(high),
        "processor_ratio": float(np.median(ratios[1])),
        "ratio_of_sums": float(episode_times[0].sum() / alone_times[0].sum()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    result = measure(arguments.episodes)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    captures, samples = result["captures"] / result["episodes"], result["samples"] / result["episodes"]
    print(f"{captures:.1f} captures and {samples:.1f} samples an episode")
    print(f"episode {result['episode_ms']:.1f} ms, captures and evaluation alone {result['alone_ms']:.1f} ms")
    print(f"proposals: {result['proposals_ms_per_step']:.2f} ms a step (wanted: at most {PROPOSALS_TARGET_MS})")
    print(f"ratio of all the time: {result['ratio_of_sums']:.3f}")
    print(f"ratio of processor time: {result['processor_ratio']:.3f}")
    low, high = result["wall_ratio_low"], result["wall_ratio_high"]
    print(f"ratio: {result['wall_ratio']:.3f} [{low:.3f}, {high:.3f}] (wanted: at most {TARGET})")


if __name__ == "__main__":
    with one_line_errors("env_step.py"):
        main()
