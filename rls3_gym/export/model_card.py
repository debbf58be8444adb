"""The README.md of an exported VLM: what it was taught with, what it scores, and how to load it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from rls3_gym.export.records import LICENSE
from rls3_gym.runs.row_values import TERM_NAMES
from rls3_gym.runs.rows import EvaluationRow
from rls3_gym.runs.run_data import RunData, add_up
from rls3_gym.scene.relations import RELATIONS
from rls3_gym.suites.forgetting import NAME as FORGETTING

TOWER = "rls3_scene_tower"
"""The image tower of the packaged VLM, which open_clip does not know by itself."""
_CONFIG = "open_clip_config.json"
_TRAINED = {
    "random": "a random share of it",
    "mined": "the share of it that the VLM failed most",
    "learnable": "the share of it that a reference VLM got right where this one did not",
    "jest": "the share of it that was the most learnable as a set, beside a reference VLM (JEST)",
}
"""What `environment.selection` let train."""

LOADING = """import open_clip

model, _, transform = open_clip.create_model_and_transforms("local-dir:DIR")
tokenizer = open_clip.get_tokenizer("local-dir:DIR")
model.eval()"""
LOADING_TINY = """from rls3_gym._compat import torchvision

torchvision.install()  # where torch is for the CPU alone, open_clip needs it
import open_clip
import rls3_gym.vlm.open_clip.scene_tower  # registers the image tower
from rls3_gym.vlm.open_clip.tokenizer import CompactTokenizer
from pathlib import Path

model, _, transform = open_clip.create_model_and_transforms("local-dir:DIR")
model.eval()
model.text.use_pad_mask = True
tokenizer = CompactTokenizer.load(Path("DIR/vocabulary.json"), model.context_length)
ids = tokenizer(["The red bowl is above the blue cup."])
words = (ids != 0)[..., None].float()  # the text tower gives a vector for each token: a caption's is their mean
text = (model.encode_text(ids) * words).sum(1) / words.sum(1)"""
LOADING_GENERATIVE = """from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

model = AutoModelForImageTextToText.from_pretrained("DIR").eval()
processor = AutoProcessor.from_pretrained("DIR")"""
SCORING = """from rls3_gym.vlm.loading import load_vlm

vlm = load_vlm("DIR")"""


def model_card(run: RunData, taught_digest: str, digest: str, folder: Path) -> str:
    """The page, Markdown with a YAML head as the Hugging Face Hub reads it.

    Args:
        run: The run that taught the model.
        taught_digest: Of the VLM in the run.
        digest: Of the exported weights: another one where adapters were merged into them.
        folder: Where they lie: the card looks there for what loading needs.
    """
    taught = [row for row in run.metrics.finetunes if row.digest_after == taught_digest]
    row = taught[-1] if taught else None
    round_, n_trained, n_generated = (row.round, row.n_trained, row.n_generated) if row else (0, 0, 0)
    library = _Library.of(folder)
    name, agent = run.config.get("name"), _name(run.config.get("agent"))
    state = f"after round {round_}" if row else "before anything was taught"
    lines = [
        "---",
        yaml.safe_dump(
            _head(name, agent, run.config.get("seed"), library), sort_keys=False, allow_unicode=True
        ).strip(),
        "---",
        "",
        f"# {_name(run.config.get('vlm'))}, taught with the samples of {agent}",
        "",
        f"{library.what}, {state} of the experiment `{name}` with seed {run.config.get('seed')}; weights digest",
        f"`{digest}`. The sampler `{agent}` chose the pictures that it was taught with (RLS3).",
        "",
        "    " + printable((run.command.splitlines() or ["unknown"])[0]),
        "",
        "## Loading",
        "",
        "`DIR` is this folder.",
        *library.notes,
        "",
        "```python",
        library.loading,
        "```",
        "",
        "`rls3 evaluate --vlm DIR` measures it, and `load_vlm` gives it with all that its scores need:",
        "",
        "```python",
        SCORING,
        "```",
        "",
        "## Data",
        "",
        f"{n_trained:,} captioned pictures, of {n_generated:,} that the sampler made.",
        "",
        *_data(run, round_),
        "## Scores",
        "",
        "Accuracy on held-out sets; chance is 0.5 (pairwise). In brackets 95 % intervals over the items of a set, its",
        "terms taken as independent; they say nothing about other seeds.",
        "",
        *_scores(run, round_),
        "",
        *_suites(run, round_),
        "## Settings",
        "",
        *_fenced(yaml.safe_dump(run.config, sort_keys=False, allow_unicode=True).strip(), "yaml"),
        "",
        *_fenced("\n".join(printable(line) for line in run.environment.splitlines())),
        "",
        "## License and limits",
        "",
        f"Data and what it changed in the weights: {LICENSE}. Weights that a run began with keep their own license;",
        "for those of the packaged model it is the same.",
        "It was taught on rendered rooms with three objects each"
        + ("." if set(run.metrics.suites) - {FORGETTING} else "; nothing has been measured on photographs."),
        "",
    ]
    return "\n".join(lines)


def printable(text: str) -> str:
    """The printable characters of a line that somebody else may have written."""
    return "".join(character for character in text if character.isprintable())


def _fenced(text: str, language: str = "") -> list[str]:
    """A block of code: its fence is longer than any run of backticks inside, which would end it."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return [fence + language, text, fence]


