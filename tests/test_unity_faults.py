"""What goes wrong with a player: one line that names the player, its log and the last command, and never a sample."""

from __future__ import annotations

import argparse
import json
import os
import re
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from env_parts import make_env
from unity_player.launch import stand_in
from unity_player.look import Look
from unity_player.player import StandIn
from unity_player.world import World

from rls3_gym.backends.base import load_backend
from rls3_gym.backends.unity import connection, messages
from rls3_gym.backends.unity.backend import UnityBackend
from rls3_gym.backends.unity.checks import self_test_scenes
from rls3_gym.backends.unity.process import PlayerProcess
from rls3_gym.backends.unity.settings import VARIABLE, UnitySettings
from rls3_registry.errors import UserError

QUICK = {"start_timeout": 60.0, "step_timeout": 20.0}


class Loopback:
    """A connection to a stand-in in this process: the same messages and pictures, without processes and gRPC."""

    fault: str | None = None
    at = 1
    starts = 0

    def __init__(self, port: int, timeout: float, start: Callable[[int], Any]) -> None:
        type(self).starts += 1
        options = {"look": Look().to_json(), "fault": self.fault, "at": self.at, "once": None, "layout": "chw"}
        self._player = StandIn(argparse.Namespace(**options))
        self._world: World = self._player._world

    def exchange(self, command: str, action: Any, timeout: float) -> connection.Observation:
        agent, told = self._player._observation(self._world.obey(command, action))
        return connection._observation(told, agent)

    def close(self) -> None:
        pass


@pytest.fixture
def loopback(monkeypatch: pytest.MonkeyPatch) -> type[Loopback]:
    class Fresh(Loopback):
        pass

    monkeypatch.setattr(connection, "Connection", Fresh)
    return Fresh


def one_line(error: pytest.ExceptionInfo[UserError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("truncate", "picture 'camera': it is no complete PNG"),
        ("not_png", "picture 'camera': it is no complete PNG"),
        ("schema", "message schema 2, and this side speaks 1"),
        ("silent", "it sent 0 messages with its pictures"),
        ("nan", "objects.0.position.0: Input should be a finite number"),
        ("nan_vector", "'positions' has numbers that are none"),
        ("swap_layout", "it shows layout 'country_kitchen/0' and was asked for 'bedroom/0'"),
        ("move", "stands 0.100 m from where it was put"),
        ("count", "pixels show the .*, and its ids picture has"),
        ("constant", "camera picture is one single color"),
        ("repeat", "it answered command 2, and not 3"),
        ("blur_ids", "ids picture has colors that stand for nothing"),
        ("no_camera", "it has no PNG sensor 'camera'; it has depth, ids"),
        ("unread", r"it says: what was that\? \(command\)"),
        ("internal", r"it says: no memory \(internal\)"),
    ],
)
def test_an_answer_that_is_wrong_is_named_and_gives_no_frame(loopback: type[Loopback], fault: str, said: str) -> None:
    loopback.fault, loopback.at = fault, 3  # after the self-test
    world = UnityBackend({"editor": True})
    scene, _ = self_test_scenes()
    with pytest.raises(UserError, match=said) as error:
        world.reset(scene, seed=0)
    text = one_line(error)
    assert "in the Unity Editor" in text and "last command: show bedroom/0 at 64 pixels (number 3)" in text
    assert "log: the Editor's console" in text
    assert world._fresh is None


@pytest.mark.parametrize(
    ("fault", "at", "said"),
    [
        ("nan_vector", 1, "'positions' has numbers that are none"),
        ("constant", 1, "camera picture is one single color"),
        ("frozen", 2, "two different scenes have the same picture"),
        ("mirror", 1, "is the picture mirrored or upside down"),
    ],
)
def test_the_start_up_test_finds_pictures_that_show_nothing(
    loopback: type[Loopback], fault: str, at: int, said: str
) -> None:
    loopback.fault, loopback.at = fault, at
    with pytest.raises(UserError, match=said) as error:
        _ = UnityBackend({"editor": True}).fingerprint
    assert "show country_kitchen/0" in one_line(error) or at == 1


