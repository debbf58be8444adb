"""The tests that a build of the Unity player has to pass, for a pytest suite of its own.

from rls3_gym.backends.unity.contract import PlayerContract

class TestMyBuild(PlayerContract):
    backend = "my_build.yaml"
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rls3_gym.backends.contract import BackendContract
from rls3_gym.backends.unity.backend import UnityBackend
from rls3_gym.scene.arrangement import SLOTS, ActiveObject, Arrangement, Edit, Reason, place
from rls3_gym.scene.captions import describe
from rls3_gym.scene.catalog import load_catalog
from rls3_gym.scene.layouts import draw_layout, family_names
from rls3_gym.scene.proposals import random_arrangement, random_edit
from rls3_gym.scene.relations import margin_deg, relation
from rls3_registry.errors import UserError

EDITS = 40
"""Edits in each room; about half of them are feasible."""


def in_single_precision(edit: Edit) -> Edit:
    """The edit as it arrives at a player: ML-Agents sends actions so."""
    x, y, level, yaw = np.array([edit.x, edit.y, edit.level, edit.yaw], np.float32).tolist()
    return replace(edit, x=x, y=y, level=level, yaw=yaw)


class PlayerContract(BackendContract):
    """What every backend must do, and besides that what only a player can do wrong."""

    @pytest.mark.parametrize("family", family_names())
    def test_the_player_decides_about_edits_as_the_rules_do(self, world: UnityBackend, family: str) -> None:
        kinds = [kind.name for kind in load_catalog().training]
        rng = np.random.default_rng(11)
        now = random_arrangement(rng, draw_layout(family, 1), kinds)
        world.reset(now, seed=0)
        reasons: set[Reason | None] = set()
        for _ in range(EDITS):
            edit = in_single_precision(random_edit(rng, now, kinds))
            expected = place(now, edit)
            found = world.carry_out(edit)
            assert found == expected.reason, edit
            reasons.add(found)
            now = expected.arrangement or now
        assert len(reasons) >= 3 and None in reasons

    def test_relations_and_captions_follow_from_the_players_poses(self, world: UnityBackend) -> None:
        kinds = [kind.name for kind in load_catalog().training]
        rng = np.random.default_rng(12)
        told, meant = [], []
        for family in family_names():
            scene = random_arrangement(rng, draw_layout(family, 2), kinds)
            positions = self.capture(world, scene).positions.astype(np.float64)
            for a in range(SLOTS):
                b = (a + 1) % SLOTS
                offset = scene.camera_positions()[a] - scene.camera_positions()[b]
                if margin_deg(offset) > 0.1:  # else single precision decides
                    named = scene.objects[a].kind, scene.objects[b].kind
                    told.append(describe(named[0], relation(positions[a] - positions[b]), named[1]))
                    meant.append(describe(named[0], relation(offset), named[1]))
        assert told == meant and len(told) > 8

    def test_the_pictures_are_of_the_room_that_was_asked_for(
        self, world: UnityBackend, arrangement: Arrangement
    ) -> None:
        here = self.capture(world, arrangement)
        elsewhere = random_arrangement(
            np.random.default_rng(4), draw_layout("bedroom", 0), [o.kind for o in arrangement.objects]
        )
        there = self.capture(world, elsewhere)
        again = self.capture(world, arrangement)
        assert (here.rgb != there.rgb).any() and (here.rgb == again.rgb).all()

    def test_an_unknown_kind_of_object_is_an_error_that_names_it(
        self, world: UnityBackend, arrangement: Arrangement
    ) -> None:
        strange = ActiveObject("flying carpet", (0.0, 0.0, 0.0), 0.0)
        with pytest.raises(UserError, match="flying carpet"):
            world.reset(Arrangement(arrangement.layout, (strange, *arrangement.objects[1:])), seed=0)
        self.capture(world, arrangement)  # and the backend goes on
