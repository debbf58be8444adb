"""A frozen VLM as an actor in a Ray cluster: experiments and machines share one model, and its GPU.

The first that asks for a VLM has it loaded; those that ask for one of the same name and settings, from any program of
the cluster, are given the same. Each holds a lease, which ends with it, or a minute after it was last heard of. The
actor ends with the last lease. It is never taught: a learning VLM lives in the process of its experiment, where there
is one of it.
"""

from __future__ import annotations

import atexit
import hashlib
import itertools
import json
import os
import socket
import threading
import weakref
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import numpy as np

from rls3_gym.cluster import Actor, Cluster, Died, end_this_actor, go_to, join
from rls3_gym.runs import taught
from rls3_gym.sample import CaptionItem
from rls3_gym.vlm.base import VLM, VLMS, Feedback, FineTuneReport
from rls3_registry.errors import UserError

LEASE_SECONDS = 60.0
"""After which a holder that was not heard of counts as gone."""
RENEWALS = 4
"""Times that a holder lets itself be heard of within a lease."""
RESTARTS = 3
"""Times that Ray loads the VLM again, elsewhere, when its machine is gone."""
ANSWER_SECONDS = 0.2
"""That the last answer of an actor takes to be sent, before it ends."""
THREADS = 16
"""Calls that may wait for the VLM; it answers them one by one."""
OPTIONAL = ("weights", "evaluate_as", "answers", "logits", "fit")
"""What only some VLMs have of the protocols in `rls3_gym.vlm.base`, and what does not teach."""
_numbers = itertools.count()