@pytest.mark.filterwarnings("ignore:.*it is started again")
@pytest.mark.parametrize(("fault", "starts"), [("move", 3), ("schema", 1)])
def test_only_a_fault_that_may_pass_is_worth_a_new_player(loopback: type[Loopback], fault: str, starts: int) -> None:
    loopback.fault, loopback.at = fault, 3
    world = UnityBackend({"editor": True, "restarts": 2})
    with pytest.raises(UserError):
        world.reset(self_test_scenes()[0], seed=0)
    assert loopback.starts == starts


def test_an_interrupted_answer_is_never_taken_for_the_next_one(
    loopback: type[Loopback], monkeypatch: pytest.MonkeyPatch
) -> None:
    world, (scene, other) = UnityBackend({"editor": True}), self_test_scenes()
    world.reset(scene, seed=0)

    def interrupt(*_: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loopback, "exchange", interrupt)
        with pytest.raises(KeyboardInterrupt):
            world.reset(other, seed=0)
    world.reset(scene, seed=0)
    assert loopback.starts == 2 and world.capture().rgb.any()


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ('{"schema":2,"type":"jump"}', "schema"),
        ('{"schema":1,"type":"jump"}', "command"),
        ('{"schema":1,"type":"edit","number":1}', "command"),
        ('{"schema":1,"type":"edit"}', "command"),
        ("no json", "command"),
    ],
)
def test_the_stand_in_answers_what_it_cannot_do_as_the_protocol_says(command: str, problem: str) -> None:
    answer = messages.decode(json.dumps(World(Look()).obey(command, None).message))
    assert isinstance(answer, messages.Problem) and answer.problem == problem


def test_the_examples_of_the_protocol_page_are_valid_messages() -> None:
    page = Path(__file__).resolve().parent.parent / "unity_project" / "PROTOCOL.md"
    texts = [line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith('{"schema"')]
    shown, edit = (messages.decode_command(text) for text in texts[:2])
    assert [messages.encode(shown), messages.encode(edit)] == texts[:2]
    state, problem = (messages.decode(text) for text in texts[2:])
    assert isinstance(state, messages.State) and isinstance(problem, messages.Problem)
    assert messages.CHANNEL in page.read_text(encoding="utf-8")


def test_the_documents_list_every_setting() -> None:
    page = (Path(__file__).resolve().parent.parent / "docs" / "unity.md").read_text(encoding="utf-8")
    table = page.split("| setting | default |")[1].split("\n\n")[0]
    named = {name for row in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert named == set(UnitySettings.model_fields)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, f"no player: set {VARIABLE}"),
        ({"file_name": "nowhere/player"}, "Unity player nowhere/player: there is no such player"),
        ({"file_name": __file__}, "may not be executed; chmod"),
        ({"editor": True, "file_name": "x"}, "give one of them"),
        ({"worker_id": 1}, "worker_id is added to base_port"),
        ({"qualty": "low"}, "did you mean 'quality'"),
    ],
)
def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], said: str) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(UserError, match=said):
        _ = UnityBackend(settings).fingerprint


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as other:
        other.bind(("localhost", 0))
        other.listen()
        yield other.getsockname()[1]


def test_a_port_in_use_is_named(tmp_path: Path, taken: int) -> None:
    settings = {"file_name": str(stand_in(tmp_path)), "base_port": taken - 1, "worker_id": 1}
    with pytest.raises(UserError, match=f"port {taken} is in use.*or leave base_port out") as error:
        _ = UnityBackend(settings).fingerprint
    assert "stand_in.x86_64" in one_line(error)


