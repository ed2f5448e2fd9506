"""Faults of a trial in real training: it ends with its reason, and the study continues."""

import signal
import subprocess
import sys
import time

import pytest

from search.storage.location import OUT, StudyLocation
from search.verdict.load import load_results
from tests.faults.test_faults import fill_up, small_disk
from tests.search.sessions import Session

pytestmark = pytest.mark.fault

BAD = """
import ctypes, os, signal, time
import torch

class Head(torch.nn.Linear):
    fault = None

    def forward(self, features):
        if self.training and torch.is_grad_enabled() and self.fault is None:
            with open("begun", "ab") as begun:
                begun.write(b".")
                self.fault = FAULTS.get(begun.tell(), lambda: None)
            self.fault()
        return super().forward(features) * (torch.nan if self.fault is nan else 1)

def nan(): ...
def error(): raise ArithmeticError("no sum today")
def memory(): torch.empty(10**15)
def crashes(): os.kill(os.getpid(), signal.SIGSEGV)
def hangs(): time.sleep(1000)
def hangs_hard(): ctypes.PyDLL(None).sleep(1000)

FAULTS = {FAULTS}

def build():
    layers = torch.nn.Flatten(), torch.nn.Linear(64, 8), torch.nn.Linear(8, 8)
    return torch.nn.Sequential(*layers), Head(8, 10)
"""
STUDY = """
[task]
data = "digits"
sizes = [40]
[model]
backbone = "bad:build"
weights = "none"
[train]
epochs = 2
steps_per_epoch = 2
accelerator = "cpu"
timeout = 4
[search]
trials = 12
pruner = "none"
[confirm]
repeats = 1
"""


@pytest.fixture
def run(tmp_path, search):
    """Return a function: run the study with these faults, and return its exploring trials."""

    def run(faults):
        (tmp_path / "bad.py").write_text(BAD.replace("{FAULTS}", faults))
        (tmp_path / "bad.toml").write_text(STUDY)
        done = search("run", "bad.toml", "--workers", "1", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return load_results(StudyLocation.of("bad", out=tmp_path / OUT, storage=None)).explored(40)

    return run


@pytest.mark.slow
def test_trial_fails_by_an_error_and_runs_again_after_a_crash(run, tell):
    # The first begins as the first trial; one that comes back has one more beginning.
    rows = run("{2: nan, 3: error, 4: memory, 5: crashes, 7: hangs}")
    reasons = {row.number: row.reason for row in rows if row.state == "FAIL"}
    assert [*reasons] == [1, 2, 3]
    assert reasons[1] == "accuracy was not finite at the end of training"
    assert reasons[2] == "ArithmeticError: no sum today (bad.py:17)"
    assert reasons[3].startswith("RuntimeError: ")
    assert "memory" in reasons[3]
    assert len(rows) == 12
    assert {row.state for row in rows if row.number not in reasons} == {"COMPLETE"}
    for number, fault in enumerate(("NaN", "an exception", "out of memory"), start=1):
        tell(f"{fault} in a trial", f"failed: {reasons[number][:60]}")
    for fault in ("crashes (SIGSEGV)", "hangs"):
        tell(f"a trial {fault}, once", "ran again, complete")


@pytest.mark.soak
def test_trial_that_hangs_with_the_gil_is_killed(run, tell):
    rows = run("{3: hangs_hard}")
    assert [row.state for row in rows] == ["COMPLETE"] * 12
    tell("a trial hangs with Python's lock in hand, once", "its process was killed; it ran again, complete")


@pytest.mark.soak
def test_study_whose_first_trials_all_crash_stops(run, tell):
    with pytest.raises(AssertionError, match="and 3 killed their process; trial 2: its process died 3"):
        run("{number: crashes for number in range(1, 10)}")
    tell("the first trials all crash", "the study stops with the reason after three of them, three times each")


@pytest.mark.slow
def test_ctrl_c_works_while_the_database_is_suspended(tmp_path, postgres, monkeypatch, search, tell):
    (tmp_path / "bad.py").write_text(BAD.replace("{FAULTS}", "{number: lambda: time.sleep(1) for number in (1, 2)}"))
    (tmp_path / "bad.toml").write_text(STUDY.replace("trials = 12", "trials = 6"))
    monkeypatch.setenv("DATABASE", postgres.url())
    command = [sys.executable, "-m", "search", "run", "bad.toml", "--workers", "1", "--storage", "env:DATABASE"]
    with Session(tmp_path, command) as session:
        session.until(lambda: (tmp_path / "begun").exists())  # its first trial
        postgres.suspend()
        try:
            time.sleep(3)
            begun = time.monotonic()
            session.process.send_signal(signal.SIGINT)
            assert session.process.wait(300) == 130
            took = time.monotonic() - begun
        finally:
            postgres.resume()
        assert session.text().splitlines()[-1].startswith("Stopped; nothing is lost. To resume: python -m search run")
        done = search(*command[3:], cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    location = StudyLocation.of("bad", out=tmp_path / OUT, storage="env:DATABASE")
    assert not [*location.locks.iterdir()], "a lock file was left behind"
    rows = load_results(location).rows
    assert {row.state for row in rows} == {"COMPLETE"}
    tell("Ctrl-C while PostgreSQL is suspended", f"exit code 130 after {took:.1f} s; the same command went on")


@pytest.mark.slow
def test_worker_waits_for_a_full_disk_of_the_study(tmp_path, postgres, monkeypatch, tell):
    with small_disk(tmp_path) as disk:
        (tmp_path / "bad.py").write_text(BAD.replace("{FAULTS}", "{}"))
        (tmp_path / "bad.toml").write_text(STUDY.replace("trials = 12", "trials = 6"))
        monkeypatch.setenv("DATABASE", postgres.url())
        command = [sys.executable, "-m", "search", "run", "bad.toml", "--workers", "1", "--storage", "env:DATABASE"]
        with subprocess.Popen(
            [*command, "--out", str(disk)], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            while not (tmp_path / "begun").exists():  # its first trial
                time.sleep(0.05)
            ballast = fill_up(disk)
            location = StudyLocation.of("bad", out=disk, storage="env:DATABASE")
            while not any(row.judged for row in load_results(location).rows):
                assert process.poll() is None, process.stdout.read()
                time.sleep(0.2)
            time.sleep(3)
            assert process.poll() is None, process.stdout.read()
            ballast.unlink()
            assert process.wait(300) == 0, process.stdout.read()
        rows = load_results(location).rows
        assert {row.state for row in rows} == {"COMPLETE"}
        assert all(row.example_scores is not None for row in rows if row.judged)
    tell("the disk of the study's folder is full", "waited for room; no trial failed")
