"""Samplers compared at equal numbers of trained samples, paired by seed, on the balanced and the natural test set.

    python benchmarks/samplers.py                                  # SAC, random, stratified; 5 seeds; the defaults
    python benchmarks/samplers.py --out bench-out/ppo --agents random sb3/ppo

See `arms.py` for what is compared and how.
"""

from __future__ import annotations

from arms import compare, parser


def main() -> None:
    options = parser(
        __doc__ or "", name="samplers", sets=("test", "test_natural"), budgets=(1000, 2000, 4000), n_generated=9_600
    )
    options.add_argument("--agents", nargs="+", default=["random", "stratified", "sb3/sac"])
    arguments = options.parse_args()
    compare({agent: [f"agent={agent}"] for agent in arguments.agents}, arguments)


if __name__ == "__main__":
    main()
