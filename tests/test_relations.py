"""Relations: the paper's eight sectors and three elevation regions, exact at their boundaries."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rls3_gym.scene.camera import CameraFrame
from rls3_gym.scene.relations import (
    BY_TERMS,
    RELATIONS,
    Relation,
    Term,
    clear_indices,
    margin_deg,
    margins_deg,
    relation,
    relation_indices,
)
from rls3_gym.scene.rooms import CameraPose

coordinate = st.floats(-3, 3, allow_nan=False, width=32)
offsets = st.tuples(coordinate, coordinate, coordinate).map(np.array).filter(lambda o: bool(o.any()))
points = st.tuples(coordinate, coordinate, st.floats(0, 2, width=32)).map(np.array)


@given(offsets)
def test_the_relation_of_b_to_a_is_the_opposite_of_that_of_a_to_b(offset):
    assert relation(-offset) == relation(offset).opposite


@given(points, points, points, st.floats(-0.5, 0.5), st.floats(-3.1, 3.1))
def test_turning_and_shifting_camera_and_scene_together_changes_nothing(a, b, shift, heading, turn):
    pose = CameraPose((0.1, -2.0, 1.5), heading, -0.4, 52.0)
    sin, cos = np.sin(-turn), np.cos(-turn)  # a heading to the right is a clockwise turn seen from above
    rotation = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1.0]])
    moved_pose = CameraPose(tuple(rotation @ np.array(pose.eye) + shift), heading + turn, -0.4, 52.0)
    offset = np.subtract(*CameraFrame(pose).to_camera(np.stack([a, b])))
    moved = np.subtract(*CameraFrame(moved_pose).to_camera(np.stack([rotation @ a + shift, rotation @ b + shift])))
    assert np.allclose(offset, moved, atol=1e-6)
    if np.linalg.norm(offset) > 1e-3 and margin_deg(offset) > 0.1:
        assert relation(offset) == relation(moved)


@given(st.lists(offsets, min_size=1, max_size=20))
def test_many_offsets_at_once_give_what_each_gives_alone(many):
    together = relation_indices(np.stack(many))
    assert [RELATIONS[i] for i in together] == [relation(o) for o in many]
    assert np.allclose(margins_deg(np.stack(many)), [margin_deg(o) for o in many])


@given(st.lists(offsets, min_size=1, max_size=20), st.sampled_from([0.0, 1e-9, 1.0, 4.0, 10.0, 15.0, 19.5, 22.0]))
def test_an_offset_has_a_clear_relation_where_its_margin_is_wide_enough(many, least):
    found = clear_indices(np.stack(many).T, least)
    for cell, offset in zip(found, many, strict=True):
        margin = margin_deg(offset)
        if least == 0 or abs(margin - least) > 1e-9:
            assert cell == (relation(offset).index if margin >= least else -1)


@pytest.mark.parametrize(
    ("degrees", "terms"),
    [
        (0, {Term.RIGHT}),
        (22.4, {Term.RIGHT}),
        (22.6, {Term.BEHIND, Term.RIGHT}),
        (90, {Term.BEHIND}),
        (135, {Term.BEHIND, Term.LEFT}),
        (180, {Term.LEFT}),
        (225, {Term.FRONT, Term.LEFT}),
        (270, {Term.FRONT}),
        (315, {Term.FRONT, Term.RIGHT}),
        (337.6, {Term.RIGHT}),
    ],
)
def test_sectors_are_45_degrees_wide_and_centered_on_the_axes(degrees, terms):
    angle = np.radians(degrees)
    assert set(relation(np.array([np.cos(angle), 0.0, np.sin(angle)])).terms) == terms


@pytest.mark.parametrize(
    ("elevation", "expected"),
    [(22.0, {Term.RIGHT}), (23.0, {Term.ABOVE, Term.RIGHT}), (74.0, {Term.ABOVE, Term.RIGHT}), (76.0, {Term.ABOVE})],
)
def test_the_empty_band_ends_at_22_5_degrees_and_the_vertical_cone_leaves_horizontal_terms_out(elevation, expected):
    angle = np.radians(elevation)
    assert set(relation(np.array([np.cos(angle), np.sin(angle), 0.0])).terms) == expected


def test_there_are_26_cells_of_one_to_three_terms_and_each_is_found_by_its_terms():
    assert len(RELATIONS) == 26
    assert [sum(r.complexity == c for r in RELATIONS) for c in (1, 2, 3)] == [6, 12, 8]
    assert all(BY_TERMS[frozenset(r.terms)] == r and RELATIONS[r.index] == r for r in RELATIONS)


def test_two_objects_at_one_point_have_no_relation():
    with pytest.raises(ValueError, match="same point"):
        relation(np.zeros(3))
    with pytest.raises(ValueError, match="needs"):
        Relation(None, 0)


@given(offsets)
def test_turning_by_less_than_the_margin_keeps_the_relation(offset):
    margin = margin_deg(offset)
    if np.linalg.norm(offset) < 1e-2 or margin < 0.2:
        return
    for turn in (-0.9, 0.9):
        angle = np.radians(turn * margin)
        sin, cos = np.sin(angle), np.cos(angle)
        turned = np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]]) @ offset
        assert relation(turned) == relation(offset)


@given(offsets)
def test_turning_by_more_than_the_margin_can_change_the_relation(offset):
    if np.linalg.norm(offset) < 1e-2 or np.hypot(offset[0], offset[2]) < 1e-3:
        return
    angle = np.radians(margin_deg(offset) + 1e-3)
    azimuth, elevation = np.arctan2(offset[2], offset[0]), np.arctan2(offset[1], np.hypot(offset[0], offset[2]))
    turned = [(azimuth + angle, elevation), (azimuth - angle, elevation), (azimuth, elevation + angle)]
    turned.append((azimuth, elevation - angle))
    moved = np.array([[np.cos(e) * np.cos(a), np.sin(e), np.cos(e) * np.sin(a)] for a, e in turned])
    assert (relation_indices(moved) != relation(offset).index).any()


@pytest.mark.parametrize(
    ("azimuth", "elevation", "expected"),
    [(0, 0, 22.5), (20, 0, 2.5), (45, 20, 2.5), (-90, -30, 7.5), (10, 74, 1.0), (22, 80, 5.0), (130, -89, 14.0)],
)
def test_the_margin_is_the_angle_to_the_nearest_sector_band_or_cone(azimuth, elevation, expected):
    a, e = np.radians([azimuth, elevation])
    assert margin_deg(np.array([np.cos(e) * np.cos(a), np.sin(e), np.cos(e) * np.sin(a)])) == pytest.approx(expected)
