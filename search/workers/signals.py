"""Ctrl-C and SIGTERM, answered where the program asks for them."""

import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from search.errors import printable, without_passwords


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

    with _handled(stop):
        yield check


@contextmanager
def stoppable() -> Iterator[None]:
    """Print how to resume when Ctrl-C or SIGTERM stops the command.

    Before and after training no trial runs, so the process ends at once.
    """

    def leave(number: int, frame: FrameType | None) -> None:
        _print_how_to_resume()
        os._exit(128 + number)

    with _handled(leave):
        try:
            yield
        except Stopped as stopped:
            _print_how_to_resume()
            sys.exit(stopped.code)


def end_at_sigterm() -> None:
    """End this process at SIGTERM, with the signal's exit code."""
    # Lightning ends a fit at SIGTERM with exit code 0, as if it were done; its handler calls this one.
    signal.signal(signal.SIGTERM, lambda number, frame: os._exit(128 + number))


@contextmanager
def _handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


def _print_how_to_resume() -> None:
    # Called from a signal handler at any point: no import, and not through a stream that may be in use.
    again = shlex.join(["python", "-m", "search", *map(without_passwords, sys.argv[1:])])
    os.write(2, f"Stopped; nothing is lost. To resume: {printable(again)}\n".encode())
