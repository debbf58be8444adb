"""Sight: what boxes say of hidden objects, beside dense sampling of the line of sight and beside the tracer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rls3_gym.scene.catalog import load_catalog
from rls3_gym.scene.sight import boxes_of, hidden, points_of

EYE = np.array([0.0, -2.0, 1.5])
numbers = st.floats(-2, 2, allow_nan=False, width=32)
places = st.tuples(numbers, numbers, numbers).map(np.array)


@given(places, places, st.tuples(*[st.floats(0.0625, 1, width=32)] * 3).map(np.array))
def test_a_point_is_hidden_when_its_line_of_sight_runs_through_the_box(point, low, size):
    def within(margin: float) -> bool:
        on_the_way = EYE + np.linspace(0, 0.999, 2001)[:, None] * (point - EYE)
        return bool(np.all((on_the_way > low - margin) & (on_the_way < low + size + margin), axis=1).any())

    found = bool(hidden(EYE, point, low, low + size))
    if within(-0.01):
        assert found
    elif not within(0.01):
        assert not found


@pytest.mark.parametrize(
    ("name", "box", "share"),
    [
        ("before it", ([-1.0, 0.0, 0.0], [1.0, 0.2, 3.0]), 1.0),
        ("before its left third", ([-1.0, 0.0, 0.0], [-0.03, 0.2, 3.0]), 1 / 3),
        ("behind it", ([-1.0, 1.5, 0.0], [1.0, 1.7, 3.0]), 0.0),
        ("beside it", ([0.4, 0.0, 0.0], [1.0, 0.2, 3.0]), 0.0),
        ("under it", ([-1.0, 0.5, -0.5], [1.0, 1.5, 0.0]), 0.0),
    ],
)
def test_the_share_of_an_object_that_a_box_hides(name, box, share):
    points = points_of(EYE, np.array([[0.0], [1.0], [0.0]]), np.array([0.15]), np.array([0.3]))
    assert points.shape == (3, 9, 1)
    low, high = (np.array(corner)[:, None, None] for corner in box)
    assert hidden(EYE, points, low, high).mean() == pytest.approx(share), name


def test_an_object_does_not_hide_what_stands_clear_of_it_behind_and_above():
    kind = load_catalog().training[0]
    low, high = boxes_of(np.array([[0.0], [0.0], [0.0]]), np.array([kind.radius]), np.array([kind.height]))
    assert (high - low)[2, 0] == pytest.approx(kind.height)
    assert hidden(EYE, np.array([0.0, 0.3, 0.05]), low[:, 0], high[:, 0])
    assert not hidden(EYE, np.array([0.0, 0.3, 0.6]), low[:, 0], high[:, 0])
