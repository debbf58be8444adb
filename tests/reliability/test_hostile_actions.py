"""Actions that no agent should send, over every registered id: refused with nothing changed, or a step like others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest
from limits import processor_seconds
from numpy.random import Generator

from rls3_gym.envs.parallel_env import AGENTS, RLS3SceneParallelEnv
from rls3_gym.registration import ENV_IDS
from rls3_registry.errors import LONGEST, UserError

SECONDS = 20.0
"""Of processor time, for one action; one that ends a round teaches the VLM."""
SMALL: dict[str, Any] = {"steps_per_episode": 6, "episodes_per_round": 40, "train_fraction": 0.2}
NUMBERS = (
    np.nan, np.inf, -np.inf, -1, -(2**63), 2**63, 2**64, 10**400, -0.0, 1e300, 0.5, 5e-324, True, 1 + 2j, None, "0",
    "nan", b"1", "", object(), {}, {"a": 1}, set(), range(3), slice(1), print, np.datetime64("nat"), 10**5000,
)  # fmt: skip
DTYPES = ("f2", "f4", "f8", "i1", "i8", "u1", "u8", "c8", "?", "U3", "S3", "O", "M8[s]", "V4")


class Odd:
    """An object whose `__array__` and `__repr__` fail."""

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise ValueError("no array")

    def __repr__(self) -> str:
        raise RuntimeError("no text")


def number(rng: Generator) -> Any:
    return NUMBERS[int(rng.integers(len(NUMBERS)))]


def of_dtype(rng: Generator, like: Any) -> Any:
    """The numbers of a good action, or others, with another dtype."""
    with np.errstate(all="ignore"):
        try:
            return np.asarray(like if rng.random() < 0.5 else rng.normal(size=np.shape(like)) * 1e3).astype(
                DTYPES[int(rng.integers(len(DTYPES)))]
            )
        except (TypeError, ValueError):
            return np.asarray(None)


def poisoned(rng: Generator, like: Any) -> Any:
    """A good action with one entry that is none."""
    entries = list(np.ravel(np.asarray(like)))
    entries[int(rng.integers(len(entries)))] = number(rng)
    return entries if np.ndim(like) else entries[0]


def of_shape(rng: Generator, like: Any) -> Any:
    return np.zeros(tuple(int(n) for n in rng.integers(0, 7, size=int(rng.integers(4)))), np.asarray(like).dtype)


def nested(rng: Generator, like: Any) -> Any:
    deep: Any = [like]
    for _ in range(int(rng.integers(1, 60))):
        deep = [deep]
    return [[1], [1, 2]] if rng.random() < 0.3 else deep


def looped(rng: Generator, like: Any) -> Any:
    loop: list[Any] = [like]
    loop.append(loop)
    return loop


def odd(rng: Generator, like: Any) -> Any:
    return Odd()


def huge(rng: Generator, like: Any) -> Any:
    return np.broadcast_to(np.float32(0.0), (10**9,))


MAKERS: tuple[Callable[[Generator, Any], Any], ...] = (
    lambda rng, like: number(rng), poisoned, poisoned, of_dtype, of_dtype, of_shape, nested, looped, odd, huge,
)  # fmt: skip


def hostile(rng: Generator, good: Any) -> Any:
    """An action made from a good one; one in twenty is left as it is."""
    return good if rng.random() < 0.05 else MAKERS[int(rng.integers(len(MAKERS)))](rng, good)


def hostile_to_all(rng: Generator, good: dict[str, Any]) -> Any:
    """Actions of all agents, one of which is hostile, or something else in place of them."""
    if rng.random() < 0.2:
        return number(rng)
    agent = AGENTS[int(rng.integers(len(AGENTS)))]
    return good | {agent: hostile(rng, good[agent])} | ({number(rng).__class__: 1} if rng.random() < 0.1 else {})


def fingerprint(loop: Any) -> tuple[Any, ...]:
    """What an action changes: counts, the scene, what is on offer, and the generators."""
    lanes, scheduler = loop.lanes, loop.scheduler
    scenes = [lane.arrangement.encode() for lane in lanes]
    drawn = [str(lane.rng.bit_generator.state) for lane in lanes]
    counts = (scheduler.n_steps, scheduler.n_generated, str(scheduler.progress), [lane.episode.step for lane in lanes])
    return (scenes, drawn, counts, [id(lane.proposals) for lane in lanes], [id(lane.relations) for lane in lanes])


def send(env: Any, loop: Any, make: Callable[[], Any], n: int) -> dict[str, int]:
    """Send `n` actions, and begin the next episode where one is over."""
    came = {"refused": 0, "step": 0}
    for sent in range(n):
        action, before = make(), fingerprint(loop)
        with processor_seconds(SECONDS), np.errstate(over="ignore"):
            try:
                _, reward, terminated, truncated, info = env.step(action)
            except UserError as error:
                said = str(error)
                assert "\n" not in said and len(said) <= LONGEST, f"action {sent}"
                assert fingerprint(loop) == before, f"action {sent}: {said}"
                came["refused"] += 1
                continue
        came["step"] += 1
        assert loop.scheduler.n_steps > before[2][0]
        assert np.isfinite(list(reward.values()) if isinstance(reward, dict) else reward).all()
        over = truncated.values() if isinstance(truncated, dict) else [truncated]
        if np.any(list(over)) and not isinstance(env.unwrapped, gymnasium.vector.VectorEnv):
            env.reset()
    return came


def one_id(env_id: str, n: int) -> dict[str, int]:
    rng = np.random.default_rng(n)
    env = gymnasium.make(env_id, **SMALL)
    env.reset(seed=3)
    env.action_space.seed(4)
    came = send(env, env.unwrapped.loop, lambda: hostile(rng, env.action_space.sample()), n)  # type: ignore[attr-defined]
    env.close()
    return came


def vector(n: int) -> dict[str, int]:
    rng = np.random.default_rng(n)
    env: Any = gymnasium.make_vec("RLS3SceneBox-v0", num_envs=2, **SMALL)
    env.reset(seed=3)
    env.action_space.seed(4)

    def make() -> Any:
        good = list(env.action_space.sample())
        if rng.random() < 0.2:
            return number(rng)
        good[int(rng.integers(2))] = hostile(rng, good[0])
        return good if rng.random() < 0.9 else good[:1]

    came = send(env, env.unwrapped.loop, make, n)
    env.close()
    return came


def parallel(n: int) -> dict[str, int]:
    rng = np.random.default_rng(n)
    env = RLS3SceneParallelEnv(**SMALL)
    env.reset(seed=3)
    for place, agent in enumerate(AGENTS):
        env.action_space(agent).seed(place)

    def make() -> Any:
        return hostile_to_all(rng, {agent: env.action_space(agent).sample() for agent in AGENTS})

    came = send(env, env.loop, make, n)
    env.close()
    return came


DOORS: dict[str, Callable[[int], dict[str, int]]] = {
    **{env_id: lambda n, env_id=env_id: one_id(env_id, n) for env_id in ENV_IDS},  # type: ignore[misc]
    "vector": vector,
    "parallel": parallel,
}


@pytest.mark.parametrize("door", ["RLS3ScenePreference-v0", "RLS3SceneRelation-v0", "vector", "parallel"])
def test_a_hundred_hostile_actions_change_nothing_or_are_steps(door: str) -> None:
    came = DOORS[door](100)
    assert came["refused"] > 50 and came["step"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("door", DOORS)
def test_eleven_thousand_hostile_actions_change_nothing_or_are_steps(door: str) -> None:
    """A hundred thousand over all doors."""
    came = DOORS[door](-(-100_000 // len(DOORS)))
    assert came["refused"] > 5_000 and came["step"] > 300


def test_an_action_before_the_first_reset_is_gymnasiums_own_error() -> None:
    env = gymnasium.make("RLS3Scene-v0", **SMALL)
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(np.nan)
    env.close()
