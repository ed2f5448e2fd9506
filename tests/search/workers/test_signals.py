"""Ctrl-C and SIGTERM: answered where the program asks, with the way to resume."""

import os
import signal
import subprocess
import sys
import time

import pytest

from search.workers.signals import Stopped, stoppable, stopping

SIGNALS = pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])


@SIGNALS
def test_signal_raises_only_where_it_is_asked_for(number, code):
    # Optuna imports its tables when a database is first opened. An exception inside that leaves half of them, and every
    # later opening fails, also the one that requeues the running trials.
    with stopping() as check:
        check()
        os.kill(os.getpid(), number)
        time.sleep(0.01)  # as if at work in a library
        with pytest.raises(Stopped) as stopped:
            check()
    assert stopped.value.code == code


def test_second_signal_has_its_default_effect():
    before = signal.getsignal(signal.SIGTERM)
    with stopping():
        os.kill(os.getpid(), signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) == before


def test_way_to_resume_is_printed_without_the_password(monkeypatch, capfd):
    monkeypatch.setattr(sys, "argv", ["search", "worker", "x.toml", "--storage", "postgresql://me:secret@host/d"])
    with pytest.raises(SystemExit), stoppable():
        raise Stopped(130)
    assert capfd.readouterr().err.endswith("search worker x.toml --storage 'postgresql://me:***@host/d'\n")


@SIGNALS
def test_signal_outside_training_ends_at_once(number, code):
    """As in a worker that waits for its database, or a run that writes its page."""
    script = "import time\nfrom search.workers.signals import stoppable\nwith stoppable():\n    "
    script += "print('ready', flush=True)\n    time.sleep(60)"
    command = [sys.executable, "-c", script, "worker", "x.toml"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        process.send_signal(number)
        assert process.wait(300) == code
        assert process.stderr.read() == "Stopped; nothing is lost. To resume: python -m search worker x.toml\n"
