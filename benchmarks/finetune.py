"""What a fine-tuning round costs beside its own arithmetic.

    python benchmarks/finetune.py [--samples 500] [--repeats 5] [--json FILE]

Times `VLM.finetune` on samples that the VLM has been asked about before (as in the loop), and the bare forward,
backward and optimizer steps over the same batches with all inputs prepared. Prints the median of the ratios last.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from rls3_gym.evalsets.loader import load_set
from rls3_gym.sample import CaptionItem
from rls3_gym.vlm.loading import load_vlm
from rls3_gym.vlm.losses import contrastive_loss, hard_negative_loss, same_caption
from rls3_gym.vlm.open_clip.adapter import OpenClipVLM
from rls3_registry.errors import one_line_errors


def bare_round(vlm: OpenClipVLM, batches: list[list[CaptionItem]], rng: np.random.Generator) -> float:
    """Seconds of forward, backward and optimizer steps alone."""
    ready = []
    for batch in batches:
        captions = [s.caption for s in batch]
        negatives = [s.negatives[int(rng.integers(len(s.negatives)))].caption for s in batch]
        same = same_caption(captions, vlm.clip.device)
        ready.append((vlm._features.of(batch), vlm.clip.tokenizer([*captions, *negatives]), same))
    parameters = [p for p in vlm.clip.model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3)
    vlm.clip.model.train()
    for part in vlm.clip.model.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.eval()  # as in a round
    started = time.perf_counter()
    for features, tokens, same in ready:
        images = F.normalize(vlm.clip.embed_features(features), dim=-1)
        texts = F.normalize(vlm.clip.embed_tokens(tokens), dim=-1)
        true, false = texts[: len(images)], texts[len(images) :]
        loss = contrastive_loss(images, true, same, vlm.scale()) + hard_negative_loss(images, true, false, vlm.scale())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    vlm = load_vlm("tiny")
    assert isinstance(vlm, OpenClipVLM)
    samples = list(load_set("guide").samples[: arguments.samples])
    vlm.evaluate(samples)
    vlm.finetune(samples, np.random.default_rng(0))  # warm-up; afterwards half of each batch is replay
    whole, bare = [], []
    for repeat in range(arguments.repeats):
        batches = vlm.batches(samples, np.random.default_rng(repeat))
        bare.append(bare_round(vlm, batches, np.random.default_rng(repeat)))
        started = time.perf_counter()
        report = vlm.finetune(samples, np.random.default_rng(repeat))
        whole.append(time.perf_counter() - started)
        assert report.optimizer_steps == len(batches)
    ratio = statistics.median(w / b for w, b in zip(whole, bare, strict=True))
    figures = {
        "samples": len(samples),
        "steps": report.optimizer_steps,
        "round_seconds": statistics.median(whole),
        "bare_seconds": statistics.median(bare),
        "ratio": ratio,
    }
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print(f"round of {len(samples)} samples, {report.optimizer_steps} steps: {figures['round_seconds']:.2f} s")
    print(f"bare forward, backward, optimizer: {figures['bare_seconds']:.2f} s")
    print(f"ratio {ratio:.3f}")


if __name__ == "__main__":
    with one_line_errors("finetune.py"):
        main()
