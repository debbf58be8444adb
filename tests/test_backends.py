"""What every backend must do: all in `registry/backends` are put through it (`unity` in `test_unity_backend.py`)."""

from __future__ import annotations

import numpy as np
import pytest
import world_pictures
from PIL import Image

import rls3_registry
from rls3_gym.backends.base import load_backend
from rls3_gym.backends.contract import SIZE, BackendContract
from rls3_gym.backends.embedded import backend as embedded
from rls3_gym.backends.embedded.backend import EmbeddedBackend
from rls3_gym.scene.arrangement import Arrangement
from rls3_gym.scene.layouts import layouts
from rls3_registry.errors import UserError
from rls3_registry.validation import Settings, check


def contract_of(name: str) -> type[BackendContract]:
    """The contract's tests for a registered backend."""
    return type(f"Test{name.title()}", (BackendContract,), {"backend": name})


ELSEWHERE = {"unity", "unity_editor"}
globals().update({t.__name__: t for t in map(contract_of, sorted(set(rls3_registry.names("backends")) - ELSEWHERE))})


def test_a_fingerprint_names_backend_size_and_settings():
    prints = {
        EmbeddedBackend(image_size=SIZE).fingerprint,
        EmbeddedBackend(image_size=32).fingerprint,
        EmbeddedBackend({"supersampling": 1}, image_size=SIZE).fingerprint,
    }
    assert len(prints) == 3
    assert load_backend("embedded", SIZE).fingerprint == EmbeddedBackend(image_size=SIZE).fingerprint


def test_the_rooms_visited_last_are_kept_and_no_more_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "_KEPT_RAYS", 3 * (2 * 32) ** 2)
    built: list[int] = []
    shared = embedded._shared_tracer
    monkeypatch.setattr(embedded, "_shared_tracer", lambda room, *args: built.append(room.index) or shared(room, *args))
    backend, rooms = EmbeddedBackend(image_size=32), layouts("train")[:4]

    def visit(*numbers: int) -> list[int]:
        built.clear()
        for number in numbers:
            backend.reset(Arrangement(rooms[number], ()), seed=0)
        return [rooms.index(next(room for room in rooms if room.index == index)) for index in built]

    assert visit(0, 1, 2) == [0, 1, 2]
    assert visit(0, 2, 1) == []  # going back to a room builds nothing
    assert visit(3, 2, 1) == [3]  # instead of 0, which was visited longest ago
    assert visit(0) == [0]
    assert len(backend._tracers) == 3


@pytest.mark.parametrize("name", world_pictures.SHEETS)
def test_the_world_looks_as_its_version_did(name: str) -> None:
    """Whoever changes what is shown raises `WORLD_VERSION`. Other processors may round a few pixels otherwise."""
    kept = np.asarray(Image.open(world_pictures.SHEETS[name])).astype(np.float64)
    difference = np.abs(kept - world_pictures.draw(name))
    assert difference.mean() < 0.2 and (difference > 16).mean() < 0.002


class NightSettings(Settings):
    brightness: float


class NightBackend(EmbeddedBackend):
    """A backend of somebody else's."""

    def __init__(self, settings, *, image_size: int) -> None:
        super().__init__(image_size=image_size)
        self.brightness = check(NightSettings, settings, section="settings").brightness


def test_a_backend_may_be_a_yaml_file_with_a_class_of_ones_own(tmp_path):
    file = tmp_path / "night.yaml"
    file.write_text("plugin: test_backends:NightBackend\nsettings: {brightness: 0.2}\n", encoding="utf-8")
    made = load_backend(str(file), 32)
    assert (type(made).__name__, made.image_size, made.brightness) == ("NightBackend", 32, 0.2)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            "plugin: test_backends:NightBackend\nsettings: {brightnes: 0.2}",
            "unknown key 'settings.brightnes'; did you mean 'brightness'",
        ),
        (
            "plugin: embedded\nsettings: {supersampling: abc}",
            "settings.supersampling: should be a valid integer, not 'abc'",
        ),
        ("plugin: embeded", "unknown backend 'embeded'; did you mean 'embedded'"),
        ("plugin: test_backends:SIZE", "has no class 'SIZE'"),
        ("plugin: rls3_gym.scene.arrangement:Edit", "is no backend; it lacks reset, apply"),
        ("plugin: nowhere:Backend", "cannot be imported: No module named 'nowhere'"),
        ("plugn: embedded", "unknown key 'plugn'; did you mean 'plugin'"),
    ],
)
def test_a_mistake_in_a_backends_yaml_is_named(tmp_path, content, said):
    file = tmp_path / "mine.yaml"
    file.write_text(content + "\n", encoding="utf-8")
    with pytest.raises(UserError, match=said) as mistake:
        load_backend(str(file), 32)
    assert "\n" not in str(mistake.value)
