"""Ray, for those who outgrow one machine: the one module of the package that imports it.

Stages (`loop/worker_actors.py`), runs of a study (`study/ray_executor.py`) and frozen VLMs (`runs/shared_vlm.py`) are
actors: objects in processes of their own, somewhere in a cluster, that are told things and answer.

`join` connects to the cluster that `RAY_ADDRESS` names, or else to one that `ray start` started on this machine. Where
there is none, Ray is started for this program alone, without its dashboard, and ended when the last one has left. Usage
statistics are off unless `RAY_USAGE_STATS_ENABLED` says otherwise. Messages are pickled by Ray: a cluster has to be one
that is trusted.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from rls3_registry.errors import UserError, first_line
from rls3_registry.trust import check_may_reach

NAMESPACE = "rls3_gym"
"""Of Ray: named actors are found by all programs that use it."""
RAY = "ray"
"""What `--trust` names it."""
CONNECT_SECONDS = 5.0
"""How long the head node of a cluster may take to answer."""


class Died(Exception):
    """An actor is no more: its process or its machine is gone. One line says what Ray knows of it."""


class Answer:
    """What an actor will answer."""

    def __init__(self, ray: Any, reference: Any) -> None:
        self._ray, self._reference = ray, reference

    @property
    def here(self) -> bool:
        """Whether `wait` returns, or raises, at once."""
        ready, _ = self._ray.wait([self._reference], timeout=0)
        return bool(ready)

    def wait(self) -> Any:
        """The answer. Raises `Died`, and what the actor raised."""
        try:
            return self._ray.get(self._reference)
        except (self._ray.exceptions.RayActorError, self._ray.exceptions.ObjectLostError) as error:
            raise Died(_cause(error)) from error


class Actor:
    """An object in a process of the cluster."""

    def __init__(self, ray: Any, handle: Any) -> None:
        self._ray, self._handle = ray, handle

    def tell(self, method: str, *arguments: Any) -> Answer:
        """Have a method called; calls are carried out in their order."""
        try:
            return Answer(self._ray, getattr(self._handle, method).remote(*arguments))
        except self._ray.exceptions.RayActorError as error:
            raise Died(_cause(error)) from error

    def tell_last(self, method: str, *arguments: Any) -> None:
        """Have a method called whose answer nobody waits for, where the actor is still there."""
        if self._ray.is_initialized():
            with suppress(self._ray.exceptions.RayError):
                getattr(self._handle, method).remote(*arguments)

    def kill(self) -> None:
        """End its process, at once and for good. Killing twice is fine."""
        if self._ray.is_initialized():
            self._ray.kill(self._handle, no_restart=True)


class Cluster:
    """One user's stay in the Ray cluster; made by `join`."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray

    @property
    def address(self) -> str:
        """What other programs join it by, in `RAY_ADDRESS`."""
        return str(self._ray.get_runtime_context().gcs_address)

    @property
    def cpus(self) -> int:
        """CPUs of all its machines."""
        return int(self._ray.cluster_resources().get("CPU", 1))

    @property
    def has_gpus(self) -> bool:
        return bool(self._ray.cluster_resources().get("GPU", 0))

    def actor(
        self,
        build: type[Any],
        *arguments: Any,
        name: str | None = None,
        cpus: float = 0,
        gpus: float = 0,
        threads: int = 1,
        restarts: int = 0,
    ) -> Actor:
        """Start an actor, on the machine that has fewest.

        Args:
            build: Its class, which every machine of the cluster can import.
            arguments: What the class is called with.
            name: With a name it is found by all programs; where there is one already, it is that one. It does not end
                with the program that started it.
            cpus: What it keeps from others; it waits until a machine has them free.
            gpus: Likewise.
            threads: Calls that are carried out at the same time.
            restarts: How often Ray starts it again, elsewhere, and asks it again.
        """
        options: dict[str, Any] = {"num_cpus": cpus, "num_gpus": gpus, "scheduling_strategy": "SPREAD"}
        options |= {"max_concurrency": threads, "max_restarts": restarts, "max_task_retries": restarts}
        if name is not None:
            options |= {"name": name, "namespace": NAMESPACE, "get_if_exists": True, "lifetime": "detached"}
        return Actor(self._ray, self._ray.remote(build).options(**options).remote(*arguments))

    def leave(self) -> None:
        """End the stay, and Ray where `join` started it and all have left. Leaving twice is fine, and leaving after the
        program has ended Ray itself."""
        if self in _stays and _owner == os.getpid():
            _stays.remove(self)
            if not _stays:
                self._ray.shutdown()


_stays: list[Cluster] = []
"""Of this program, where it was `join` that connected it to a cluster."""
_owner = 0
"""The process that they are of: after a fork there is none."""


def join(what: str) -> Cluster:
    """A stay in the cluster, for as long as it is needed.

    Args:
        what: The setting that asks for it; used in messages.

    Raises:
        UserError: Ray is not installed, or there is no cluster at `RAY_ADDRESS`; or it is a run directory that asks
            for Ray, which opens ports, and the user has not said `--trust ray`.
    """
    global _owner
    if not what.startswith("--"):
        check_may_reach([RAY], what, ())
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise UserError(f'{what} needs ray: pip install "rls3_gym[ray]"') from error
    cluster = Cluster(ray)
    if ray.is_initialized() and not _stays:
        return cluster  # the program itself has connected, and disconnects
    if not ray.is_initialized():
        _stays.clear()  # the program has ended Ray under them
        _check_address(what)
        try:
            with _where_nothing_is_imported():
                ray.init(namespace=NAMESPACE, include_dashboard=False, log_to_driver=False, logging_level="WARNING")
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise UserError(f"{what}: Ray can't be reached or started: {first_line(error)}") from error
    _owner = os.getpid()
    _stays.append(cluster)
    return cluster


@contextmanager
def _where_nothing_is_imported() -> Iterator[None]:
    """Ray has its workers look for modules in the folder where it was started, before all others: somebody else's
    perhaps, and one where this process does not look."""
    here = os.getcwd()
    if here in map(os.path.abspath, sys.path):
        yield
        return
    os.chdir(os.path.abspath(os.sep))
    try:
        yield
    finally:
        os.chdir(here)


def go_to(folder: str) -> None:
    """Called in an actor: relative paths are those of the program that started it, where its folder is there."""
    if os.path.isdir(folder):
        os.chdir(folder)


def _check_address(what: str) -> None:
    """Raise `UserError` where nobody answers at `RAY_ADDRESS`: Ray would try for minutes."""
    host, colon, port = os.environ.get("RAY_ADDRESS", "").rpartition(":")
    if "//" in host:
        raise UserError(f"{what}: RAY_ADDRESS: Ray Client ({host}) is not for this; name HOST:PORT of the head node")
    if colon and port.isdigit():
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
        except OSError as error:
            raise UserError(f"{what}: RAY_ADDRESS: there is no Ray cluster at {host}:{port} ({error})") from error


def end_this_actor() -> None:
    """Called in an actor: end its process, for good."""
    import ray

    ray.kill(ray.get_runtime_context().current_actor, no_restart=True)


def _cause(error: BaseException) -> str:
    """What Ray says of a dead actor, in one line; of one that could not be built, why."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return lines[-1] if "creation task" in lines[0] else lines[0]
