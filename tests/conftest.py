"""Fixtures of several test modules: a tiny study file, the command, and one finished run of it."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, chdir, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import settings

from search.cli import main
from tests.forks import fork_workers
from tests.layouts import polar_snippets
from tests.postgres import Postgres, programs

settings.register_profile("tests", deadline=None)  # a busy machine is no failure
settings.load_profile("tests")

TINY = """
[task]
data = "digits"
sizes = [20, 40]
[model]
backbone = "small_cnn"
[source]
data = "digits-0-4"
epochs = 2
[train]
epochs = 4
steps_per_epoch = 3
accelerator = "cpu"
[search]
trials = 10
[confirm]
repeats = 5
"""
"""Real data, the real network, too few steps to learn much: 20 exploring and some 60 confirm trials."""
SLOW_FIXTURES = {"finished", "loaded"}
"""A finished study, and fresh interpreters."""


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write the tiny study file into an empty working directory."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "tiny.toml"
    file.write_text(TINY)
    return file


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Torch on one thread, as in a worker: what it computes depends on that."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """Start a PostgreSQL server; skip where there is none to start, or no driver."""
    pytest.importorskip("psycopg", reason="PostgreSQL's driver is not installed: pip install 'frostline[postgres]'")
    where = programs()
    if where is None:
        pytest.skip("PostgreSQL is not installed")
    server = Postgres(where)
    yield server
    server.remove()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of an empty database, of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/study.db"
    return str(request.getfixturevalue("postgres").url())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give all tests of a slow fixture to one process of pytest-xdist: each process would make it again."""
    for item in items:
        if item.config.pluginmanager.hasplugin("xdist"):
            for slow in SLOW_FIXTURES & set(getattr(item, "fixturenames", ())):
                item.add_marker(pytest.mark.xdist_group(slow))


Tell = Callable[[str, str], None]


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> Tell:
    """Return a function to add a fault's outcome to the matrix printed after all tests."""

    return lambda fault, outcome: record_property("fault", f"{fault:<66} {outcome}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the fault matrix, as far as it was run."""
    passed = terminalreporter.getreports("passed")
    lines = [text for report in passed for name, text in report.user_properties if name == "fault"]
    if lines:
        terminalreporter.section("the fault matrix")
    for line in sorted(map(str, lines)):
        terminalreporter.line(line)


Search = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def search() -> Search:
    """`python -m search ...` in this process, where its start takes no seconds; workers get processes of their own."""

    def call(*arguments: str, cwd: Path | None = None, timeout: float = 600) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "search", *arguments]
        if arguments and arguments[0] == "worker" and "--help" not in arguments:
            return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=timeout)
        out, err = StringIO(), StringIO()
        with ExitStack() as stack:
            for one in (redirect_stdout(out), redirect_stderr(err), chdir(cwd or "."), patch("sys.argv", command[2:])):
                stack.enter_context(one)
            if arguments[:1] == ("run",):
                fork_workers(stack.enter_context(pytest.MonkeyPatch.context()))
            try:
                main()
            except SystemExit as ended:
                return subprocess.CompletedProcess(command, ended.code or 0, out.getvalue(), err.getvalue())

    return call


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the tiny study to its end by the command; read the folder, don't write."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "tiny.toml").write_text(TINY)
    command = [sys.executable, "-m", "search", "run", "tiny.toml"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (folder / "stdout.txt").write_text(done.stdout)
    return folder


@pytest.fixture(scope="session")
def assets_or_none() -> Path | None:
    """Return the folder with real data and weights, or None, as on a user's machine."""
    named = os.environ.get("FROSTLINE_ASSETS")
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "assets"
    return folder if folder.is_dir() else None


@pytest.fixture(scope="session")
def film_reviews() -> list[tuple[str, float]]:
    """vaderSentiment's film snippets of a clear polarity, each with its mean rating; skips without its sdist."""
    sdist = Path(os.environ.get("FROSTLINE_VADER", "vaderSentiment-3.3.2.tar.gz"))
    if not sdist.is_file():
        pytest.skip("FROSTLINE_VADER names no vaderSentiment-3.3.2.tar.gz")
    return polar_snippets(sdist, "movieReviewSnippets")


@pytest.fixture(scope="session")
def assets(assets_or_none: Path | None) -> Path:
    """Return the folder with real data and weights; skip where there is none."""
    if assets_or_none is None:
        pytest.skip("the real data are not here: FROSTLINE_ASSETS, or ../shared/assets beside the checkout")
    return assets_or_none
