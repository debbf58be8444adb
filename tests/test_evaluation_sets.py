"""The packaged evaluation sets: balanced, apart from each other and from training, and the same for everybody."""

from __future__ import annotations

import gzip
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml

from rls3_gym.backends.base import Frame
from rls3_gym.backends.embedded.backend import EmbeddedBackend
from rls3_gym.evalsets import renderings
from rls3_gym.evalsets.builder import PLANS, SetPlan, build_set, cell_counts, readable, stands
from rls3_gym.evalsets.loader import HELD_OUT_SETS, SET_NAMES, held_out_keys, load_set, set_hash
from rls3_gym.evalsets.specs import SETS_FOLDER, ItemSpec, hash_of, read_specs, rounded, write_specs
from rls3_gym.evaluation.metrics import blind_accuracy
from rls3_gym.sample import Sample, make_sample
from rls3_gym.scene.captions import Change, describe
from rls3_gym.scene.catalog import load_catalog
from rls3_gym.scene.relations import RELATIONS, Relation, relation
from rls3_gym.scene.splits import HELD_OUT_PAIRS, is_held_out_pair
from rls3_gym.stage import FeasibilityRules
from rls3_registry.errors import UserError

BALANCED = ("test", "test_balanced_natural", "test_unseen_kinds", "validation", "guide", "presence")
SPECS = {name: read_specs(SETS_FOLDER / f"{name}.jsonl.gz") for name in SET_NAMES}
BACKEND = EmbeddedBackend(image_size=32)
MANIFEST = yaml.safe_load((SETS_FOLDER / "manifest.yaml").read_text())["sets"]


def pair(spec: ItemSpec) -> tuple[str, str]:
    return spec.arrangement.objects[spec.slot_a].kind, spec.arrangement.objects[spec.slot_b].kind


def truth(spec: ItemSpec) -> Relation:
    positions = spec.arrangement.camera_positions().astype(np.float32).astype(np.float64)
    return relation(positions[spec.slot_a] - positions[spec.slot_b])


def unseen(spec: ItemSpec) -> Sample:
    """The item's captions with a blank picture."""
    scene = spec.arrangement
    n = len(scene.objects)
    blank = np.zeros((1, 1, 3), np.uint8)
    nothing = np.zeros((0, 0))
    frame = Frame(
        blank, nothing.astype(np.int16), nothing.astype(np.float32), np.ones(n, np.float32), np.ones(n, np.int32),
        scene.camera_positions().astype(np.float32),
    )  # fmt: skip
    return make_sample(scene, frame, spec.slot_a, spec.slot_b)


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.name)
def test_a_set_is_as_large_as_planned_and_its_hash_is_in_the_manifest(plan: SetPlan) -> None:
    assert len(SPECS[plan.name]) == plan.count == MANIFEST[plan.name]["items"]
    assert set_hash(plan.name) == MANIFEST[plan.name]["hash"]
    assert (SETS_FOLDER / f"{plan.name}.jsonl.gz").stat().st_size < 300_000


def test_the_test_set_is_large_enough_for_two_points() -> None:
    assert len(SPECS["test"]) >= 2400 and len(SPECS["test_natural"]) >= 2400


@pytest.mark.parametrize("name", BALANCED)
def test_every_relation_cell_holds_its_share(name: str) -> None:
    """Fails too when the rooms have changed since the sets were built: `rls3 testsets` builds them anew."""
    counts = Counter(truth(spec).index for spec in SPECS[name])
    assert [counts[cell] for cell in range(len(RELATIONS))] == cell_counts(len(SPECS[name]))


def test_cell_counts_balance_complexities_and_terms() -> None:
    counts = cell_counts(2448)
    by_complexity = Counter[int]()
    by_term = Counter[tuple[int, str]]()
    for cell, count in zip(RELATIONS, counts, strict=True):
        by_complexity[cell.complexity] += count
        for term in cell.terms:
            by_term[cell.complexity, term.name] += count
    assert set(by_complexity.values()) == {816}
    for complexity, share in ((1, 136), (2, 272), (3, 408)):
        assert {n for (c, _), n in by_term.items() if c == complexity} == {share}
    assert sum(cell_counts(770)) == 770


def test_no_scene_is_in_two_sets() -> None:
    keys = [spec.arrangement.key for name in SET_NAMES for spec in SPECS[name]]
    assert len(set(keys)) == len(keys)
    assert held_out_keys() == {s.arrangement.key for name in HELD_OUT_SETS for s in SPECS[name]}
    assert not held_out_keys() & {s.arrangement.key for s in SPECS["guide"]}


def test_sets_keep_to_their_layouts_and_object_pairs() -> None:
    splits = {plan.name: plan.split for plan in PLANS}
    held_out = {kind.name for kind in load_catalog().held_out}
    for name, specs in SPECS.items():
        assert {spec.arrangement.layout.split for spec in specs} == {splits[name]}
        assert len({spec.arrangement.layout.family for spec in specs}) == 5
        if name != "test_unseen_kinds":
            assert not held_out & {thing.kind for spec in specs for thing in spec.arrangement.objects}
    assert all(is_held_out_pair(*pair(spec)) for spec in SPECS["test"])
    assert not any(is_held_out_pair(*pair(spec)) for name in ("validation", "guide") for spec in SPECS[name])
    assert all(held_out & set(pair(spec)) for spec in SPECS["test_unseen_kinds"])


