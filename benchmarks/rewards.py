"""Extrinsic rewards compared under one agent, paired by seed, on the *validation* set: how the default was chosen.

    python benchmarks/rewards.py

Rewards are settings, so the test sets are not looked at here. `random` needs no reward and is the baseline. The reward
at the episode's end gets an agent that looks that far ahead (gamma 0.98). See `arms.py` for what is compared and how.
"""

from __future__ import annotations

from arms import compare, parser

SETTINGS = {"episode_error": ["agent.settings.gamma=0.98"]}


def main() -> None:
    options = parser(__doc__ or "", name="rewards", sets=("validation",), budgets=(1000, 1500), n_generated=3_700)
    options.add_argument("--agent", default="sb3/sac")
    options.add_argument(
        "--rewards",
        nargs="+",
        default=["cell_error", "reducible_error", "learning_progress", "sample_error", "episode_error"],
    )
    arguments = options.parse_args()
    arms = {"random": ["agent=random"]}
    for reward in arguments.rewards:
        arms[reward] = [f"agent={arguments.agent}", f"environment.extrinsic={reward}", *SETTINGS.get(reward, [])]
    compare(arms, arguments)


if __name__ == "__main__":
    main()
