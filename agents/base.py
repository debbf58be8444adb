"""The protocols between an experiment and a sampler agent: any RL library, or none, that chooses the training data.

A plugin is one class and one YAML in `registry/agents/`. Libraries own their training loop, so an agent is handed
the environment and a monitor that says when to stop. `contract.py` is the test suite that every plugin runs against
itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, get_args

import gymnasium

from rls3_gym.envs.settings import ObservationName
from rls3_registry.errors import UserError
from rls3_registry.plugins import PluginSection, PluginSpec


class Monitor(Protocol):
    """The experiment's side of `SamplerAgent.learn`. It counts the budget, writes metrics and keeps checkpoints."""

    @property
    def done(self) -> bool:
        """Whether the agent has to stop. Ask after every environment step.

        Returns:
            True once the budget of valid samples is spent, or once a requested stop has been saved at a safe point.
            It stays True from then on.
        """

    def safe_point(self, agent: SamplerAgent) -> None:
        """Tell the experiment that the agent can be saved now.

        Call it between environment steps, whenever `agent.save` would write everything that `learn` needs to
        continue as if it had never been interrupted: for the first time before the first step. An off-policy learner
        can call it at every step, an on-policy learner between rollouts. The monitor decides whether to save.

        Args:
            agent: The agent that is learning, usually `self`.

        Raises:
            UserError: The checkpoint cannot be written. Let it pass through.
        """

    def log(self, values: Mapping[str, float]) -> None:
        """Tell the experiment how the agent's own training goes; it has no effect on anything else.

        Call it as often as there is something new, or never. The means over what was said go to `metrics.jsonl`, as a
        row of class `agent` at the end of the episode.

        Args:
            values: Losses, entropies, probabilities and the like, by name. Names with the same part before a slash, as
                in `chance/left`, are drawn in one plot. The first 63 names of a run are kept.
        """


class SamplerAgent(Protocol):
    """An agent that chooses which scenes the VLM is trained on, by acting in the environment."""

    def __init__(self, settings: Mapping[str, Any], *, seed: int) -> None:
        """Check the settings. Models are built later, when `learn` or `load` brings the spaces.

        Args:
            settings: The `settings` of the agent's YAML, with the experiment's overrides put over them.
            seed: Fixes everything the agent draws, the initial weights of its networks included. The agent neither
                uses nor changes global random generators.

        Raises:
            UserError: A setting is unknown, missing or out of range. The message names its key.
        """

    @property
    def action_views(self) -> tuple[str, ...]:
        """Names of the action views the agent can act in, best first (see `rls3_gym.envs.views.VIEWS`)."""

    def learn(self, env: gymnasium.Env[Any, Any], monitor: Monitor) -> None:
        """Act, and learn from it, until `monitor.done`; at most one episode longer.

        A new agent begins with `env.reset()`. It passes no seed: a seed would return the VLM to its first state.
        An agent that was loaded, or that has learned before, does not reset: the environment is still in the episode
        in which the agent was saved.

        Args:
            env: The experiment's environment, already seeded, in one of the agent's `action_views`. There is one
                learning VLM and it lives inside, so the agent must not copy the environment. An agent with a true
                attribute `takes_lanes` may also be handed a `gymnasium.vector.VectorEnv`, whose autoreset is SAME_STEP.
                One with an attribute `observations`, names such as `state`, is given no others.
            monitor: Says when to stop, and is told when the agent can be saved.

        Raises:
            UserError: The agent cannot work with the spaces of this environment.
        """

    def act(self, observation: Any, deterministic: bool = False) -> Any:
        """Choose an action without learning from it. Needs no environment, but an earlier `learn` or `load`.

        An agent that remembers its episode has a method `begin_episode()` as well, to call before the first observation
        of another one.

        Args:
            observation: One observation of the environment, not a batch.
            deterministic: Take the policy's best action instead of sampling one, if the agent knows the difference.

        Returns:
            An element of the action space of the environment the agent learned in.

        Raises:
            UserError: The agent has neither learned nor been loaded.
        """

    def save(self, directory: Path) -> None:
        """Write everything that `learn` needs to continue: weights, optimizers, buffers, generators, counters.

        Args:
            directory: Folder of the agent's own, made if it does not exist. Only files that can be read without
                running code go there: safetensors, npz without objects, JSON, and `weights_only` torch files.

        Raises:
            UserError: The agent has neither learned nor been loaded.
        """

    def load(self, directory: Path) -> None:
        """Restore what `save` wrote. The agent must have the same settings; the seed may differ.

        Args:
            directory: The folder that was given to `save`.

        Raises:
            UserError: The folder holds no saved agent, another agent, or one with other settings.
        """


