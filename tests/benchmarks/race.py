"""Rivals: each in a process of its own, asked one after the other, with their costs measured there."""

import logging
import multiprocessing
import resource
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_CONTEXT = multiprocessing.get_context("spawn")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Seconds of CPU (children that have ended included) and of the clock."""

    cpu: float
    wall: float

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(cpu=self.cpu + other.cpu, wall=self.wall + other.wall)

    def over(self, other: "Cost") -> dict[str, float]:
        """How many times the other's cost this is."""
        return {"cpu": self.cpu / other.cpu, "wall": self.wall / other.wall}


def measured(work: Callable[[], Any]) -> tuple[Any, Cost]:
    """Return the result of `work`, and its cost to this process."""
    cpu, wall = _cpu(), time.perf_counter()
    result = work()
    return result, Cost(cpu=_cpu() - cpu, wall=time.perf_counter() - wall)


class Rival:
    """An object that `make(*arguments)` builds in a fresh process; a method of it is asked for by its name.

    So the memory, the caches and the thread pools of one rival are no other's. While one is at work the others wait.
    """

    def __init__(self, make: Callable[..., Any], *arguments: Any) -> None:
        self._connection, theirs = _CONTEXT.Pipe()
        self._process = _CONTEXT.Process(target=_serve, args=(theirs, make, arguments))
        self._process.start()
        theirs.close()
        _, self.start = self._answer()

    def ask(self, method: str, *arguments: Any) -> tuple[Any, Cost]:
        """Return the method's result, and its cost."""
        self._connection.send((method, arguments))
        return self._answer()

    def peak(self) -> float:
        """Return the most memory that the process has had, in MB."""
        return float(self.ask("")[0])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._connection.close()
        self._process.join(10)
        self._process.kill()

    def _answer(self) -> tuple[Any, Cost]:
        result, cost = self._connection.recv()
        return result, Cost(**cost)


def _serve(connection: Any, make: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    warnings.filterwarnings("ignore")
    import lightning.pytorch  # noqa: F401  (its import sets the log level that is lowered here)
    import optuna

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    rival, cost = measured(lambda: make(*arguments))
    connection.send((None, asdict(cost)))
    while True:
        try:
            method, given = connection.recv()
        except EOFError:
            return
        result, cost = measured(lambda: getattr(rival, method)(*given) if method else _peak())  # noqa: B023
        connection.send((result, asdict(cost)))


def _cpu() -> float:
    # Not `os.times`, which counts in hundredths of a second.
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _peak() -> float:
    # Not `ru_maxrss`, which a process inherits from the one that started it.
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1000
