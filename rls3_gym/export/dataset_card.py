"""The README.md of exported samples: what they are, how many of what, how they were made, and how to load them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from rls3_gym.export.model_card import printable
from rls3_gym.export.records import LICENSE, Record, RunFacts
from rls3_gym.runs.row_values import COMPLEXITIES, TERM_NAMES

LOADING = {
    "hf": """from datasets import load_dataset

samples = load_dataset("DIR", split="train")
print(samples[0]["image"].size, samples[0]["caption"], samples[0]["false"])""",
    "webdataset": """import glob
import webdataset

shards = sorted(glob.glob("DIR/*.tar"))
samples = webdataset.WebDataset(shards, shardshuffle=False).decode("pil").to_tuple("png", "json")
for image, record in samples:
    print(image.size, record["caption"], record["false"])""",
    "parquet": """import io
import pandas
from PIL import Image

samples = pandas.read_parquet("DIR/samples.parquet")
first = samples.iloc[0]
print(Image.open(io.BytesIO(first["image"])).size, first["caption"], list(first["false"]))""",
    "folder": """import json
from pathlib import Path
from PIL import Image

folder = Path("DIR")
for line in (folder / "items.jsonl").open(encoding="utf-8"):
    item = json.loads(line)
    print(Image.open(folder / item["image"]).size, item["caption"], item["false"])""",
}
"""How each format is read by others, without this package."""

FIELDS: dict[str, str] = {
    "image": "the picture, RGB, square",
    "key": "name of the sample in this run",
    "caption": "true of the picture",
    "false": "captions that are false of it",
    "negatives": "the same false captions: `caption`, `change` (what was changed in the true one), `term` (the one "
    "that was turned, if one was)",
    "relation, terms, cell": "relation of object a to object b: its label, its terms, its index among the 26 relations",
    "kind_a, kind_b": "kinds of the two objects of the caption",
    "slot_a, slot_b": "their places in `objects`",
    "offset": "from b to a, meters, camera frame: x right, y up, z away from the camera along its heading",
    "objects": "`kind`; `x`, `y`, `z` of the center of the base, meters, world frame, z up; `yaw`, radians",
    "visible, pixels": "of each object, the share of its own pixels that is seen (0 to 1), and how many those are",
    "camera": "`x`, `y`, `z`, meters, world frame; `heading` (0 looks along +y, positive turns right) and `pitch` "
    "(positive looks up), radians; `fov_deg`, degrees, full, both ways",
    "family, layout, split": "the room: its family, the number of its layout, and the split of that layout",
    "scene_key": "identity of the scene",
    "correct, margin, hardest_negative": "the VLM's verdict at the time: whether it preferred the caption to "
    "all false ones, by how much (logits), and the false one that it liked best; null where it was not asked",
    "vlm_digest": "the VLM's weights at that time",
    "round, n_generated, seed": "round in which it was made (the first is 0), its number in the run (the first is 1), "
    "the run's seed",
    "world, package, command": "the renderer, the package that made the run, the command that began it",
    "license": "of picture and captions",
}
"""Every key of a record, with its unit."""


@dataclass
class Tally:
    """What a card counts."""

    n: int = 0
    judged: int = 0
    correct: int = 0
    by: dict[str, Counter[str]] = field(default_factory=dict)

    def add(self, record: Record) -> None:
        self.n += 1
        self.judged += record["correct"] is not None
        self.correct += bool(record["correct"])
        named: dict[str, list[str]] = {
            "term": record["terms"],
            "number of terms": [str(len(record["terms"]))],
            "room family": [record["family"]],
            "split of the layout": [record["split"]],
            "round": [str(record["round"])],
        }
        for what, values in named.items():
            self.by.setdefault(what, Counter()).update(values)

    def rows(self) -> list[tuple[str, str, int]]:
        """What, which, how many. Terms and lengths come in their fixed order, with zeros."""
        fixed = {"term": TERM_NAMES, "number of terms": COMPLEXITIES}
        return [
            (what, name, counter[name])
            for what, counter in self.by.items()
            for name in fixed.get(what, tuple(sorted(counter, key=lambda n: (len(n), n))))
        ]


def dataset_card(facts: RunFacts, kind: str, tally: Tally, rendered: int, differing: int) -> str:
    """The page, Markdown with a YAML head as the Hugging Face Hub reads it.

    Args:
        facts: The run.
        kind: Name of the format.
        tally: Of all samples that were written.
        rendered: Pictures that were taken again; the others are the run's own files.
        differing: Those of them with other pixel counts than the run wrote down.
    """
    counts = [f"| {what} | {name} | {n:,} |" for what, name, n in tally.rows()]
    right = f"{tally.correct / tally.judged:.1%} of the {tally.judged:,}" if tally.judged else "none of the 0"
    again = f"{rendered:,} pictures were rendered again from their scenes, {tally.n - rendered:,} are the run's files."
    if differing:
        again += (
            f" In {differing:,} of those rendered again, objects cover other numbers of pixels than the run "
            "wrote down: it was made on another machine."
        )
    lines = [
        "---",
        yaml.safe_dump(_head(facts, kind, tally.n), sort_keys=False, allow_unicode=True).strip(),
        "---",
        "",
        f"# {tally.n:,} captioned pictures of spatial relations",
        "",
        "Ray-traced rooms with three objects each. A caption says how two of them lie to each other as the camera sees",
        "them; each comes with captions that are false of the same picture.",
        "",
        "## How they were made",
        "",
        f"By the sampler `{facts.agent}` in the experiment `{facts.name}` with seed {facts.seed}, which chose them to",
        f"teach a vision-language model (RLS3), in {printable(facts.package)},",
        f"renderer `{printable(facts.world)}`:",
        "",
        f"    {printable(facts.command)}",
        "",
        "Samples that did not train are included.",
        again,
        f"When it was asked, the model preferred the true caption to all false ones in {right} samples.",
        "",
        "## Counts",
        "",
        "| by | | samples |",
        "|---|---|---|",
        *counts,
        "",
        "## Fields",
        "",
        "| field | meaning |",
        "|---|---|",
        *(f"| `{name.replace(', ', '`, `')}` | {meaning} |" for name, meaning in FIELDS.items()),
        "",
        "## Loading",
        "",
        "`DIR` is this folder.",
        "",
        "```python",
        LOADING[kind],
        "```",
        "",
        "## License",
        "",
        f"{LICENSE}. Nothing in the pictures was photographed, and no person is in them.",
        "",
    ]
    return "\n".join(lines)


def _head(facts: RunFacts, kind: str, n: int) -> Mapping[str, Any]:
    data: Sequence[Mapping[str, Any]] = [
        {"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*.parquet"}]}
    ]
    return {
        "license": LICENSE.lower(),
        "pretty_name": f"Spatial relations, {facts.name}, {facts.agent}, seed {facts.seed}",
        "language": ["en"],
        "tags": ["spatial-reasoning", "synthetic", "vision-language", "hard-negatives", "rls3"],
        **({"configs": data} if kind == "hf" else {}),
    }
