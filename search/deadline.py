"""A deadline on progress: a trial that hangs holds its place for ever, unless its process is ended."""

import faulthandler
import os
import threading
import time
from collections.abc import Callable
from ctypes import c_double
from math import inf
from typing import Self

LATE = 30.0
"""Seconds after the deadline in which a process may end itself; then who watches over it ends it."""
HUNG = 75
"""The exit code of a process that ended itself so."""


class Deadline:
    """When this process last finished anything, a batch or a block of activations, and how long the next may take.

    Used as a context: a thread in it ends the process where nothing is finished for `seconds`, after `last_words`. What
    hangs with Python's lock in hand stops that thread too: then the process that started this one, which shares `last`,
    has to kill it.

    last: the time (`time.monotonic`) of the last progress; infinite while there is nothing to do.
    """

    def __init__(self, seconds: float, *, last: c_double, last_words: Callable[[str], None]) -> None:
        self.seconds = seconds
        self.last = last
        self.last_words = last_words
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="deadline", daemon=True)

    def moved(self) -> None:
        """Something was finished."""
        self.last.value = time.monotonic()

    def waits(self) -> None:
        """What is at work waits for something else than itself."""
        if self.last.value != inf:
            self.moved()

    def rests(self) -> None:
        """There is nothing to do just now."""
        self.last.value = inf

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.rests()
        self._ended.set()

    def _watch(self) -> None:
        while not self._ended.wait(min(1.0, self.seconds / 4)):
            if is_over(self.last, self.seconds):
                faulthandler.dump_traceback()  # where it hangs, for the worker's log
                # The words may hang as well: they need the database.
                words = threading.Thread(target=self.last_words, args=(f"after {self.seconds:g} s without progress",))
                words.daemon = True
                words.start()
                words.join(timeout=LATE / 2)
                os._exit(HUNG)


def is_over(last: c_double, seconds: float) -> bool:
    """Whether the last progress is longer ago than that."""
    return time.monotonic() - last.value > seconds
