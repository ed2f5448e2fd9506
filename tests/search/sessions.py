"""A command in a session of its own, so that all its processes can be killed at once."""

import os
import signal
import subprocess
import time
from contextlib import suppress


class Session:
    """A context at whose end the session is killed; its output is in `output.txt` of its folder."""

    def __init__(self, folder, command):
        self.output = (folder / "output.txt").open("w")
        options = {"cwd": folder, "stdout": self.output, "stderr": self.output, "start_new_session": True}
        self.process = subprocess.Popen(command, **options)
        self.folder = folder

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.output.close()

    def text(self):
        return (self.folder / "output.txt").read_text()

    def until(self, found, *, within=300):
        """Wait until `found` returns something true, and return that."""
        limit = time.monotonic() + within
        while not (result := found()):
            assert time.monotonic() < limit, self.text()
            assert self.process.poll() is None, self.text()
            time.sleep(0.02)
        return result

    def finish(self):
        assert self.process.wait(600) == 0, self.text()