class SharedVLM:
    """The VLM of an actor, as every environment with `finetune=False` takes it."""

    frozen = True

    def __init__(
        self, name: str, finetune: Mapping[str, Any] | None = None, settings: Mapping[str, Any] | None = None
    ) -> None:
        """Join the cluster, and find the actor or start it.

        Args:
            name: See `rls3_gym.runs.taught.find_vlm`. A path is looked up on the machine of the actor.
            finetune: Put over the fine-tune settings of the VLM's file; they decide what `weights` gives.
            settings: Put over the settings of the VLM's file. Where the cluster has GPUs the actor takes one, unless
                `device` is `cpu`.

        Raises:
            UserError: Ray is not there, or what `find_vlm` raises.
        """
        described = taught.describe(name)
        VLMS.check_trusted(described, {**described.settings, **(settings or {})})  # here: the actor does not know
        self.name = name
        self._arguments = (_absolute(name), dict(finetune or {}), dict(settings or {}))
        self._cluster: Cluster = join("vlm.actor: ray")
        device = {**described.settings, **self._arguments[2]}.get("device", "auto")
        self._gpus = 1 if self._cluster.has_gpus and device != "cpu" else 0
        self._lease, found = self._enter()
        atexit.register(self._lease.end)  # runs before Ray's own
        self._end = weakref.finalize(self, _close, self._lease, self._cluster)
        self._end.atexit = False
        self.image_size: int = found["image_size"]
        self._digest: str = found["digest"]
        for method in found["optional"]:
            setattr(self, method, partial(_call, weakref.proxy(self), method))

    def evaluate(self, items: Sequence[CaptionItem]) -> Feedback:
        feedback: Feedback = _call(self, "evaluate", list(items))
        return feedback

    def digest(self) -> str:
        return self._digest

    def state(self) -> dict[str, Any]:
        return dict(_call(self, "state"))

    def load_state(self, state: Mapping[str, Any]) -> None:
        raise UserError("vlm.actor: others share this VLM; its weights stay what they are")

    def finetune(self, items: Sequence[CaptionItem], rng: np.random.Generator) -> FineTuneReport:
        raise UserError("vlm.actor: others share this VLM; it is never taught, nor is a copy of it by a reward")

    def close(self) -> None:
        """End the lease."""
        self._end()

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy holds a lease of its own."""
        return SharedVLM, (self.name, *self._arguments[1:])

    def _enter(self) -> tuple[_Lease, dict[str, Any]]:
        """A lease, and what `VlmActor.enter` tells."""
        content = json.dumps(self._arguments, sort_keys=True, default=str).encode()
        known_as = f"vlm-{Path(self.name).name}-{hashlib.sha256(content).hexdigest()[:12]}"
        said = ""
        for _ in range(RESTARTS):
            actor = self._cluster.actor(
                VlmActor,
                *self._arguments,
                os.getcwd(),
                name=known_as,
                gpus=self._gpus,
                threads=THREADS,
                restarts=RESTARTS,
            )
            lease = _Lease(actor)
            try:
                told = actor.tell("enter", lease.holder).wait()
            except Died as death:  # the last one that held it may have left just now
                lease.end()
                said = str(death)
                sleep(ANSWER_SECONDS)
                continue
            if isinstance(told, Exception):
                lease.end()
                self._cluster.leave()
                raise told
            return lease, told
        self._cluster.leave()
        raise UserError(f"vlm.actor: the VLM's actor can't be started ({said})")


class VlmActor:
    """The VLM in its process, and who holds it."""

    def __init__(self, name: str, finetune: Mapping[str, Any], settings: Mapping[str, Any], folder: str) -> None:
        go_to(folder)
        self._arguments = name, finetune, settings
        self._vlm: VLM | None = None
        self._one_by_one = threading.Lock()
        self._holders: dict[str, float] = {"": monotonic()}
        """When each was heard of last; nobody has it at first, for as long as a lease."""
        self._somebody_left = threading.Event()
        threading.Thread(target=self._look_after, daemon=True).start()

    def enter(self, holder: str) -> dict[str, Any] | Exception:
        """Give a lease; what the holder has to know of the VLM."""
        self.renew(holder)
        self._holders.pop("", None)
        try:
            with self._one_by_one:
                vlm = self._loaded()
                optional = [method for method in OPTIONAL if callable(getattr(vlm, method, None))]
                return {"image_size": vlm.image_size, "digest": vlm.digest(), "optional": optional}
        except Exception as error:  # it is raised at the holder's
            return error

    def renew(self, holder: str) -> None:
        """A holder lets itself be heard of."""
        self._holders[holder] = monotonic()

    def leave(self, holder: str) -> None:
        """End a lease, and with the last one this actor."""
        self._holders.pop(holder, None)
        self._somebody_left.set()

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method of the VLM."""
        try:
            with self._one_by_one:
                return getattr(self._loaded(), method)(*arguments)
        except Exception as error:  # it is raised at the holder's
            return error

    def pid(self) -> int:
        return os.getpid()

    def _loaded(self) -> VLM:
        if self._vlm is None:
            name, finetune, settings = self._arguments
            self._vlm = taught.find_vlm(name, finetune, settings=settings)
        return self._vlm

    def _look_after(self) -> None:
        """End this actor when all holders have left, or are gone without a word."""
        while True:
            if self._somebody_left.wait(LEASE_SECONDS / RENEWALS):
                self._somebody_left.clear()
                sleep(ANSWER_SECONDS)
            now = monotonic()
            for holder, heard in list(self._holders.items()):
                if now - heard > LEASE_SECONDS:
                    self._holders.pop(holder, None)
            if not self._holders:
                end_this_actor()


class _Lease:
    """That someone holds the actor; renewed by a thread until it is ended."""

    def __init__(self, actor: Actor) -> None:
        self.actor = actor
        self.holder = f"{socket.gethostname()}-{os.getpid()}-{next(_numbers)}"
        self._ended = threading.Event()
        threading.Thread(target=self._renew, daemon=True).start()

    def end(self) -> None:
        """Give it back. Doing it twice is fine."""
        atexit.unregister(self.end)
        if not self._ended.is_set():
            self._ended.set()
            self.actor.tell_last("leave", self.holder)

    def _renew(self) -> None:
        while not self._ended.wait(LEASE_SECONDS / RENEWALS):
            self.actor.tell_last("renew", self.holder)


def _call(vlm: SharedVLM, method: str, *arguments: Any) -> Any:
    try:
        answer = vlm._lease.actor.tell("call", method, *arguments).wait()
    except Died as death:
        raise UserError(f"vlm.actor: the VLM's actor is gone ({death})") from death
    if isinstance(answer, Exception):
        raise answer
    return answer


def _close(lease: _Lease, cluster: Cluster) -> None:
    lease.end()
    cluster.leave()


def _absolute(name: str) -> str:
    """A path as every program of this machine understands it."""
    return str(Path(name).resolve()) if os.path.exists(name.rpartition("@")[0] or name) else name
