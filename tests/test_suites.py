"""External suites: what is read, and the numbers, checked with VLMs that follow a rule and with the packaged one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from suite_files import (
    CENTERS,
    RGB,
    WRITERS,
    RuleVLM,
    patch,
    place_in,
    says_left,
    seer,
    write_aro,
    write_folder,
    write_lines,
    write_vsr,
    write_whatsup,
)

from rls3_gym.evalsets.loader import load_set
from rls3_gym.evaluation.metrics import mirrored as twin_of
from rls3_gym.evaluation.metrics import wilson_interval
from rls3_gym.suites import choices
from rls3_gym.suites.base import ChoiceItem, Measure, Picture, thinned
from rls3_gym.suites.blink import NOT, OPPOSITE, QUESTION, captions_of
from rls3_gym.suites.catalog import SUITES, OpenSuite, SuiteResult
from rls3_gym.suites.forgetting import forgetting
from rls3_gym.suites.left_right import exchanged, is_about_sides
from rls3_gym.suites.relation_words import OPPOSITES, with_opposite
from rls3_gym.suites.vsr import best_threshold
from rls3_gym.vlm.loading import load_vlm
from rls3_registry.errors import UserError


def scored(name: str, folder: Path, score: Callable[[RGB, str], float] = seer) -> SuiteResult:
    return OpenSuite(name, folder).score(RuleVLM(score))  # type: ignore[arg-type]


def values(result: SuiteResult) -> dict[str, tuple[float, int]]:
    return {measure.name: (measure.value, measure.n) for measure in result.measures}


def measure(result: SuiteResult, name: str) -> Measure:
    return next(m for m in result.measures if m.name == name)


# ------------------------------------------------------------------ the numbers


def test_whatsup_counts_pictures_pairs_and_sets(tmp_path: Path) -> None:
    write_whatsup(tmp_path)
    assert values(scored("whatsup_a", tmp_path)) == {
        "individual": (1.0, 8), "pair": (1.0, 4), "set": (1.0, 2), "mirrored": (1.0, 4),
    }  # fmt: skip

    def always_on(rgb: RGB, caption: str) -> float:
        place = "on" if patch(rgb) == "under" else patch(rgb)
        return float(place is not None and place_in(caption) == place)

    assert values(scored("whatsup_a", tmp_path, always_on)) == {
        "individual": (0.75, 8), "pair": (0.5, 4), "set": (0.0, 2), "mirrored": (1.0, 4),
    }  # fmt: skip


def test_always_saying_left_gains_nothing_in_pairs_and_mirror_images(tmp_path: Path) -> None:
    result = scored("whatsup_a", write_whatsup(tmp_path), says_left)
    assert values(result) == {"individual": (0.25, 8), "pair": (0.0, 4), "set": (0.0, 2), "mirrored": (0.0, 4)}
    assert measure(result, "individual").blind == measure(result, "individual").chance == 0.25
    assert measure(result, "pair").chance == 1 / 16


def test_a_vlm_that_looks_is_no_better_than_any_other_without_the_picture(tmp_path: Path) -> None:
    assert {m.blind for m in scored("whatsup_a", write_whatsup(tmp_path)).measures} == {0.0}


def test_shares_have_wilson_intervals(tmp_path: Path) -> None:
    individual = measure(scored("whatsup_a", write_whatsup(tmp_path)), "individual")
    assert individual.interval == wilson_interval(1.0, 8)
    assert individual.as_dict()["low"] == pytest.approx(0.6756, abs=1e-4)


def test_vsr_takes_its_threshold_from_dev_and_its_numbers_from_test(tmp_path: Path) -> None:
    def shifted(rgb: RGB, caption: str) -> float:
        return 10 * seer(rgb, caption) + 100

    result = scored("vsr_zeroshot", write_vsr(tmp_path), shifted)
    assert values(result) == {
        "true or false": (1.0, 5), "true or false, mirrored": (1.0, 2), "contrast pairs": (1.0, 2),
        "contrast pairs, mirrored": (1.0, 1),
    }  # fmt: skip
    assert result.details["threshold"] == 105.0
    assert measure(result, "true or false").chance == 0.6  # always false


def test_vsr_by_captions_alone_is_measured_beside_it(tmp_path: Path) -> None:
    result = scored("vsr_zeroshot", write_vsr(tmp_path), says_left)
    true_or_false = measure(result, "true or false")
    assert true_or_false.value == true_or_false.blind == 2 / 5  # "left" is true in dev; in test it is not
    assert measure(result, "contrast pairs").value == 0.0


def test_the_threshold_agrees_with_most_labels() -> None:
    rng = np.random.default_rng(3)
    for n in (1, 2, 5, 40):
        scores, labels = rng.integers(0, 12, n).astype(float), rng.random(n) < 0.4
        reached = ((scores > best_threshold(scores, labels)) == labels).mean()
        assert reached == max(((scores > t) == labels).mean() for t in np.arange(-1, 13) + 0.5)


def test_vsr_needs_a_vlm_that_tells_its_scores(tmp_path: Path) -> None:
    class Silent:
        name = "silent"
        image_size = 32

    with pytest.raises(UserError, match="needs a VLM with a method logits, which silent does not have"):
        OpenSuite("vsr_zeroshot", write_vsr(tmp_path)).score(Silent())  # type: ignore[arg-type]


def test_sugarcrepe_counts_its_parts_and_mirrors_only_sides(tmp_path: Path) -> None:
    def cap_first(rgb: RGB, caption: str) -> float:
        return float(caption.startswith("A cap on"))

    result = scored("sugarcrepe", WRITERS["sugarcrepe"](tmp_path), cap_first)
    assert values(result) == {
        "accuracy": (0.75, 4), "swap_obj": (1.0, 1), "swap_att": (0.0, 1), "replace_rel": (1.0, 2),
        "mirrored": (1.0, 1),  # "right next to" is no side
    }  # fmt: skip
    assert measure(result, "accuracy").blind == 0.75


def test_aro_is_asked_about_the_box_and_not_the_whole_picture(tmp_path: Path) -> None:
    def right_or_cap(rgb: RGB, caption: str) -> float:
        """Believes that the patch is a cap, as its captions say."""
        true = "right of the mug" in caption if patch(rgb) == "right" else "left of the mug" in caption
        return float(patch(rgb) is not None and true)

    result = scored("aro_relation", write_aro(tmp_path), right_or_cap)
    assert values(result) == {
        "accuracy": (0.5, 4), "mean over relations": (pytest.approx((2 / 3 + 0) / 2), 2),
        "relations of place": (2 / 3, 3), "mirrored": (2 / 3, 3),
    }  # fmt: skip
    assert measure(result, "mean over relations").interval is None


def test_blink_asks_for_the_caption_that_the_answer_means(tmp_path: Path) -> None:
    result = scored("blink_spatial", WRITERS["blink_spatial"](tmp_path))
    assert values(result) == {
        "accuracy": (2 / 3, 3), OPPOSITE: (1.0, 2), NOT: (0.0, 1), "mirrored": (1.0, 2),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("question", "yes", "no", "part"),
    [
        ("Is the car beneath the cat?", "The car is beneath the cat.", "The car is on top of the cat.", OPPOSITE),
        ("Is the hot dog on top of the dining table?", "The hot dog is on top of the dining table.",
         "The hot dog is beneath the dining table.", OPPOSITE),
        ("Is the cat at the right side of the bed?", "The cat is at the right side of the bed.",
         "The cat is at the left side of the bed.", OPPOSITE),
        ("Are the oranges behind the apples?", "The oranges are behind the apples.",
         "The oranges are in front of the apples.", OPPOSITE),
        ("Is the laptop touching the person?", "The laptop is touching the person.",
         "The laptop is not touching the person.", NOT),
        ("Does the cup contain the cat?", "The cup contains the cat.", "The cup does not contain the cat.", NOT),
        ("Is the cake consists of the truck?", "Is the cake consists of the truck? yes",
         "Is the cake consists of the truck? no", QUESTION),
    ],
)  # fmt: skip
def test_a_question_becomes_two_captions(question: str, yes: str, no: str, part: str) -> None:
    assert captions_of(question) == (yes, no, part)


def test_a_folder_counts_items_and_groups(tmp_path: Path) -> None:
    result = scored("folder", write_folder(tmp_path))
    assert values(result) == {"accuracy": (1.0, 3), "groups": (1.0, 1), "mirrored": (1.0, 2)}
    assert measure(result, "accuracy").chance == pytest.approx((1 / 2 + 1 / 2 + 1 / 3) / 3)
    assert values(scored("folder", tmp_path, says_left))["groups"] == (0.0, 1)


def test_a_folder_can_say_itself_what_mirrors(tmp_path: Path) -> None:
    line = {"image": "left.png", "caption": "It is left.", "false": ["It is right."]}
    assert "mirrored" not in values(scored("folder", write_folder(tmp_path, [line])))
    said = scored("folder", write_folder(tmp_path, [line | {"left_right": True}]))
    assert values(said)["mirrored"] == (1.0, 1)
    plain = {"image": "on.png", "caption": "It is on it.", "false": ["It is by it."], "left_right": True}
    with pytest.raises(UserError, match=r"line 1: left_right is true, but no caption says left or right"):
        SUITES["folder"].load(write_folder(tmp_path, [plain]))


# ------------------------------------------------------------------ left and right


@pytest.mark.parametrize(
    ("caption", "about"),
    [
        ("The cat is to the left of the car.", True),
        ("A man on the far right waves his left hand", True),
        ("the leftmost of three cups", True),
        ("A cat right next to a dog", False),
        ("A man left the room on the left", False),
        ("An umbrella is blown right side up", False),
        ("A phone in a man's left  hand", True),
        ("A cat under a table", False),
    ],
)
def test_only_sides_are_mirrored(caption: str, about: bool) -> None:
    assert is_about_sides(caption) is about


def test_the_true_caption_has_to_be_about_a_side_and_no_other_to_mean_something_else() -> None:
    assert is_about_sides("A cap to the left of a mug", ["A mug to the left of a cap", "A cap under a mug"])
    assert not is_about_sides("A cap under a mug", ["A cap to the left of a mug"])
    assert not is_about_sides("A cap to the left of a mug", ["A cap right next to a mug"])


def test_exchanging_twice_gives_the_caption_back() -> None:
    caption = "Left of the LEFT cup, to the Right of the rightmost plate, left behind."
    assert exchanged(caption) == "Right of the RIGHT cup, to the Left of the leftmost plate, right behind."
    assert exchanged(exchanged(caption)) == caption


def test_opposites_are_not_themselves_and_turn_one_relation() -> None:
    assert all(a != b for a, b in OPPOSITES.items())
    assert with_opposite("The cat is in the sink.", "in") == "The cat is outside the sink."
    assert with_opposite("The cat is touching the sink.", "touching") is None


# ------------------------------------------------------------------ many items, big pictures


def test_pictures_are_shown_a_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_whatsup(tmp_path)
    whole = scored("whatsup_a", tmp_path)
    monkeypatch.setattr(choices, "BATCH", 3)
    vlm = RuleVLM(seer)
    assert OpenSuite("whatsup_a", tmp_path).score(vlm) == whole  # type: ignore[arg-type]
    assert vlm.most_items == 3 + 3 + 2 + 2  # as they are, gray; two of them mirrored, and gray again


def test_loading_opens_no_picture_and_showing_a_broken_one_names_it(tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / "images" / "on.png").write_bytes(b"no picture")
    suite = OpenSuite("folder", tmp_path)
    with pytest.raises(UserError, match=r"on\.png: is not a picture"):
        suite.score(RuleVLM(seer))  # type: ignore[arg-type]


def test_a_picture_is_squeezed_into_the_square_of_the_vlm(tmp_path: Path) -> None:
    path = tmp_path / "wide.png"
    Image.fromarray(np.tile(np.arange(200, dtype=np.uint8), (50, 1))).save(path)
    shown = Picture("wide.png", path).show(20)
    assert shown.shape == (20, 20, 3) and shown.dtype == np.uint8
    assert abs(int(shown[10, 19, 0]) - 195) < 6
    assert Picture("wide.png", path, (100, -20, 150, 900)).show(10)[5, 0, 0] == pytest.approx(102, abs=3)
    with pytest.raises(UserError, match="shows nothing of its 200 x 50 pixels"):
        Picture("wide.png", path, (300, 0, 310, 10)).show(10)


@pytest.mark.parametrize(("limit", "kept"), [(None, 12), (100, 12), (6, 6), (4, 4), (1, 1)])
def test_a_limit_takes_items_evenly(limit: int | None, kept: int) -> None:
    items = [ChoiceItem(Picture(str(i), b""), "a", ("b",)) for i in range(12)]
    places = [int(item.picture.name) for item in thinned(items, limit)]
    assert len(places) == kept
    assert len(set(np.diff(places).tolist())) <= 1


def test_a_limit_keeps_groups_whole_and_every_part(tmp_path: Path) -> None:
    names = (("mug", "plate"), ("cap", "table"), ("pen", "book"), ("cup", "tray"))
    write_whatsup(tmp_path, names)
    result = OpenSuite("whatsup_a", tmp_path, 8).score(RuleVLM(seer))  # type: ignore[arg-type]
    assert (result.n, values(result)["set"]) == (8, (1.0, 2))
    vsr = OpenSuite("vsr_zeroshot", write_vsr(tmp_path), 1).score(RuleVLM(seer))  # type: ignore[arg-type]
    assert vsr.n == 2


def test_the_hash_names_the_items(tmp_path: Path) -> None:
    first = scored("folder", write_folder(tmp_path)).items_hash
    assert scored("folder", write_folder(tmp_path)).items_hash == first
    line = {"image": "left.png", "caption": "It is left.", "false": ["It is right."]}
    assert scored("folder", write_folder(tmp_path, [line])).items_hash != first


# ------------------------------------------------------------------ the packaged VLM


def test_a_folder_of_packaged_scenes_gives_what_the_packaged_metrics_give(tmp_path: Path) -> None:
    vlm, samples = load_vlm("tiny"), load_set("validation").samples[::40]
    (tmp_path / "images").mkdir()
    lines = []
    for i, sample in enumerate(samples):
        Image.fromarray(sample.rgb).save(tmp_path / "images" / f"{i}.png")
        false = [negative.caption for negative in sample.opposites]
        lines.append({"image": f"{i}.png", "caption": sample.caption, "false": false})
    write_lines(tmp_path / "items.jsonl", lines)
    result = values(OpenSuite("folder", tmp_path).score(vlm))
    right = vlm.evaluate(samples).pairwise == 1
    turned = vlm.evaluate([twin_of(sample) for sample in samples]).pairwise == 1
    sides = np.array(["left" in sample.caption or "right" in sample.caption for sample in samples])
    assert result["accuracy"] == (pytest.approx(right.mean()), len(samples))
    assert result["mirrored"] == (pytest.approx((right & turned)[sides].mean()), int(sides.sum()))


@pytest.mark.parametrize("name", WRITERS)
def test_every_suite_can_be_asked_of_the_packaged_vlm(name: str, tmp_path: Path) -> None:
    result = OpenSuite(name, WRITERS[name](tmp_path)).score(load_vlm("tiny"))
    assert result.n >= 3
    for found in result.measures:
        assert 0 <= found.value <= 1 and 0 <= found.blind <= 1, found
        assert found.interval is None or found.interval[0] <= found.value <= found.interval[1], found


def test_the_forgetting_probe_asks_which_kinds_are_seen() -> None:
    vlm = load_vlm("tiny")
    result = forgetting(vlm, limit=60)
    (kinds,) = result.measures
    assert kinds.n == result.n and kinds.n % 2 == 0 and kinds.n >= 60
    assert kinds.chance is not None and 1 / 35 < kinds.chance < 1 / 30
    assert kinds.value > 10 * kinds.chance  # it was trained on these kinds
    assert kinds.blind < 3 * kinds.chance
    assert result.as_dict() == forgetting(vlm, limit=60).as_dict()


def test_every_suite_has_a_name_and_a_line_about_it() -> None:
    wanted: set[Any] = {"whatsup_a", "whatsup_b", "vsr_random", "vsr_zeroshot", "sugarcrepe", "aro_relation"}
    assert set(SUITES) == wanted | {"blink_spatial", "folder"}
    assert all(suite.name == name and suite.description for name, suite in SUITES.items())
    assert len(CENTERS) == 4
