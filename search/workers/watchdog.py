"""A deadline on progress: a trial that hangs holds its place for ever, unless its process is ended."""

import faulthandler
import os
import threading
import time
from collections.abc import Callable
from math import inf
from typing import Self

LATE = 30.0
"""Seconds after the deadline in which a process may end itself with last words; then it ends without."""
HUNG = 75
"""The exit code of a process that ended itself with last words."""


class Watchdog:
    """When this process last finished anything, a batch or a block of activations, and how long the next may take.

    Used as a context: a thread in it ends the process where nothing is finished for `seconds`, after `last_words`. What
    hangs with Python's lock in hand stops that thread too: then, `LATE` seconds later, a thread of `faulthandler`'s
    that needs no such lock ends the process, with exit code 1. Both say where it hangs.
    """

    def __init__(self, seconds: float, *, last_words: Callable[[str], None]) -> None:
        self.seconds = seconds
        self.last_words = last_words
        self._last = inf  # time of the last progress; infinite while there is nothing to do
        self._set = -inf  # when faulthandler was last told
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="deadline", daemon=True)

    def moved(self) -> None:
        """Something was finished."""
        self._last = time.monotonic()
        if self._last > self._set + 1.0:  # it takes a thread, so not for every batch
            self._set = self._last
            faulthandler.dump_traceback_later(self.seconds + LATE, exit=True)

    def waits(self) -> None:
        """What is at work waits for something else than itself."""
        if self._last != inf:
            self.moved()

    def rests(self) -> None:
        """There is nothing to do just now."""
        self._last, self._set = inf, -inf
        faulthandler.cancel_dump_traceback_later()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.rests()
        self._ended.set()

    def _watch(self) -> None:
        while not self._ended.wait(min(1.0, self.seconds / 4)):
            if time.monotonic() - self._last > self.seconds:
                faulthandler.dump_traceback()  # for the worker's log
                # The words may hang as well: they need the database.
                words = threading.Thread(target=self.last_words, args=(f"after {self.seconds:g} s without progress",))
                words.daemon = True
                words.start()
                words.join(timeout=LATE / 2)
                os._exit(HUNG)
