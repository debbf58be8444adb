"""Runs of several lanes: what is written of rounds that end in the same step."""

from __future__ import annotations

from pathlib import Path

from experiment_tools import TINY, go_on, metrics, run, tiny

from rls3_gym.experiment.callbacks import RunCallback
from rls3_gym.experiment.run import start
from rls3_gym.runs.rows import EvaluationRow

PPO = {"name": "sb3/ppo", "settings": {"n_steps": 8, "batch_size": 4, "net_arch": [8]}}
A_ROUND_FOR_EACH_LANE = tiny(
    agent=PPO, environment={**TINY["environment"], "num_envs": 3, "episodes_per_round": 1}, budget={"rounds": 6}
)


class Dies(RunCallback):
    """Ends the run without warning in the middle of a step that ends three rounds."""

    def evaluated(self, row: EvaluationRow) -> None:
        if row.round == 5:
            raise InterruptedError


def test_each_of_the_rounds_that_one_step_ends_is_measured_with_the_vlm_that_it_left(tmp_path: Path) -> None:
    directory = run(A_ROUND_FOR_EACH_LANE, tmp_path / "run").directory
    taught = {row["round"]: row["digest_after"] for row in metrics(directory, "finetune")}
    measured = {row["round"]: row["vlm_digest"] for row in metrics(directory, "evaluation")}
    assert list(taught) == [1, 2, 3, 4, 5, 6] and len(set(taught.values())) == 6
    assert {round_: digest for round_, digest in measured.items() if round_} == taught
    of_rounds = [row["row"] for row in metrics(directory) if row["row"] != "agent"]
    assert of_rounds == ["evaluation"] + 6 * ["episode", "finetune", "evaluation"] + ["end"]

    killed = tmp_path / "killed"
    try:
        start(A_ROUND_FOR_EACH_LANE, ["run"], killed, [Dies()])
    except InterruptedError:
        go_on(A_ROUND_FOR_EACH_LANE, killed)
    assert metrics(killed) == metrics(directory)
