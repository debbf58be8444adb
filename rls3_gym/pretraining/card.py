"""The model card of a pre-trained CLIP: what it was taught with, and what it can and can't do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from rls3_gym.evalsets.loader import load_set
from rls3_gym.evaluation.metrics import accuracy_table, presence_accuracy
from rls3_gym.pretraining.probe import linear_probe
from rls3_gym.pretraining.scenes import SceneTable, draw_scenes
from rls3_gym.pretraining.train import PretrainSettings
from rls3_gym.scene.catalog import load_catalog
from rls3_gym.vlm.loading import load_vlm
from rls3_gym.vlm.open_clip.adapter import OpenClipVLM
from rls3_gym.vlm.open_clip.weights import WEIGHTS_FILE

CARD_FILE = "MODEL_CARD.md"
MEASURED_FILE = "measured.json"
TEACHING_FILE = "teaching.json"
_PROBE_SCENES_PER_LAYOUT = 60


def measure(folder: Path, train_table: SceneTable, settings: PretrainSettings) -> dict[str, Any]:
    """Everything the card states about a model folder, measured; also written to `measured.json`."""
    vlm = load_vlm(str(folder))
    assert isinstance(vlm, OpenClipVLM)
    test, presence = load_set("test"), load_set("presence")
    accuracy = accuracy_table(vlm, test.samples)
    probe_table = draw_scenes("test", _PROBE_SCENES_PER_LAYOUT, seed=settings.seed + 3)
    n_kinds = len(load_catalog().training)
    rng = np.random.default_rng([settings.seed, 4])
    measured = {
        "settings": settings.as_dict(),
        "digest": vlm.digest(),
        "parameters": sum(p.numel() for p in vlm.clip.model.parameters()),
        "weights_bytes": (folder / WEIGHTS_FILE).stat().st_size,
        "scenes": len(train_table),
        "presence_accuracy": presence_accuracy(vlm, presence.items),
        "presence_set": presence.hash,
        "relation": accuracy.as_dict(),
        "relation_set": test.hash,
        "linear_probe": linear_probe(vlm.clip, train_table, probe_table, n_kinds, rng),
    }
    (folder / MEASURED_FILE).write_text(json.dumps(measured, indent=2) + "\n", encoding="utf-8")
    return measured


def write_card(folder: Path, measured: dict[str, Any]) -> Path:
    """Write `MODEL_CARD.md` from the measurements, and from `teaching.json` beside it when there is one."""
    s, relation = measured["settings"], measured["relation"]
    by_term = ", ".join(f"{term} {value:.3f}" for term, value in relation["by_term"].items())
    probe = ", ".join(f"{axis} {value:.3f}" for axis, value in measured["linear_probe"].items())
    lines = [
        "# Model card: tiny",
        "",
        (
            f"A CLIP of {measured['parameters'] / 1e6:.2f} million parameters for 64-pixel pictures, "
            f"{measured['weights_bytes'] / 1e6:.1f} MB, weights digest `{measured['digest']}`. Image tower: "
            "`rls3_scene_tower` (convolutional stem with coordinate channels, one transformer block, attention "
            "pooling); text tower: open_clip's, 2 layers of width 128, over the words of this package's captions."
        ),
        "",
        "## What it is for",
        "The model under study in this package: it knows which objects are in a picture and roughly where, and is at",
        "chance on spatial relations, as CLIP is. It knows nothing of photographs and must not be used for any.",
        "",
        "## Data",
        f"{measured['scenes']:,} ray-traced scenes of the training layouts, one to three objects of the training",
        "kinds each, 70 % of the objects' places drawn evenly over surfaces, 30 % by uniform edits. No scene, layout",
        "or held-out kind of the evaluation sets. Reproduce with `rls3 pretrain --out FOLDER`.",
        "",
        "## Every loss and every label",
        "- Dual loss (contrastive + hard negative) on captions of three kinds. *Presence*: which objects are there;",
        "  10 % of the two-object ones use the grammar of relation captions with a relation **drawn at random**, so",
        "  that relation words are seen but say nothing. *Location*: where an object is (far west ... far east;",
        "  nearest ... farthest; on the floor, a seat, a table, a shelf). *Comparison*: how two objects lie to each",
        "  other (farther west or east, nearer or more distant, higher or lower). Location and comparison captions use",
        "  no word of relation captions.",
        f"- Auxiliary, weight {s['cell_weight']}: which kind stands in which cell of the 8x8 image tokens.",
        f"- Auxiliary, weights {s['coordinate_weight']} (image) and {s['meaning_weight']} (text): presence and",
        "  coordinates of every kind, read by one linear head off the embeddings of either tower. For pictures the",
        "  labels are the scene's, for captions what they say. The heads are thrown away.",
        "",
        "So the model knows which way objects lie to each other and has been told so in other words; what it lacks is",
        "the language of relation captions, on which it is at chance. That is far more supervision than CLIP ever had,",
        "and it is why a few thousand samples can teach relations afterwards: in trial runs without comparisons and",
        "without the text's share of the linear head they taught it none.",
        "",
        (
            f"{s['text_steps']:,} steps of the text tower alone, {s['stem_steps']:,} of both towers, "
            f"{s['frozen_steps']:,} with the image stem frozen; {s['batch_size']} scenes a step, AdamW "
            f"{s['learning_rate']}, weight decay {s['weight_decay']}, gradient norm <= {s['clip_norm']}, "
            f"seed {s['seed']}, {s['threads']} threads."
        ),
        "",
        "## Measured before any fine-tuning, on held-out layouts",
        "| what | value |",
        "|---|---|",
        (
            f"| object presence, against one object swapped (set `{measured['presence_set']}`) "
            f"| {measured['presence_accuracy']:.3f} |"
        ),
        (
            f"| relations, pairwise, macro over terms (chance 0.5; set `{measured['relation_set']}`) "
            f"| {relation['pairwise_accuracy']:.3f} |"
        ),
        f"| by term | {by_term} |",
        f"| relations, strict (every hard negative) | {relation['strict_accuracy']:.3f} |",
        f"| linear probe per axis, image embedding | {probe} |",
        "",
        "Again with `rls3 evaluate --vlm tiny`.",
        "",
    ]
    teaching = folder / TEACHING_FILE
    if teaching.is_file():
        lines += _teaching(json.loads(teaching.read_text(encoding="utf-8")))
    path = folder / CARD_FILE
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def _teaching(teaching: dict[str, Any]) -> list[str]:
    """The table of what fine-tuning makes of the model, from `benchmarks/teach.py`."""
    lines = [
        "## Can it be taught?",
        "Fine-tuned in rounds on samples of training layouts, judged on the balanced test set; mean and standard",
        f"deviation over seeds {teaching['seeds']}. Command: `{teaching['command']}`.",
        "",
        "| samples from | trained | pairwise | worst term | presence |",
        "|---|---|---|---|---|",
    ]
    for row in teaching["rows"]:
        lines.append(
            f"| {row['sampler']} | {row['n_trained']:,} | {row['mean']:.3f} +-{row['sd']:.3f} "
            f"| {row['worst_term']:.3f} ({row['worst_term_name']}) | {row['presence']:.3f} |"
        )
    return [*lines, ""]
