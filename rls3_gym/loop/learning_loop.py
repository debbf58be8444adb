"""The RLS3 loop behind every environment: one scheduler with its VLM, the rewards, and any number of lanes.

It does all that an environment does apart from spaces. An environment turns actions into edits, hands them over, and
turns what comes back into observations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from time import perf_counter
from typing import Annotated, Any

import numpy as np
from gymnasium.error import ResetNeeded
from pydantic import ConfigDict, Field

from rls3_gym.backends.base import SceneBackend, load_backend
from rls3_gym.evalsets.loader import held_out_keys, load_set
from rls3_gym.loop.cells import Cells
from rls3_gym.loop.info import Turn, step_info
from rls3_gym.loop.lane import Episode, Lane, Offer, SeenLane
from rls3_gym.loop.lanes import Decoder, LanePlan, Lanes, LocalLanes, Order
from rls3_gym.loop.rewards.base import DEFAULT_EXTRINSIC, DEFAULT_INFEASIBLE, make_extrinsic, make_intrinsic
from rls3_gym.loop.scheduler import Schedule, Scheduler
from rls3_gym.loop.worker_lanes import WorkerLanes, Workers
from rls3_gym.loop.worker_processes import ProcessCrew, StartMethod
from rls3_gym.sample import Sample
from rls3_gym.scene.arrangement import Arrangement
from rls3_gym.scene.layouts import family_names
from rls3_gym.stage import FeasibilityRules, Outcome
from rls3_gym.vlm.base import VLM, Feedback, FineTuneReport
from rls3_registry.errors import UserError, unknown

Actions = Mapping[int, Any]
"""Lane -> what to do there: an action that the loop's decoder understands; without one an `Edit`, or None where the
action means none (`Reason.NO_PLACE`)."""
Pay = Annotated[float, Field(ge=-1000, le=1000)]


class LoopSettings(Schedule):
    """Settings of a learning loop; everything but its VLM."""

    model_config = ConfigDict(strict=True, use_attribute_docstrings=True)

    backend: str = "embedded"
    """World that shows the scenes: a registered name or a YAML file."""
    proposals: int = Field(16, ge=2, le=64)
    """Edits to choose from at every step, in the action views that choose among proposals. With 16, every relation cell
    that is wanted is there most of the time; see docs/results.md."""
    steps_per_scene: int | None = Field(None, ge=1, le=1_000_000)
    """Steps until the next scene within the episode. When left out: 10 in the action views that choose from what is on
    offer, where nearly every step gives a sample, and the whole episode in the others."""
    families: Annotated[tuple[str, ...], Field(min_length=1, strict=False)] | None = None
    """Room families cycled over the episodes; all registered ones when left out."""
    image_size: int = Field(64, ge=16, le=512)
    """Side of the square pictures, pixels."""
    extrinsic: str = DEFAULT_EXTRINSIC
    """Reward for what the VLM gets wrong: a registered name, a YAML file, or `module:Class`."""
    intrinsic_feasible: Pay = 0.0
    """Reward of a step that gives a sample."""
    intrinsic_infeasible: Pay | dict[str, Pay] | None = None
    """Reward of a step that gives none: one number, or numbers by reason. When left out: 0 in the action views that
    choose among proposals, and -0.1 in the others."""
    rules: FeasibilityRules = FeasibilityRules()
    """What a sample must meet beyond geometry; see `rls3_gym.stage.FeasibilityRules`."""


@dataclass(frozen=True)
class LaneStep:
    """What one step gave on one lane."""

    lane: int
    reward: float
    for_episode: float
    """The part of the reward that is paid for the whole episode, at its last step."""
    ended: bool
    """Whether it was the episode's last step."""
    info: dict[str, Any]
    sample: Sample | None
    feedback: Feedback | None
    """On all samples of the episode, at its last step."""
    report: FineTuneReport | None
    """Of the fine-tuning, on the step that ended a round."""


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
        decoder: Decoder | None = None,
        workers: Workers = 0,
        worker_start: StartMethod = "spawn",
    ) -> None:
        """Build the stages, the rewards and the scheduler.

        Args:
            vlm: Taught in place; as given it is the first state of every experiment.
            settings: All else.
            lanes: Number of stages, each with a backend of its own.
            held_out: Scene keys that must not train; those of the evaluation sets when left out.
            offer: What the stages offer to choose from at every step.
            decoder: What actions mean; when left out, they are edits already.
            workers: Processes that the stages run in; 0 for this one; `ray` for actors in a Ray cluster, one for each
                lane. What comes out is the same.
            worker_start: How Python starts them.

        Raises:
            UserError: A name is unknown, or a library is not installed.
        """
        self.settings = settings
        self.held_out = held_out_keys() if held_out is None else held_out
        self.steps_per_scene = settings.steps_per_scene or (settings.steps_per_episode if offer is None else 10)
        plan = self._plan(offer, decoder)
        local = None if workers else LocalLanes(plan, lanes)
        self._backend = load_backend(plan.backend, plan.image_size) if local is None else local.lanes[0].stage.backend
        infeasible = settings.intrinsic_infeasible
        if infeasible is None:
            infeasible = 0.0 if offer in (Offer.PROPOSALS, Offer.BY_SLOT) else DEFAULT_INFEASIBLE
        self.intrinsic = make_intrinsic(settings.intrinsic_feasible, infeasible)
        self.extrinsic = make_extrinsic(settings.extrinsic, settings.steps_per_episode, self._guide)
        watches = settings.early_stopping is not None and settings.finetune
        validation = load_set("validation", self.backend).samples if watches else ()
        self.scheduler = Scheduler(vlm, settings, held_out=self.held_out, validation=validation, guide=self._guide)
        self._lanes: Lanes = local or _remote(plan, lanes, workers, worker_start)
        for lane in self.lanes:
            lane.cells = self.scheduler.cells
        self._reasons: dict[str, int] = {}
        self._begun = False
        self.follower: Callable[[LaneStep], None] | None = None
        """Told what a step gave on a lane before the next lane counts: the VLM is as the lane's turn left it."""

    def _plan(self, offer: Offer | None, decoder: Decoder | None) -> LanePlan:
        families = self.settings.families or family_names()
        for family in families:
            if family not in family_names():
                raise unknown("room family", family, family_names(), "families")
        s = self.settings
        return LanePlan(s.backend, s.image_size, tuple(families), s.rules, self.held_out, offer, s.proposals, decoder)

    def _guide(self) -> Sequence[Sample]:
        return load_set("guide", self.backend).samples

    @property
    def lanes(self) -> Sequence[SeenLane]:
        """What can be seen of the lanes."""
        return self._lanes.lanes

    def lane(self, number: int = 0) -> Lane:
        """A lane whose stage is in this process. Raises `UserError` for one that is in a worker."""
        lane = self._lanes.lanes[number]
        if not isinstance(lane, Lane):
            raise UserError("the stage is in a worker process; make the environment with workers=0 to reach it")
        return lane

    @property
    def backend(self) -> SceneBackend:
        """For what belongs to no lane: evaluation sets, and pictures for people."""
        return self._backend

    @property
    def begun(self) -> bool:
        """Whether an experiment is under way."""
        return self._begun

    def check_begun(self) -> None:
        """Raises `gymnasium.error.ResetNeeded` before the first experiment."""
        if not self._begun:
            raise ResetNeeded("nothing has begun: call reset() first")

    def check_scene(self, arrangement: Arrangement | None) -> None:
        """Raise `UserError` for an arrangement that is not feasible. Nothing changes."""
        if arrangement is not None:
            self._lanes.check(arrangement)

    def begin_experiment(self, rngs: Sequence[np.random.Generator]) -> None:
        """The VLM as it was given, an empty batch, all counters zero.

        Args:
            rngs: What each lane draws from. The scheduler and the reward are seeded from the first one, and draw
                from generators of their own: what trains must not depend on how a stage draws.
        """
        scheduler_seed, reward_seed = (int(v) for v in rngs[0].integers(2**63, size=2))
        self.scheduler.begin_experiment(np.random.default_rng(scheduler_seed))
        self.extrinsic.begin_experiment(self.scheduler.vlm, reward_seed)
        self._lanes.restart(rngs)
        self._reasons = {}
        self._begun = True

    def begin_episode(self, lane: int = 0, arrangement: Arrangement | None = None) -> dict[str, Any]:
        """The next episode of a lane; see `begin_episodes`."""
        return self.begin_episodes({lane: arrangement})[lane]

    def begin_episodes(self, scenes: Mapping[int, Arrangement | None]) -> dict[int, dict[str, Any]]:
        """The next episode on some lanes, in the next room family or with a given arrangement; returns each `info`.

        An unfinished episode is dropped: its samples count as generated, but do not train. Raises `UserError` for an
        arrangement that is not feasible.
        """
        with self._stage_time():
            self._lanes.begin(scenes)
        for number in scenes:
            self.lanes[number].episode = Episode()
        return {number: self.info(number) for number in scenes}

    def step(self, actions: Actions, *, offer: bool = True) -> dict[int, LaneStep]:
        """Carry out one action on each of some lanes: place, capture, caption, pay; where an episode ends ask the VLM,
        and where a round is full teach it. Lanes count one after the other, in the order given. With `offer=False`
        nothing new is drawn to choose from: the next actions are chosen already.

        Raises `gymnasium.error.ResetNeeded` for a lane whose episode is over.
        """
        self.check_begun()
        last = self.settings.steps_per_episode
        for number in actions:
            if self.lanes[number].episode.step >= last:
                raise ResetNeeded("the episode is over: call reset() before step()")
        choices = {number: self._choice(number) for number in actions}
        orders = {n: Order(action, self._next_scene(n), offer) for n, action in actions.items()}
        with self._stage_time():
            outcomes = self._lanes.step(orders, self._score_ahead)
        full = [number for number in actions if self.lanes[number].episode.step + 1 == last]
        self._lanes.expect(full)
        turns = {number: self._count(outcome) for number, outcome in outcomes.items()}
        verdicts = self._verdicts(outcomes)
        pay = {n: self._pay(n, outcomes[n], verdicts.get(n), choices[n]) for n in actions}
        episodes = [self.lanes[number].episode for number in full]
        ended = self.scheduler.end_episodes([e.samples for e in episodes], [e.scored for e in episodes])
        steps = {}
        for number, (intrinsic, extrinsic) in pay.items():
            end, episode, for_episode = next(ended) if number in full else None, self.lanes[number].episode, 0.0
            if end is not None:
                episode.end(end.feedback)
                for_episode = self.extrinsic.episode_reward(episode.samples, end.feedback)
                extrinsic += for_episode
                if end.report is not None:
                    self.extrinsic.end_round(self.scheduler.vlm, end.trained)
                    self._forget_scores()
            episode.reward = float(intrinsic + extrinsic)
            feedback, report = (None, None) if end is None else (end.feedback, end.report)
            turn = Turn(*turns[number], **self.scheduler.progress)
            info = step_info(turn, episode, last, intrinsic, extrinsic, feedback, report)
            sample = outcomes[number].sample
            step = LaneStep(number, episode.reward, for_episode, end is not None, info, sample, feedback, report)
            if self.follower is not None:
                self.follower(step)
            steps[number] = step
        return steps

    @contextmanager
    def _stage_time(self) -> Iterator[None]:
        """Counts the time of the lanes, without what the VLM was asked meanwhile."""
        spent = self.scheduler.time_spent
        started = perf_counter() - spent.score
        yield
        spent.stage += perf_counter() - spent.score - started

    def _choice(self, number: int) -> Cells | None:
        proposals = self.lanes[number].proposals
        return None if proposals is None else proposals.relations

    def _next_scene(self, number: int) -> bool:
        """Whether the next step is in another scene. After an episode's last step its scene is left to be looked at."""
        done = self.lanes[number].episode.step + 1
        return done < self.settings.steps_per_episode and done % self.steps_per_scene == 0

    def _count(self, outcome: Outcome) -> tuple[int, int, dict[str, int]]:
        self.scheduler.count_step(outcome.sample)
        if outcome.reason is not None:
            self._reasons[outcome.reason.value] = self._reasons.get(outcome.reason.value, 0) + 1
        return self.scheduler.n_steps, self.scheduler.n_generated, dict(self._reasons)

    def _score_ahead(self) -> None:
        """With several lanes, ask the VLM about the samples of earlier steps now: it has nothing else to do while
        workers carry out a step. What it says is looked at when the episode ends, as ever."""
        if self.extrinsic.immediate or len(self.lanes) == 1:
            return
        waiting = [(lane.episode, lane.episode.samples[len(lane.episode.scored) :]) for lane in self.lanes]
        answers = iter(self.scheduler.score([sample for _, samples in waiting for sample in samples]))
        for episode, samples in waiting:
            episode.scored += islice(answers, len(samples))

    def _forget_scores(self) -> None:
        """Another VLM than the one that was asked ahead will be there when the episodes end."""
        if not self.extrinsic.immediate:
            for lane in self.lanes:
                lane.episode.scored.clear()

    def _verdicts(self, outcomes: Mapping[int, Outcome]) -> dict[int, Feedback]:
        """The VLM's feedback on the new samples, where the reward needs it at once."""
        if not self.extrinsic.immediate:
            return {}
        made = {number: outcome.sample for number, outcome in outcomes.items() if outcome.sample is not None}
        return dict(zip(made, self.scheduler.score(list(made.values())), strict=True))

    def _pay(
        self, number: int, outcome: Outcome, verdict: Feedback | None, choice: Cells | None
    ) -> tuple[float, float]:
        intrinsic, extrinsic = self.intrinsic(outcome.reason), 0.0
        if outcome.sample is not None:
            extrinsic += self.extrinsic.step_reward(outcome.sample, verdict, choice)
        self.lanes[number].episode.add(outcome, verdict)
        return intrinsic, extrinsic

    def info(self, lane: int = 0) -> dict[str, Any]:
        """What an environment says of a lane at a reset; counts are over all lanes."""
        scheduler = self.scheduler
        turn = Turn(scheduler.n_steps, scheduler.n_generated, dict(self._reasons), **scheduler.progress)
        return step_info(turn, self.lanes[lane].episode, self.settings.steps_per_episode)

    def state(self) -> dict[str, Any]:
        """Everything that decides what happens next, at any step: JSON-ready values, numpy arrays and tensors. It does
        not depend on where the lanes are run.

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
        self._lanes.load_state(state["lanes"])
        self.scheduler.load_state(state["scheduler"])
        self.extrinsic.load_state(state["extrinsic"], self.scheduler.vlm)
        self._reasons = {str(reason): int(count) for reason, count in state["reasons"].items()}
        self._begun = True

    def close(self) -> None:
        """Free the backends and end the workers. Closing twice is fine."""
        self._lanes.close()
        self._backend.close()


def _remote(plan: LanePlan, lanes: int, workers: Workers, start: StartMethod) -> WorkerLanes:
    if workers == "ray":
        from rls3_gym.loop.worker_actors import ActorCrew

        return WorkerLanes(lanes, ActorCrew(plan, lanes))
    return WorkerLanes(lanes, ProcessCrew(plan, lanes, workers, start))
