"""What a checkpoint of a large VLM costs, of which a tenth trains: bytes on disk, seconds to write, read and name.

    python benchmarks/checkpoint.py [--model ViT-B-32] [--samples 1000] [--json FILE]

Builds the model with random weights, teaches it one step on ray-traced samples of its own picture size (so that the
optimizer has its moments and the replay its samples), and saves and loads its state as a run does. Prints the ratio of
the checkpoint to the weights of the whole model last.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch

from rls3_gym.backends.base import load_backend
from rls3_gym.runs.codec import load_tree, save_tree
from rls3_gym.sample import Sample, make_sample
from rls3_gym.scene.catalog import load_catalog
from rls3_gym.scene.layouts import layouts
from rls3_gym.scene.proposals import random_arrangement
from rls3_gym.vlm.open_clip.adapter import OpenClipVLM
from rls3_registry.errors import one_line_errors

TENTH = ["visual.transformer.resblocks.10.*", "visual.transformer.resblocks.11.*", "visual.ln_post.*", "visual.proj"]
"""A tenth of ViT-B-32: the last two blocks of its image tower, and what follows them."""
BATCH = 16


def traced(n: int, size: int, rng: np.random.Generator) -> list[Sample]:
    """Samples of random arrangements in the training layouts, `size` pixels wide."""
    backend, kinds = load_backend("embedded", size), [kind.name for kind in load_catalog().training]
    rooms, samples = layouts("train"), []
    for room in range(min(n, len(rooms))):
        for number in range(room, n, len(rooms)):
            arrangement = random_arrangement(rng, rooms[room], kinds)
            backend.reset(arrangement, seed=number)
            samples.append(make_sample(arrangement, backend.capture(), 0, 1))
    return samples


def seconds(work: Callable[[], Any], repeats: int) -> float:
    """Median wall time."""
    times = []
    for _ in range(repeats):
        started = perf_counter()
        work()
        times.append(perf_counter() - started)
    return statistics.median(times)


def measure(model: str, train: list[str], n_samples: int, repeats: int, folder: Path) -> dict[str, Any]:
    """All figures, JSON-ready."""
    # Of 16 samples: one step.
    finetune = {"train": train, "batch_size": BATCH, "epochs": BATCH / max(BATCH, n_samples), "replay": 0.0}
    vlm = OpenClipVLM({"model": model, "device": "cpu"}, name=model, finetune=finetune)
    weights = list(vlm.clip.model.state_dict().values())
    trained = [p for p in vlm.clip.model.parameters() if p.requires_grad]
    digest_seconds = seconds(vlm.digest, 1)
    first_state_seconds = seconds(vlm.state, 1)  # with the digest of the frozen weights, which is computed once
    samples = traced(n_samples, vlm.image_size, np.random.default_rng(0))
    report = vlm.finetune(samples, np.random.default_rng(0))
    assert report.optimizer_steps == 1 and report.rolled_back is None, report
    png_seconds = seconds(vlm.state, 1)  # encodes every picture once; later states find them encoded
    digest = vlm.digest()
    save_seconds = seconds(lambda: save_tree(vlm.state(), folder), repeats)
    load_seconds = seconds(lambda: vlm.load_state(load_tree(folder)), repeats)
    assert vlm.digest() == digest
    state = vlm.state()
    moments = [t for row in state["optimizer"].values() for t in row.values()]
    n_parameters = sum(p.numel() for p in vlm.clip.model.parameters())
    return {
        "model": model,
        "parameters": n_parameters,
        "trained_share": sum(p.numel() for p in trained) / n_parameters,
        "weights_bytes": sum(t.nbytes for t in weights),
        "replayed": len(samples),
        "image_size": vlm.image_size,
        "replay_raw_bytes": sum(s.rgb.nbytes for s in samples),
        "replay_bytes": state["replay"]["png"].nbytes + len(json.dumps(state["replay"]["rows"])),
        "trained_weights_bytes": sum(t.nbytes for t in state["weights"].values()),
        "optimizer_bytes": sum(t.nbytes for t in moments),
        "checkpoint_bytes": sum(path.stat().st_size for path in folder.iterdir()),
        "save_seconds": save_seconds,
        "load_seconds": load_seconds,
        "png_seconds": png_seconds,
        "first_state_seconds": first_state_seconds,
        "digest_seconds": digest_seconds,
        "threads": torch.get_num_threads(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="ViT-B-32", help="a name of open_clip's, or packaged:tiny")
    parser.add_argument("--train", nargs="+", default=TENTH, help="patterns of the parameters that train")
    parser.add_argument("--samples", type=int, default=1000, help="samples in the replay")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(
            arguments.model, arguments.train, arguments.samples, arguments.repeats, Path(folder) / "state"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    f = figures
    print(f"{f['model']}: {f['parameters'] / 1e6:.0f} M parameters, {f['trained_share']:.1%} of them trained")
    print(
        f"checkpoint {f['checkpoint_bytes'] / 1e6:.0f} MB: trained weights {f['trained_weights_bytes'] / 1e6:.0f}, "
        f"optimizer {f['optimizer_bytes'] / 1e6:.0f}, replay of {f['replayed']:,} samples "
        f"{f['replay_bytes'] / 1e6:.0f} ({f['replay_raw_bytes'] / 1e6:.0f} as arrays)"
    )
    print(
        f"saved in {f['save_seconds']:.2f} s, loaded in {f['load_seconds']:.2f} s; PNGs encoded in "
        f"{f['png_seconds']:.1f} s, once; digest of all weights {f['digest_seconds']:.2f} s"
    )
    ratio = f["checkpoint_bytes"] / f["weights_bytes"]
    print(f"ratio of the checkpoint to the weights of the whole model ({f['weights_bytes'] / 1e6:.0f} MB): {ratio:.3f}")


if __name__ == "__main__":
    with one_line_errors("checkpoint.py"):
        main()
