"""Pre-training in small: deterministic, resumable, and its captions true."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from rls3_gym.pretraining import pretrain
from rls3_gym.pretraining.pretraining_captions import (
    COMPARISON_MIN_OFFSET,
    DEPTH_EDGES,
    HEIGHT_EDGES,
    LATERAL_EDGES,
    CaptionWriter,
    place_bins,
    vocabulary_texts,
)
from rls3_gym.pretraining.scenes import _draw_layout_scenes
from rls3_gym.pretraining.train import CONTEXT_LENGTH, Pretraining, PretrainSettings, learning_rate_share
from rls3_gym.scene.catalog import load_catalog
from rls3_gym.scene.relations import RELATIONS
from rls3_gym.vlm.loading import load_vlm
from rls3_gym.vlm.open_clip.tokenizer import CompactTokenizer
from rls3_gym.vlm.open_clip.weights import open_clip_module
from rls3_registry.errors import UserError

NAMES = [k.name for k in load_catalog().training]
SMALL = PretrainSettings(text_steps=2, stem_steps=2, frozen_steps=2, batch_size=16, warmup_steps=1, threads=1)


@pytest.fixture(scope="module")
def table():
    return _draw_layout_scenes(("kitchen", 0, 48, 1))


@pytest.fixture(scope="module")
def tokenizer():
    open_clip_module()
    return CompactTokenizer.for_texts(vocabulary_texts([k.name for k in load_catalog().kinds]), CONTEXT_LENGTH)


def test_scenes_show_their_objects_and_say_where_they_are(table):
    filled = table.kinds >= 0
    assert filled[:, 0].all() and filled.sum(1).min() == 1 and filled.sum(1).max() == 3
    assert ((table.cells >= 0) == filled).all()
    again = _draw_layout_scenes(("kitchen", 0, 48, 1))
    assert (again.rgb == table.rgb).all()


def test_scenes_are_taken_up_by_the_settings_that_drew_them_alone(table, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(pretrain, "draw_scenes", lambda *arguments, **options: drawn.append(options) or table)
    path, say = tmp_path / "scenes.npz", lambda *arguments: None
    settings = PretrainSettings(scenes_per_layout=16)
    for _ in range(2):
        assert (pretrain._scenes(path, settings, say).rgb == table.rgb).all()
    assert len(drawn) == 1
    for other in (PretrainSettings(scenes_per_layout=8), PretrainSettings(scenes_per_layout=16, seed=1)):
        with pytest.raises(UserError, match=r"scenes.npz: belongs to a run with other settings, {'scenes"):
            pretrain._scenes(path, other, say)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"scenes.npz: cannot be read \(.*; remove it to start over"):
        pretrain._scenes(path, settings, say)


def test_true_captions_are_true_and_false_ones_false(table):
    writer, rng, bins = CaptionWriter(table, NAMES), np.random.default_rng(0), place_bins(table)
    where = {0: bins[..., 0] / 2 - 1, 2: 2 * bins[..., 1] / 3 - 1, 1: 2 * bins[..., 2] / 3 - 1}
    for scene in range(len(table)):
        there = {int(k): slot for slot, k in enumerate(table.kinds[scene]) if k >= 0}
        true, false = writer.presence(scene, rng)
        assert set(true.meaning) <= set(there) and not set(false.meaning) <= set(there)
        true, false = writer.location(scene, rng)

        def holds(written, scene=scene, there=there):
            return all(
                kind in there and all(abs(where[a][scene, there[kind]] - v) < 1e-9 for a, v in places.items())
                for kind, places in written.meaning.items()
            )

        assert holds(true) and not holds(false)
        true, false = writer.comparison(scene, rng)
        assert true.caption != false.caption
        if " than " in true.caption:
            (a, first), (b, _) = true.meaning.items()
            p = [table.positions[scene, there[k]].copy() for k in (a, b)]
            for point, kind in zip(p, (a, b), strict=True):
                point[1] = table.heights[scene, there[kind]]
            for axis, sign in first.items():
                assert (p[0] - p[1])[axis] * sign >= COMPARISON_MIN_OFFSET[axis]


def test_location_and_comparison_captions_use_no_word_of_relations(table):
    writer, rng = CaptionWriter(table, NAMES), np.random.default_rng(1)
    words = {"left", "right", "front", "behind", "above", "below"}
    for scene in range(len(table)):
        for write in (writer.location, writer.comparison):
            for written in write(scene, rng):
                assert not words & set(written.caption.replace(",", " ").replace(".", " ").split())


def test_every_word_of_every_caption_is_known_and_fits(table, tokenizer):
    from rls3_gym.scene.captions import describe

    longest = sorted(NAMES, key=lambda n: len(n.split()) * 100 + len(n))[-2:]
    texts = [describe(longest[0], r, longest[1]) for r in RELATIONS]
    writer, rng = CaptionWriter(table, NAMES), np.random.default_rng(2)
    for scene in range(len(table)):
        for write in (writer.presence, writer.location, writer.comparison):
            texts += [w.caption for w in write(scene, rng)]
    ids = tokenizer(texts)
    assert (ids != 1).all()
    assert (ids == tokenizer.vocab_size - 1).any(1).all()


def test_bins_meet_at_their_edges():
    for edges in (LATERAL_EDGES, DEPTH_EDGES, HEIGHT_EDGES):
        assert list(edges) == sorted(edges)


def test_two_runs_give_the_same_weights_and_a_stopped_one_goes_on(table, tokenizer, tmp_path):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    runs = [Pretraining(table, NAMES, tokenizer, SMALL) for _ in range(3)]
    for run in runs[:2]:
        while run.step < SMALL.steps:
            run.advance()
    for stop in (3, 5):
        while runs[2].step < stop:
            runs[2].advance()
        runs[2].save(tmp_path / "checkpoint.pt")
        runs[2] = Pretraining(table, NAMES, tokenizer, SMALL)
        runs[2].load(tmp_path / "checkpoint.pt")
    while runs[2].step < SMALL.steps:
        runs[2].advance()
    torch.set_num_threads(threads)
    first = runs[0].clip.model.state_dict()
    for run in runs[1:]:
        assert all(torch.equal(v, first[k]) for k, v in run.clip.model.state_dict().items())
    assert all(np.isfinite(v) for v in runs[0].losses.values())


def test_a_checkpoint_of_other_settings_or_of_something_else_is_refused(table, tokenizer, tmp_path):
    run = Pretraining(table, NAMES, tokenizer, SMALL)
    run.save(tmp_path / "checkpoint.pt")
    other = Pretraining(table, NAMES, tokenizer, PretrainSettings(seed=1))
    with pytest.raises(UserError, match="other settings"):
        other.load(tmp_path / "checkpoint.pt")
    (tmp_path / "bad.pt").write_bytes(b"no checkpoint")
    with pytest.raises(UserError, match="is not a checkpoint"):
        run.load(tmp_path / "bad.pt")


def test_the_learning_rate_warms_up_twice_and_ends_low():
    s = PretrainSettings()
    assert learning_rate_share(0, s) < 0.05 and learning_rate_share(s.text_steps - 1, s) == 1.0
    assert learning_rate_share(s.text_steps, s) < 0.05
    assert learning_rate_share(s.steps - 1, s) == pytest.approx(s.final_learning_rate_share, abs=0.01)


@pytest.mark.slow
def test_the_command_makes_a_model_folder_with_its_card_that_loads(tmp_path):
    script = Path(sys.executable).parent / "rls3"
    small = ["--scenes-per-layout", "2", "--text-steps", "2", "--stem-steps", "2", "--frozen-steps", "1"]
    done = subprocess.run(
        [script, "pretrain", "--out", str(tmp_path / "model"), *small], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    card = (tmp_path / "model" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "object presence" in card and "Every loss and every label" in card
    assert not (tmp_path / "model" / "work").exists()
    assert load_vlm(str(tmp_path / "model")).image_size == 64
