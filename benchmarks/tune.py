"""One setting tried at several values, paired by seed, on the *validation* set and on seeds that no result uses.

    python benchmarks/tune.py agent.settings.target_entropy_per_dim -1 0 0.3 0.5

Any key of an experiment can be tried; see `arms.py` for what is compared and how.
"""

from __future__ import annotations

from arms import compare, parser


def main() -> None:
    options = parser(__doc__ or "", name="tune", sets=("validation",), budgets=(1000,), n_generated=3_000)
    options.set_defaults(seeds=3, first_seed=100)
    options.add_argument("key", help="e.g. agent.settings.target_entropy_per_dim")
    options.add_argument("values", nargs="+")
    options.add_argument("--agent", default="sb3/sac")
    arguments = options.parse_args()
    arms = {"random": ["agent=random"]}
    arms |= {value: [f"agent={arguments.agent}", f"{arguments.key}={value}"] for value in arguments.values}
    compare(arms, arguments)


if __name__ == "__main__":
    main()
