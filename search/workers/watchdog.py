"""A time limit on progress that ends hung workers."""

import faulthandler
import os
import threading
import time
from collections.abc import Callable
from math import inf
from typing import Self

LAST_WORDS_SECONDS = 30.0
"""Time after the limit in which a process may end itself with last words."""
HUNG_EXIT_CODE = 75
"""Exit code of a process that ended itself with last words."""


class Watchdog:
    """A thread that ends this process where nothing is finished for `seconds`.

    Each batch counts, and each block of cached activations. Used as a context. `last_words` is called first, with the
    reason. Native code that hangs while it holds Python's lock stops this thread too. Then, `LAST_WORDS_SECONDS` later,
    a thread of `faulthandler` that needs no such lock ends the process with exit code 1. Both print where it hangs.
    """

    def __init__(self, seconds: float, *, last_words: Callable[[str], None]) -> None:
        self.seconds = seconds
        self.last_words = last_words
        self._last = inf  # time of the last progress; infinite while there is nothing to do
        self._set = -inf  # when faulthandler's timer was last set
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def kick(self) -> None:
        """Note progress, and start the time limit again."""
        self._last = time.monotonic()
        if self._last > self._set + 1.0:  # setting the timer starts a thread, so not for every batch
            self._set = self._last
            faulthandler.dump_traceback_later(self.seconds + LAST_WORDS_SECONDS, exit=True)

    def extend(self) -> None:
        """Start the time limit again, if it runs: the process waits for another."""
        if self._last != inf:
            self.kick()

    def stop(self) -> None:
        """Stop the time limit: there is nothing to do."""
        self._last, self._set = inf, -inf
        faulthandler.cancel_dump_traceback_later()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()
        self._ended.set()

    def _watch(self) -> None:
        while not self._ended.wait(min(1.0, self.seconds / 4)):
            if time.monotonic() - self._last > self.seconds:
                faulthandler.dump_traceback()  # for the worker's log
                # The last words need the database, so they may hang as well.
                reason = f"after {self.seconds:g} s without progress"
                words = threading.Thread(target=self.last_words, args=(reason,), daemon=True)
                words.start()
                words.join(timeout=LAST_WORDS_SECONDS / 2)
                os._exit(HUNG_EXIT_CODE)
