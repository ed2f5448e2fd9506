"""Workers on many machines, as tasks of a Ray cluster.

All nodes have Frostline installed and reach the database. They share the working directory and the study's folder under
the same paths, on a network file system. User code that a study file names is imported from there.
"""

import json
import logging
import os
import secrets
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, chdir, contextmanager, suppress
from pathlib import Path
from typing import Any

from search.errors import FrostlineError, SpecError, StorageError, StudyError
from search.spec.study_spec import StudySpec
from search.spec.tables import Train
from search.spec.values import Size
from search.storage.database import connected
from search.storage.location import StudyLocation
from search.storage.owner import WorkerLease
from search.study.recovery import requeue_dead
from search.workers.signals import end_at_sigterm
from search.workers.supervisor import supervise
from search.workers.worker import Event, run_worker

ALLOWED_ADDRESSES = 'allowed: "auto" (the cluster that this machine is a node of), or HOST:PORT of its head'
CONNECT_SECONDS = 5.0
"""Time in which the head of a cluster must answer a connection."""
CANCEL_SECONDS = 5.0
"""Time that cancelled tasks get to end."""
HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS_FRAME = bytes(3) + b"\x04" + bytes(5)
"""An empty frame of settings, which either side of gRPC sends first (RFC 9113, 3.4)."""


def run_on_ray(
    spec: StudySpec,
    location: StudyLocation,
    sizes: list[Size],
    *,
    address: str | None = None,
    tick: Callable[[], None] = lambda: None,
    notify: Callable[[str], None] = print,
) -> None:
    """Run workers wherever a Ray cluster has room, until nothing is left to do.

    Without `address` the cluster is one of this machine's own, with all its CPUs. The trials of a worker that dies, or
    is lost with its node, are released at once. Losing a node does not count against a trial. Raises as `supervise`
    does, and as `joined_cluster`.
    """
    check_resources(spec.train, location, address)
    run = WorkerLease.new()
    with joined_cluster(address, spec.train) as ray:
        engine = RayTasks(ray, spec, location, sizes, run=run)
        supervise(engine, location, run=run, tick=tick, notify=notify)


