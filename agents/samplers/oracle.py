"""An upper reference: relation cells in proportion to the VLM's error on the validation set.

No fair sampler: it looks into the environment and asks the VLM about held-out pictures after every round. It shows what
knowing the VLM's weak cells exactly would be worth.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import gymnasium
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from rls3_agents.samplers.scripted import ScriptedAgent, chances_of_terms
from rls3_gym.evalsets.loader import load_set
from rls3_gym.loop.cells import ANTONYMS
from rls3_gym.loop.learning_loop import LearningLoop
from rls3_gym.scene.relations import RELATIONS
from rls3_registry.validation import Settings, check


class OracleSettings(Settings):
    """Settings of the oracle."""

    floor: float = Field(gt=0, lt=1)  # added to every cell's error: no cell is given up


class OracleAgent(ScriptedAgent):
    """Draws a cell with the probability of its share of the validation error, averaged over antonyms, among those the
    scene allows, and any slot that can make it."""

    name = "oracle"
    action_views: ClassVar[tuple[str, ...]] = ("relation",)

    def __init__(self, settings: Mapping[str, Any], *, seed: int) -> None:
        self.settings = check(OracleSettings, settings, section="settings")
        super().__init__(seed=seed)
        self._error = np.full(len(RELATIONS), 0.5)

    def choose(self, space: gymnasium.Space[Any]) -> Any:
        offered = self.offered_relations(space)
        chances = self._chances() * offered.any(axis=0)
        cell = int(self.rng.choice(len(RELATIONS), p=chances / chances.sum()))
        slot = int(self.rng.choice(np.flatnonzero(offered[:, cell])))
        return np.int64(slot * len(RELATIONS) + cell)

    def on_step(self, info: Mapping[str, Any]) -> None:
        if info["finetune"]["n_samples"] and self.loop is not None:
            self._ask(self.loop)

    def _ask(self, loop: LearningLoop) -> None:
        samples = load_set("validation", loop.backend).samples
        loop.lane().stage.show_again()
        wrong = 1.0 - loop.scheduler.vlm.evaluate(samples).pairwise.astype(np.float64)
        cells = np.array([sample.relation.index for sample in samples])
        counts = np.bincount(cells, minlength=len(RELATIONS))
        self._error = np.bincount(cells, weights=wrong, minlength=len(RELATIONS)) / np.maximum(counts, 1)

    def _chances(self) -> NDArray[np.float64]:
        weights = ANTONYMS @ self._error + self.settings.floor
        return np.asarray(weights / weights.sum())

    def log_values(self) -> Mapping[str, float]:
        return chances_of_terms(self._chances())

    def own_state(self) -> dict[str, Any]:
        return {"error": self._error.tolist()}

    def load_own_state(self, state: Mapping[str, Any]) -> None:
        self._error = np.array(state["error"], np.float64)
