"""The command as a user meets it: resumed, refused, killed, asked twice."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing, suppress

import pytest
from rich.console import Console

from search.errors import FrostlineError, StudyError
from search.run import run_study
from search.run_config import RunConfig
from search.storage.location import StudyLocation
from search.verdict.load import load_results
from tests.forks import fork_workers
from tests.search.sessions import Session


@pytest.fixture
def tinier(tiny):
    """Give the tiny study one size and one repeat: for runs that need no verdict."""
    tiny.write_text(tiny.read_text().replace("repeats = 5", "repeats = 1").replace("[20, 40]", "[20]"))
    return tiny


def rows_in(folder):
    return load_results(StudyLocation.of("tiny", out=folder / "studies", storage=None)).rows


def begun(folder):
    return sum(row.state != "WAITING" for row in rows_in(folder))


def test_run_prints_verdicts_and_what_to_do_next(finished):
    out = (finished / "stdout.txt").read_text()
    for part in (
        "20 labels: explored",
        "Doubling from 20 to 40 labels brought ",
        "studies/tiny/report.html",
        "python -m search dashboard tiny",
        'best_strategy("tiny", size=40)',
        "python -m search best tiny --size 40",
    ):
        assert part in out
    assert "litlogger" not in out
    assert "max_epochs" not in out
    assert (finished / "studies" / "tiny" / "logs" / "worker-0.log").is_file()


def test_second_run_trains_nothing(finished, search):
    before = {(row.size, row.judged, row.number): row.seconds for row in rows_in(finished)}
    done = search("run", "tiny.toml", cwd=finished)
    assert done.returncode == 0
    assert {(row.size, row.judged, row.number): row.seconds for row in rows_in(finished)} == before
    assert "Doubling from 20 to 40 labels brought " in done.stdout


def test_another_spec_of_the_same_name_is_refused(finished, search):
    done = search("run", "tiny.toml", "--seed", "3", cwd=finished)
    assert done.returncode == 2
    assert done.stderr.startswith("Error: Study 'tiny' is stored with another spec: search.seed is 3, stored is 0.")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("sizes", "estimate"),
    [
        ("[20, 40]", "Sizes 20, 40: 20 exploring trials and up to 64 confirm trials"),
        ('[20, "all"]', "Sizes 20, 847: 10 exploring trials and up to 88 confirm trials"),
    ],
)
def test_dry_run_estimates_and_writes_nothing(tiny, search, sizes, estimate):
    tiny.write_text(tiny.read_text().replace("[20, 40]", sizes))
    done = search("run", "tiny.toml", "--dry-run", cwd=tiny.parent)
    assert done.returncode == 0, done.stderr
    assert estimate in done.stdout
    assert "minutes" in done.stdout
    assert [path.name for path in tiny.parent.iterdir()] == ["tiny.toml"]


def test_list_shows_progress(finished, search):
    line = f"tiny: sizes 20, 40; {len(rows_in(finished))} finished trials; confirmed: 20, 40"
    assert line in search("list", cwd=finished).stdout


def test_new_never_overwrites(tmp_path, search):
    assert search("new", "mine", cwd=tmp_path).returncode == 0
    text = (tmp_path / "studies" / "mine.toml").read_text()
    again = search("new", "mine", cwd=tmp_path)
    assert again.returncode == 2
    assert "exists already" in again.stderr
    assert (tmp_path / "studies" / "mine.toml").read_text() == text


@pytest.mark.parametrize(
    ("old", "new", "arguments", "message"),
    [
        ("[20, 40]", "[20, 900]", [], "Error: tiny.toml: [task] sizes: 900 is not possible; allowed: 10"),
        ("trials = 10", "trials = 0", [], "Error: tiny.toml: [search] trials = 0: must be"),
        ("", "", ["--sizes", "30"], "Error: --sizes 30 is not among the sizes of tiny.toml; allowed: 20, 40"),
        ("", "", ["--sizes", "x"], "Error: --sizes 'x' is not a list of whole numbers"),
        ("", "", ["--trials", "0"], "Error: Invalid value for '--trials'"),
        ("", "", ["--storage", "a.db"], "Error: --storage 'a.db' is not a database URL; for a file write sqlite:///"),
        ("", "", ["--storage", "sqlite:////no/such/a.db"], "there is no folder '/no/such'"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(tiny, search, old, new, arguments, message):
    tiny.write_text(tiny.read_text().replace(old, new))
    done = search("run", "tiny.toml", "--workers", "1", *arguments, cwd=tiny.parent)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert [path.name for path in tiny.parent.iterdir()] == ["tiny.toml"]


def test_study_whose_trials_all_fail_stops_with_the_reason(tinier, search):
    (tinier.parent / "broken.py").write_text(
        "import torch\n"
        "class Head(torch.nn.Linear):\n"
        "    def forward(self, features):\n"
        "        if len(features) == 32:\n            raise ArithmeticError('wrong shape')\n"
        "        return super().forward(features)\n"
        "def build():\n"
        "    layers = torch.nn.Flatten(), torch.nn.Linear(64, 8), torch.nn.Linear(8, 8)\n"
        "    return torch.nn.Sequential(*layers), Head(8, 10)\n"
    )
    text = tinier.read_text().replace('"small_cnn"', '"broken:build"\nweights = "none"')
    tinier.write_text(text.replace('[source]\ndata = "digits-0-4"\nepochs = 2\n', ""))
    command = ["run", "tiny.toml", "--workers", "1", "--trials", "4"]
    done = search(*command, cwd=tinier.parent)
    assert done.returncode == 2
    assert "Error: tiny.toml: The first 3 trials all failed, and wait to be run again" in done.stderr
    assert "ArithmeticError: wrong shape (broken.py:5)" in done.stderr
    assert {row.state for row in rows_in(tinier.parent)} == {"WAITING"}

    # Mended, the same command runs them.
    (tinier.parent / "broken.py").write_text((tinier.parent / "broken.py").read_text().replace("== 32", "== -1"))
    done = search(*command, cwd=tinier.parent)
    assert done.returncode == 0, done.stderr
    assert {row.state for row in rows_in(tinier.parent)} <= {"COMPLETE", "PRUNED"}


class Run(Session):
    """A run of the tiny study."""

    def __init__(self, folder, *options):
        command = [sys.executable, "-m", "search", "run", "tiny.toml", *(options or ("--workers", "1"))]
        super().__init__(folder, command)

    def until_begun(self, trials):
        """Wait until the study has begun at least that many trials."""

        def there():
            with suppress(FrostlineError):  # not made yet
                return begun(self.folder) >= trials
            return False

        self.until(there)


@pytest.mark.fault
@pytest.mark.slow
def test_killed_run_resumes_to_exactly_the_budget(tinier, search, finished, tell):
    folder, dice = tinier.parent, random.Random(0)
    finished_before = {}
    for count, target in ((2, "all"), (7, "parent")):
        with Run(folder, "--workers", "2" if target == "parent" else "1") as run:
            run.until_begun(count)
            time.sleep(dice.uniform(0, 0.7))
            kill = os.kill if target == "parent" else os.killpg
            kill(run.process.pid, signal.SIGKILL)
            run.process.wait()
            if target == "parent":
                time.sleep(1)  # its workers notice by themselves
        rows = rows_in(folder)
        now = {(row.size, row.judged, row.number): row.seconds for row in rows if row.is_finished}
        assert finished_before.items() <= now.items(), "a finished trial was repeated"
        finished_before = now
    done = search("run", "tiny.toml", cwd=folder)
    assert done.returncode == 0, done.stderr
    rows = rows_in(folder)
    assert finished_before.items() <= {(r.size, r.judged, r.number): r.seconds for r in rows}.items()
    assert {row.state for row in rows} <= {"COMPLETE", "PRUNED"}
    assert Counter(row.size for row in rows if not row.judged) == {20: 10}
    again, baselines = (
        {row.number: (row.strategy, row.value) for row in some if row.baseline and not row.judged and row.size == 20}
        for some in (rows, rows_in(finished))
    )
    assert again == baselines, "an interrupted trial has the result of an undisturbed one"
    tell("SIGKILL of a run's processes, mid-epoch or anywhere", "nothing trained twice; the same command finished")


@pytest.mark.fault
@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.soak)]
)
def test_stopped_run_leaves_no_process_and_says_how_to_resume(tiny, number, code, tell):
    with Run(tiny.parent) as run:
        run.until_begun(3)
        begun = time.monotonic()
        os.kill(run.process.pid, number)
        assert run.process.wait(300) == code, run.text()
        took = time.monotonic() - begun
        last = run.text().strip().splitlines()[-1]
    assert last == "Stopped; nothing is lost. To resume: python -m search run tiny.toml --workers 1"
    assert "RUNNING" not in {row.state for row in rows_in(tiny.parent)}
    tell(number.name, f"exit code {code} after {took:.1f} s, nothing left running")


@pytest.mark.fault
@pytest.mark.slow
def test_ctrl_c_twice_leaves_at_once_and_the_run_resumes(tinier, search, tell):
    with Run(tinier.parent) as run:
        run.until_begun(3)
        os.killpg(run.process.pid, signal.SIGINT)
        time.sleep(0.05)
        begun = time.monotonic()
        os.killpg(run.process.pid, signal.SIGINT)
        assert run.process.wait(300) in (-signal.SIGINT, 130), run.text()
        took = time.monotonic() - begun
    assert search("run", "tiny.toml", cwd=tinier.parent).returncode == 0
    assert {row.state for row in rows_in(tinier.parent)} <= {"COMPLETE", "PRUNED"}
    tell("Ctrl-C twice", f"left {took:.1f} s after the second; the same command finished the study")


@pytest.mark.slow
def test_killed_worker_is_replaced(tinier):
    with Run(tinier.parent, "--workers", "1", "--trials", "4") as run:
        run.until_begun(3)
        children = ["pgrep", "-P", str(run.process.pid), "-f", "spawn_main"]
        found = subprocess.run(children, capture_output=True, text=True)
        os.kill(int(found.stdout.split()[0]), signal.SIGTERM)
        assert run.process.wait(600) == 0, run.text()
    assert {row.state for row in rows_in(tinier.parent)} <= {"COMPLETE", "PRUNED"}


@pytest.mark.fault
@pytest.mark.soak
def test_twenty_random_kills_change_no_bit(tiny, search, tell):
    dice = random.Random(1)
    tiny.write_text(tiny.read_text().replace("trials = 10", "trials = 60"))
    whole = tiny.parent / "whole"
    whole.mkdir()
    assert search("run", "../tiny.toml", "--workers", "1", cwd=whole).returncode == 0
    trials = 0
    for _ in range(20):
        with Run(tiny.parent, "--workers", "1") as run:
            run.until_begun(trials + 2)  # it is at work again
            time.sleep(dice.uniform(0, 0.5))
        trials = begun(tiny.parent)
        with closing(sqlite3.connect(tiny.parent / "studies" / "tiny" / "study.db")) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    with Run(tiny.parent, "--workers", "1") as run:
        assert run.process.wait(300) == 0, run.text()
    killed, uninterrupted = (
        {
            (row.size, row.judged, row.number): (row.strategy, row.state, row.value, row.curve, dict(row.scores))
            for row in rows_in(folder)
        }
        for folder in (tiny.parent, whole)
    )
    assert killed == uninterrupted
    tell("SIGKILL in real training, twenty times at random", "equal to an undisturbed run, to the bit")


@pytest.mark.slow
def test_study_resumes_only_with_the_data_of_its_start(tmp_path, monkeypatch):
    """Else its verdict would mix two test sets."""
    monkeypatch.chdir(tmp_path)
    fork_workers(monkeypatch)
    (tmp_path / "mine.toml").write_text(
        '[task]\ndata = "points.csv"\nsizes = [20]\noptions = { target = "v", window = 4 }\ntest = 0.3\n'
        '[model]\nbackbone = "lstm"\nweights = "none"\noptions = { input_size = 1, hidden_size = 4 }\n'
        '[train]\nepochs = 1\nsteps_per_epoch = 1\naccelerator = "cpu"\n[search]\ntrials = 1\n[confirm]\nrepeats = 1\n'
    )
    series = [str(step * step % 101) for step in range(200)]
    (tmp_path / "points.csv").write_text("\n".join(["v", *series]))
    run_study(RunConfig.of("mine.toml", workers=1), console=Console())
    (tmp_path / "points.csv").write_text("\n".join(["v", *series[:-5]]))
    with pytest.raises(
        StudyError, match=r"'mine' was created with other data: \[task\] data = 'points.csv' has changed"
    ):
        run_study(RunConfig.of("mine.toml", workers=1, trials=2), console=Console())
    run_study(RunConfig.of("mine.toml", workers=1), console=Console())  # a finished study needs no data
