"""What agents say of their own training: in the log of the run, in its report, and in TensorBoard files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from experiment_tools import SAC, metrics, run, tiny, tiny_file

from rls3_agents.samplers.random import RandomAgent
from rls3_gym.cli.app import main
from rls3_gym.experiment.agent_values import AgentValues
from rls3_gym.experiment.callbacks import RunCallback
from rls3_gym.experiment.run import resume, start
from rls3_gym.experiment.tracking import TensorBoardCurves
from rls3_gym.report.page import render_page
from rls3_gym.runs.rows import FinetuneRow
from rls3_gym.runs.run_data import read_run

COUNTS = {"round": 1, "n_generated": 5, "n_trained": 4, "n_steps": 6}
PPO = {"name": "sb3/ppo", "settings": {"n_steps": 8, "batch_size": 4, "net_arch": [8]}}
SAYS: dict[str, tuple[Any, set[str]]] = {
    "sac": (SAC, {"actor_loss", "critic_loss", "ent_coef", "ent_coef_loss"}),
    "bandit": ("bandit", {"chance/left", "chance/below", "entropy", "progress"}),
    "ppo": (PPO, {"entropy_loss", "policy_gradient_loss", "value_loss"}),
    "tianshou_ppo": (
        {"name": "tianshou/ppo", "settings": {"rollout_steps": 8, "batch_size": 4, "hidden_sizes": [8]}},
        {"loss", "actor_loss", "vf_loss", "ent_loss"},
    ),
    "tianshou_sac": (
        {"name": "tianshou/sac", "settings": {"learning_starts": 6, "batch_size": 8, "hidden_sizes": [8]}},
        {"actor_loss", "critic1_loss", "alpha", "alpha_loss"},
    ),
    "cem": ("cem", {"mean/0", "mean/10", "spread"}),
    "plr": ("plr", {"levels", "score"}),
    "oracle": ("oracle", {"chance/left", "entropy"}),
}
"""Agents, and what they say among other things."""
QUICK = ("bandit",)


def test_a_row_holds_means_since_the_row_before_and_none_is_made_of_nothing() -> None:
    values = AgentValues()
    assert values.episode_ended(2.0, COUNTS) is None
    values.add({"loss": 1.0, "odd": float("nan")})
    values.add({"loss": 2.0})
    again = AgentValues(values.state())
    for held in (values, again):
        row = held.episode_ended(4.0, COUNTS)
        assert row is not None and row.n_generated == 5
        assert row.values == {"loss": 1.5, "episode_reward": 3.0}  # of two episodes
        assert held.episode_ended(1.0, COUNTS) is None


def test_of_an_agent_with_very_many_names_the_first_are_kept_and_what_is_left_out_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stops(RunCallback):
        def note(self, line: str) -> None:
            notes.append(line)

        def round_ended(self, row: FinetuneRow) -> None:
            if row.round == 3 and not any("--resume" in line for line in notes):
                notes.append("--resume")
                raise InterruptedError

    notes: list[str] = []
    said = iter(range(1000))
    monkeypatch.setattr(RandomAgent, "log_values", lambda _: {f"chance/{next(said)}": 0.5 for _ in range(10)})
    with pytest.raises(InterruptedError):
        start(tiny(), ["run"], tmp_path / "run", [Stops()])
    directory = resume(tiny(), tmp_path / "run", ["run"], [Stops()]).directory
    run_ = read_run(directory)
    kept = [name for row in run_.metrics.agent for name in row.values]
    assert len(set(kept)) == 64 and kept[:2] == ["chance/0", "chance/1"] and "episode_reward" in kept
    assert "chance" in render_page(run_)
    left_out = "the agent's values have more than 64 names; those that came last are left out, such as 'chance/63'"
    assert next(line for line in notes if "64 names" in line) == left_out
    assert sum("64 names" in line for line in notes) == 2  # once for each command


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in SAYS])
def test_the_log_and_the_report_of_a_run_tell_how_the_agent_trains(name: str, tmp_path: Path) -> None:
    agent, said = SAYS[name]
    directory = run(tiny(agent=agent, budget={"rounds": 2}), tmp_path / "run").directory
    rows, episodes = metrics(directory, "agent"), metrics(directory, "episode")
    assert rows
    assert said | {"episode_reward"} <= set().union(*(row["values"] for row in rows))
    assert [row["n_steps"] for row in rows] == sorted({row["n_steps"] for row in rows})
    assert {row["n_steps"] for row in rows} <= {row["n_steps"] for row in episodes}
    if len(rows) == len(episodes):  # a row for each episode: its reward is that of the steps
        means = [6 * (row["intrinsic"] + row["extrinsic"]) for row in episodes]
        assert [row["values"]["episode_reward"] for row in rows] == pytest.approx(means)
    page = render_page(read_run(directory))
    assert "How the agent trained" in page and "episode reward" in page


def test_tensorboard_shows_the_numbers_of_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.chdir(tmp_path)
    file = tiny_file(tmp_path, agent=SAC, budget={"rounds": 1})
    with pytest.raises(SystemExit) as ended:
        main(["run", str(file), "--out", "run", "--tensorboard", "--json"])
    assert ended.value.code == 0
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    written = [(event.step, event.value) for event in events.Scalars("agent/actor_loss")]
    rows = metrics(tmp_path / "run", "agent")
    losses = [(row["n_generated"], row["values"]["actor_loss"]) for row in rows if "actor_loss" in row["values"]]
    assert [step for step, _ in written] == [step for step, _ in losses]
    assert [value for _, value in written] == pytest.approx([value for _, value in losses])
    evaluations = [row["pairwise_accuracy"] for row in metrics(tmp_path / "run", "evaluation")]
    assert [event.value for event in events.Scalars("accuracy/validation/pairwise")] == pytest.approx(evaluations)


@pytest.mark.parametrize(("library", "install"), [("tensorboard", '"rls3_gym[tensorboard]"'), ("wandb", "wandb")])
def test_a_tool_that_is_not_installed_comes_with_the_command_that_installs_it(
    library: str, install: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["run", str(tiny_file(tmp_path)), "--out", "run", f"--{library}"])
    said = f"rls3: --{library} needs {library}: pip install {install}\n"
    assert (ended.value.code, capsys.readouterr().err) == (2, said)
    assert not (tmp_path / "run").exists()


def test_curves_of_later_lives_have_names_of_their_own(tmp_path: Path) -> None:
    from rls3_gym.runs.rows import AgentRow

    said: dict[str, float] = {}

    class Kept(TensorBoardCurves):
        def write(self, values: Any, step: int) -> None:
            said.update(values)

    curves = Kept()
    curves.life_begun(1)
    row = AgentRow.model_validate({**COUNTS, "values": {"loss": 1.0, "none": None}})
    curves.agent_said(row)
    curves.life_begun(2)
    curves.agent_said(row)
    curves.close()
    assert said == {"agent/loss": 1.0, "life 2/agent/loss": 1.0}
