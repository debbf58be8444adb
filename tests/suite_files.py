"""Small suites in their authors' formats, and VLMs that follow a rule. In the pictures a red patch is somewhere."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from rls3_gym.sample import CaptionItem
from rls3_gym.vlm.base import Feedback
from rls3_gym.vlm.feedback import captions_of, feedback_from_logits, logits_table

RGB = NDArray[np.uint8]
CENTERS = {"left": (0.2, 0.5), "right": (0.8, 0.5), "on": (0.5, 0.2), "under": (0.5, 0.8)}
PHRASES = {"left": "to the left of", "right": "to the right of", "on": "on", "under": "under"}


class RuleVLM:
    """Scores a picture and a caption by a function of both."""

    name = "rule"
    image_size = 32

    def __init__(self, score: Callable[[RGB, str], float]) -> None:
        self._score = score
        self.most_items = 0

    def logits(self, items: Sequence[CaptionItem]) -> NDArray[np.float32]:
        captions, owners = captions_of(items)
        assert all(item.rgb.shape == (32, 32, 3) for item in items)
        scores = [self._score(items[i].rgb, caption) for i, caption in zip(owners, captions, strict=True)]
        return logits_table(owners, np.array(scores, np.float32))

    def evaluate(self, items: Sequence[CaptionItem]) -> Feedback:
        self.most_items = max(self.most_items, len(items))
        return feedback_from_logits(items, self.logits(items))

    def digest(self) -> str:
        return "0" * 12


def patch(rgb: RGB) -> str | None:
    """Where the red patch is: left, right, on (upper) or under (lower)."""
    red = (rgb[..., 0] > 150) & (rgb[..., 1] < 100)
    if not red.any():
        return None
    y, x = np.argwhere(red).mean(axis=0) / rgb.shape[0]
    return min(CENTERS, key=lambda place: abs(CENTERS[place][0] - x) + abs(CENTERS[place][1] - y))


def place_in(caption: str) -> str | None:
    """The place that a caption names."""
    return next((word for word in caption.lower().rstrip(".").split() if word in CENTERS), None)


def seer(rgb: RGB, caption: str) -> float:
    """Sees where the patch is, and prefers captions that say so. Without a patch all captions are alike."""
    return float(patch(rgb) is not None and patch(rgb) == place_in(caption))


def says_left(rgb: RGB, caption: str) -> float:
    """Sees nothing and prefers what is to the left."""
    return float(place_in(caption) == "left")


def picture(place: str | None, size: tuple[int, int] = (80, 60)) -> Image.Image:
    """(width, height) white, with a red patch."""
    width, height = size
    rgb = np.full((height, width, 3), 255, np.uint8)
    if place is not None:
        x, y = int(CENTERS[place][0] * width), int(CENTERS[place][1] * height)
        rgb[y - height // 8 : y + height // 8, x - width // 8 : x + width // 8] = (220, 20, 20)
    return Image.fromarray(rgb)


def png(place: str | None) -> bytes:
    buffer = io.BytesIO()
    picture(place).save(buffer, format="PNG")
    return buffer.getvalue()


def save(path: Path, place: str | None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(place).save(path)


def write_lines(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def write_whatsup(folder: Path, objects: Sequence[tuple[str, str]] = (("mug", "plate"), ("cap", "table"))) -> Path:
    """Subset A, whole sets of four; the true caption comes first."""
    entries = []
    for a, b in objects:
        for place in CENTERS:
            name = f"{a}_{place}_of_{b}.jpeg" if place in ("left", "right") else f"{a}_{place}_{b}.jpeg"
            save(folder / "controlled_images" / name, place)
            places = [place, *(other for other in CENTERS if other != place)]
            captions = [f"A {a} {PHRASES[p]} a {b}" for p in places]
            entries.append({"image_path": f"data/controlled_images/{name}", "caption_options": captions})
    (folder / "controlled_images_dataset.json").write_text(json.dumps(entries), encoding="utf-8")
    return folder


def vsr_line(image: str, relation: str, label: int) -> dict[str, Any]:
    return {
        "image": image, "image_link": f"http://localhost/{image}", "caption": f"The cat is {relation} the car.",
        "label": label, "relation": relation, "subj": "cat", "obj": "car", "annotator_id": 4,
        "vote_true_validator_id": "[1]", "vote_false_validator_id": "[]",
    }  # fmt: skip


def write_vsr(folder: Path, split: str = "zeroshot") -> Path:
    """`dev` has each answer once; two of the five statements of `test` are true, one of them about sides."""
    for place in CENTERS:
        save(folder / "images" / f"{place}.jpg", place)
    lines = {
        "train": [vsr_line("left.jpg", "left of", 1)],
        "dev": [vsr_line("left.jpg", "left of", 1), vsr_line("left.jpg", "right of", 0)],
        "test": [
            vsr_line("right.jpg", "right of", 1),
            vsr_line("right.jpg", "left of", 0),
            vsr_line("on.jpg", "on", 1),
            vsr_line("on.jpg", "under", 0),
            vsr_line("under.jpg", "on", 0),
        ],
    }
    for part, rows in lines.items():
        write_lines(folder / "splits" / split / f"{part}.jsonl", rows)
    return folder


def write_sugarcrepe(folder: Path) -> Path:
    for place in ("left", "on"):
        save(folder / "val2017" / f"{place}.jpg", place)
    parts = {
        "swap_obj": [
            ("left.jpg", "A cap on the left and a mug on the right", "A mug on the left and a cap on the right")
        ],
        "swap_att": [("on.jpg", "A red mug right next to a blue cap", "A blue mug right next to a red cap")],
        "replace_rel": [
            ("on.jpg", "A cap on a table", "A cap under a table"),
            ("on.jpg", "A cap on it", "A cap by it"),
        ],
    }
    for part, entries in parts.items():
        content = {
            str(i): {"filename": file, "caption": true, "negative_caption": false}
            for i, (file, true, false) in enumerate(entries)
        }
        (folder / f"{part}.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def aro_entry(relation: str, box: tuple[float, float, float, float]) -> dict[str, Any]:
    x, y, w, h = box
    return {
        "image_id": "1", "relation_name": relation, "image_path": "left.jpg", "object1": "cap", "object2": "mug",
        "true_caption": f"the cap is {relation} the mug", "false_caption": f"the mug is {relation} the cap",
        "bbox_x": x, "bbox_y": y, "bbox_w": w, "bbox_h": h,
    }  # fmt: skip


def write_aro(folder: Path) -> Path:
    """The patch is left in the picture, and right in the first box of each relation."""
    save(folder / "images" / "left.jpg", "left")
    right, left = (0, 0, 24, 60), (8, 0, 72, 60)
    entries = [
        aro_entry("to the right of", right), aro_entry("to the right of", left), aro_entry("to the right of", right),
        aro_entry("holding", left),
    ]  # fmt: skip
    (folder / "visual_genome_relation.json").write_text(json.dumps(entries), encoding="utf-8")
    return folder


def blink_row(number: int, question: str, answer: str, place: str) -> dict[str, Any]:
    return {
        "idx": f"val_Spatial_Relation_{number}", "sub_task": "Spatial_Relation", "question": question,
        "image_1": {"bytes": png(place), "path": None}, "image_2": None, "choices": ["yes", "no"], "answer": answer,
        "prompt": f"{question}\nSelect from the following choices.\n(A) yes\n(B) no",
    }  # fmt: skip


def write_blink(folder: Path, rows: Sequence[Mapping[str, Any]] | None = None) -> Path:
    (folder / "Spatial_Relation").mkdir(parents=True, exist_ok=True)
    made = rows or [
        blink_row(1, "Is the cat left of the car?", "(A)", "left"),
        blink_row(2, "Is the cat left of the car?", "(B)", "right"),
        blink_row(3, "Is the cat touching the car?", "(B)", "on"),
    ]
    pq.write_table(pa.Table.from_pylist(list(made)), folder / "Spatial_Relation" / "val-00000-of-00001.parquet")
    return folder


def write_folder(folder: Path, lines: Sequence[Mapping[str, Any]] | None = None) -> Path:
    for place in CENTERS:
        save(folder / "images" / f"{place}.png", place)
    made = lines or [
        {"image": "left.png", "caption": "It is to the left.", "false": ["It is to the right."], "group": "sides"},
        {"image": "right.png", "caption": "It is to the right.", "false": ["It is to the left."], "group": "sides"},
        {"image": "on.png", "caption": "It is on top.", "false": ["It is under it.", "It is left."]},
    ]
    write_lines(folder / "items.jsonl", made)
    return folder


WRITERS: dict[str, Callable[[Path], Path]] = {
    "whatsup_a": write_whatsup,
    "vsr_zeroshot": write_vsr,
    "sugarcrepe": write_sugarcrepe,
    "aro_relation": write_aro,
    "blink_spatial": write_blink,
    "folder": write_folder,
}