class RayTasks:
    """Workers as Ray tasks, as an `Engine`; one mailbox on this node takes their reports."""

    def __init__(
        self,
        ray: Any,
        spec: StudySpec,
        location: StudyLocation,
        sizes: list[Size],
        *,
        run: WorkerLease,
    ) -> None:
        from ray.util.queue import Queue
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self.ray, self.train, self.location, self.run = ray, spec.train, location, run
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        options = {"num_cpus": 0, "scheduling_strategy": here, "max_restarts": -1, "max_task_retries": -1}
        self.mailbox = Queue(actor_options=options)
        self.arguments = (self.mailbox, spec.model_dump_json(exclude_unset=True), location, sizes, os.getcwd())
        # One worker a process: torch stays with the GPUs it saw first. Ray itself must not retry:
        # a retried task would reuse the lease of a dead worker.
        room = {"num_cpus": spec.train.threads, "num_gpus": spec.train.gpus}
        self.task = ray.remote(**room, max_retries=0, max_calls=1)(ray_worker)
        self.workers: dict[Any, tuple[int, WorkerLease]] = {}
        self.held_locks: dict[WorkerLease, ExitStack] = {}
        self.unreleased: list[tuple[WorkerLease, bool]] = []  # dead workers' leases; is the machine lost?

    def room(self) -> int:
        return room_of(alive_nodes(self.ray), self.train)

    def start(self, index: int) -> None:
        lease = WorkerLease.new(parent=self.run.token)
        self.held_locks[lease] = ExitStack()
        self.held_locks[lease].enter_context(lease.held(self.location))
        self.workers[self.task.remote(*self.arguments, index, str(lease))] = index, lease

    def poll(self, seconds: float) -> list[Event]:
        self._release()
        if not self.workers:
            time.sleep(seconds)
            lost = "the Ray cluster has lost every node with room for a worker; waiting for another."
            return [Event(index=0, kind="note", text=lost)]
        tasks = [*self.workers]
        self.ray.wait(tasks, num_returns=1, timeout=seconds)
        ended = self.ray.wait(tasks, num_returns=len(tasks), timeout=0)[0]
        events: list[Event] = self.mailbox.get_nowait_batch(self.mailbox.qsize())
        for task in ended:
            error, (index, lease) = self._error(task), self.workers.pop(task)
            if error is None:
                self.held_locks.pop(lease).close()
                events.append(Event(index=index, kind="finished"))
                continue
            is_lost = isinstance(error, self.ray.exceptions.NodeDiedError)
            self.unreleased.append((lease, is_lost))
            reason = " ".join(str(error).split())[:300]
            events.append(Event(index=index, kind="lost" if is_lost else "died", text=f"with: {reason}"))
        self._release()
        return events

    def close(self) -> None:
        for task in self.workers:
            self.ray.cancel(task, force=True)
        if self.workers:
            self.ray.wait([*self.workers], num_returns=len(self.workers), timeout=CANCEL_SECONDS)
        for held in self.held_locks.values():
            held.close()

    def _error(self, task: Any) -> Exception | None:
        """Return Ray's error where a task's process or node died. Raises the worker's own."""
        try:
            self.ray.get(task)
        except self.ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, FrostlineError):
                raise error.cause from None
            raise RuntimeError(f"A worker crashed:\n{error}") from None
        except self.ray.exceptions.RayError as error:
            return error  # type: ignore[no-any-return]
        return None

    def _release(self) -> None:
        while self.unreleased:
            lease, is_lost = self.unreleased[0]
            try:
                with connected(self.location.database) as storage:
                    if storage is not None:
                        requeue_dead(storage, self.location, ended=lease, counts_as_death=not is_lost)
            except StorageError:  # away: tried again at the next poll
                return
            self.held_locks.pop(lease).close()
            del self.unreleased[0]


def ray_worker(
    mailbox: Any, content: str, location: StudyLocation, sizes: list[Size], folder: str, index: int, owner: str
) -> None:
    """Run a worker in this process of Ray's. Raises `FrostlineError`."""
    end_at_sigterm()
    try:
        os.chdir(folder)
    except OSError as error:
        raise StudyError(
            f"{folder}: {error.strerror} on {socket.gethostname()}; all nodes must share the working directory."
        ) from None
    lease = WorkerLease.parse(owner)
    assert lease is not None
    if not lease.file(location).exists():
        raise StudyError(
            f"{location.folder} on {socket.gethostname()} is not that of the driver: all nodes must share --out."
        )
    spec = StudySpec.from_dict(json.loads(content), where="the study file")
    if spec.train.gpus == 0:  # Ray hides only the GPUs that it knows
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    run_worker(spec, location, sizes, index=index, lease=lease, report=mailbox.put)