def test_held_out_pairs_are_the_announced_share_and_know_no_order() -> None:
    names = [kind.name for kind in load_catalog().training]
    pairs = [(a, b) for i, a in enumerate(names) for b in names[:i]]
    held = [p for p in pairs if is_held_out_pair(*p)]
    assert abs(len(held) / len(pairs) - HELD_OUT_PAIRS) < 0.06
    assert all(is_held_out_pair(b, a) for a, b in held)


@pytest.mark.parametrize("name", SET_NAMES)
def test_items_rendered_again_are_captioned_truly_and_meet_the_stages_rules(name: str) -> None:
    """Fails too when rooms or objects have changed since the sets were built: `rls3 testsets` builds them anew."""
    backend = EmbeddedBackend(image_size=64)
    for spec in SPECS[name][:: len(SPECS[name]) // 6]:
        scene = spec.arrangement
        assert scene == rounded(scene) and stands(scene)
        backend.reset(scene, seed=0)
        frame = backend.capture()
        assert readable(frame, spec.slot_a, spec.slot_b, FeasibilityRules())
        sample = make_sample(scene, frame, spec.slot_a, spec.slot_b)
        assert sample.caption == describe(*pair(spec)[:1], truth(spec), pair(spec)[1])
        assert sample.opposites
    backend.close()


def test_presence_items_swap_in_a_kind_that_is_not_there() -> None:
    training = {kind.name for kind in load_catalog().training}
    for spec in SPECS["presence"]:
        assert spec.absent is not None
        position, kind = spec.absent
        assert (
            position in (0, 1) and kind in training and kind not in {thing.kind for thing in spec.arrangement.objects}
        )


@pytest.mark.parametrize("name", ["test", "test_unseen_kinds", "validation", "guide"])
def test_a_reader_without_pictures_is_at_chance(name: str) -> None:
    samples = [unseen(spec) for spec in SPECS[name]]
    questions = sum(len(sample.opposites) for sample in samples)
    assert abs(blind_accuracy(samples, np.random.default_rng(0)) - 0.5) < 4 * 0.5 / questions**0.5


def test_the_blind_check_sees_a_giveaway() -> None:
    only_left = [s for s in map(unseen, SPECS["validation"]) if "left" in s.caption]
    assert blind_accuracy(only_left, np.random.default_rng(0)) > 0.6


def test_building_is_balanced_and_the_same_every_time() -> None:
    plan = SetPlan("validation", 5, "validation", 26, "")
    seen: list[tuple[str, int, int]] = []
    built = []
    for _ in range(2):
        backend = EmbeddedBackend(image_size=64)
        built.append(build_set(plan, backend, lambda *done: seen.append(done)))
        backend.close()
    assert built[0] == built[1]
    assert Counter(truth(spec).complexity for spec in built[0]) == {1: 9, 2: 9, 3: 8}
    assert seen[-1] == ("validation", 26, 26)


def test_a_set_is_rendered_once_and_then_read_from_the_cache(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    specs = (*SPECS["presence"][:2], *SPECS["validation"][:2])
    first = renderings.render(specs, "few", BACKEND)
    (file,) = (own_cache / "rls3_gym" / "sets").iterdir()
    assert file.name.startswith("few-")
    monkeypatch.setattr(renderings, "_show", lambda *_: pytest.fail("rendered again"))
    again = renderings.render(specs, "few", BACKEND)
    for one, other in zip(first, again, strict=True):
        assert one.rgb.shape == (32, 32, 3) and (one.rgb == other.rgb).all()
        assert one == other and isinstance(one, Sample) == isinstance(other, Sample)
    assert first[3].provenance == again[3].provenance
    presence = first[0]
    assert presence.caption.startswith("a photo of a ") and [n.change for n in presence.negatives] == [Change.OBJECT]


def test_a_cut_cache_file_is_rendered_anew(own_cache: Path) -> None:
    specs = SPECS["validation"][:2]
    first = renderings.render(specs, "few", BACKEND)
    (file,) = (own_cache / "rls3_gym" / "sets").iterdir()
    file.write_bytes(file.read_bytes()[:500])
    assert (renderings.render(specs, "few", BACKEND)[1].rgb == first[1].rgb).all()


def test_a_cache_file_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "set.npz" / "taken").mkdir(parents=True)
    renderings._keep(tmp_path / "set.npz", {"rgb": np.zeros((2, 2, 2, 3), np.uint8)})
    assert [path.name for path in tmp_path.iterdir()] == ["set.npz"]


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert len(renderings.render(SPECS["validation"][:1], "few", BACKEND)) == 1


def test_specs_survive_their_file_byte_for_byte(tmp_path: Path) -> None:
    specs = (*SPECS["test"][:3], *SPECS["presence"][:3])
    for name in ("a.gz", "b.gz"):
        write_specs(tmp_path / name, specs)
    assert read_specs(tmp_path / "a.gz") == specs
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()
    assert hash_of(specs) != hash_of(specs[::-1])


def test_a_damaged_or_missing_set_is_one_clear_line(tmp_path: Path) -> None:
    broken = tmp_path / "broken.jsonl.gz"
    for content in (b"no gzip", gzip.compress(b'["kitchen"]\n'), gzip.compress(b"{")):
        broken.write_bytes(content)
        with pytest.raises(UserError, match=r"broken\.jsonl\.gz: damaged evaluation set"):
            read_specs(broken)
    with pytest.raises(UserError, match=r"gone: no such evaluation set"):
        read_specs(tmp_path / "gone")


def test_an_unknown_set_names_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'validation'"):
        load_set("validatoin")
