"""The tests that every VLM has to pass, for a pytest suite of its own.

from rls3_gym.evaluation.vlm_contract import VlmContract

class TestMine(VlmContract):
    vlm = "mine.yaml"
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from rls3_gym.evalsets.loader import load_set
from rls3_gym.runs.codec import load_tree, save_tree
from rls3_gym.sample import CaptionItem, Sample
from rls3_gym.scene.captions import Change, Negative
from rls3_gym.vlm.base import VLM, Feedback
from rls3_gym.vlm.loading import load_vlm
from rls3_registry.errors import UserError


@cache
def _items() -> tuple[Sample, ...]:
    return tuple(load_set("guide").samples)


def _same(a: Feedback, b: Feedback, tolerance: float = 0.0) -> bool:
    """Whether two feedbacks are equal; with a tolerance, whether their margins are that close."""
    if tolerance:
        return np.allclose(a.margin, b.margin, atol=tolerance)
    return all(np.array_equal(getattr(a, f.name), getattr(b, f.name), equal_nan=True) for f in fields(Feedback))


class VlmContract:
    """Subclass it and set `vlm`; a class whose name begins with Test is collected by pytest."""

    vlm: ClassVar[str]
    """Registry name, path of a YAML file or of a model folder, or `module:Class`."""
    finetune: ClassVar[Mapping[str, Any]] = {}
    """Put over its settings for fine-tuning: choose a round that is short, and long enough to change the model."""
    n_items: ClassVar[int] = 24
    """Items that are scored and taught."""
    margin_tolerance: ClassVar[float] = 1e-3
    """How far margins may be apart when the same items come in other batches, in the VLM's own logits."""

    def make(self) -> VLM:
        """A new VLM."""
        return load_vlm(self.vlm, self.finetune)

    @pytest.fixture
    def items(self) -> list[Sample]:
        """Pictures of this world with captions, from the guide set."""
        return list(_items()[:: len(_items()) // self.n_items][: self.n_items])

    def test_feedback_has_the_documented_shapes_and_types(self, items: list[Sample]) -> None:
        feedback, n = self.make().evaluate(items), len(items)
        assert feedback.correct.shape == (n,) and feedback.correct.dtype == np.bool_
        assert feedback.hardest.shape == (n,) and feedback.hardest.dtype == np.int64
        assert feedback.by_term.shape == (n, 6)
        for name in ("pairwise", "by_term", "margin", "loss", "p_true", "p_opposite"):
            assert getattr(feedback, name).dtype == np.float32, name
        assert (feedback.correct == (feedback.margin > 0)).all()
        assert ((feedback.p_true >= 0) & (feedback.p_true <= 1)).all()
        assert np.isfinite(feedback.loss).all()
        assert all(0 <= h < len(item.negatives) for h, item in zip(feedback.hardest, items, strict=True))

    def test_scores_do_not_depend_on_how_items_are_batched(self, items: list[Sample]) -> None:
        vlm = self.make()
        together = vlm.evaluate(items)
        assert _same(together, vlm.evaluate(items))
        backwards = vlm.evaluate(items[::-1])
        assert np.allclose(together.margin, backwards.margin[::-1], atol=self.margin_tolerance)
        assert np.allclose(together.margin[:1], vlm.evaluate(items[:1]).margin, atol=self.margin_tolerance)

    def test_pictures_of_any_size_and_items_of_any_origin_are_scored(self, items: list[Sample]) -> None:
        picture = np.full((37, 91, 3), 90, np.uint8)
        item = CaptionItem(
            picture, "The mug is left of the cup.", (Negative("The mug is right of the cup.", Change.OTHER, None),)
        )
        assert len(self.make().evaluate([items[0], item])) == 2

    def test_no_items_have_feedback_of_length_zero(self) -> None:
        vlm = self.make()
        assert len(vlm.evaluate([])) == 0
        with pytest.raises(ValueError):
            vlm.finetune([], np.random.default_rng(0))

    def test_evaluating_leaves_the_weights_alone_and_teaching_changes_them(self, items: list[Sample]) -> None:
        vlm = self.make()
        before = vlm.digest()
        first = vlm.evaluate(items)
        assert vlm.digest() == before
        report = vlm.finetune(items, np.random.default_rng(0))
        assert report.rolled_back is None
        assert (report.digest_before, report.digest_after) == (before, vlm.digest())
        assert report.n_samples == len(items) and report.optimizer_steps >= 1
        assert vlm.digest() != before
        assert not _same(vlm.evaluate(items), first)

    def test_the_same_generator_teaches_the_same(self, items: list[Sample]) -> None:
        one, other = self.make(), self.make()
        assert one.digest() == other.digest()
        for vlm in (one, other):
            vlm.finetune(items, np.random.default_rng(3))
        assert one.digest() == other.digest()

    def test_a_continued_vlm_learns_the_same_as_one_that_was_not_stopped(
        self, items: list[Sample], tmp_path: Path
    ) -> None:
        half = len(items) // 2
        vlm, other = self.make(), self.make()
        vlm.finetune(items[:half], np.random.default_rng(0))
        save_tree(vlm.state(), tmp_path)
        other.load_state(load_tree(tmp_path))
        assert other.digest() == vlm.digest()
        assert _same(other.evaluate(items), vlm.evaluate(items))
        for model in (vlm, other):
            model.finetune(items[half:], np.random.default_rng(1))
        assert other.digest() == vlm.digest()

    def test_a_state_stays_what_it_was(self, items: list[Sample]) -> None:
        vlm = self.make()
        first, before = vlm.state(), vlm.digest()
        vlm.finetune(items, np.random.default_rng(0))
        vlm.load_state(first)
        assert vlm.digest() == before

    def test_an_unknown_setting_is_one_line(self) -> None:
        with pytest.raises(UserError) as mistake:
            load_vlm(self.vlm, {"learning_rat": 1.0})
        assert "learning_rat" in str(mistake.value) and "\n" not in str(mistake.value)
