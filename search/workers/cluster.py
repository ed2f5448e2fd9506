"""A Ray cluster to run trials on: one of this machine's own, or one that is there and is joined."""

import logging
import os
import secrets
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager, suppress
from pathlib import Path
from typing import Any

from search.errors import SpecError, StudyError
from search.spec.tables import Train
from search.storage.location import StudyLocation

ALLOWED = 'allowed: "auto" (the cluster that this machine is a node of), or HOST:PORT of its head'
REACH = 5.0
"""Seconds in which the head of a cluster must answer a connection."""
GOODBYE = 5.0
"""Seconds that tasks which are cancelled get to end."""


class Cluster:
    """A connection to a Ray cluster, on which each task takes what a trial takes."""

    def __init__(self, ray: Any, train: Train) -> None:
        self.ray = ray
        self.train = train

    def room(self) -> int:
        """How many trials the nodes that are alive can run at the same time; other users' tasks are not looked at."""
        threads, gpus = self.train.threads, self.train.gpus
        room = 0
        for resources in self._resources():
            # A hair more, so that ten times 0.1 of a GPU are a GPU.
            shares = [resources.get("CPU", 0.0) / threads, *([resources.get("GPU", 0.0) / gpus] if gpus else [])]
            room += int(min(shares) + 1e-6)
        return room

    def remote(self, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """The function as Ray tasks, each in as much room as a trial takes, never retried by Ray itself.

        A worker process is used again and again, except where it has a share of the GPUs: it may get another one next
        time, and torch stays with the first that it saw.
        """
        train = self.train
        options = {"num_cpus": train.threads, "num_gpus": train.gpus, "max_retries": 0}
        made: Callable[[Any], Any] = self.ray.remote(**options, max_calls=int(train.gpus > 0))(function).remote
        return made

    def spare(self, function: Callable[[Any], Any], errand: Any) -> None:
        """Have one worker process more than is busy do an errand on each node, so that it is warm when one dies.

        Ray ends what is idle where there are more processes than CPUs, unless its `num_workers_soft_limit` is higher.
        """
        if self.train.gpus > 0:  # its processes are not used again
            return
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        made = self.ray.remote(num_cpus=0, max_retries=0)(function)
        for node in self._nodes():
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            made.options(scheduling_strategy=there).remote(errand)

    def ended(self, tasks: list[Any], *, within: float) -> list[Any]:
        """Those of the tasks that have ended; waits until one has."""
        done: list[Any] = self.ray.wait(tasks, num_returns=len(tasks), timeout=0)[0]
        return done or self.ray.wait(tasks, num_returns=1, timeout=within)[0]

    def cancel(self, tasks: list[Any]) -> None:
        """End the tasks' processes, and wait until they have ended."""
        for task in tasks:
            self.ray.cancel(task, force=True)
        if tasks:
            self.ray.wait(tasks, num_returns=len(tasks), timeout=GOODBYE)

    def is_on_loopback(self) -> bool:
        """Whether all nodes listen to this machine alone."""
        return all(node["NodeManagerAddress"] == "127.0.0.1" for node in self._nodes())

    def check_room(self) -> None:
        """Raises `SpecError` where no node could ever run a trial."""
        if self.room() == 0:
            nodes = ", ".join(f"{node.get('CPU', 0):g} and {node.get('GPU', 0):g}" for node in self._resources())
            raise SpecError(
                f"[train] threads = {self.train.threads}, gpus = {self.train.gpus:g}: no node of the Ray cluster has "
                f"that many CPUs and GPUs; they have {nodes}."
            )

    def _nodes(self) -> list[dict[str, Any]]:
        return [node for node in self.ray.nodes() if node["Alive"]]

    def _resources(self) -> list[dict[str, float]]:
        return [node["Resources"] for node in self._nodes()]


@contextmanager
def cluster(address: str | None, train: Train) -> Iterator[Cluster]:
    """Join the Ray cluster at that address, or run one on this machine, on loopback alone, until the block ends.

    Raises `StudyError` where there is no Ray or no cluster, and `SpecError` where it has no room for a trial.
    """
    check_address(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address is None:
        # Whoever can talk to a cluster can run code on it, and other users of this machine reach its loopback too.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        # Else Ray takes 127.0.0.1 for the address of the network card, and listens on all of them.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    else:
        # Else Ray tries for a quarter of an hour.
        os.environ.setdefault("RAY_gcs_server_port_wait_time_s", "1")
    try:
        import ray
    except ImportError:
        raise StudyError("--engine ray needs Ray: pip install 'frostline[ray]'.") from None
    if not hasattr(ray, "init"):
        where = getattr(ray, "__file__", None) or [*ray.__path__]
        raise StudyError(f"--engine ray: {where} hides Ray; run `frostline` in place of `python -m search`.")
    ours = {
        "include_dashboard": False,
        "_node_ip_address": "127.0.0.1",
        "_system_config": {"num_workers_soft_limit": (os.cpu_count() or 1) + 1},  # with a spare
    }
    options: dict[str, Any] = ours if address is None else {}
    handler = signal.getsignal(signal.SIGTERM)
    try:
        # Workers look for modules first where the driver was: a `search.py` of the user's must not be taken for ours.
        with chdir(Path(__file__).parents[2]):
            ray.init(address=address or "local", log_to_driver=False, logging_level=logging.CRITICAL, **options)
    except (ray.exceptions.RayError, ConnectionError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        where = "a Ray cluster can't be started here" if address is None else f"--address {address}: can't be joined"
        raise StudyError(f"{where}: {reason}") from None
    finally:
        with suppress(ValueError):  # not in the main thread, where Ray leaves it alone as well
            signal.signal(signal.SIGTERM, handler)
    # What Ray says of nodes and workers that die, dozens of lines each, goes past `log_to_driver`.
    ray._private.worker._worker_logs_enabled = False
    try:
        joined = Cluster(ray, train)
        if address is None and not joined.is_on_loopback():
            raise RuntimeError("Ray was imported before it was told to stay on loopback.")
        joined.check_room()
        yield joined
    finally:
        ray.shutdown()


def check_address(address: str | None) -> None:
    """Raises `SpecError` for what can't be a cluster's address, `StudyError` where nobody listens."""
    if address in (None, "auto"):
        return
    host, _, port = str(address).rpartition(":")
    if not host or "/" in host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise SpecError(f"--address {address!r} is no address of a Ray cluster; {ALLOWED}.")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=REACH) as connection:
            connection.settimeout(REACH)
            connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5))
            answer = connection.recv(9)
    except OSError as error:
        raise StudyError(f"--address {address}: nothing answers there ({error.strerror or error}).") from None
    # A frame of settings is what gRPC says first (RFC 9113, 3.4); Ray itself would try for 40 s, and say so.
    if answer[3:4] != b"\x04" and os.environ.get("RAY_USE_TLS", "0") == "0":
        raise StudyError(f"--address {address}: what answers there is no head of a Ray cluster; {ALLOWED}.")


def check_resources(train: Train, location: StudyLocation, address: str | None) -> None:
    """Raises `SpecError` where Ray's trials would not get what they ask for, or not find their database."""
    if train.accelerator == "gpu" and train.gpus == 0:
        raise SpecError(
            "[train] accelerator = 'gpu', gpus = 0: under Ray a trial sees the GPUs it asks for; set [train] gpus to "
            "1, or to a share, as 0.5."
        )
    if address is not None and location.is_local:
        raise SpecError("--address: other machines can't use a SQLite file; name a PostgreSQL database by --storage.")