@dataclass(frozen=True)
class _Library:
    """What the card says of the library that loads the folder."""

    what: str
    name: str
    task: str
    loading: str
    tags: tuple[str, ...]
    notes: tuple[str, ...] = ()
    packaged: bool = False
    """Whether the model is the packaged CLIP, and so under this package's license as a whole."""

    @classmethod
    def of(cls, folder: Path) -> _Library:
        """The library of a model folder, by its files."""
        if not (folder / _CONFIG).is_file():
            return cls("A model of transformers", "transformers", "image-text-to-text", LOADING_GENERATIVE, ("vlm",))
        clip = cls("An open_clip model", "open_clip", "zero-shot-image-classification", LOADING, ("clip",))
        config = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))["model_cfg"]
        if config["vision_cfg"].get("timm_model_name") != TOWER:
            return clip
        notes = (
            "",
            f"open_clip does not know the image tower of this model, `{TOWER}`: rls3_gym has to be imported first. Its",
            "vocabulary is `vocabulary.json`, not that of open_clip.",
        )
        return replace(clip, loading=LOADING_TINY, notes=notes, packaged=True)


def _head(name: Any, agent: str, seed: Any, library: _Library) -> dict[str, Any]:
    return {
        "license": LICENSE.lower() if library.packaged else "other",
        "library_name": library.name,
        "pipeline_tag": library.task,
        "tags": [
            *library.tags, "spatial-reasoning", "rls3", f"sampler:{agent}", f"experiment:{name}", f"seed:{seed}",
        ],
    }  # fmt: skip


def _name(section: Any) -> str:
    return str(section.get("name") if isinstance(section, dict) else section)


def _data(run: RunData, round_: int) -> list[str]:
    """What the sampler made until that round, by term, length and relation cell."""
    rows = [row for row in run.metrics.episodes if row.round < round_]
    if not rows:
        return []
    made, selection = add_up(rows), str((run.config.get("environment") or {}).get("selection", "random"))
    cells = [f"{relation.label} {n:,}" for relation, n in zip(RELATIONS, made.cells, strict=True)]
    return [
        f"What the sampler made ({_TRAINED.get(selection, 'a share of it')} trained):",
        "",
        f"- by term: {', '.join(f'{term} {n:,}' for term, n in made.terms.items())}",
        f"- by number of terms: {', '.join(f'{terms}: {n:,}' for terms, n in made.complexity.items())}",
        f"- by relation cell: {', '.join(cells)}",
        "",
    ]


def _scores(run: RunData, round_: int) -> list[str]:
    """A table: each set before anything was taught, and at that round or the last measured before it."""
    lines = [
        "| set | measured after round | pairwise | strict | " + " | ".join(TERM_NAMES) + " |",
        "|---|---|---|---|" + "---|" * len(TERM_NAMES),
    ]
    for name, rows in run.metrics.evaluations.items():
        until = [row for row in rows if row.round <= round_]
        for row in dict.fromkeys((0, len(until) - 1)) if until else ():
            lines.append(_score_row(name, until[row]))
    return lines


def _suites(run: RunData, round_: int) -> list[str]:
    """A table: each measure of the suites and of the forgetting probe, before anything was taught and then."""
    lines = [
        "Other pictures, and whether the model still knows which objects it sees (`forgetting`):",
        "",
        "| suite | measure | items | before | after round | after | chance |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, rows in run.metrics.suites.items():
        until = [row for row in rows if row.round <= round_]
        for measure in until[0].value if until else ():
            first, last = (
                _share(row.value.get(measure)) + _between(row.low.get(measure), row.high.get(measure))
                for row in (until[0], until[-1])
            )
            chance, n = _share(until[-1].chance.get(measure)), until[-1].n_by_measure.get(measure, 0)
            lines.append(f"| {name} | {measure} | {n:,} | {first} | {until[-1].round} | {last} | {chance} |")
    if FORGETTING not in run.metrics.suites:
        unasked = "Whether it has forgotten objects was not asked (`evaluation.forgetting: true` in the experiment)."
        return [unasked, ""] if len(lines) == 4 else [*lines, "", unasked, ""]
    return [*lines, ""]


def _between(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f" [{low:.3f}, {high:.3f}]"


def _score_row(name: str, row: EvaluationRow) -> str:
    cells = [_share(row.pairwise_accuracy) + _interval(row), _share(row.strict_accuracy)]
    cells += [_share(row.by_term.get(term)) for term in TERM_NAMES]
    return f"| {name} ({row.n:,} items, `{row.set_hash}`) | {row.round} | {' | '.join(cells)} |"


def _share(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"


def _interval(row: EvaluationRow) -> str:
    """Of the mean over the terms, which the pairwise accuracy is."""
    terms: Sequence[tuple[float, int]] = [
        (share, row.n_by_term.get(term, 0)) for term, share in row.by_term.items() if share is not None
    ]
    if row.pairwise_accuracy is None or not terms or any(n == 0 for _, n in terms):
        return ""
    half = 1.96 * math.sqrt(sum(share * (1 - share) / n for share, n in terms)) / len(terms)
    return f" [{max(0.0, row.pairwise_accuracy - half):.3f}, {min(1.0, row.pairwise_accuracy + half):.3f}]"