@contextmanager
def joined_cluster(address: str | None, train: Train) -> Iterator[Any]:
    """Join a Ray cluster, or run one on this machine's loopback, until the block ends.

    Yields Ray. Raises `StudyError` without Ray or a cluster, `SpecError` where no node has room for a worker.
    """
    check_address(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    options: dict[str, Any] = {}
    if address is None:
        # A process that can talk to a cluster can run code on it, and other users reach this machine's loopback too.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        # Else Ray takes 127.0.0.1 for the address of the network card, and listens on all of them.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        options = {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    else:
        os.environ.setdefault("RAY_gcs_server_port_wait_time_s", "1")  # else Ray tries for a quarter of an hour
    try:
        import ray
    except ImportError:
        raise StudyError("--engine ray needs Ray: pip install 'frostline[ray]'.") from None
    if not hasattr(ray, "init"):
        where = getattr(ray, "__file__", None) or [*ray.__path__]
        raise StudyError(f"--engine ray: {where} hides Ray; run `frostline` in place of `python -m search`.")
    handler = signal.getsignal(signal.SIGTERM)
    try:
        # Workers look for modules first where the driver was: a user's own `search.py` must not shadow this package.
        with chdir(Path(__file__).parents[2]):
            ray.init(address=address or "local", log_to_driver=False, logging_level=logging.CRITICAL, **options)
    except (ray.exceptions.RayError, ConnectionError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        where = "a Ray cluster can't be started here" if address is None else f"--address {address}: can't be joined"
        raise StudyError(f"{where}: {reason}") from None
    finally:
        with suppress(ValueError):  # not in the main thread, where Ray leaves it alone as well
            signal.signal(signal.SIGTERM, handler)
    ray._private.worker._worker_logs_enabled = False  # Ray's dozens of lines a death pass by `log_to_driver`
    try:
        nodes = alive_nodes(ray)
        if address is None and any(node["NodeManagerAddress"] != "127.0.0.1" for node in nodes):
            raise RuntimeError("Ray was imported before its settings for loopback were made.")
        check_room(nodes, train)
        yield ray
    finally:
        ray.shutdown()


def alive_nodes(ray: Any) -> list[dict[str, Any]]:
    """Return what Ray knows of each node that is alive."""
    return [node for node in ray.nodes() if node["Alive"]]


def room_of(nodes: list[dict[str, Any]], train: Train) -> int:
    """Return how many workers the nodes can run at once, other tasks aside."""
    room = 0
    for resources in (node["Resources"] for node in nodes):
        shares = [resources.get("CPU", 0.0) / train.threads]
        if train.gpus:
            shares.append(resources.get("GPU", 0.0) / train.gpus)
        room += int(min(shares) + 1e-6)  # ten times 0.1 of a GPU are a GPU
    return room


def check_room(nodes: list[dict[str, Any]], train: Train) -> None:
    """Raise `SpecError` where no node could ever run a worker."""
    if room_of(nodes, train) == 0:
        sizes = [node["Resources"] for node in nodes]
        known = ", ".join(f"{size.get('CPU', 0):g} and {size.get('GPU', 0):g}" for size in sizes)
        raise SpecError(
            f"[train] threads = {train.threads}, gpus = {train.gpus:g}: no node of the Ray cluster has that many CPUs "
            f"and GPUs; they have {known}."
        )


def check_address(address: str | None) -> None:
    """Raise `SpecError` for a malformed address, `StudyError` where no cluster answers."""
    if address in (None, "auto"):
        return
    host, _, port = str(address).rpartition(":")
    if not host or "/" in host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise SpecError(f"--address {address!r} is no address of a Ray cluster; {ALLOWED_ADDRESSES}.")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS) as connection:
            connection.settimeout(CONNECT_SECONDS)
            speaks_grpc = _speaks_grpc(connection)
    except OSError as error:
        raise StudyError(f"--address {address}: nothing answers there ({error.strerror or error}).") from None
    # Ray itself would try for 40 s and print that.
    if not speaks_grpc and os.environ.get("RAY_USE_TLS", "0") == "0":
        raise StudyError(f"--address {address}: what answers there is no head of a Ray cluster; {ALLOWED_ADDRESSES}.")


def _speaks_grpc(connection: socket.socket) -> bool:
    connection.sendall(HTTP2_PREFACE + SETTINGS_FRAME)
    return connection.recv(len(SETTINGS_FRAME))[3:4] == SETTINGS_FRAME[3:4]  # the type of the answer's frame


def check_resources(train: Train, location: StudyLocation, address: str | None) -> None:
    """Raise `SpecError` where workers would get no GPU, or not reach their database."""
    if train.accelerator == "gpu" and train.gpus == 0:
        raise SpecError(
            "[train] accelerator = 'gpu', gpus = 0: under Ray a worker sees only the GPUs that it asks for; set "
            "[train] gpus to 1, or to a share such as 0.5."
        )
    if address is not None and location.is_local:
        raise SpecError("--address: other machines can't use a SQLite file; name a PostgreSQL database by --storage.")
