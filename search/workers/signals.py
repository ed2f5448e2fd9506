"""Ctrl-C and SIGTERM, at a place where they can be answered."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Stopped(BaseException):
    """The user asked us to stop; `code` is the exit code for it."""

    def __init__(self, code: int) -> None:
        self.code = code


@contextmanager
def stopping() -> Iterator[Callable[[], None]]:
    """Yield what raises `Stopped` when it is called after a Ctrl-C or SIGTERM; a second signal leaves at once.

    The handler itself raises nothing: an exception that strikes inside a library's import leaves half a module behind,
    and one inside a weak reference's callback is lost.
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
