"""What agents that do not learn have in common: the loop, and a generator and spaces to save."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from rls3_agents import saving
from rls3_agents.base import Monitor
from rls3_gym.loop.learning_loop import LearningLoop
from rls3_gym.sample import Sample
from rls3_gym.scene.arrangement import Arrangement
from rls3_gym.scene.natural import TERMS_OF
from rls3_gym.scene.relations import RELATIONS, Term
from rls3_registry.errors import UserError


def chances_of_terms(cells: NDArray[np.float64]) -> dict[str, float]:
    """Probabilities of the 26 relation cells as values to log: of each term to be in the caption, and their entropy,
    nats (3.26 where all are alike)."""
    terms = {f"chance/{term.name.lower()}": float(chance) for term, chance in zip(Term, cells @ TERMS_OF, strict=True)}
    known = cells[cells > 0]
    return terms | {"entropy": float(-(known * np.log(known)).sum())}


class ScriptedAgent:
    """Acts by a rule. Subclasses say which (`choose`), and may look at the result of each action (`on_step`)."""

    name: ClassVar[str]
    """Identifies the agent in its saved files."""
    action_views: ClassVar[tuple[str, ...]]

    def __init__(self, *, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.action_space: gymnasium.Space[Any] | None = None
        self.observation: Any = None
        """What the agent sees now. One whose rule depends on it saves it in `own_state`."""
        self.masks: Callable[[], NDArray[np.bool_]] | None = None
        """Tells which numbered actions are known to be feasible; None outside `learn`, or where nothing tells."""
        self.loop: LearningLoop | None = None
        """The inside of the environment, for samplers that ask the VLM or stage themselves; None outside `learn`."""

    def choose(self, space: gymnasium.Space[Any]) -> Any:
        """The next action, an element of `space`."""
        raise NotImplementedError

    def next_scene(self) -> Arrangement | None:
        """The scene that the next episode begins in; None for a random one."""
        return None

    def on_step(self, info: Mapping[str, Any]) -> None:
        """Called with the environment's `info` after each action."""

    def on_episode_end(self, samples: Sequence[Sample], feedback: Mapping[str, Any]) -> None:
        """Called after the last step of an episode.

        Args:
            samples: Those of the episode, in the order they were made.
            feedback: `info["feedback"]`: what the VLM made of them. Its arrays are as long as an episode has steps, and
                begin with the samples' values.
        """

    def log_values(self) -> Mapping[str, float]:
        """What to log at the start of an episode, see `Monitor.log`; nothing for samplers that do not change."""
        return {}

    def own_state(self) -> dict[str, Any]:
        """State beyond the generator, JSON-ready."""
        return {}

    def load_own_state(self, state: Mapping[str, Any]) -> None:
        """Restore what `own_state` returned."""

    def offered_relations(self, space: gymnasium.Space[Any]) -> NDArray[np.bool_]:
        """(slots, 26) which relation cells each slot can make here; all, where nothing tells or none can be made.

        Raises `UserError` for another action space than that of the `relation` view.
        """
        if not isinstance(space, spaces.Discrete) or space.n % len(RELATIONS):
            raise UserError(f"{self.name}: needs the relation view of {len(RELATIONS)} cells per slot, not {space}")
        offered = None if self.masks is None else self.masks()
        if offered is None or not offered.any():
            offered = np.ones(space.n, np.bool_)
        return offered.reshape(-1, len(RELATIONS))

    def learn(self, env: gymnasium.Env[Any, Any], monitor: Monitor) -> None:
        if self.action_space is None:
            self._begin(env, monitor)
        self.action_space = env.action_space
        if env.has_wrapper_attr("action_masks"):
            self.masks = env.get_wrapper_attr("action_masks")
        self.loop = getattr(env.unwrapped, "loop", None)
        monitor.safe_point(self)
        while not monitor.done:
            self.observation, _, terminated, truncated, info = env.step(self.choose(env.action_space))
            self.on_step(info)
            if terminated or truncated:
                samples = [] if self.loop is None else self.loop.lanes[0].episode.samples
                self.on_episode_end(samples, info["feedback"])
                self._begin(env, monitor)
            monitor.safe_point(self)
        self.masks = self.loop = None

    def _begin(self, env: gymnasium.Env[Any, Any], monitor: Monitor) -> None:
        scene = self.next_scene()
        self.observation, _ = env.reset(options=None if scene is None else {"arrangement": scene})
        if values := self.log_values():
            monitor.log(values)

    def act(self, observation: Any, deterministic: bool = False) -> Any:
        """The next action for an observation; `deterministic` changes nothing here."""
        if self.action_space is None:
            raise UserError("act: the agent does not know its action space yet; let it learn, or load it, first")
        self.observation = observation
        return self.choose(self.action_space)

    def save(self, directory: Path) -> None:
        if self.action_space is None:
            raise UserError("save: the agent has no state yet; let it learn, or load it, first")
        state = {"action_space": saving.describe_space(self.action_space), "rng": self.rng.bit_generator.state}
        saving.write_header(directory, self.name, {**state, "own": self.own_state()})

    def load(self, directory: Path) -> None:
        state = saving.read_header(directory, self.name)
        with saving.restoring(directory):
            self.action_space = saving.restore_space(state["action_space"])
            self.rng.bit_generator.state = state["rng"]
            self.load_own_state(state["own"])
