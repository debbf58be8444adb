"""`rls3 pretrain --vlm paligemma_tiny`: the tiny PaliGemma from nothing, and its model card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

import rls3_registry
from rls3_gym.evalsets.loader import load_set
from rls3_gym.evaluation.metrics import accuracy_table, presence_accuracy
from rls3_gym.pretraining.card import CARD_FILE, MEASURED_FILE
from rls3_gym.pretraining.generative_settings import GenerativeSettings
from rls3_gym.pretraining.language_train import LanguageStage
from rls3_gym.pretraining.pretrain import Carry, Report, carry_out
from rls3_gym.pretraining.questions import QuestionWriter
from rls3_gym.pretraining.scenes import SceneTable, draw_scenes
from rls3_gym.pretraining.vision_train import VisionStage
from rls3_gym.scene.catalog import load_catalog
from rls3_gym.vlm.answers import score_answers
from rls3_gym.vlm.transformers.adapter import TransformersVLM
from rls3_gym.vlm.transformers.folder import save_model
from rls3_gym.vlm.transformers.generative_model import GenerativeModel, Prompt

NAME = "paligemma_tiny"
_PROBE_SCENES_PER_LAYOUT = 12
_STRIDE = 4
"""Every so manieth item of the sets is asked about: it is a matter of minutes."""


def pretrain(out: Path, settings: GenerativeSettings | None = None, report: Report | None = None) -> Path:
    """Draw scenes, train the tiny PaliGemma, measure it and write a model folder of transformers to `out`.

    It can be stopped and taken up again, as `rls3_gym.pretraining.pretrain.pretrain`. Raises `UserError` likewise.
    """
    settings = settings or GenerativeSettings()
    names = [kind.name for kind in load_catalog().training]

    def train(table: SceneTable, carry: Carry) -> None:
        seeing = VisionStage(table, names, settings)
        carry(seeing, "image tower", "vision.pt")
        speaking = LanguageStage(table, names, settings, seeing)
        carry(speaking, "language", "language.pt")
        speaking.model.module.eval()
        save_model(speaking.model, out, half=True)

    def finish(table: SceneTable) -> None:
        measured = _measure(out, len(table), names, settings)
        (out / MEASURED_FILE).write_text(json.dumps(measured, indent=2) + "\n", encoding="utf-8")
        (out / CARD_FILE).write_text("\n".join(_card(measured)), encoding="utf-8")

    return carry_out(out, settings, train, finish, report)


def _measure(folder: Path, n_scenes: int, names: list[str], settings: GenerativeSettings) -> dict[str, Any]:
    """Everything that the card states."""
    asked = {**rls3_registry.load("vlms", NAME)["settings"], "model": str(folder), "device": "cpu"}
    vlm = TransformersVLM(asked, name=NAME, finetune=rls3_registry.load("vlms", NAME)["finetune"])
    test, presence = load_set("test"), load_set("presence")
    samples, items = test.samples[::_STRIDE], presence.items[::_STRIDE]
    probe = draw_scenes("test", _PROBE_SCENES_PER_LAYOUT, seed=settings.seed + 3)
    return {
        "settings": settings.as_dict(),
        "digest": vlm.digest(),
        "parameters": sum(weight.numel() for weight in vlm.model.module.parameters()),
        "weights_bytes": sum(file.stat().st_size for file in folder.glob("*.safetensors")),
        "scenes": n_scenes,
        "presence_accuracy": presence_accuracy(vlm, items),
        "presence_set": f"{presence.hash}/{_STRIDE}",
        "relation": accuracy_table(vlm, samples).as_dict(),
        "answers": score_answers([sample.caption for sample in samples], vlm.answers(samples)).as_dict(),
        "relation_set": f"{test.hash}/{_STRIDE}",
        "comparison_accuracy": _comparison_accuracy(vlm.model, probe, names, np.random.default_rng([settings.seed, 4])),
    }


def _comparison_accuracy(
    model: GenerativeModel, table: SceneTable, names: list[str], rng: np.random.Generator
) -> float:
    """How often the true answer is the likelier one, of two to a comparison of objects in held-out layouts."""
    writer = QuestionWriter(table, names, (0.0, 0.0, 1.0))
    drawn = [(row, *writer.comparison(row, rng)) for row in range(len(table))]
    pairs = [(row, true, false) for row, true, false in drawn if " than " in true.answer]
    prompts = [Prompt(table.rgb[row], true.prompt) for row, true, _ in pairs]
    scores = model.log_likelihoods(prompts, [[true.answer, false.answer] for _, true, false in pairs])
    return float(np.mean([row[0] > row[1] for row in scores]))


def _card(measured: dict[str, Any]) -> list[str]:
    s, relation, answers = measured["settings"], measured["relation"], measured["answers"]
    by_term = ", ".join(f"{term} {value:.3f}" for term, value in relation["by_term"].items())
    return [
        "# Model card: paligemma_tiny",
        "",
        (
            f"A PaliGemma of {measured['parameters'] / 1e6:.2f} million parameters for 64-pixel pictures (SigLIP on "
            f"8x8 patches, Gemma), {measured['weights_bytes'] / 1e6:.1f} MB in half precision, weights digest "
            f"`{measured['digest']}`. Its tokenizer has one token for each object kind and for each other word of this "
            "package's captions, and bytes for all other text."
        ),
        "",
        "## What it is for",
        "The generative model under study in this package, small enough for a laptop: it knows which objects are in a",
        "picture and where, and is at chance on spatial relations. It knows nothing of photographs.",
        "",
        "## Data",
        f"{measured['scenes']:,} ray-traced scenes of the training layouts, drawn as for the packaged CLIP. No scene,",
        "layout or held-out kind of the evaluation sets. Reproduce with",
        "`rls3 pretrain --vlm paligemma_tiny --out FOLDER`.",
        "",
        "## Every loss and every label",
        f"- Image tower, {s['vision_steps']:,} steps: distillation from the packaged tiny CLIP (mean squared error to",
        "  its token of each patch, through one linear layer that is thrown away), and which kind stands in each patch",
        "  (cross entropy) and where that is (mean squared error), likewise.",
        f"- Language model, {s['language_steps']:,} steps with the image tower frozen, by its own loss on the answers",
        f"  to four types of prompts: what is there ({s['description_share']:.0%}); where objects are",
        f"  ({s['place_share']:.0%}) and how two lie to each other ({s['comparison_share']:.0%}), in words that no",
        "  relation caption uses; and the question of relation captions, answered with a relation **drawn at random**.",
        "  Besides, where a kind stands has to be readable, through one linear layer that is thrown away, off its name",
        "  in the prompt after the first layer. Projector and first attention layer begin with what the image tower's",
        "  linear layers have learned (`rls3_gym.pretraining.generative_model.wire`).",
        "",
        (
            f"{s['vision_batch_size']} and {s['language_batch_size']} scenes a step, AdamW {s['learning_rate']}, "
            f"weight decay {s['weight_decay']}, gradient norm <= {s['clip_norm']}, "
            f"seed {s['seed']}, threads: {s['threads']}."
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
            "| comparisons in the words it was taught, against one that is turned or swapped (chance 0.5) "
            f"| {measured['comparison_accuracy']:.3f} |"
        ),
        (
            f"| relations, pairwise likelihood, macro over terms (chance 0.5; set `{measured['relation_set']}`) "
            f"| {relation['pairwise_accuracy']:.3f} |"
        ),
        f"| by term | {by_term} |",
        f"| relations, strict (every hard negative) | {relation['strict_accuracy']:.3f} |",
        f"| relations, answers: F1 of the terms, macro | {answers['term_f1']:.3f} |",
        f"| relations, answers: objects named | {answers['object_mentions']:.3f} |",
        "",
        "Again with `rls3 evaluate --vlm paligemma_tiny`.",
        "",
    ]