def choose_view(agent: SamplerAgent, wanted: str | None = None, name: str = "") -> str:
    """The action view to make the environment with.

    Args:
        agent: The agent that will act.
        wanted: The view the user asked for; None for the agent's best.
        name: What the user calls the agent; used in messages.

    Returns:
        One of `agent.action_views`.

    Raises:
        UserError: The agent cannot act in the wanted view.
    """
    if not agent.action_views:
        raise UserError(f"agent {name or type(agent).__name__!r} names no action view that it can take")
    if wanted is None:
        return agent.action_views[0]
    if wanted not in agent.action_views:
        who, takes = name or type(agent).__name__, " or ".join(agent.action_views)
        raise UserError(f"action_view: agent {who!r} cannot take {wanted!r}; it takes {takes}")
    return wanted


OBSERVATIONS: tuple[str, ...] = get_args(ObservationName)
"""Names of the observations, as `environment.observation` has them."""
DOORS = ("one lane", "several lanes", "several agents")
"""Ways into the learning loop: the Gymnasium environment, the vector environment, and an agent for each object."""


def observations_of(agent: SamplerAgent) -> tuple[str, ...]:
    """The observations that an agent can learn from: all, unless it has an attribute `observations`."""
    found: tuple[str, ...] = getattr(agent, "observations", OBSERVATIONS)
    return found


def doors_of(agent: SamplerAgent) -> tuple[str, ...]:
    """Which of `DOORS` are open to an agent. All its action views and observations go with each of them."""
    return DOORS if getattr(agent, "takes_lanes", False) else DOORS[:1]


def check_observation(agent: SamplerAgent, observation: str, name: str = "") -> None:
    """Raise `UserError` unless the agent can learn from these observations."""
    if observation not in observations_of(agent):
        who, takes = name or type(agent).__name__, " or ".join(observations_of(agent))
        raise UserError(f"environment.observation: agent {who!r} cannot take {observation!r}; it takes {takes}")


def check_lanes(agent: SamplerAgent, lanes: int, name: str = "", setting: str = "environment.num_envs") -> None:
    """Raise `UserError`, about the setting that asks for them, unless the agent can learn in so many lanes."""
    if lanes > 1 and not getattr(agent, "takes_lanes", False):
        who = name or type(agent).__name__
        raise UserError(f"{setting}: agent {who!r} takes one lane; the on-policy agents of sb3 and tianshou take more")


AGENTS: PluginSection[PluginSpec] = PluginSection(
    "agents",
    "agent",
    ("learn", "act", "save", "load", "action_views"),
    PluginSpec,
    {"stable_baselines3": "sb3", "sb3_contrib": "sb3", "tianshou": "tianshou", "sklearn": "alp_gmm"},
)


def make_agent(name: str, seed: int, overrides: Mapping[str, Any] | None = None) -> SamplerAgent:
    """A new agent.

    Args:
        name: A registry name, a path ending in .yaml, an installed plugin's name, or `module:Class`.
        seed: Fixes all that the agent draws.
        overrides: Settings put over those of its YAML.

    Raises:
        UserError: The name, a key or a value is wrong, or a library is not installed.
    """
    agent: SamplerAgent = AGENTS.create(name, overrides, seed=seed)
    return agent
