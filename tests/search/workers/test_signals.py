"""Ctrl-C and SIGTERM: answered where they are looked for, and how to go on is said."""

import os
import signal
import subprocess
import sys
import time

import pytest
import typer

from search.cli import _stopped_in_peace
from search.workers.signals import Stopped, stopping


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_raises_where_it_is_looked_for_and_nowhere_else(number, code):
    # Optuna imports its tables when a database is first opened. An exception in the midst of that leaves half of
    # them, and every later opening fails, the one that puts the trials in flight back into the queue too.
    with stopping() as check:
        check()
        os.kill(os.getpid(), number)
        time.sleep(0.01)  # as if at work in a library
        with pytest.raises(Stopped) as stopped:
            check()
    assert stopped.value.code == code


def test_how_to_go_on_is_said_without_the_password(monkeypatch, capfd):
    monkeypatch.setattr(sys, "argv", ["search", "worker", "x.toml", "--storage", "postgresql://me:secret@host/d"])
    with pytest.raises(typer.Exit), _stopped_in_peace():
        raise Stopped(130)
    assert capfd.readouterr().err.endswith("search worker x.toml --storage 'postgresql://me:***@host/d'\n")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_before_or_after_it_trains_it_leaves_at_once_and_says_how_to_go_on(tmp_path, number, code):
    # As a worker that waits for its database, or a run that writes its page.
    script = "import time\nfrom search.cli import _stopped_in_peace\nwith _stopped_in_peace():\n    "
    script += "print('ready', flush=True)\n    time.sleep(60)"
    command = [sys.executable, "-c", script, "worker", "x.toml"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        process.send_signal(number)
        assert process.wait(300) == code
        assert process.stderr.read() == "Stopped; nothing is lost. To go on: python -m search worker x.toml\n"


def test_a_second_signal_leaves_at_once():
    before = signal.getsignal(signal.SIGTERM)
    with stopping():
        os.kill(os.getpid(), signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) == before
