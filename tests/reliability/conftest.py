"""What the tests of this folder have in common: the outcome of a run that nothing happened to."""

from __future__ import annotations

from typing import Any

import pytest
from killing import AGENTS, begin, outcome, short


def _without_report(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("rls3_gym.report.page.write_report", lambda path: path / "report.html")


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs have no report: its plots take longer than all the rest, and are drawn when all else is safe."""
    _without_report(monkeypatch)


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What an uninterrupted run of each agent comes to, without its report."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        _without_report(patch)
        for agent in AGENTS:
            out = tmp_path_factory.mktemp("whole") / agent
            begin(short(agent), out)
            found[agent] = outcome(out)
    return found
