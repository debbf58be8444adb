"""Hard-example mining at every step: some proposals are rendered, and the one the VLM does worst on is made.

The sampler that error alone gives, without learning. Each step costs as many pictures and VLM scores as it has
candidates, where others pay for one: at equal samples it has seen more than they have.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from pydantic import Field

from rls3_agents.samplers.scripted import ScriptedAgent
from rls3_gym.loop.learning_loop import LearningLoop
from rls3_gym.sample import Sample
from rls3_registry.errors import UserError
from rls3_registry.validation import Settings, check


class HardExampleSettings(Settings):
    """Settings of the hard-example sampler."""

    candidates: int = Field(ge=2, le=10_000)  # proposals that are rendered and scored at every step


class HardExampleAgent(ScriptedAgent):
    """Of some random proposals makes the one whose sample has the highest loss.

    It asks the stage and the VLM inside the environment. Where it acts without one, it chooses as `random` does.
    """

    name = "hard_example"
    action_views: ClassVar[tuple[str, ...]] = ("select",)

    def __init__(self, settings: Mapping[str, Any], *, seed: int) -> None:
        self.settings = check(HardExampleSettings, settings, section="settings")
        super().__init__(seed=seed)

    def choose(self, space: gymnasium.Space[Any]) -> Any:
        if not isinstance(space, spaces.Discrete):
            raise UserError("hard_example: takes action_view 'select'")
        rows, samples = ([], []) if self.loop is None else self._candidates(self.loop)
        if not samples or self.loop is None:
            return np.int64(space.start + self.rng.integers(space.n))
        return np.int64(space.start + rows[hardest(self.loop.scheduler.vlm.evaluate(samples).loss)])

    def _candidates(self, loop: LearningLoop) -> tuple[list[int], list[Sample]]:
        """Rows of the candidates that can be seen, and the samples they would give."""
        lane = loop.lane()
        if lane.proposals is None:
            return [], []
        aside, n = lane.aside(), len(lane.proposals)
        rows = self.rng.choice(n, size=min(n, self.settings.candidates), replace=False).tolist()
        previews = {row: aside.stage.preview(lane.proposals.edit(row), aside.rng).sample for row in rows}
        found = {row: sample for row, sample in previews.items() if sample is not None}
        return list(found), list(found.values())


def hardest(losses: NDArray[np.float32]) -> int:
    """Place of the highest loss; the first of equal ones."""
    return int(np.argmax(losses))
