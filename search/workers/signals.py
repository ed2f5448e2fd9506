"""Ctrl-C and SIGTERM, answered where the program asks for them."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Stopped(BaseException):
    """The user stopped the program; `code` is its exit code."""

    def __init__(self, code: int) -> None:
        self.code = code


@contextmanager
def stopping() -> Iterator[Callable[[], None]]:
    """Yield a function that raises `Stopped` once a Ctrl-C or SIGTERM has come.

    A second signal ends the process. The handler itself raises nothing. An exception inside a library's import would
    leave half a module behind, and one inside a weak reference's callback is lost.
    """
    stopped: list[Stopped] = []

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        stopped.append(Stopped(128 + number))

    def check() -> None:
        if stopped:
            raise stopped[0]

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield check
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