def test_listing_and_loading_need_no_mlagents(tmp_path: Path) -> None:
    """And where it is missing, the error says what to install."""
    code = (
        "import sys\n"
        "sys.modules['mlagents_envs'] = None\n"
        "from rls3_gym.backends.base import load_backend\n"
        "made = load_backend('unity', 64)\n"
        "try:\n    made.fingerprint\nexcept Exception as error:\n    print(type(error).__name__, error)"
    )
    environment = {**os.environ, VARIABLE: str(stand_in(tmp_path))}
    said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert 'UserError backend unity needs mlagents_envs: pip install "rls3_gym[unity]"' in said.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "at", "said"),
    [
        ("die", 0, "it ended with exit code 3.*its last words: Failed to initialize graphics"),
        ("die", 5, "it ended with exit code 3; last command: show .* at 64 pixels"),
        ("hang", 1, "it did not answer in time"),
        ("hang", 5, "it did not answer in time; last command: show"),
        ("truncate", 5, "picture 'camera': it is no complete PNG"),
    ],
)
def test_a_player_that_fails_leaves_no_half_of_a_sample(tmp_path: Path, fault: str, at: int, said: str) -> None:
    """Through the whole environment: what was counted before is what is counted afterwards."""
    player = tmp_path / "mine.yaml"
    log = tmp_path / "logs"
    player.write_text(
        f"plugin: unity\nsettings: {{file_name: '{stand_in(tmp_path, fault=fault, at=at)}', log_folder: '{log}', "
        f"start_timeout: 30.0, step_timeout: {2.0 if fault == 'hang' else 20.0}}}\n",
        encoding="utf-8",
    )
    if at == 1:
        player.write_text(player.read_text(encoding="utf-8").replace("30.0", "8.0"), encoding="utf-8")
    env: Any = make_env(backend=str(player), action_view="box")
    before: tuple[Any, ...] = ()
    with pytest.raises(UserError, match=said) as error:
        env.reset(seed=0)
        env.action_space.seed(1)
        for _ in range(12):
            loop = env.unwrapped.loop
            before = loop.scheduler.n_steps, loop.scheduler.n_generated, len(loop.lanes[0].episode.samples)
            env.step(env.action_space.sample())
    text = one_line(error)
    assert "stand_in.x86_64" in text and str(log) in text
    loop = env.unwrapped.loop
    if before:
        now = loop.scheduler.n_steps, loop.scheduler.n_generated, len(loop.lanes[0].episode.samples)
        assert now == before
    env.close()


@pytest.mark.slow
def test_a_player_of_another_ml_agents_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="communication API version is not compatible"):
        _ = UnityBackend({**QUICK, "file_name": str(stand_in(tmp_path, api="2.0.0"))}).fingerprint


@pytest.mark.slow
def test_nobody_presses_play(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    with pytest.raises(UserError, match=f"press Play in the Unity Editor while Python listens on port {port}"):
        _ = UnityBackend({"editor": True, "base_port": port, "start_timeout": 0.5}).fingerprint


@pytest.mark.slow
def test_two_backends_that_start_at_once_get_ports_of_their_own(tmp_path: Path) -> None:
    made = [UnityBackend({**QUICK, "file_name": str(stand_in(tmp_path)), "log_folder": str(tmp_path)}) for _ in "ab"]
    scene, other = self_test_scenes()
    for world, shown in zip(made, (scene, other), strict=True):
        world.reset(shown, seed=0)
    ports = {path.stem.split("-")[2] for path in tmp_path.glob("player-*.log")}
    assert len(ports) == 2
    assert np.array_equal(made[0].capture().positions, scene.camera_positions().astype(np.float32))
    for world in made:
        world.close()


def test_logs_that_nobody_asked_to_keep_lie_where_no_other_user_can_put_a_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for failed in (False, True):
        player = PlayerProcess("true", 5005, (), None)
        folder = player.log.parent
        assert folder.parent == tmp_path and stat.S_IMODE(folder.stat().st_mode) == 0o700
        player.close(5.0, failed=failed)
        assert folder.exists() == player.log.exists() == failed


def test_loading_the_backend_starts_nothing() -> None:
    load_backend("unity", 64).close()
