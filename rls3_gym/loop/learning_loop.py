"""The RLS3 loop behind every environment: one scheduler with its VLM, the rewards, and any number of lanes.

It does all that an environment does apart from spaces. An environment turns actions into edits, hands them over, and
turns what comes back into observations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from gymnasium.error import ResetNeeded
from pydantic import ConfigDict, Field

from rls3_gym.backends.base import SceneBackend, load_backend
from rls3_gym.evalsets.loader import held_out_keys, load_set
from rls3_gym.loop.lane import NO_SUCH_EDIT, Episode, Lane, Offer
from rls3_gym.loop.rewards.base import DEFAULT_EXTRINSIC, DEFAULT_INFEASIBLE, make_extrinsic, make_intrinsic
from rls3_gym.loop.scheduler import EpisodeOutcome, Schedule, Scheduler
from rls3_gym.sample import Sample
from rls3_gym.scene.arrangement import Arrangement, Edit
from rls3_gym.scene.layouts import family_names
from rls3_gym.stage import FeasibilityRules, Outcome, Stage
from rls3_gym.vlm.base import VLM, Feedback
from rls3_registry.errors import unknown

Edits = Mapping[int, Edit | None]
"""Lane -> the edit to carry out there; None where the action means none (`Reason.NO_PLACE`)."""


class LoopSettings(Schedule):
    """Settings of a learning loop; everything but its VLM."""

    model_config = ConfigDict(strict=True, use_attribute_docstrings=True)

    backend: str = "embedded"
    """World that shows the scenes: a registered name or a YAML file."""
    proposals: int = Field(16, ge=2, le=64)
    """Edits to choose from at every step, in the action views that choose among proposals. With 16, every relation cell
    that is wanted is there most of the time; see docs/results.md."""
    steps_per_scene: int | None = Field(None, ge=1)
    """Steps until the next scene within the episode. When left out: 10 in the action views that choose from what is on
    offer, where nearly every step gives a sample, and the whole episode in the others."""
    families: Annotated[tuple[str, ...], Field(min_length=1, strict=False)] | None = None
    """Room families cycled over the episodes; all registered ones when left out."""
    image_size: int = Field(64, ge=16, le=512)
    """Side of the square pictures, pixels."""
    extrinsic: str = DEFAULT_EXTRINSIC
    """Reward for what the VLM gets wrong: a registered name, a YAML file, or `module:Class`."""
    intrinsic_feasible: float = 0.0
    """Reward of a step that gives a sample."""
    intrinsic_infeasible: float | dict[str, float] | None = None
    """Reward of a step that gives none: one number, or numbers by reason. When left out: 0 in the action views that
    choose among proposals, and -0.1 in the others."""
    rules: FeasibilityRules = FeasibilityRules()
    """What a sample must meet beyond geometry; see `rls3_gym.stage.FeasibilityRules`."""


@dataclass(frozen=True)
class LaneStep:
    """What one step gave on one lane."""

    reward: float
    ended: bool
    """Whether it was the episode's last step."""
    info: dict[str, Any]


