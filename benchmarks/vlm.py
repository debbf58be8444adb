"""What an open_clip model costs through this package beside the bare library: images per second, and memory.

    python benchmarks/vlm.py [--model ViT-B-32] [--items 64] [--scored 32] [--batch 16] [--train PATTERN ...]
                             [--epochs 8] [--device cuda] [--precision bf16] [--ready]

Builds the model with random weights and traces samples of its own picture size. Then scores them, and teaches them for
one round, through the adapter and with open_clip alone, on the same batches, in turns; either rate includes
preprocessing and tokenizing. With `--ready`, open_clip alone has a second turn, in which it finds its pictures
preprocessed, as if other processes did that for nothing.
Peak memory is that of processes of their own, one for each side, which load, score and teach twice: main memory, or on
a GPU what tensors take there. Prints the ratios last: of rates (more is better), by wall time and, because that is
worth little on a machine with other work, by the process's own CPU time; and of memory (less is better).
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
import torch
from checkpoint import traced
from PIL import Image
from torch.nn import functional as F

from rls3_gym.sample import CaptionItem
from rls3_gym.vlm.losses import contrastive_loss, hard_negative_loss, same_caption
from rls3_gym.vlm.open_clip.adapter import OpenClipVLM
from rls3_gym.vlm.open_clip.weights import open_clip_module
from rls3_gym.vlm.seeding import seeded_torch
from rls3_registry.errors import one_line_errors

EVERYTHING = ("visual.*", "text.*", "logit_*")
WORK = ("evaluate", "finetune")
NAMES = {"": "", "_bare": "open_clip alone ", "_ready": "with pictures ready "}
BESIDE = {"_bare": "", "_ready": " beside pictures ready"}


def public(name: str) -> str:
    return name if name.startswith(("visual.", "logit_", "text.")) else f"text.{name}"


class Bare:
    """The model in a loop of one's own."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        open_clip, model = open_clip_module(), arguments.model
        self.device = torch.device(arguments.device)
        with seeded_torch(0):
            self.model, _, self.preprocess = open_clip.create_model_and_transforms(model, device=self.device)
        self.tokenizer = open_clip.get_tokenizer(model)
        self.texts_at_once, train = arguments.texts_at_once, arguments.train
        self.half = arguments.precision == "bf16"
        self.ready: dict[CaptionItem, torch.Tensor] = {}
        for name, weight in self.model.named_parameters():
            weight.requires_grad_(any(fnmatchcase(public(name), pattern) for pattern in train))
        self.trained = [weight for weight in self.model.parameters() if weight.requires_grad]
        self.optimizer = torch.optim.AdamW(self.trained, lr=1e-6)

    def precision(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.half)

    def make_ready(self, items: Sequence[CaptionItem]) -> None:
        self.ready = {item: self.preprocess(Image.fromarray(item.rgb)) for item in items}

    def pixels(self, items: Sequence[CaptionItem]) -> torch.Tensor:
        kept = self.ready
        rows = [kept[item] if item in kept else self.preprocess(Image.fromarray(item.rgb)) for item in items]
        return torch.stack(rows).to(self.device)

    def tokens(self, captions: Sequence[str]) -> torch.Tensor:
        return self.tokenizer(captions).to(self.device)

    @torch.inference_mode()
    def evaluate(self, items: Sequence[CaptionItem]) -> None:
        self.model.eval()
        with self.precision():
            self._score(items)

    def _score(self, items: Sequence[CaptionItem]) -> None:
        images = self.model.encode_image(self.pixels(items), normalize=True)
        captions = [[item.caption, *(n.caption for n in item.negatives)] for item in items]
        unique = list(dict.fromkeys(caption for row in captions for caption in row))
        lots = [unique[start : start + self.texts_at_once] for start in range(0, len(unique), self.texts_at_once)]
        texts = torch.cat([self.model.encode_text(self.tokens(lot), normalize=True) for lot in lots])
        scores = (self.model.logit_scale.exp() * images @ texts.T).float().cpu().numpy()
        place = {caption: i for i, caption in enumerate(unique)}
        for row, named in zip(scores, captions, strict=True):
            row[[place[caption] for caption in named]].argmax()

    def finetune(self, batches: Sequence[Sequence[CaptionItem]], rng: np.random.Generator) -> None:
        self.model.train()
        for batch in batches:
            captions = [item.caption for item in batch]
            negatives = [item.negatives[int(rng.integers(len(item.negatives)))].caption for item in batch]
            with self.precision():
                images = F.normalize(self.model.encode_image(self.pixels(batch)), dim=-1)
                texts = F.normalize(self.model.encode_text(self.tokens([*captions, *negatives])), dim=-1)
                true, false = texts[: len(batch)], texts[len(batch) :]
                scale = self.model.logit_scale.exp().clamp(max=100)
                loss = contrastive_loss(images, true, same_caption(captions, images.device), scale)
                loss = loss + hard_negative_loss(images, true, false, scale)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.trained, 1.0)
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


def adapter(arguments: argparse.Namespace) -> OpenClipVLM:
    finetune = {"train": arguments.train, "batch_size": arguments.batch, "epochs": arguments.epochs, "replay": 0.0}
    finetune |= {"learning_rate": 1e-6, "max_logit_scale": 100.0, "precision": arguments.precision}
    with seeded_torch(0):
        settings = {"model": arguments.model, "device": arguments.device, "dtype": arguments.precision}
        return OpenClipVLM(settings, name=arguments.model, finetune=finetune)