class LearningLoop:
    """One VLM that learns from what happens on its lanes."""

    def __init__(
        self,
        vlm: VLM,
        settings: LoopSettings,
        *,
        lanes: int = 1,
        held_out: frozenset[str] | None = None,
        offer: Offer | None = None,
    ) -> None:
        """Build the stages, the rewards and the scheduler.

        Args:
            vlm: Taught in place; as given it is the first state of every experiment.
            settings: All else.
            lanes: Number of stages, each with a backend of its own.
            held_out: Scene keys that must not train; those of the evaluation sets when left out.
            offer: What the stages offer to choose from at every step.

        Raises:
            UserError: A name is unknown, or a library is not installed.
        """
        self.settings = settings
        self.held_out = held_out_keys() if held_out is None else held_out
        choosing = offer is Offer.PROPOSALS
        self.steps_per_scene = settings.steps_per_scene or (settings.steps_per_episode if offer is None else 10)
        self.lanes = [Lane(self._make_stage(), np.random.default_rng(0), offer) for _ in range(lanes)]
        infeasible = settings.intrinsic_infeasible
        if infeasible is None:
            infeasible = 0.0 if choosing else DEFAULT_INFEASIBLE
        self.intrinsic = make_intrinsic(settings.intrinsic_feasible, infeasible)

        def guide() -> Sequence[Sample]:
            return load_set("guide", self.backend).samples

        self.extrinsic = make_extrinsic(settings.extrinsic, settings.steps_per_episode, guide)
        watches = settings.early_stopping is not None and settings.finetune
        validation = load_set("validation", self.backend).samples if watches else ()
        self.scheduler = Scheduler(vlm, settings, held_out=self.held_out, validation=validation, guide=guide)
        for lane in self.lanes:
            lane.cells = self.scheduler.cells
        self._reasons: dict[str, int] = {}
        self._begun = False

    def _make_stage(self) -> Stage:
        families = self.settings.families or family_names()
        for family in families:
            if family not in family_names():
                raise unknown("room family", family, family_names(), "families")
        backend = load_backend(self.settings.backend, self.settings.image_size)
        return Stage(backend, families=families, rules=self.settings.rules, held_out=self.held_out)

    @property
    def backend(self) -> SceneBackend:
        """For what belongs to no lane: evaluation sets, and pictures for people."""
        return self.lanes[0].stage.backend

    @property
    def begun(self) -> bool:
        """Whether an experiment is under way."""
        return self._begun

    def check_begun(self) -> None:
        """Raises `gymnasium.error.ResetNeeded` before the first experiment."""
        if not self._begun:
            raise ResetNeeded("nothing has begun: call reset() first")

    def begin_experiment(self, rngs: Sequence[np.random.Generator]) -> None:
        """The VLM as it was given, an empty batch, all counters zero.

        Args:
            rngs: What each lane draws from. The scheduler and the reward are seeded from the first one, and draw
                from generators of their own: what trains must not depend on how a stage draws.
        """
        scheduler_seed, reward_seed = (int(v) for v in rngs[0].integers(2**63, size=2))
        self.scheduler.begin_experiment(np.random.default_rng(scheduler_seed))
        self.extrinsic.begin_experiment(self.scheduler.vlm, reward_seed)
        for lane, rng in zip(self.lanes, rngs, strict=True):
            lane.rng = rng
            lane.stage.restart()
        self._reasons = {}
        self._begun = True

    def begin_episode(self, lane: int = 0, arrangement: Arrangement | None = None) -> dict[str, Any]:
        """The next episode of a lane, in the next room family or with a given arrangement; returns its `info`.

        An unfinished episode is dropped: its samples count as generated, but do not train. Raises `UserError` for an
        arrangement that is not feasible.
        """
        chosen = self.lanes[lane]
        if arrangement is None:
            chosen.stage.set_scene(chosen.rng)
        else:
            chosen.stage.set_arrangement(arrangement)
        chosen.episode = Episode()
        chosen.draw_offer(self.settings.proposals)
        return self.info(lane)

    def step(self, edits: Edits) -> dict[int, LaneStep]:
        """Carry out one edit on each of some lanes: place, capture, caption, pay; where an episode ends ask the VLM,
        and where a round is full teach it.

        Raises `gymnasium.error.ResetNeeded` for a lane whose episode is over.
        """
        self.check_begun()
        for number in edits:
            if self.lanes[number].episode.step >= self.settings.steps_per_episode:
                raise ResetNeeded("the episode is over: call reset() before step()")
        outcomes = {number: self._carry_out(number, edit) for number, edit in edits.items()}
        verdicts = self._verdicts(outcomes)
        pay = {number: self._pay(number, outcomes[number], verdicts.get(number)) for number in edits}
        full = [n for n in edits if self.lanes[n].episode.step == self.settings.steps_per_episode]
        ended = self._end_episodes(full)
        steps = {}
        for number, (intrinsic, extrinsic) in pay.items():
            end = ended.get(number)
            if end is not None:
                extrinsic += self.extrinsic.episode_reward(self.lanes[number].episode.samples, end.feedback)
                if end.report is not None:
                    self.extrinsic.end_round(self.scheduler.vlm, end.trained)
            self.lanes[number].episode.reward = float(intrinsic + extrinsic)
            info = self.info(number, intrinsic, extrinsic, end)
            steps[number] = LaneStep(float(intrinsic + extrinsic), end is not None, info)
            self._prepare(self.lanes[number], end is not None)
        return steps

    def _prepare(self, lane: Lane, ended: bool) -> None:
        """Make a lane ready for its next step. After an episode's last step its scene is left to be looked at."""
        if not ended and lane.episode.step % self.steps_per_scene == 0:
            lane.stage.set_scene(lane.rng)
        lane.draw_offer(self.settings.proposals)

    def _carry_out(self, number: int, edit: Edit | None) -> Outcome:
        lane = self.lanes[number]
        outcome = NO_SUCH_EDIT if edit is None else lane.stage.try_edit(edit, lane.rng)
        self.scheduler.count_step(outcome.sample)
        if outcome.reason is not None:
            self._reasons[outcome.reason.value] = self._reasons.get(outcome.reason.value, 0) + 1
        return outcome

    def _verdicts(self, outcomes: Mapping[int, Outcome]) -> dict[int, Feedback]:
        """The VLM's feedback on the new samples, where the reward needs it at once."""
        if not self.extrinsic.immediate:
            return {}
        made = {number: outcome.sample for number, outcome in outcomes.items() if outcome.sample is not None}
        return dict(zip(made, self.scheduler.score(list(made.values())), strict=True))

    def _pay(self, number: int, outcome: Outcome, verdict: Feedback | None) -> tuple[float, float]:
        intrinsic, extrinsic = self.intrinsic(outcome.reason), 0.0
        if outcome.sample is not None:
            proposals = self.lanes[number].proposals
            choice = None if proposals is None else proposals.relations
            extrinsic += self.extrinsic.step_reward(outcome.sample, verdict, choice)
        self.lanes[number].episode.add(outcome, verdict)
        return intrinsic, extrinsic

    def _end_episodes(self, numbers: Sequence[int]) -> dict[int, EpisodeOutcome]:
        if not numbers:
            return {}
        episodes = [self.lanes[number].episode for number in numbers]
        outcomes = self.scheduler.end_episodes([e.samples for e in episodes], [e.scored for e in episodes])
        for episode, outcome in zip(episodes, outcomes, strict=True):
            episode.end(outcome.feedback)
        return dict(zip(numbers, outcomes, strict=True))

    def info(
        self, lane: int, intrinsic: float = 0.0, extrinsic: float = 0.0, ended: EpisodeOutcome | None = None
    ) -> dict[str, Any]:
        """What an environment says beside observation and reward; counts are over all lanes."""
        scheduler, episode = self.scheduler, self.lanes[lane].episode
        report = None if ended is None else ended.report
        return {
            "n_generated": scheduler.n_generated,
            "n_trained": scheduler.n_trained,
            "n_steps": scheduler.n_steps,
            "n_episodes": scheduler.episode,
            "round": scheduler.round,
            "reasons": dict(self._reasons),
            "intrinsic": float(intrinsic),
            "extrinsic": float(extrinsic),
            "feedback": None if ended is None else episode.summary(ended.feedback),
            "finetune": None if report is None else report.as_dict(),
            "vlm_digest": scheduler.vlm_digest,
            "early_stopped": scheduler.early_stopped,
        } | episode.last_step()

    def state(self) -> dict[str, Any]:
        """Everything that decides what happens next, at any step: JSON-ready values, numpy arrays and tensors.

        Raises `gymnasium.error.ResetNeeded` before the first experiment.
        """
        self.check_begun()
        return {
            "lanes": [lane.state() for lane in self.lanes],
            "scheduler": self.scheduler.state(),
            "extrinsic": self.extrinsic.state(),
            "reasons": dict(self._reasons),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`, in a loop made with the same arguments."""
        for lane, saved in zip(self.lanes, state["lanes"], strict=True):
            lane.load_state(saved, self.settings.proposals)
        self.scheduler.load_state(state["scheduler"])
        self.extrinsic.load_state(state["extrinsic"], self.scheduler.vlm)
        self._reasons = {str(reason): int(count) for reason, count in state["reasons"].items()}
        self._begun = True

    def close(self) -> None:
        """Free the backends. Closing twice is fine."""
        for lane in self.lanes:
            lane.stage.backend.close()