def seconds(work: Callable[[], Any]) -> tuple[float, float]:
    """Wall time and CPU time."""
    started, cpu = perf_counter(), process_time()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return perf_counter() - started, process_time() - cpu


def peak(side: str, arguments: argparse.Namespace) -> int:
    """Bytes, of a process that loads, scores and teaches once."""
    items = min(arguments.items, 4 * arguments.batch)
    words = [sys.executable, __file__, "--side", side, "--model", arguments.model, "--items", str(items)]
    words += ["--scored", str(arguments.scored)]
    words += ["--batch", str(arguments.batch), "--threads", str(arguments.threads), "--train", *arguments.train]
    words += ["--texts-at-once", str(arguments.texts_at_once)]
    words += ["--device", arguments.device, "--precision", arguments.precision]
    return int(subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()[-1])


def run_side(arguments: argparse.Namespace) -> None:
    samples = traced(arguments.items, 224, np.random.default_rng(0))
    if arguments.side == "adapter":
        vlm = adapter(arguments)
        for seed in range(2):
            vlm.evaluate(samples[: arguments.scored])
            vlm.finetune(samples, np.random.default_rng(seed))
    else:
        alone, rng = Bare(arguments), np.random.default_rng(0)
        for _ in range(2):
            alone.evaluate(samples[: arguments.scored])
            size = arguments.batch
            alone.finetune([samples[start : start + size] for start in range(0, len(samples), size)], rng)
    on_gpu = arguments.device.startswith("cuda")
    print(torch.cuda.max_memory_allocated() if on_gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="ViT-B-32")
    parser.add_argument("--items", type=int, default=64, help="of a round")
    parser.add_argument("--scored", type=int, default=32, help="of them, how many are scored")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--train", nargs="+", default=list(EVERYTHING))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--ready", action="store_true", help="open_clip also with its pictures preprocessed beforehand")
    parser.add_argument("--side", choices=("adapter", "bare"), help=argparse.SUPPRESS)
    parser.add_argument("--texts-at-once", type=int, default=64, help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.side:
        run_side(arguments)
        return
    vlm = adapter(arguments)
    arguments.texts_at_once = vlm.clip.texts_in(2**26)
    samples = traced(arguments.items, vlm.image_size, np.random.default_rng(0))
    alone = Bare(arguments)
    sides = ["", "_bare", *(["_ready"] if arguments.ready else [])]
    times: dict[str, list[tuple[float, float]]] = {f"{what}{side}": [] for what in WORK for side in sides}
    # The first round warms up and makes the optimizers' moments; on a GPU the second one pins memory to keep them in.
    warm_up = 2 if arguments.device.startswith("cuda") else 1
    for repeat in range(arguments.repeats + warm_up):
        batches = vlm.batches(samples, np.random.default_rng(repeat))
        taken = {
            "evaluate": seconds(lambda: vlm.evaluate(samples[: arguments.scored])),
            "evaluate_bare": seconds(lambda: alone.evaluate(samples[: arguments.scored])),
            "finetune": seconds(lambda r=repeat: vlm.finetune(samples, np.random.default_rng(r))),
            "finetune_bare": seconds(lambda b=batches, r=repeat: alone.finetune(b, np.random.default_rng(r))),
        }
        if arguments.ready:
            alone.make_ready(samples)
            taken["evaluate_ready"] = seconds(lambda: alone.evaluate(samples[: arguments.scored]))
            taken["finetune_ready"] = seconds(lambda b=batches, r=repeat: alone.finetune(b, np.random.default_rng(r)))
            alone.ready.clear()
        print(*(f"{key} {wall:.2f} s, CPU {cpu:.2f} s" for key, (wall, cpu) in taken.items()), sep="; ", flush=True)
        if repeat >= warm_up:
            for key, value in taken.items():
                times[key].append(value)
    n = {"evaluate": arguments.scored, "finetune": sum(map(len, batches))}
    rates = {
        key: n[key.partition("_")[0]] / statistics.median(wall for wall, _ in values) for key, values in times.items()
    }
    for what in WORK:
        said = ", ".join(f"{NAMES[side]}{rates[what + side]:.2f}" for side in sides)
        print(f"{what}, images/s: {said}", flush=True)
    memory = {side: peak(side, arguments) for side in ("adapter", "bare")}
    ratios = {
        f"{what}{BESIDE[side]}{by}": statistics.median(
            bare[i] / own[i] for own, bare in zip(times[what], times[f"{what}{side}"], strict=True)
        )
        for what in WORK
        for side in sides[1:]
        for i, by in enumerate(("", " by CPU time"))
    }
    ratios["memory"] = memory["adapter"] / memory["bare"]
    if arguments.json:
        keys = ("model", "items", "scored", "batch", "epochs", "repeats", "threads", "train", "device", "precision")
        settings = {key: getattr(arguments, key) for key in keys}
        figures = {**settings, "images_per_second": rates, "peak_memory": memory, "ratios": ratios}
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print(f"peak memory: {memory['adapter'] / 1e9:.2f} GB, open_clip alone {memory['bare'] / 1e9:.2f} GB")
    print("ratio " + ", ".join(f"{what} {ratio:.3f}" for what, ratio in ratios.items()))


if __name__ == "__main__":
    with one_line_errors("vlm.py"):
        main()
